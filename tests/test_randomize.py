"""The sanity check: order, seeds, batch norm, untouched models, similarity measures against their oracles."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from fam_lib import METHODS, explain, randomize
from fam_lib.randomize import Group, RandomisedMaps, execution_order, explain_randomised, layer_groups, randomised
from fam_lib.weights import state_digest

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
    model: nn.Module, scheme: str = "cascade", seed: int = 0, max_steps: int | None = None, **options: object
) -> dict[str, nn.Module]:
    """Step name -> randomised copy, by default a step for every layer."""
    groups = layer_groups(execution_order(model, IMAGES), max_steps)
    return dict(randomised(model, groups, scheme, seed, **options))


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


# ---- the networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["cascade", "independent"])
def test_the_given_model_stays_bit_identical(model: Backwards, scheme: str) -> None:
    before = state_digest(model)
    frozen = [parameter.requires_grad_(False).requires_grad for parameter in model.parameters()]
    for other in steps(model, scheme, calibration=IMAGES).values():
        other(IMAGES).sum()
    assert state_digest(model) == before
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert model.training


def test_the_digest_sees_the_last_bit_of_every_parameter_and_buffer(model: Backwards) -> None:
    before = state_digest(model)
    assert state_digest(copy.deepcopy(model)) == before
    for name in ("head.bias", "a.1.running_var"):
        other = copy.deepcopy(model)
        value = other.state_dict()[name]
        value[0] = torch.nextafter(value[0], torch.tensor(9.0))
        assert state_digest(other) != before


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
    *_, other = steps(timm.create_model("resnet18", num_classes=0), max_steps=8).values()
    kernels = [m.weight for m in other.modules() if isinstance(m, nn.Conv2d)]
    for i, kernel in enumerate(kernels):
        assert not any(kernel.shape == k.shape and torch.equal(kernel, k) for k in kernels[:i])


def test_a_seed_repeats_and_another_differs(model: Backwards) -> None:
    first, again, other = (state_digest(steps(model, seed=seed)["stem"]) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_global_random_state_is_left_alone(model: Backwards) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    steps(model)
    assert torch.equal(torch.rand(3), expected)


def test_copies_do_not_share_storage(model: Backwards) -> None:
    networks = randomised(model, layer_groups(execution_order(model, IMAGES), None))
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


def test_a_layer_that_cannot_be_reset_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.gamma * x.mean((2, 3))

    with pytest.raises(TypeError, match="Scale"):
        steps(nn.Sequential(Scale()))
    (other,) = steps(nn.Sequential(Scale()), initialise=lambda m: nn.init.zeros_(m.gamma)).values()
    assert torch.equal(other[0].gamma, torch.zeros(3))


@pytest.mark.parametrize("calibrated", [False, True])
def test_features_of_a_random_efficientnet_neither_vanish_nor_explode(calibrated: bool) -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    images = torch.rand(8, 3, 64, 32)
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


# ---- maps of networks that forgot ---------------------------------------------------------------------

OTHERS = IMAGES.flip(0)
HEAD, BODY = Group("classifier", ("classifier",)), Group("body", ("body",))


class Linear(nn.Module):
    """A = body(X), f = GAP(A), logits = classifier(f): alpha and A are known without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 8, stride=8)
        self.classifier = nn.Linear(5, 7, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).mean((2, 3))


@pytest.fixture
def linear() -> Linear:
    torch.manual_seed(3)
    return Linear()


def check(
    model: nn.Module, methods: Sequence[str], groups: Sequence[Group] = (BODY, HEAD), **options: object
) -> RandomisedMaps:
    given = {"layer": "body", "classifier": attrgetter("classifier"), "others": OTHERS} | options
    return explain_randomised(model, given.pop("images", IMAGES), methods, groups, **given)


def weighted(alpha: Tensor, activations: Tensor) -> Tensor:
    return (alpha[:, :, None, None] * activations).sum(1)


def class_weights(trained: Linear, network: Linear) -> Tensor:
    """Grad-CAM's alpha behind GAP, w^c_k / Z, of a network, for the class that the trained network predicts."""
    with torch.no_grad():
        classes = trained.classifier(trained(IMAGES)).argmax(1)
    return network.classifier.weight.detach()[classes] / 32


def own_weights(network: Linear) -> Tensor:
    """Grad-FAM's alpha behind GAP, f_k / (Z |f|)."""
    with torch.no_grad():
        return torch.nn.functional.normalize(network(IMAGES)) / 32


@torch.no_grad()
def test_a_random_classifier_changes_alpha_and_leaves_a(linear: Linear) -> None:
    (_, other), *_ = randomised(linear, (BODY, HEAD), "independent")
    A = linear.body(IMAGES)
    maps = check(linear, ["grad-cam", "grad-fam"], scheme="independent")
    before, after = maps.raw["grad-cam"][:2]
    torch.testing.assert_close(before, weighted(class_weights(linear, linear), A))
    torch.testing.assert_close(after, weighted(class_weights(linear, other), A))
    assert torch.equal(maps.swapped["grad-cam"]["alpha"][0], after)
    assert torch.equal(maps.swapped["grad-cam"]["A"][0], before)
    assert torch.equal(maps.raw["grad-fam"][0], maps.raw["grad-fam"][1])  # it reads no class


