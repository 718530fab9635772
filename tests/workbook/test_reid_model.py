"""workbook.reid.model and features: the last stride, the BN neck, the two features, shared parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from fam_lib.features import cosine_similarity
from reid_toys import SIZE, write_rectangles
from workbook.images import load_images, normalise
from workbook.reid.data import load_market_layout
from workbook.reid.features import extract_features, retrieval_scores
from workbook.reid.model import ReidModel, build_backbone

TINY = "test_efficientnet"


def tiny(**options) -> ReidModel:
    torch.manual_seed(0)
    return ReidModel(TINY, 5, **{"init": "random", **options})


@pytest.mark.parametrize("name", [TINY, "resnet10t", "resnet18", "tf_efficientnet_lite0"])
def test_last_stride_doubles_the_map_and_keeps_the_weights(name: str) -> None:
    images = torch.zeros(1, 3, 64, 32)
    wide, narrow = (build_backbone(name, stride, "random") for stride in (1, 2))
    assert narrow(images.repeat(2, 1, 1, 1)).shape[2:] == (2, 1)
    assert wide(images.repeat(2, 1, 1, 1)).shape[2:] == (4, 2)
    assert {k: v.shape for k, v in wide.state_dict().items()} == {k: v.shape for k, v in narrow.state_dict().items()}


def test_last_stride_of_lite0_is_that_of_one_depthwise_convolution() -> None:
    wide, narrow = (dict(build_backbone("tf_efficientnet_lite0", s, "random").named_modules()) for s in (1, 2))
    changed = [name for name, m in wide.items() if isinstance(m, nn.Conv2d) and m.stride != narrow[name].stride]
    assert changed == ["blocks.5.0.conv_dw"]
    assert all(m.dilation == (1, 1) for m in wide.values() if isinstance(m, nn.Conv2d))


def test_even_positions_of_the_wide_map_are_the_narrow_map_up_to_the_last_stage() -> None:
    # A stride only skips places: until the next convolution, every second place holds the narrow map.
    torch.manual_seed(0)
    narrow = build_backbone("resnet18", 2, "random").eval()
    wide = build_backbone("resnet18", 1, "random").eval()
    wide.load_state_dict(narrow.state_dict())
    images = torch.rand(1, 3, 64, 64)
    maps = []
    for backbone in (narrow, wide):
        x = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(images))))
        x = backbone.layer3(backbone.layer2(backbone.layer1(x)))
        block = backbone.layer4[0]
        maps.append(block.downsample(x) + block.conv1(x))
    assert torch.allclose(maps[1][:, :, ::2, ::2], maps[0], atol=1e-5)


def test_probing_leaves_running_statistics_alone() -> None:
    fresh = timm.create_model(TINY, num_classes=0)
    built = build_backbone(TINY, 1, "random")
    assert torch.equal(built.bn1.running_mean, fresh.bn1.running_mean)
    assert built.bn1.num_batches_tracked == 0
    assert built.training and all(m.training for m in built.modules())


def test_features_before_and_after_bn_by_hand() -> None:
    model = tiny().eval()
    torch.manual_seed(1)
    model.neck.running_mean.normal_()
    model.neck.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        model.neck.weight.uniform_(0.5, 2)
        images = torch.rand(3, 3, *SIZE)
        pooled = model.backbone(images).flatten(2).mean(2)
        scaled = (pooled - model.neck.running_mean) / (model.neck.running_var + model.neck.eps).sqrt()
        expected = scaled * model.neck.weight
        assert torch.allclose(model(images), expected, atol=1e-5)
        features, logits = model.heads(images)
        assert torch.allclose(features, pooled, atol=1e-6)
        assert torch.allclose(logits, expected @ model.classifier.weight.T, atol=1e-5)
        model.feature = "before_bn"
        assert torch.allclose(model(images), pooled, atol=1e-6)
        assert not torch.allclose(model(images).norm(dim=1), torch.ones(3))


def test_neck_bias_is_frozen_and_classifier_has_none() -> None:
    model = tiny()
    assert model.classifier.bias is None
    assert model.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not model.neck.bias.requires_grad
    features, logits = model.heads(torch.rand(4, 3, *SIZE))
    (features.sum() + logits.square().sum()).backward()
    assert model.neck.bias.grad is None and model.neck.bias.eq(0).all()
    assert model.neck.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_layer_gives_the_last_map() -> None:
    model = tiny().eval()
    images = torch.rand(2, 3, 64, 32)
    seen = []
    handle = model.layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    feature = model(images)
    handle.remove()
    assert seen[0].shape == (2, feature.shape[1], 4, 2)


@pytest.mark.parametrize("neck", [True, False])
@pytest.mark.parametrize("feature", ["after_bn", "before_bn"])
def test_head_takes_either_feature_to_the_logits(feature: str, neck: bool) -> None:
    model = tiny(feature=feature, neck=neck).eval()
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(model.head(model(images)), model.heads(images)[1])


def test_returning_the_other_feature_shares_the_network() -> None:
    model = tiny().eval()
    with torch.no_grad():
        model.neck.weight.uniform_(0.5, 2)
    other, images = model.returning("before_bn"), torch.rand(2, 3, *SIZE)
    assert (model.feature, other.feature) == ("after_bn", "before_bn")
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]
    assert [id(b) for b in other.buffers()] == [id(b) for b in model.buffers()]
    assert other.layer is model.layer and not other.training
    with torch.no_grad():
        pooled = model.backbone(images).mean((2, 3))
        assert torch.equal(other(images), pooled) and torch.equal(model(images), model.neck(pooled))
        assert torch.equal(other.head(other(images)), model.heads(images)[1])
        assert torch.equal(other.returning("after_bn")(images), model(images))
    with pytest.raises(ValueError, match="feature must be one of 'after_bn', 'before_bn', got 'l2'"):
        model.returning("l2")


def test_colour_statistics_are_the_backbones() -> None:
    assert tiny().mean == (0.485, 0.456, 0.406)
    lite = ReidModel("tf_efficientnet_lite0", 2, init="random")
    assert lite.mean == lite.std == (0.5, 0.5, 0.5)


def test_imagenet_weights_reach_lite0() -> None:
    from workbook.weights import lite0_state

    state = lite0_state()
    backbone = ReidModel("tf_efficientnet_lite0", 2).backbone.state_dict()
    assert backbone.keys() == state.keys() - {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "l2"}, "feature must be one of 'after_bn', 'before_bn'"),
        ({"last_stride": 0}, "last_stride must be one of 1, 2"),
        ({"init": "imagenet21k"}, "init must be one of"),
        ({"backbone": "resnet-50"}, "not a timm model"),
        ({"backbone": "hrnet_w18_small"}, "use last_stride=2"),
        ({"n_ids": 0}, "n_ids must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReidModel(**{"backbone": TINY, "n_ids": 3, "init": "random", **options})


def test_absent_hub_weights_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args, **_options) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="no ImageNet weights could be loaded for backbone 'resnet18'.*init='random'"):
        build_backbone("resnet18")


def test_extracted_features_do_not_depend_on_batches_and_the_mode_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbook.reid.features.BATCH", 5)
    data = load_market_layout(write_rectangles(tmp_path))
    model = tiny().train()
    model.neck.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = extract_features(model, data.gallery, SIZE)
    assert model.training and not model.neck.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert features.shape == (12, 256) and features.dtype == torch.float32
    with torch.no_grad():
        images = normalise(load_images(data.gallery.paths, SIZE), model.mean, model.std)
        assert torch.allclose(model.eval()(images), features, atol=1e-5)


def test_extracting_refuses_nothing_to_do(tmp_path: Path) -> None:
    data = load_market_layout(write_rectangles(tmp_path))
    with pytest.raises(ValueError, match="image_set is empty"):
        extract_features(tiny(), data.query.subset([]), SIZE)


def test_retrieval_scores_by_a_slow_count(tmp_path: Path) -> None:
    data = load_market_layout(write_rectangles(tmp_path))
    model = tiny()
    query, gallery = (extract_features(model, split, SIZE) for split in (data.query, data.gallery))
    similarity = cosine_similarity(query, gallery)
    first, precisions = [], []
    for row, person, camera in zip(similarity, data.query.ids, data.query.cams, strict=True):
        kept = ((data.gallery.ids != person) | (data.gallery.cams != camera)).nonzero().flatten()
        order = kept[row[kept].argsort(descending=True)]
        hits = (data.gallery.ids[order] == person).double()
        first.append(hits[0].item())
        precisions.append((hits * hits.cumsum(0) / torch.arange(1, len(hits) + 1)).sum().item() / hits.sum().item())
    scores = retrieval_scores(model, data, SIZE)
    assert scores.rank_1 == pytest.approx(sum(first) / len(first))
    assert scores.mean_ap == pytest.approx(sum(precisions) / len(precisions))


def test_without_a_neck_the_classifier_reads_the_pooled_feature() -> None:
    model = ReidModel("test_efficientnet", 5, init="random", neck=False).eval()
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        pooled, logits = model.heads(images)
        assert torch.equal(model(images), pooled)
        torch.testing.assert_close(logits, pooled @ model.classifier.weight.T + model.classifier.bias)
