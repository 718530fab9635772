"""The front door: any architecture, the model left as it was, one clear error for bad input."""

from functools import cache

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import architectures
from fam_lib import METHODS, Method, explain, explain_all
from fam_lib.capture import evaluating, last_spatial_layer, layer_name, run_with_layer
from fam_lib.targets import cosine
from fam_lib.weighting import uniform
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded


def inputs_of(method, model, images):
    other = METHODS[method].reference == "other"
    return model(images).detach().roll(1, 0) if other else None


# ---- every method on several architectures ------------------------------------------------------------

BACKBONES = {
    "resnet": architectures.resnet,
    "efficientnet": architectures.efficientnet,
    "hrnet": architectures.HighResolution,
    "vgg": architectures.Vgg,
}


@cache
def network(backbone, classes=0):
    torch.manual_seed(0)
    return BACKBONES[backbone](classes).eval()


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_gradient_methods_and_controls_run_on_every_architecture(backbone):
    images = pictures(2, (64, 64))
    for method, row in METHODS.items():
        if "score" in method or "ablation" in method or method in ("cam", "ram", "fam"):
            continue
        model = network(backbone, 4 if row.reference == "class" else 0)
        result = explain(model, images, method, reference=inputs_of(method, model, images))
        assert result.saliency.shape == (2, 64, 64)
        assert result.saliency.min() >= 0
        assert result.saliency.max() <= 1
        expected = torch.where(result.flat, 0.0, 1.0) if method != "all-ones" else torch.ones(2)
        assert torch.equal(result.saliency.amax((1, 2)), expected)


@pytest.mark.parametrize("backbone", ["efficientnet", "vgg"])
def test_masked_and_ablated_scores_run_on_other_architectures(backbone):
    images, model = pictures(2, (64, 64)), network(backbone)
    for method in ("score-fam", "score-norm-fam", "ablation-fam"):
        result = explain(model, images, method, batch_size=16)
        assert result.weights.isfinite().all()
        assert torch.equal(result.saliency.amax((1, 2)), torch.where(result.flat, 0.0, 1.0))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (torchvision.models.resnet18, "layer4"),
        (architectures.Vgg, "features"),
        (architectures.efficientnet, "features"),
        (architectures.HighResolution, "final_layer"),
    ],
    ids=["resnet18", "vgg", "efficientnet", "hrnet"],
)
def test_the_default_layer_is_the_last_spatial_one(make, name):
    model = make().eval()
    layer = last_spatial_layer(model, torch.zeros(1, 3, 64, 64))
    assert layer is model.get_submodule(name)
    assert layer_name(model, layer) == name


@pytest.mark.parametrize(
    ("make", "size", "layer"),
    [
        (lambda: architectures.Vit(heads=2), (160, 160), "101x32 of .*attn"),
        # Tokens and their dimensions happen to have the proportions of a pedestrian.
        (lambda: architectures.Vit(heads=1), (256, 128), "129x64 of .*attn"),
        (architectures.ChannelsLast, (224, 224), "7x48 of 'norm'"),
        (architectures.torchvision_vit, (64, 64), "conv_proj"),
        (architectures.SequenceFirst, (64, 32), "patches"),
    ],
    ids=["ViT", "ViT of pedestrians", "Swin", "torchvision's ViT", "sequence first"],
)
def test_a_transformer_is_not_explained_by_accident(make, size, layer):
    with pytest.raises(ValueError, match=f"{layer}.* is hardly the map to explain"):
        last_spatial_layer(make().eval(), torch.zeros(1, 3, *size))


