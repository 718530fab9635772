"""Networks made to forget: order, seeds, batch norm, untouched models."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import architectures
from fam_lib import randomize
from fam_lib.randomize import execution_order, layer_groups, randomised

IMAGES = torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


class Backwards(nn.Module):
    """Registers its layers in the order head, b, a, unused; runs a, b, head; a and b have one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.b = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.a = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.stem = nn.Conv2d(3, 4, 1)
        self.unused = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.b(self.a(self.stem(images))).mean((2, 3)))


@pytest.fixture
def model() -> Backwards:
    torch.manual_seed(1)
    net = Backwards()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training leaves them
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 3)
    return net.train()


def steps(
    model: nn.Module, scheme: str = "cascade", seed: int = 0, max_steps: int = 99, **options: object
) -> dict[str, nn.Module]:
    """Step name -> randomised copy, by default a step for every layer."""
    groups = layer_groups(execution_order(model, IMAGES), max_steps)
    return dict(randomised(model, groups, scheme, seed, **options))


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the layers whose state differs."""
    a, b = before.state_dict(), after.state_dict()
    return {name.rpartition(".")[0] for name in a if not torch.equal(a[name], b[name])}


def bits(model: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer, to the last bit."""
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


# ---- order and groups ---------------------------------------------------------------------------------


def test_the_order_is_that_of_execution_without_what_does_not_run(model: Backwards) -> None:
    assert execution_order(model, IMAGES) == ("stem", "a.0", "a.1", "b.0", "b.1", "head")
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error(model: Backwards) -> None:
    with pytest.raises(RuntimeError):
        execution_order(model, torch.rand(1, 7, 64, 32))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to randomise"):
        execution_order(nn.Flatten(), IMAGES)


def test_groups_follow_the_names_and_join_the_smallest_neighbours() -> None:
    layers = (
        "stem.conv",
        "stem.bn",
        "blocks.0.a",
        "blocks.0.b",
        "blocks.1.a",
        "blocks.1.b",
        "blocks.1.c",
        "head",
    )
    names = [group.name for group in layer_groups(layers, 4)]
    assert names == ["stem.conv", "blocks.0", "blocks.1", "head"]
    # Five groups at depth 2: stem.conv, stem.bn, blocks.0, blocks.1, head; the two of one layer were joined.
    assert layer_groups(layers, 4)[0].layers == ("stem.conv", "stem.bn")
    assert [group.layers for group in layer_groups(layers, 99)] == [(name,) for name in layers]
    assert layer_groups(layers, 1)[0].layers == layers
    assert [group.name for group in layer_groups(layers, 2)] == ["stem", "head"]


def test_names_are_cut_deeper_where_one_group_would_be_most_of_the_network() -> None:
    # Depth 1 gives three groups, but "blocks" would be nearly the whole network.
    layers = ("stem", *(f"blocks.{i}.{j}" for i in range(4) for j in "ab"), "head")
    groups = layer_groups(layers, 3)
    assert [group.name for group in groups] == ["stem", "blocks.1", "head"]
    assert [len(group.layers) for group in groups] == [3, 6, 1]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_groups_partition_the_layers_in_order(blocks: list[str], max_steps: int) -> None:
    layers = tuple(f"{block}.{i}" for i, block in enumerate(blocks))
    groups = layer_groups(layers, max_steps)
    assert sum((group.layers for group in groups), ()) == layers
    assert 1 <= len(groups) <= max_steps


def test_zero_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="max_steps"):
        layer_groups(("a", "b"), 0)


@pytest.mark.parametrize(("name", "lowest"), [("mobilenet_v2", "features.0"), ("resnet18", "conv1")])
def test_real_networks_get_eight_steps_down_to_the_stem(name: str, lowest: str) -> None:
    net = getattr(torchvision.models, name)()
    order = execution_order(net, torch.rand(1, 3, 32, 32))
    groups = layer_groups(order, 8)
    assert len(groups) == 8
    assert groups[0].name == lowest
    assert len(set(order)) == sum(len(group.layers) for group in groups)


def test_a_resnet_shortcut_runs_before_the_sum() -> None:
    order = execution_order(architectures.resnet(), torch.rand(1, 3, 32, 32))
    assert order.index("stages.1.0.downsample.0") < order.index("stages.1.1.conv1")


# ---- the networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["cascade", "independent"])
def test_the_given_model_stays_bit_identical(model: Backwards, scheme: str) -> None:
    before = bits(model)
    frozen = [parameter.requires_grad_(False).requires_grad for parameter in model.parameters()]
    for other in steps(model, scheme, calibration=IMAGES).values():
        other(IMAGES).sum()
    assert bits(model) == before
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert model.training


