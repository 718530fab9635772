"""The sanity check: order, seeds, batch norm, untouched models, similarity measures against their oracles."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from fam_lib import randomize
from fam_lib.randomize import cascade, execution_order, independent, layer_groups, state_digest

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


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the layers whose state differs."""
    a, b = before.state_dict(), after.state_dict()
    return {name.rpartition(".")[0] for name in a if not torch.equal(a[name], b[name])}


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
    assert [group.layers for group in layer_groups(layers, None)] == [(name,) for name in layers]
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


@pytest.mark.parametrize(("name", "lowest"), [("tf_efficientnet_lite0", "conv_stem"), ("resnet18", "conv1")])
def test_real_networks_get_eight_steps_down_to_the_stem(name: str, lowest: str) -> None:
    net = timm.create_model(name, num_classes=0)
    order = execution_order(net, torch.rand(1, 3, 32, 32))
    groups = layer_groups(order, 8)
    assert len(groups) == 8
    assert groups[0].name == lowest
    assert len(set(order)) == sum(len(group.layers) for group in groups)


def test_a_resnet_shortcut_runs_before_the_sum() -> None:
    order = execution_order(timm.create_model("resnet18", num_classes=0), torch.rand(1, 3, 32, 32))
    assert order.index("layer2.0.downsample.0") < order.index("layer2.1.conv1")


# ---- the cascade --------------------------------------------------------------------------------------


def test_the_given_model_stays_bit_identical(model: Backwards) -> None:
    before, requires_grad = (
        state_digest(model),
        [p.requires_grad_(False).requires_grad for p in model.parameters()],
    )
    for _name, other in cascade(model, IMAGES, max_steps=None, calibration=IMAGES):
        other(IMAGES).sum()
    list(independent(model, IMAGES, max_steps=None))
    assert state_digest(model) == before
    assert [p.requires_grad for p in model.parameters()] == requires_grad
    assert model.training


def test_the_cascade_goes_down_one_group_a_step(model: Backwards) -> None:
    steps = [(name, changed(model, other)) for name, other in cascade(model, IMAGES, max_steps=None)]
    done: set[str] = set()
    for (name, layers), expected in zip(steps, ["head", "b.1", "b.0", "a.1", "a.0", "stem"], strict=True):
        done |= {expected}
        assert name == expected
        assert layers == done


def test_independent_steps_change_one_group_each(model: Backwards) -> None:
    for name, other in independent(model, IMAGES, max_steps=None):
        assert changed(model, other) == {name}


def test_layers_of_one_shape_get_different_weights_and_each_the_same_in_every_test(model: Backwards) -> None:
    steps = dict(cascade(model, IMAGES, seed=3, max_steps=None))
    last = steps["stem"]
    assert not torch.equal(last.a[0].weight, last.b[0].weight)
    assert torch.equal(steps["b.0"].b[0].weight, last.b[0].weight)
    alone = dict(independent(model, IMAGES, seed=3, max_steps=None))
    assert torch.equal(alone["a.0"].a[0].weight, last.a[0].weight)


def test_no_two_layers_of_a_real_network_get_the_same_weights() -> None:
    net = timm.create_model("resnet18", num_classes=0)
    *_, (_, other) = cascade(net, torch.rand(1, 3, 32, 32))
    kernels = [m.weight for m in other.modules() if isinstance(m, nn.Conv2d)]
    for i, kernel in enumerate(kernels):
        assert not any(kernel.shape == k.shape and torch.equal(kernel, k) for k in kernels[:i])


def test_a_seed_repeats_and_another_differs(model: Backwards) -> None:
    first, again, other = (list(cascade(model, IMAGES, seed=s))[-1][1] for s in (0, 0, 1))
    assert state_digest(first) == state_digest(again)
    assert state_digest(first) != state_digest(other)


def test_global_random_state_is_left_alone(model: Backwards) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(cascade(model, IMAGES))
    assert torch.equal(torch.rand(3), expected)


def test_copies_do_not_share_storage(model: Backwards) -> None:
    steps = cascade(model, IMAGES, max_steps=None)
    _, first = next(steps)
    nn.init.zeros_(first.stem.weight)
    _, second = next(steps)
    assert torch.equal(second.stem.weight, model.stem.weight)


def test_batch_norm_is_reset(model: Backwards) -> None:
    *_, (_, other) = cascade(model, IMAGES)
    for norm in (other.a[1], other.b[1]):
        assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(norm.bias, torch.zeros(4))
        assert torch.equal(norm.running_mean, torch.zeros(4)) and torch.equal(norm.running_var, torch.ones(4))


def test_batch_norm_is_estimated_from_the_calibration_images(model: Backwards) -> None:
    *_, (_, other) = cascade(model, IMAGES, calibration=IMAGES)
    with torch.no_grad():
        x = other.a[0](other.stem(IMAGES))
    torch.testing.assert_close(other.a[1].running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(other.a[1].running_var, x.var((0, 2, 3)))
    assert other.a[1].momentum == model.a[1].momentum
    assert other.training == model.training


def test_statistics_of_trained_layers_stay_in_a_partly_random_network(model: Backwards) -> None:
    name, other = next(cascade(model, IMAGES, max_steps=3, calibration=IMAGES))
    assert name == "head"
    assert torch.equal(other.a[1].running_var, model.a[1].running_var)


def test_one_image_is_too_few_for_statistics(model: Backwards) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        list(cascade(model, IMAGES, calibration=IMAGES[:1]))


def test_a_layer_that_cannot_be_reset_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.gamma * x.mean((2, 3))

    with pytest.raises(TypeError, match="Scale"):
        list(cascade(nn.Sequential(Scale()), IMAGES))
    _, other = next(cascade(nn.Sequential(Scale()), IMAGES, initialise=lambda m: nn.init.zeros_(m.gamma)))
    assert torch.equal(other[0].gamma, torch.zeros(3))


@pytest.mark.parametrize("calibrated", [False, True])
def test_features_of_a_random_efficientnet_neither_vanish_nor_explode(calibrated: bool) -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    images = torch.rand(8, 3, 64, 32)
    for _, other in cascade(net, images, max_steps=3, calibration=images if calibrated else None):
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


# ---- similarity ---------------------------------------------------------------------------------------


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.normal(size=(5, 16, 9)))
    b = 0.5 * a + torch.from_numpy(rng.normal(size=a.shape))
    b[1] = b[1].round()  # ties
    return a, b