def test_tokens_in_the_middle_of_a_network_do_no_harm():
    """As in a non-local block or in the channel attention of ECA."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(2), nn.Unflatten(2, (8, 4)), nn.Conv2d(4, 5, 1))
    assert last_spatial_layer(model, torch.zeros(1, 3, 16, 8)) is model[3]


def test_a_branch_of_a_layer_that_returns_a_list():
    model, images = network("hrnet"), pictures(1, (64, 64))
    assert explain(model, images, "grad-fam", "stage", branch=0).cam.shape == (1, 16, 16)
    assert explain(model, images, "grad-fam", "stage", branch=3).cam.shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"returns 4 tensors; choose one with branch=0\.\.3"):
        explain(model, images, "grad-fam", "stage")
    with pytest.raises(ValueError, match="got branch=4"):
        explain(model, images, "grad-fam", "stage", branch=4)
    with pytest.raises(ValueError, match="returns a single Tensor"):
        explain(model, images, "grad-fam", "final_layer", branch=0)


def test_a_layer_of_higher_resolution_gives_a_finer_map():
    model, images = seeded(ConvHead()), pictures(2)
    assert explain(model, images, "grad-fam", "body").cam.shape == (2, 32, 16)
    assert explain(model, images, "grad-fam", "conv").cam.shape == (2, 16, 8)


# ---- the model is left as it was ----------------------------------------------------------------------


@pytest.mark.parametrize("method", list(METHODS))
def test_the_model_is_untouched(method):
    row = METHODS[method]
    model = seeded(GapNet(neck=True, classes=3 if row.reference == "class" else 0, inplace=True))
    images = pictures(2)
    reference = inputs_of(method, model, images)
    model.train()
    model.neck.eval()  # a mixture of modes must come back as a mixture
    model.conv.weight.requires_grad_(False)
    before = census(model)
    explain(model, images, method, "relu", reference=reference)
    assert_untouched(before, census(model))


class Failing(GapNet):
    """Fails at its n-th forward."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def forward(self, images):
        self.left -= 1
        features = super().forward(images)
        if self.left == 0:
            raise RuntimeError("broken on purpose")
        return features


@pytest.mark.parametrize(("method", "at"), [("grad-fam", 1), ("grad-fam", 2), ("score-fam", 3), ("score-fam", 4)])
def test_the_model_is_untouched_after_an_error(method, at):
    model = Failing(at)
    model.train()
    before = census(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        explain(model, pictures(2), method)
    assert_untouched(before, census(model))


def test_evaluating_restores_mixed_modes_when_its_block_fails():
    model = GapNet(neck=True)
    model.neck.eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not model.training
        raise KeyError
    assert model.training
    assert not model.neck.training


def test_frozen_parameters_and_inplace_relus_do_not_matter():
    images = pictures(2)
    expected = explain(seeded(GapNet(inplace=False)), images, "grad-fam", "conv").cam
    frozen = seeded(GapNet(inplace=True)).requires_grad_(False)
    result = explain(frozen, images, "grad-fam", "conv")
    torch.testing.assert_close(result.cam, expected)
    # The captured A is that of the convolution, not what the in-place ReLU made of it.
    activations, _ = run_with_layer(frozen, frozen.conv, images)
    assert activations.min() < 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("method", ["grad-fam", "score-fam"])
def test_explaining_works_in_every_grad_mode(mode, method):
    model, images = seeded(ConvHead()), pictures(2)
    expected = explain(model, images, method).saliency
    with mode():
        result = explain(model, images * 1.0, method).saliency
    assert torch.equal(result, expected)
    assert not expected.requires_grad


# ---- the layer that was explained ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "name"), [(None, "conv"), ("body", "body"), ("body.0", "body.0"), (lambda model: model.body[1], "body.1")]
)
def test_the_result_names_the_layer_that_was_explained(layer, name):
    model, images = seeded(ConvHead()), pictures(2)
    result = explain(model, images, "grad-fam", layer(model) if callable(layer) else layer)
    assert result.layer == name
    assert torch.equal(result.saliency, explain(model, images, "grad-fam", name).saliency)
    assert {one.layer for one in explain_all(model, images, ["grad-fam", "uniform"], name).values()} == {name}