@torch.no_grad()
def test_a_random_body_changes_a_and_of_alpha_only_what_depends_on_a(linear: Linear) -> None:
    *_, (_, other) = randomised(linear, (BODY, HEAD), "independent")
    before, after = linear.body(IMAGES), other.body(IMAGES)
    maps = check(linear, ["grad-cam", "grad-fam"], scheme="independent")
    torch.testing.assert_close(maps.swapped["grad-cam"]["alpha"][1], maps.raw["grad-cam"][0])
    torch.testing.assert_close(maps.swapped["grad-cam"]["A"][1], weighted(class_weights(linear, linear), after))
    torch.testing.assert_close(maps.swapped["grad-fam"]["alpha"][1], weighted(own_weights(other), before))
    torch.testing.assert_close(maps.swapped["grad-fam"]["A"][1], weighted(own_weights(linear), after))
    torch.testing.assert_close(maps.raw["grad-fam"][2], weighted(own_weights(other), after))


def test_weights_that_never_change_are_the_limit_case(linear: Linear) -> None:
    maps = check(linear, ["uniform", "random-weights"])
    for name in ("uniform", "random-weights"):
        for step in (0, 1):
            assert torch.equal(maps.swapped[name]["alpha"][step], maps.raw[name][0])
            assert torch.equal(maps.swapped[name]["A"][step], maps.raw[name][step + 1])


def test_methods_without_one_weight_a_channel_are_not_swapped(linear: Linear) -> None:
    maps = check(linear, ["layer-fam", "centre-prior", "score-fam"])
    assert set(maps.raw) == {"layer-fam", "centre-prior", "score-fam"}
    assert set(maps.swapped) == {"score-fam"}


@pytest.mark.parametrize("scheme", ["cascade", "independent"])
def test_maps_equal_those_of_explain(linear: Linear, scheme: str) -> None:
    names = ["grad-fam", "score-fam", "ram", "cg-ram", "uniform"]
    maps = check(linear, names, scheme=scheme, seed=2, chunk=3)
    assert maps.steps == ("classifier", "body")
    networks = [copy.deepcopy(linear), *(other for _, other in randomised(linear, (BODY, HEAD), scheme, 2))]
    for i, network in enumerate(networks):
        for name in names:
            with torch.no_grad():  # RAM's question: the same other image, as this network sees it
                reference = network(OTHERS) if METHODS[name].reference == "other" else None
            expected = explain(network, IMAGES, name, "body", reference=reference)
            torch.testing.assert_close(maps.saliency(name)[i], expected.saliency)
            assert torch.equal(maps.flat(name)[i], expected.flat)
            signed = maps.raw[name][i]
            torch.testing.assert_close(signed.relu() if METHODS[name].rectify else signed, expected.cam)


def test_the_model_is_untouched_by_the_check(linear: Linear) -> None:
    before = state_digest(linear.train())
    check(linear, ["grad-cam", "score-fam", "ram"], calibration=IMAGES)
    assert state_digest(linear) == before
    assert linear.training and all(p.requires_grad and p.grad is None for p in linear.parameters())
    assert not any(m._forward_hooks for m in linear.modules())


def test_an_image_has_the_same_maps_in_every_batch(linear: Linear) -> None:
    names = ["grad-cam", "grad-ram", "score-fam", "random-weights", "random-map"]
    together = check(linear, names)
    alone = check(linear, names, images=IMAGES[2:3], others=OTHERS[2:3], chunk=1)
    for name in names:
        torch.testing.assert_close(alone.raw[name][:, 0], together.raw[name][:, 2])
    for name, swapped in alone.swapped.items():
        torch.testing.assert_close(swapped["alpha"][:, 0], together.swapped[name]["alpha"][:, 2])