@pytest.mark.parametrize("absolute", [False, True])
def test_spearman_equals_scipy(maps: tuple[Tensor, Tensor], absolute: bool) -> None:
    a, b = (m.abs() if absolute else m for m in maps)
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(randomize.spearman(*maps, absolute=absolute), expected, rtol=1e-12)


def test_ssim_equals_scikit_image(maps: tuple[Tensor, Tensor]) -> None:
    a, b = (m.sigmoid() for m in maps)
    expected = [structural_similarity(x.numpy(), y.numpy(), data_range=1.0) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(randomize.ssim(a, b), expected, rtol=1e-10)


def test_cosine_by_hand() -> None:
    a = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    b = torch.tensor([[[4.0, 3.0]], [[-2.0, 0.0]], [[1.0, 1.0]]])
    values = randomize.cosine(a, b)
    torch.testing.assert_close(values[:2], torch.tensor([0.96, -1.0], dtype=torch.float64))
    assert values[2].isnan()


def test_a_map_against_itself_its_negative_and_a_constant(maps: tuple[Tensor, Tensor]) -> None:
    a, _ = maps
    one = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(randomize.spearman(a, a), one)
    torch.testing.assert_close(randomize.spearman(a, -a), -one)
    torch.testing.assert_close(randomize.spearman(a, -a, absolute=True), one)
    torch.testing.assert_close(randomize.ssim(a, a), one)
    assert randomize.spearman(a, torch.full_like(a, 0.3)).isnan().all()


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_similarities_are_symmetric_bounded_and_rank_correlation_ignores_monotone_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.random((2, 8, 8))) for _ in range(2))
    for measure in (randomize.spearman, randomize.cosine, randomize.ssim):
        value = measure(a, b)
        torch.testing.assert_close(value, measure(b, a))
        assert (value.abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(randomize.spearman(a, b), randomize.spearman(a.exp(), b**3))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        randomize.cosine(torch.rand(2, 8, 8), torch.rand(2, 8, 9))
    with pytest.raises(ValueError, match="7x7"):
        randomize.ssim(torch.rand(2, 6, 8), torch.rand(2, 6, 8))


# ---- the check ----------------------------------------------------------------------------------------


@pytest.fixture
def relu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def test_maps_of_a_cascade_equal_those_of_explain(relu_net: nn.Module) -> None:
    from fam_lib import explain

    maps = randomize.explain_cascade(relu_net, IMAGES, ["grad-fam", "uniform"], seed=2, chunk=3)
    assert maps.steps == ("6", "2", "0")
    models = [copy.deepcopy(relu_net), *(other for _, other in cascade(relu_net, IMAGES, seed=2))]
    for i, other in enumerate(models):
        expected = explain(other, IMAGES, "grad-fam")
        torch.testing.assert_close(maps.saliency["grad-fam"][i], expected.saliency)
        torch.testing.assert_close(maps.raw["grad-fam"][i].relu(), expected.cam)


def test_only_the_head_changed_leaves_the_uniform_map_alone(relu_net: nn.Module) -> None:
    maps = randomize.explain_cascade(relu_net, IMAGES, ["uniform"])
    assert torch.equal(maps.raw["uniform"][0], maps.raw["uniform"][1])
    assert not torch.equal(maps.raw["uniform"][0], maps.raw["uniform"][2])


def test_cached_maps_are_the_computed_ones(relu_net: nn.Module, tmp_path, monkeypatch) -> None:
    first = randomize.explain_cascade(relu_net, IMAGES, ["score-fam"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(randomize, "Explainer", None)  # any computation would fail now
    again = randomize.explain_cascade(relu_net, IMAGES, ["score-fam"], cache=tmp_path)
    assert torch.equal(first.saliency["score-fam"], again.saliency["score-fam"])
    with pytest.raises(TypeError):
        randomize.explain_cascade(relu_net, IMAGES + 0.01, ["score-fam"], cache=tmp_path)


def test_methods_that_need_a_reference_are_refused(relu_net: nn.Module) -> None:
    with pytest.raises(ValueError, match="'ram'"):
        randomize.explain_cascade(relu_net, IMAGES, ["ram"])


def test_the_table_has_a_row_for_each_method_and_step(relu_net: nn.Module) -> None:
    maps = randomize.explain_cascade(relu_net, IMAGES, ["grad-fam", "uniform"])
    rows = randomize.similarity_table(maps, n_boot=100).to_dict("records")
    assert [(row["method"], row["step"]) for row in rows] == [
        (method, step) for method in ("grad-fam", "uniform") for step in ("6", "2", "0")
    ]
    assert all(row["n"] == 4 for row in rows)
    head_only = rows[3]
    for measure in ("spearman", "spearman_abs", "ssim", "cosine"):
        assert [head_only[f"{measure}{end}"] for end in ("", "_lo", "_hi")] == pytest.approx([1, 1, 1])
        assert rows[0][f"{measure}_lo"] <= rows[0][measure] <= rows[0][f"{measure}_hi"]