def test_the_layer_serves_further_batches_and_is_looked_up_once():
    model, images, sizes = seeded(ConvHead()), pictures(4), []
    handle = model.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    first = explain(model, images[:2], "grad-fam")
    second = explain(model, images[2:], "grad-fam", first.layer)
    handle.remove()
    assert sizes == [1, 2, 2]  # one image to find the layer
    both = explain(model, images, "grad-fam")
    assert first.layer == second.layer == both.layer == "conv"
    torch.testing.assert_close(torch.cat([first.saliency, second.saliency]), both.saliency)


def test_a_method_of_ones_own_is_a_row():
    mine = Method("my-control", uniform, cosine, "self")
    model, images = seeded(GapNet()), pictures(2)
    assert torch.equal(
        explain(model, images, mine, "relu").saliency, explain(model, images, "uniform", "relu").saliency
    )


def test_the_paper_s_methods_are_in_the_table():
    paper = {name for name, row in METHODS.items() if row.kind == "paper"}
    assert paper == {"grad-cam", "score-cam", "cam", "ram", "grad-ram", "cg-ram", "grad-fam", "score-fam"}
    controls = {name for name, row in METHODS.items() if row.kind == "control"}
    assert controls == {"uniform", "random-weights", "random-map", "centre-prior", "all-ones"}


# ---- properties ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(["grad-fam", "score-fam", "uniform", "random-map", "fam"]))
def test_every_map_lies_in_the_unit_interval_and_touches_both_ends(seed, method):
    model, images = seeded(GapNet(), seed), pictures(2, seed=seed)
    result = explain(model, images, method, "relu")
    top = torch.where(result.flat, 0.0, 1.0)
    assert torch.equal(result.saliency.amin((1, 2)), torch.zeros(2))
    assert torch.equal(result.saliency.amax((1, 2)), top)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_fam_maps_do_not_change_when_the_feature_is_scaled(seed, scale):
    class Scaled(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images) * scale

    model, images = seeded(GapNet(), seed), pictures(1, seed=seed)
    for method in ("grad-fam", "score-fam"):
        one = explain(model, images, method, model.relu).saliency
        two = explain(Scaled(model), images, method, model.relu).saliency
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_a_flat_map_is_zeros_and_is_said_to_be_flat():
    model = seeded(GapNet())
    model.conv.weight.data.zero_()
    result = explain(model, pictures(2), "grad-fam", "relu")
    assert result.flat.tolist() == [True, True]
    assert result.saliency.unique().tolist() == [0.0]


# ---- bad input: one clear error, the model untouched --------------------------------------------------