def test_cached_maps_are_the_computed_ones(linear: Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = check(linear, ["score-fam"], cache=tmp_path, chunk=3)
    assert len(list(tmp_path.iterdir())) == 3 * 2  # networks times chunks
    monkeypatch.setattr(randomize, "explain_all", None)  # any computation would fail now
    again = check(linear, ["score-fam"], cache=tmp_path, chunk=3)
    assert torch.equal(first.raw["score-fam"], again.raw["score-fam"])
    assert torch.equal(first.swapped["score-fam"]["A"], again.swapped["score-fam"]["A"])
    for other in ({"images": IMAGES + 0.01}, {"others": IMAGES}, {"batch_size": 2}, {"seed": 1}):
        with pytest.raises(TypeError, match="not callable"):
            check(linear, ["score-fam"], cache=tmp_path, chunk=3, **other)


def test_a_damaged_file_of_the_cache_is_named(linear: Linear, tmp_path: Path) -> None:
    check(linear, ["uniform"], cache=tmp_path)
    damaged = next(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=damaged.name):
        check(linear, ["uniform"], cache=tmp_path)


def test_methods_that_need_another_image_say_so(linear: Linear) -> None:
    with pytest.raises(ValueError, match="`others`"):
        check(linear, ["ram"], others=None)


# ---- tables -------------------------------------------------------------------------------------------

MEASURES = ("spearman", "spearman_abs", "ssim", "cosine")


def test_the_table_has_a_row_for_each_method_and_step(linear: Linear) -> None:
    maps = check(linear, ["grad-cam", "uniform"])
    rows = randomize.sanity_table(maps, "toy", n_boot=100).to_dict("records")
    assert [(row["method"], row["kind"], row["step"], row["layer"]) for row in rows] == [
        (method, kind, step, layer)
        for method, kind in (("grad-cam", "paper"), ("uniform", "control"))
        for step, layer in ((1, "classifier"), (2, "body"))
    ]
    assert all((row["dataset"], row["scheme"], row["n"]) == ("toy", "cascade", 4) for row in rows)
    for measure in MEASURES:
        assert [rows[2][measure + end] for end in ("", "_lo", "_hi")] == pytest.approx([1, 1, 1])
        assert rows[0][f"{measure}_lo"] <= rows[0][measure] <= rows[0][f"{measure}_hi"]
    raw = maps.raw["grad-cam"]
    assert rows[1]["spearman"] == pytest.approx(randomize.spearman(raw[0], raw[2]).mean().item())
    pictures = maps.saliency("grad-cam")
    assert rows[1]["ssim"] == pytest.approx(randomize.ssim(pictures[0], pictures[2]).mean().item())


def made_up(raw: Tensor, swapped: dict[str, Tensor] | None = None) -> RandomisedMaps:
    """Maps by the uniform control, whose ReLU is on."""
    return RandomisedMaps("cascade", ("top",), (16, 16), {"uniform": raw}, {"uniform": swapped} if swapped else {})


def test_flat_maps_are_counted_and_left_out_of_rank_correlations() -> None:
    trained = torch.arange(32.0).view(2, 4, 4)
    random = torch.stack([trained[0], torch.full((4, 4), 2.0)])
    row = randomize.sanity_table(made_up(torch.stack([trained, random])), "toy").iloc[0]
    assert (row["n"], row["flat"], row["spearman"]) == (2, 1, 1)
    assert np.isnan(row["spearman_lo"])  # one image has no interval


def test_a_map_below_zero_is_flat_once_rectified() -> None:
    maps = made_up(torch.stack([torch.rand(2, 4, 4), -torch.rand(2, 4, 4)]))
    assert maps.flat("uniform").tolist() == [[False, False], [True, True]]
    assert not maps.saliency("uniform")[1].any()


def test_unrelated_maps_are_those_of_the_next_image() -> None:
    a, b = torch.arange(16.0).view(4, 4), torch.arange(16.0, 0, -1).view(4, 4)
    maps = made_up(torch.stack([torch.stack([a, a, b]), torch.rand(3, 4, 4)]))
    row = randomize.unrelated_table(maps, "toy").iloc[0]
    assert row["spearman"] == pytest.approx((1 - 1 - 1) / 3)  # a and b, a and a, b and a
    assert (row["scheme"], row["step"], row["n"]) == ("another image", 0, 3)
    assert list(row.index) == list(randomize.sanity_table(maps, "toy").columns)


def test_one_image_has_no_unrelated_map() -> None:
    with pytest.raises(ValueError, match="two or more"):
        randomize.unrelated_table(made_up(torch.rand(2, 1, 4, 4)), "toy")


def test_the_second_table_compares_each_swap_with_the_trained_map() -> None:
    trained = torch.arange(32.0).view(2, 4, 4)
    swapped = {"alpha": trained[None] ** 3, "A": torch.stack([trained[0], -trained[1]])[None]}
    table = randomize.alpha_or_a_table(made_up(torch.stack([trained, -trained]), swapped), "toy", "body")
    assert dict(zip(table.swapped, table.spearman, strict=True)) == pytest.approx({"alpha": 1, "A": 0, "both": -1})
    assert set(table.explained) == {"body"} and set(table.layer) == {"top"}
    assert (table.spearman_lo <= table.spearman).all() and (table.spearman <= table.spearman_hi).all()


def test_only_alpha_changes_while_all_random_layers_run_after_the_explained_one(linear: Linear) -> None:
    maps = check(linear, ["grad-cam", "score-cam"])
    table = randomize.alpha_or_a_table(maps, "toy", "body", n_boot=100).set_index(["method", "step", "swapped"])
    for method in ("grad-cam", "score-cam"):
        assert table.spearman[method, 1, "A"] == pytest.approx(1)
        assert table.spearman[method, 1, "alpha"] == table.spearman[method, 1, "both"] < 1 - 1e-6