def test_the_cascade_goes_down_one_group_a_step(model: Backwards) -> None:
    done: set[str] = set()
    for (name, other), expected in zip(steps(model).items(), ["head", "b.1", "b.0", "a.1", "a.0", "stem"], strict=True):
        done |= {expected}
        assert name == expected
        assert changed(model, other) == done


def test_independent_steps_change_one_group_each(model: Backwards) -> None:
    for name, other in steps(model, "independent").items():
        assert changed(model, other) == {name}


def test_an_unknown_scheme_is_refused(model: Backwards) -> None:
    with pytest.raises(ValueError, match="'cascade', 'independent'"):
        steps(model, "random")


def test_layers_of_one_shape_get_different_weights_and_each_the_same_in_every_test(model: Backwards) -> None:
    cascade, alone = steps(model, seed=3), steps(model, "independent", seed=3)
    last = cascade["stem"]
    assert not torch.equal(last.a[0].weight, last.b[0].weight)
    assert torch.equal(cascade["b.0"].b[0].weight, last.b[0].weight)
    assert torch.equal(alone["a.0"].a[0].weight, last.a[0].weight)


def test_no_two_layers_of_a_real_network_get_the_same_weights() -> None:
    (other,) = steps(torchvision.models.resnet18(), max_steps=1).values()
    kernels = [m.weight for m in other.modules() if isinstance(m, nn.Conv2d)]
    for i, kernel in enumerate(kernels):
        assert not any(kernel.shape == k.shape and torch.equal(kernel, k) for k in kernels[:i])


def test_a_seed_repeats_and_another_differs(model: Backwards) -> None:
    first, again, other = (bits(steps(model, seed=seed)["stem"]) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_global_random_state_is_left_alone(model: Backwards) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    steps(model)
    assert torch.equal(torch.rand(3), expected)


def test_copies_do_not_share_storage(model: Backwards) -> None:
    networks = randomised(model, layer_groups(execution_order(model, IMAGES), 99))
    _, first = next(networks)
    nn.init.zeros_(first.stem.weight)
    _, second = next(networks)
    assert torch.equal(second.stem.weight, model.stem.weight)


def test_batch_norm_is_reset(model: Backwards) -> None:
    other = steps(model)["stem"]
    for norm in (other.a[1], other.b[1]):
        assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(norm.bias, torch.zeros(4))
        assert torch.equal(norm.running_mean, torch.zeros(4)) and torch.equal(norm.running_var, torch.ones(4))


def test_batch_norm_is_estimated_from_the_calibration_images(model: Backwards) -> None:
    other = steps(model, calibration=IMAGES)["stem"]
    with torch.no_grad():
        x = other.a[0](other.stem(IMAGES))
    torch.testing.assert_close(other.a[1].running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(other.a[1].running_var, x.var((0, 2, 3)))
    assert other.a[1].momentum == model.a[1].momentum
    assert other.training == model.training


def test_statistics_of_trained_layers_stay_in_a_partly_random_network(model: Backwards) -> None:
    other = steps(model, max_steps=3, calibration=IMAGES)["head"]
    assert torch.equal(other.a[1].running_var, model.a[1].running_var)


def test_one_image_is_too_few_for_statistics(model: Backwards) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        steps(model, calibration=IMAGES[:1])


def test_a_layer_that_cannot_be_reset_is_named_and_one_that_can_resets_itself() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.gamma * x.mean((2, 3))

    class Resetting(Scale):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self.gamma)

    with pytest.raises(TypeError, match=r"Scale has parameters but no reset_parameters\(\): give it this method"):
        steps(nn.Sequential(Scale()))
    (other,) = steps(nn.Sequential(Resetting())).values()
    assert torch.equal(other[0].gamma, torch.zeros(3))


@pytest.mark.parametrize("calibrated", [False, True])
def test_features_of_a_random_mobilenet_neither_vanish_nor_explode(calibrated: bool) -> None:
    net = torchvision.models.mobilenet_v2(width_mult=0.35)
    net.classifier = nn.Identity()
    images = torch.rand(8, 3, 64, 32)
    randomize.estimate_statistics(net, execution_order(net, images), images)  # as training leaves them
    for other in steps(net, max_steps=3, calibration=images if calibrated else None).values():
        with torch.no_grad():
            features = other.eval()(images)
        assert features.isfinite().all()
        norms = features.norm(dim=1)
        assert ((norms > 1e-2) & (norms < 1e4)).all()


def test_he_initialisation_has_its_standard_deviation() -> None:
    conv = nn.Conv2d(64, 128, 3, groups=2)
    randomize.randomise_layer(conv, seed=0)
    assert conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)
    assert torch.equal(conv.bias, torch.zeros(128))
