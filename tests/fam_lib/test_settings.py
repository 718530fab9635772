"""The options of explain and explain_all: named in their signatures, refused by name, checked before anything runs."""

from dataclasses import FrozenInstanceError, fields
from inspect import Parameter, signature

import pytest
import torch
from torch import nn

from fam_lib import Settings, explain, explain_all
from fam_lib.masking import gaussian_blur
from fam_lib.settings import default_batch_size, settings_from
from toys import ConvHead, assert_untouched, census, pictures, seeded

OPTIONS = {
    "classifier": None,
    "branch": None,
    "batch_size": None,
    "precision": None,
    "baseline": gaussian_blur,
    "budget": 1.0,
    "tolerance": None,
    "seed": 0,
    "progress": None,
}


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (explain, ["model", "images", "method", "layer", "reference"]),
        (explain_all, ["model", "images", "methods", "layer", "other", "classes"]),
    ],
)
def test_the_signature_lists_the_options_with_their_defaults(function, own):
    parameters = signature(function).parameters
    assert list(parameters) == [*own, *OPTIONS]
    for name, default in OPTIONS.items():
        assert parameters[name].kind is Parameter.KEYWORD_ONLY
        assert parameters[name].default == default
        assert parameters[name].annotation == Settings.__annotations__[name]


def test_the_defaults_are_those_of_the_settings():
    assert {field.name: getattr(Settings(), field.name) for field in fields(Settings)} == OPTIONS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("batchsize", r"unknown option 'batchsize'; did you mean one of \['batch_size'\]\?"),
        ("basline", r"unknown option 'basline'; did you mean one of \['baseline'\]\?"),
        ("device", "unknown option 'device'; did you mean one of .*'classifier', 'branch', .*'progress'"),
    ],
)
def test_an_unknown_option_is_refused_by_name_with_near_ones(wrong, message):
    model = seeded(ConvHead()).train()
    before = census(model)
    with pytest.raises(TypeError, match=message):
        explain(model, pictures(2), "grad-fam", **{wrong: 3})
    with pytest.raises(TypeError, match=message):
        explain_all(model, pictures(2), ["grad-fam"], **{wrong: 3})
    with pytest.raises(TypeError, match=message):
        settings_from({"seed": 1, wrong: 3})
    assert_untouched(before, census(model))


NAN = float("nan")


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("batch_size", [0, -1], "batch_size must be at least 1, got"),
        ("precision", [torch.int8, torch.float64, "bf16"], "precision must be torch.float32, float16, bfloat16 or"),
        ("budget", [0, -0.5, 1.5, NAN], r"budget must be a share of the channels in \(0, 1\], got"),
        ("tolerance", [0, -0.5, 1, 1.5, NAN], r"tolerance must be a difference of saliency in \(0, 1\), got"),
    ],
)
def test_a_value_out_of_range_is_refused_before_the_model_runs(option, values, message):
    def refuse(_module, _inputs):
        raise AssertionError("the model ran")

    model, images = seeded(ConvHead()), pictures(1)
    model.register_forward_pre_hook(refuse)
    for value in values:
        for call in (
            lambda o: explain(model, images, "score-fam", **o),
            lambda o: explain_all(model, images, ["score-fam", "uniform"], **o),
            lambda o: Settings(**o),
        ):
            with pytest.raises(ValueError, match=message):
                call({option: value})


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("batch_size", [1, 256]),
        ("precision", [torch.float32, torch.float16, torch.bfloat16, "tf32"]),
        ("budget", [1e-9, 1, 1.0]),
        ("tolerance", [1e-9, 0.999]),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(option, values):
    for value in values:
        assert getattr(settings_from({option: value}), option) == value


def test_settings_are_frozen_and_given_by_name():
    with pytest.raises(FrozenInstanceError):
        Settings().seed = 1
    with pytest.raises(TypeError):
        Settings(nn.Identity())


@pytest.mark.parametrize(
    ("options", "certifies"), [({}, False), ({"budget": 0.5}, True), ({"tolerance": 0.1}, True), ({"seed": 3}, False)]
)
def test_maps_are_certified_where_channels_may_be_left_out(options, certifies):
    assert Settings(**options).certifies is certifies
    bound = explain(seeded(ConvHead()), pictures(1), "score-fam", **options).bound
    assert (bound is not None) is certifies


def test_options_reach_the_passes():
    model, images, sizes = seeded(ConvHead()), pictures(1), []
    handle = model.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    itself = explain(model, images, "score-fam", "conv", batch_size=3, baseline=torch.clone)
    handle.remove()
    assert sizes == [1, 1, 3, 3, 1]  # the image, the baseline, seven masks
    blurred = explain(model, images, "score-fam", "conv")
    assert itself.scores.abs().max() < 1e-6 < 1e-4 < blurred.scores.abs().max()  # every mask leaves the image as it is
    float32 = explain(model, images, "score-fam", "conv", precision=torch.float32)
    assert torch.equal(float32.scores, blurred.scores)


@pytest.mark.parametrize(
    ("shape", "precision", "expected"),
    [
        ((2, 3, 128, 64), None, 24),
        ((2, 3, 256, 128), None, 6),
        ((1, 3, 256, 128), torch.float32, 6),
        ((1, 3, 256, 128), "tf32", 6),
        ((2, 3, 256, 128), torch.bfloat16, 12),
        ((2, 3, 256, 128), torch.float16, 12),
        ((1, 3, 2000, 2000), None, 1),
    ],
)
def test_a_batch_of_masks_fits_the_cpus_cache(shape, precision, expected):
    assert default_batch_size(torch.empty(shape), precision) == expected


def test_a_batch_of_masks_fills_an_accelerator():
    assert default_batch_size(torch.empty(1, 3, 256, 128, device="meta")) == 256
