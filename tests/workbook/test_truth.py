"""Maps held against the truth by occlusion: which networks, which correlations, and what the cache keeps."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from fam_lib import Method, explain
from fam_lib.occlusion import occlude_image, occlude_map
from fam_lib.randomize import he_initialise, layer_seed
from fam_lib.weighting import masked_scores
from workbook.cache.digests import state_digest
from workbook.evidence import truth
from workbook.evidence.truth import ALL, BEHIND, IMAGE, MAP, OF_ANOTHER, OF_TRAINED, TRAINED, forgetting, truth_table

IMAGES = torch.rand(5, 3, 64, 32, generator=torch.Generator().manual_seed(0))
NAMES = ["grad-fam", "score-fam", "uniform"]


class Network(nn.Module):
    """A = relu(early(X)), 8 x 4; f = head(GAP(relu(late(A))))."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.relu = nn.Conv2d(3, 6, 8, stride=8), nn.ReLU()
        self.late, self.head = nn.Conv2d(6, 5, 3, padding=1), nn.Linear(5, 7)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.late(self.relu(self.early(images))).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Network:
    torch.manual_seed(3)
    network = Network().eval()
    for layer in (network.early, network.late, network.head):
        he_initialise(layer)
    return network


def make(model: nn.Module, **options: object) -> pd.DataFrame:
    given = {"layers": ["relu", "late"], "dataset": "toy", "methods": NAMES, "seeds": (0, 4)} | options
    return truth_table(model, IMAGES, **given)


@pytest.fixture(scope="module")
def table(model: Network) -> pd.DataFrame:
    return make(model)


def by_hand(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The mean of scipy's correlations of maps, image by image, and of maps with those of all other images."""
    pairs = [(n, n) for n in range(5)], [(i, j) for i in range(5) for j in range(5) if i != j]
    return tuple(sum(spearmanr(a[i].flatten(), b[j].flatten())[0] for i, j in each) / len(each) for each in pairs)


def row(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column].isna() if value is None else table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_every_network_layer_truth_measure_and_method_has_a_row(table: pd.DataFrame) -> None:
    networks = [(TRAINED, None), *itertools.product((BEHIND, ALL), (0, 4))]
    for (network, seed), layer, kind, measure in itertools.product(
        networks, ("relu", "late"), (IMAGE, MAP), ("cosine", "projection")
    ):
        part = table[(table.network == network) & (table.layer == layer) & (table.truth == kind)]
        part = part[(part.measure == measure) & (part.seed.isna() if seed is None else part.seed == seed)]
        both = [OF_ANOTHER] if network == TRAINED else [OF_TRAINED, OF_ANOTHER]
        assert part.method.tolist() == [*NAMES, *both]
    assert len(table) == 2 * 4 * (1 * 4 + 4 * 5)
    assert (table.n == 5).all() and (table.dataset == "toy").all()
    assert (table.spearman_lo <= table.spearman).all() and (table.spearman <= table.spearman_hi).all()
    assert table.unrelated.isna().equals(table.method == OF_ANOTHER)
    assert table.specific.isna().equals(table.method == OF_ANOTHER)


@pytest.mark.parametrize("layer", ["relu", "late"])
def test_the_trained_networks_maps_are_compared_with_its_truths(
    table: pd.DataFrame, model: Network, layer: str
) -> None:
    truths = {
        (IMAGE, "cosine"): occlude_image(model, IMAGES, (8, 4)),
        (MAP, "cosine"): occlude_map(model, IMAGES, layer),
        (MAP, "projection"): occlude_map(model, IMAGES, layer, "projection"),
    }
    found = explain(model, IMAGES, "score-fam", layer)
    activations = model.relu(model.early(IMAGES))
    activations = (activations if layer == "relu" else model.late(activations)).detach()
    signed = torch.einsum("nc,nchw->nhw", found.weights, activations)  # no ReLU: the sign is not lost
    for (kind, measure), losses in truths.items():
        where = {"network": TRAINED, "layer": layer, "truth": kind, "measure": measure}
        related, unrelated = by_hand(signed, losses)
        ours = row(table, **where, method="score-fam")
        assert (ours.spearman, ours.unrelated) == pytest.approx((related, unrelated), abs=1e-6)
        assert ours.specific == pytest.approx(related - unrelated, abs=1e-6)
        assert ours.specific_lo <= ours.specific <= ours.specific_hi
        assert row(table, **where, method=OF_ANOTHER).spearman == pytest.approx(by_hand(losses, losses)[1], abs=1e-6)


def test_a_randomised_network_is_held_against_its_own_truth_and_that_of_the_trained(
    table: pd.DataFrame, model: Network
) -> None:
    networks = dict(forgetting(model, IMAGES, "relu", 4))
    assert list(networks) == [BEHIND, ALL]
    before = occlude_map(model, IMAGES, "relu")
    for state, network in networks.items():
        losses = occlude_map(network, IMAGES, "relu")
        where = {"network": state, "seed": 4, "layer": "relu", "truth": MAP, "measure": "cosine"}
        assert row(table, **where, method=OF_TRAINED).spearman == pytest.approx(by_hand(before, losses)[0], abs=1e-6)
        uniform = network.relu(network.early(IMAGES)).mean(1).detach()
        assert row(table, **where, method="uniform").spearman == pytest.approx(by_hand(uniform, losses)[0], abs=1e-6)


def changed(model: Network, network: nn.Module) -> list[str]:
    return [
        n for n in ("early", "late", "head") if not torch.equal(*(m.get_submodule(n).weight for m in (model, network)))
    ]


@pytest.mark.parametrize(
    ("layer", "behind"), [("early", ["late", "head"]), ("relu", ["late", "head"]), ("late", ["head"]), ("head", [])]
)
def test_what_is_random_lies_behind_the_layer(model: Network, layer: str, behind: list[str]) -> None:
    digest = state_digest(model)
    found = [(state, changed(model, network)) for state, network in forgetting(model, IMAGES, layer, 0)]
    assert found == [*([(BEHIND, behind)] if behind else []), (ALL, ["early", "late", "head"])]
    assert state_digest(model) == digest
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_layer_that_does_not_run_is_refused(model: Network) -> None:
    class Idle(Network):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.ReLU()

    with pytest.raises(ValueError, match="the layer 'idle' does not run in the model's forward"):
        next(forgetting(Idle(), IMAGES, "idle", 0))


def test_networks_differ_from_seed_to_seed(model: Network) -> None:
    first, other = (dict(forgetting(model, IMAGES, "late", seed))[ALL].head.weight for seed in (0, 4))
    assert not torch.equal(first, other) and layer_seed(0, "head") != layer_seed(4, "head")


def test_a_run_that_was_killed_goes_on(model: Network, table: pd.DataFrame, tmp_path: Path, monkeypatch) -> None:
    explained, original = [], truth._explain

    def counting(network: nn.Module, *rest: object) -> dict[str, Tensor]:
        explained.append(state_digest(network))
        if len(explained) == 4:
            raise KeyboardInterrupt
        return original(network, *rest)

    monkeypatch.setattr(truth, "_explain", counting)
    with pytest.raises(KeyboardInterrupt):
        make(model, cache=tmp_path)
    pd.testing.assert_frame_equal(make(model, cache=tmp_path), table)
    assert len(explained) == 2 * 5 * 2 + 1  # two layers, five networks, two files each; the killed one twice
    pd.testing.assert_frame_equal(make(model, cache=tmp_path), table)
    assert len(explained) == 21
    # The image's truth serves both layers, whose grids are alike.
    assert {name: len(list(tmp_path.glob(f"truth-{name}-*"))) for name in ("image", "map", "methods")} == {
        # Networks that are all random are the same for both layers, those random behind one are not.
        "image": 2 * (1 + 2 + 2 * 2),
        "map": 2 * 2 * 5,
        "methods": 2 * 2 * 5,
    }


def test_rows_of_ones_own_stand_beside_those_of_the_table(model: Network) -> None:
    raw = Method("raw", masked_scores, truth.find_method("score-fam").target, "self")
    found = make(model, layers=["relu"], methods=["score-fam", raw], seeds=())
    assert set(found.method) == {"score-fam", "raw", OF_ANOTHER} and set(found.network) == {TRAINED}


def test_a_map_that_looks_at_no_image_has_nothing_specific_and_a_constant_one_is_left_out(model: Network) -> None:
    losses = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(1))
    people = torch.arange(4)
    own, others = truth._own_and_others(losses[:1].expand(4, -1, -1), losses, people)
    assert (own - others).mean() == pytest.approx(0, abs=1e-12)
    own, others = truth._own_and_others(torch.cat([losses[:3], torch.ones(1, 3, 2)]), losses, people)
    assert own[:3].tolist() == pytest.approx([1, 1, 1]) and own[3].isnan() and others[3].isnan()