class Returning(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.value = value

    def forward(self, images):
        return self.value(self.conv(images))


def nan_image():
    images = pictures(3)
    images[1, 0, 5, 5] = torch.nan
    return images


class Normalised(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return nn.functional.normalize(self.model(images), dim=1)


GAP = seeded(GapNet())
CLASSES = seeded(GapNet(classes=4))
X = pictures(2)
BAD_INPUT = {
    "unknown method": (GAP, X, {"method": "scorefam"}, "did you mean one of .*score-fam"),
    "unknown layer": (GAP, X, {"layer": "convv"}, "no layer 'convv'; did you mean one of .*conv"),
    "empty layer name": (GAP, X, {"layer": ""}, "no layer ''"),
    "foreign layer": (GAP, X, {"layer": CLASSES.conv}, "not a part of the model"),
    "layer without a map": (GAP, X, {"layer": "neck"}, r"must be a map \(N, C, h, w\)"),
    "no spatial layer": (nn.Sequential(nn.Flatten(), nn.Linear(6144, 3)), X, {}, "no layer with a spatial output"),
    "map as output": (Returning(lambda a: a), X, {}, "one vector an image"),
    "tuple as output": (Returning(lambda a: (a.mean((2, 3)),)), X, {}, "return one tensor"),
    "NaN as output": (Returning(lambda a: a.mean((2, 3)) / 0 * 0), X, {}, "returned NaN"),
    "NaN in the images": (GAP, nan_image(), {}, r"images \[1\] hold NaN"),
    "one image without batch": (GAP, X[0], {}, r"\(N, 3, H, W\)"),
    "no image": (GAP, X[:0], {}, "N > 0"),
    "bytes": (GAP, (X * 255).byte(), {}, "float tensor"),
    "unit-norm features": (Normalised(GAP), X, {"method": "grad-fam"}, "L2-normalises its features"),
    "missing reference": (GAP, X, {"method": "ram"}, "compares with another image"),
    "reference for FAM": (GAP, X, {"reference": GAP(X)}, "takes no reference"),
    "reference for a control": (GAP, X, {"method": "uniform", "reference": GAP(X)}, "takes no reference"),
    "reference of another size": (GAP, X, {"method": "ram", "reference": torch.ones(2, 5)}, r"shape \(2, 6\)"),
    "zero reference": (GAP, X, {"method": "ram", "reference": torch.zeros(2, 6)}, "zero vector"),
    "class out of range": (CLASSES, X, {"method": "grad-cam", "reference": torch.tensor([0, 4])}, r"0\.\.3"),
    "class as float": (CLASSES, X, {"method": "cam", "reference": torch.ones(2)}, "class indices"),
    "batch size 0": (GAP, X, {"batch_size": 0}, "batch_size"),
    "precision": (GAP, X, {"precision": torch.int8}, "precision must be"),
    "unknown option": (GAP, X, {"batchsize": 3}, "unknown option 'batchsize'"),
    "small images": (GAP, pictures(1, (24, 24)), {}, "too small"),
    "detached head": (Returning(lambda a: a.detach().mean((2, 3))), X, {"method": "grad-fam"}, "no gradient"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_gives_one_clear_error_and_leaves_the_model_alone(case):
    model, images, options, message = BAD_INPUT[case]
    model.train()
    before = census(model)
    with pytest.raises((ValueError, TypeError), match=message):
        explain(model, images, **options)
    assert_untouched(before, census(model))


def test_a_layer_that_runs_twice_is_refused():
    class Twice(GapNet):
        def forward(self, images):
            return self.relu(self.relu(self.conv(images)) - 0.1).mean((2, 3))

    with pytest.raises(ValueError, match="more than once"):
        explain(seeded(Twice()), X, "grad-fam", "relu")
    with pytest.raises(ValueError, match="did not run"):
        model = seeded(GapNet())
        model.spare = nn.Conv2d(3, 3, 1)
        explain(model, X, "grad-fam", "spare")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["grad-fam", "fam", "random-map", "score-fam"])
def test_half_precision_models_are_explained(method, dtype):
    model = seeded(GapNet())
    exact = explain(model, X, method, "relu").saliency
    half = explain(seeded(GapNet()).to(dtype), X.to(dtype), method, "relu").saliency
    assert half.dtype == torch.float32
    if method != "random-map":  # keyed by the pixels, which differ
        assert torch.corrcoef(torch.stack([exact.flatten(), half.flatten()]))[0, 1] > 0.99


def test_nan_in_the_masked_forwards_is_an_error_not_a_dark_map():
    with pytest.raises(ValueError, match="NaN or infinite.*baseline"):
        explain(GAP, X, "score-fam", "relu", baseline=lambda images: images * torch.nan)
    with pytest.raises(ValueError, match="baseline must return"):
        explain(GAP, X, "score-fam", "relu", baseline=lambda images: images[:1])


def test_class_indices_may_come_from_inference_mode():
    with torch.inference_mode():
        classes = CLASSES(X).argmax(1)
    expected = explain(CLASSES, X, "grad-cam", "relu").saliency
    assert torch.equal(explain(CLASSES, X, "grad-cam", "relu", reference=classes).saliency, expected)


def test_score_fam_explains_l2_normalised_features():
    torch.testing.assert_close(
        explain(Normalised(GAP), X, "score-fam", GAP.relu).saliency, explain(GAP, X, "score-fam", "relu").saliency
    )


def test_progress_sees_every_batch_of_masks():
    seen = []

    def progress(batches):
        for batch in batches:
            seen.append(batch)
            yield batch

    explain(seeded(ConvHead()), X, "score-fam", "conv", batch_size=4, progress=progress)
    assert seen == [0, 4, 8, 12]
