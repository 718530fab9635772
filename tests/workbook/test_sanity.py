"""The sanity check: maps of networks that forgot, what changes them, and the tables."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fam_lib import METHODS, explain, similarity
from fam_lib.randomize import Group, randomised
from workbook import sanity
from workbook.cache.digests import state_digest
from workbook.sanity import RandomisedMaps, explain_randomised

# ---- maps of networks that forgot ---------------------------------------------------------------------

IMAGES = torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
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
def test_maps_equal_those_of_explain(linear: Linear, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["grad-fam", "score-fam", "ram", "cg-ram", "uniform"]
    monkeypatch.setattr(sanity, "CHUNK", 3)
    maps = check(linear, names, scheme=scheme, seed=2)
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
    alone = check(linear, names, images=IMAGES[2:3], others=OTHERS[2:3])
    for name in names:
        torch.testing.assert_close(alone.raw[name][:, 0], together.raw[name][:, 2])
    for name, swapped in alone.swapped.items():
        torch.testing.assert_close(swapped["alpha"][:, 0], together.swapped[name]["alpha"][:, 2])


def test_cached_maps_are_the_computed_ones(linear: Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "CHUNK", 3)
    first = check(linear, ["score-fam"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 * 2  # networks times chunks
    monkeypatch.setattr(sanity, "explain_all", None)  # any computation would fail now
    again = check(linear, ["score-fam"], cache=tmp_path)
    assert torch.equal(first.raw["score-fam"], again.raw["score-fam"])
    assert torch.equal(first.swapped["score-fam"]["A"], again.swapped["score-fam"]["A"])
    for other in ({"images": IMAGES + 0.01}, {"others": IMAGES}, {"seed": 1}):
        with pytest.raises(TypeError, match="not callable"):
            check(linear, ["score-fam"], cache=tmp_path, **other)


def test_a_damaged_file_of_the_cache_is_named(linear: Linear, tmp_path: Path) -> None:
    check(linear, ["uniform"], cache=tmp_path)
    damaged = next(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ValueError, match=damaged.name):
        check(linear, ["uniform"], cache=tmp_path)


@pytest.mark.parametrize("others", [None, OTHERS[:3]])
def test_methods_that_need_another_image_say_so(linear: Linear, others: Tensor | None) -> None:
    with pytest.raises(ValueError, match="`others`, one for each image"):
        check(linear, ["ram"], others=others)


# ---- tables -------------------------------------------------------------------------------------------

MEASURES = ("spearman", "spearman_abs", "ssim", "cosine")


def test_the_table_has_a_row_for_each_method_and_step(linear: Linear) -> None:
    maps = check(linear, ["grad-cam", "uniform"])
    rows = sanity.sanity_table(maps, "toy").to_dict("records")
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
    assert rows[1]["spearman"] == pytest.approx(similarity.spearman(raw[0], raw[2]).mean().item())
    pictures = maps.saliency("grad-cam")
    assert rows[1]["ssim"] == pytest.approx(similarity.ssim(pictures[0], pictures[2]).mean().item())


def made_up(raw: Tensor, swapped: dict[str, Tensor] | None = None) -> RandomisedMaps:
    """Maps by the uniform control, whose ReLU is on."""
    return RandomisedMaps("cascade", ("top",), (16, 16), {"uniform": raw}, {"uniform": swapped} if swapped else {})


def test_flat_maps_are_counted_and_left_out_of_rank_correlations() -> None:
    trained = torch.arange(32.0).view(2, 4, 4)
    random = torch.stack([trained[0], torch.full((4, 4), 2.0)])
    row = sanity.sanity_table(made_up(torch.stack([trained, random])), "toy").iloc[0]
    assert (row["n"], row["flat"], row["spearman"]) == (2, 1, 1)
    assert np.isnan(row["spearman_lo"])  # one image has no interval


def test_a_map_below_zero_is_flat_once_rectified() -> None:
    maps = made_up(torch.stack([torch.rand(2, 4, 4), -torch.rand(2, 4, 4)]))
    assert maps.flat("uniform").tolist() == [[False, False], [True, True]]
    assert not maps.saliency("uniform")[1].any()


def test_unrelated_maps_are_those_of_the_next_image() -> None:
    a, b = torch.arange(16.0).view(4, 4), torch.arange(16.0, 0, -1).view(4, 4)
    maps = made_up(torch.stack([torch.stack([a, a, b]), torch.rand(3, 4, 4)]))
    row = sanity.unrelated_table(maps, "toy").iloc[0]
    assert row["spearman"] == pytest.approx((1 - 1 - 1) / 3)  # a and b, a and a, b and a
    assert (row["scheme"], row["step"], row["n"]) == ("another image", 0, 3)
    assert list(row.index) == list(sanity.sanity_table(maps, "toy").columns)


def test_one_image_has_no_unrelated_map() -> None:
    with pytest.raises(ValueError, match="two or more"):
        sanity.unrelated_table(made_up(torch.rand(2, 1, 4, 4)), "toy")


def test_the_second_table_compares_each_swap_with_the_trained_map() -> None:
    trained = torch.arange(32.0).view(2, 4, 4)
    swapped = {"alpha": trained[None] ** 3, "A": torch.stack([trained[0], -trained[1]])[None]}
    table = sanity.alpha_or_a_table(made_up(torch.stack([trained, -trained]), swapped), "toy", "body")
    steps = table[table.scheme == "cascade"]
    assert dict(zip(steps.swapped, steps.spearman, strict=True)) == pytest.approx({"alpha": 1, "A": 0, "both": -1})
    assert set(table.explained) == {"body"} and set(steps.layer) == {"top"}
    strangers = table[table.scheme == "another image"]
    assert strangers.spearman.tolist() == pytest.approx([1])  # both images rise in reading order
    assert (table.spearman_lo <= table.spearman).all() and (table.spearman <= table.spearman_hi).all()


def test_only_alpha_changes_while_all_random_layers_run_after_the_explained_one(linear: Linear) -> None:
    maps = check(linear, ["grad-cam", "score-cam"])
    table = sanity.alpha_or_a_table(maps, "toy", "body").set_index(["method", "step", "swapped"])
    for method in ("grad-cam", "score-cam"):
        assert table.spearman[method, 1, "A"] == pytest.approx(1)
        assert table.spearman[method, 1, "alpha"] == table.spearman[method, 1, "both"] < 1 - 1e-6


def test_maps_that_differ_by_rounding_are_unchanged() -> None:
    maps = torch.rand(2, 16, 8, generator=torch.Generator().manual_seed(0))
    assert sanity.unchanged(maps, maps * (1 + 1e-6))
    assert not sanity.unchanged(maps, torch.stack([maps[0], maps[1].roll(1, 0)]))
