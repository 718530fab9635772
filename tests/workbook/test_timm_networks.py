"""The library on networks of timm, which the workbook is about; tests/fam_lib does without them."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from torch import nn

from fam_lib import METHODS, explain, explain_all
from fam_lib.folding import fold_batch_norm
from toys import pictures, seeded
from workbook.reid.model import Feature, ReidModel

IMAGES = pictures(2, (64, 64))


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0).eval()


@pytest.mark.parametrize(
    ("name", "layer"),
    [("tf_efficientnet_lite0", "bn2"), ("hrnet_w18_small", "final_layer"), ("resnet10t", "layer4")],
)
def test_every_cheap_method_explains_the_last_map_of_a_network(name: str, layer: str) -> None:
    model = network(name)
    classifier, other = seeded(nn.Linear(model.num_features, 4)), model(IMAGES).detach().roll(1, 0)
    methods = [method for method in METHODS if "score" not in method and "ablation" not in method]
    for method, result in explain_all(model, IMAGES, methods, other=other, classifier=classifier).items():
        assert result.layer == layer
        top = torch.ones(2) if method == "all-ones" else torch.where(result.flat, 0.0, 1.0)
        assert torch.equal(result.saliency.amax((1, 2)), top) and result.saliency.min() >= 0


def test_masked_and_ablated_scores_run_too() -> None:
    model = network("test_efficientnet")
    for name, result in explain_all(model, IMAGES, ["score-fam", "score-norm-fam", "ablation-fam"]).items():
        assert result.weights is not None and result.weights.isfinite().all(), name
        assert torch.equal(result.saliency.amax((1, 2)), torch.where(result.flat, 0.0, 1.0))


@pytest.mark.parametrize(
    ("name", "options", "size", "layer"),
    [
        ("test_vit", {}, (160, 160), "attn"),
        # Tokens and their dimensions happen to have the proportions of a pedestrian.
        ("test_vit", {"img_size": (256, 128), "num_heads": 1}, (256, 128), "129x64 of .*attn"),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}, (224, 224), "norm"),
    ],
    ids=["ViT", "ViT of pedestrians", "Swin"],
)
def test_a_transformer_is_not_explained_by_accident(
    name: str, options: dict[str, object], size: tuple[int, int], layer: str
) -> None:
    model = timm.create_model(name, num_classes=0, **options)
    with pytest.raises(ValueError, match=f"{layer}.* is hardly the map to explain"):
        explain(model, torch.zeros(1, 3, *size), "uniform")


@pytest.mark.parametrize(("branch", "size"), [(0, (16, 16)), (3, (2, 2))])
def test_a_stage_of_hrnet_is_explained_branch_by_branch(branch: int, size: tuple[int, int]) -> None:
    model = network("hrnet_w18_small")
    assert explain(model, IMAGES[:1], "grad-fam", "stage4", branch=branch).cam.shape == (1, *size)
    with pytest.raises(ValueError, match=r"returns 4 tensors; choose one with branch=0\.\.3"):
        explain(model, IMAGES[:1], "grad-fam", "stage4")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_efficientnet", "hrnet_w18_small"])
def test_batch_norms_fold_completely_and_the_answer_is_the_same(name: str) -> None:
    model = seeded(timm.create_model(name, num_classes=0))
    folded = fold_batch_norm(model, IMAGES)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    expected = model(IMAGES)
    torch.testing.assert_close(folded(IMAGES), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("feature", ["after_bn", "before_bn"])
def test_a_class_is_explained_behind_the_reid_feature_as_in_one_network(feature: Feature) -> None:
    torch.manual_seed(0)
    model = ReidModel("test_efficientnet", 5, feature=feature, init="random")
    seeded(model.neck), seeded(model.classifier)
    whole, methods = nn.Sequential(model, model.head), [n for n, row in METHODS.items() if row.reference == "class"]
    for classes in (None, torch.tensor([3, 1])):
        routed = explain_all(model, IMAGES, methods, model.layer, classes=classes, classifier=model.head)
        for method in methods:
            direct = explain(whole, IMAGES, method, model.layer, reference=classes)
            torch.testing.assert_close(routed[method].saliency, direct.saliency, rtol=0, atol=1e-6)
            torch.testing.assert_close(routed[method].weights, direct.weights, rtol=0, atol=1e-6)
            torch.testing.assert_close(routed[method].target, direct.target, rtol=0, atol=1e-6)