def test_people_are_resampled_and_no_image_of_the_same_person_counts_as_another(model: Network) -> None:
    people = torch.tensor([7, 7, 3, 3, 3])
    found = make(model, layers=["relu"], seeds=(), groups=people)
    ours, alone = (
        row(t, truth=MAP, measure="cosine", method="uniform") for t in (found, make(model, layers=["relu"], seeds=()))
    )
    maps, losses = explain(model, IMAGES, "uniform", "relu").cam, occlude_map(model, IMAGES, "relu")
    r = [[spearmanr(a.flatten(), b.flatten())[0] for b in losses] for a in maps]
    others = [sum(r[i][j] for j in range(5) if people[j] != people[i]) / (3 if i < 2 else 2) for i in range(5)]
    assert ours.spearman == pytest.approx(alone.spearman) and ours.unrelated == pytest.approx(sum(others) / 5, abs=1e-6)
    # Drawn with replacement, two people give three means only: of the one, of the other, of both.
    own = [r[i][i] for i in range(5)]
    ends = sorted([sum(own[:2]) / 2, sum(own[2:]) / 3])
    assert (ours.spearman_lo, ours.spearman_hi) == pytest.approx(ends, abs=1e-6)
    with pytest.raises(ValueError, match=r"groups must be \(5,\), one for each image, and two different ones at least"):
        make(model, groups=torch.ones(5, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["grad-cam", "ram"]}, r"\['grad-cam', 'ram'\] ask for a class or another image"),
        ({"layers": ["rel"]}, "no layer 'rel'; did you mean"),
    ],
)
def test_what_does_not_fit_is_refused(model: Network, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(model, **options)
    with pytest.raises(ValueError, match="needs two images or more"):
        truth_table(model, IMAGES[:1], ["relu"], "toy")
