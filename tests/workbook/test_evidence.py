"""Evidence over networks: pooled means against hand-computed ones, and the whole job on tiny networks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.fx
from scipy.stats import rankdata
from torch import nn

import evaluation_toys as toys
from fam_lib.faithfulness import summarise
from test_plots import assert_legible, texts
from workbook import outputs, paths, profiles
from workbook.cache.context import Context
from workbook.evidence import foreign, networks, tables, truth
from workbook.evidence import measure as measure_module
from workbook.evidence.measure import (
    CLASS_MAPS,
    COMPARED,
    FEATURES,
    KEPT,
    LOGIT_MAPS,
    PAIR_MAPS,
    STRANGERS,
    UNIFORM_MAPS,
    hold_against_truth,
    measure,
    methods_of,
)
from workbook.evidence.networks import Network
from workbook.evidence.pooling import RESAMPLES, explained, pool, within
from workbook.plots.networks import fig_networks
from workbook.profiles import Profile
from workbook.reid.data import ReidData
from workbook.reid.evaluation import AREAS, TABLE2_METHODS, explain_queries
from workbook.reid.motivation import dependence_table, runners_up
from workbook.reid.queries import Queries, choose, look_up
from workbook.run import check_outputs, evidence

NAN = np.nan
PEOPLE = np.array([7, 7, 3])  # two queries of one person, one of another

# ---- pooling ------------------------------------------------------------------------------------------


def test_a_mean_over_networks_of_means_over_queries() -> None:
    found = pool(np.array([[1.0, 2, 6], [5, 5, 8]]), PEOPLE)
    assert found.value == [4.5]  # of 3 and 6
    assert (found.lowest, found.highest) == (3, 6)
    assert (found.n, found.n_identities, found.n_networks, found.n_positive) == (3, 2, 2, 2)


def test_what_is_undefined_is_left_out_of_its_own_network_alone() -> None:
    found = pool(np.array([[1.0, NAN, 6], [5, 5, NAN], [NAN, NAN, NAN]]), PEOPLE)
    assert found.value == [(3.5 + 5) / 2]
    assert (found.n, found.n_identities, found.n_networks) == (3, 2, 2)
    alone = pool(np.array([[1.0, NAN, 6], [5, 5, NAN]]), PEOPLE)
    assert (found.lo, found.hi) == (alone.lo, alone.hi), "a network without the method takes no place in the draw"


def test_a_ratio_of_sums() -> None:
    lost, could = np.array([[1.0, 2, NAN], [1, 1, 1]]), np.array([[2.0, 8, 100], [2, 2, 4]])
    found = pool(lost, PEOPLE, could)
    np.testing.assert_allclose([found.value, found.lowest, found.highest], [[(0.3 + 0.375) / 2], [0.3], [0.375]])


def by_hand(values: np.ndarray, identities: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Means of one network's queries when these identities (R, I) are drawn, query by query."""
    queries = [np.concatenate([values[identities == person] for person in drawn]) for drawn in draws]
    return np.array([np.nanmean(q) for q in queries])


def test_one_network_has_the_interval_of_its_people() -> None:
    """Two people with means 0 and 1, two queries each: the four equally likely draws give 0, 1/2, 1/2, 1."""
    values, people = np.array([[0.0, 0, 1, 1]]), np.array([1, 1, 2, 2])
    found = pool(values, people)
    assert (found.value, found.lo, found.hi) == (0.5, 0, 1)
    rng = np.random.default_rng(0)
    values, people = rng.normal(size=(1, 60)), np.repeat(np.arange(20), 3)
    values += people * 0.1  # the queries of a person are alike
    found = pool(values, people)
    cluster = by_hand(values[0], people, np.random.default_rng(0).integers(0, 20, (RESAMPLES, 20)))
    np.testing.assert_allclose([found.lo[0], found.hi[0]], np.quantile(cluster, [0.025, 0.975]))
    values[0, :4] = NAN  # a person without a value, and one with fewer
    found, alone = pool(values, people), summarise(values[0], groups=people)
    np.testing.assert_allclose([found.value[0], found.lo[0], found.hi[0]], alone[:3])
    width = pool(values, np.arange(60))
    assert found.hi - found.lo > 1.2 * (width.hi - width.lo), "queries as if independent look surer than they are"


def test_people_with_more_queries_weigh_more() -> None:
    """Persons A (3 queries of 0) and B (1 of 1): a draw of both has the mean 1/4, not 1/2."""
    found = pool(np.array([[0.0, 0, 0, 1]]), np.array([1, 1, 1, 2]))
    assert found.value == 0.25
    assert (found.lo, found.hi) == (0, 1)


def test_identical_networks_add_nothing_to_the_interval() -> None:
    values = np.random.default_rng(1).normal(size=(1, 12, 2))
    people = np.arange(12) // 2
    one, five = pool(values, people), pool(np.repeat(values, 5, axis=0), people)
    for name in ("value", "lo", "hi", "lowest", "highest"):
        np.testing.assert_allclose(getattr(one, name), getattr(five, name))
    assert five.n_networks.tolist() == [5, 5]


def test_networks_are_drawn_too() -> None:
    """No person varies, the networks are 0 and 1: their draws have the means 0, 1/2, 1/2, 1."""
    found = pool(np.array([[0.0] * 4, [1.0] * 4]), np.arange(4))
    assert (found.value, found.lo, found.hi) == (0.5, 0, 1)
    many = pool(np.repeat(np.arange(16.0) % 2, 4).reshape(16, 4), np.arange(4))
    spread = 1.96 * 0.5 / np.sqrt(16)
    np.testing.assert_allclose([many.lo[0], many.hi[0]], [0.5 - spread, 0.5 + spread], atol=0.07)


def test_all_networks_see_the_same_people() -> None:
    """Where the second network is 1 minus the first, every draw of people that takes both networks gives 1/2."""
    first = np.random.default_rng(2).normal(size=8)
    found = pool(np.array([first, 1 - first]), np.arange(8))
    assert found.value == pytest.approx(0.5)
    difference = pool(np.array([first, first + 1]) - np.array([first, first + 1]), np.arange(8))
    assert (difference.lo, difference.hi) == (0, 0)


def test_columns_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 10, 4))
    values[1, :, 2] = NAN  # a network that lacks the third method
    values[:, :, 3] = NAN
    people = np.arange(10) // 2
    together = pool(values, people)
    for m in range(4):
        alone = pool(values[..., m], people)
        for name in together._fields:
            np.testing.assert_allclose(getattr(together, name)[m], getattr(alone, name)[0])
    assert together.n_networks.tolist() == [3, 3, 2, 0]
    assert np.isnan([together.value[3], together.lo[3], together.hi[3]]).all()


def test_one_person_has_no_interval() -> None:
    found = pool(np.array([[1.0, 2, NAN]]), PEOPLE)
    assert found.value == 1.5 and np.isnan(found.lo) and np.isnan(found.hi)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 4)])
def test_wrong_shapes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected values"):
        pool(np.zeros(shape), PEOPLE)


def test_what_a_line_and_what_ranks_explain() -> None:
    x = np.array([1.0, 2, 3, NAN])
    assert explained(x, np.array([2.0, 4, 6, 9])) == pytest.approx((1, 1))
    linear, rank = explained(np.array([1.0, 2, 3]), np.array([1.0, 2, 9]))
    assert (linear, rank) == pytest.approx((64 / 76, 1))  # r = 8 / sqrt(2 * 38)
    assert np.isnan(explained(x[:2], x[:2])).all() and np.isnan(explained(np.ones(4), np.arange(4.0))).all()
    assert rankdata(np.array([3.0, 1, 3])).tolist() == [2.5, 1, 2.5]


def test_within_takes_each_networks_mean_away() -> None:
    left = within(np.array([1.0, 3, 10, NAN]), np.array(["a", "a", "b", "b"]))
    np.testing.assert_array_equal(left, [-1, 1, 0, NAN])


# ---- tables -------------------------------------------------------------------------------------------


def toy_cells(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Cells by Eq. 14 and at 10 %: network -> method -> AS drop of three queries; AP drop is twice that."""
    rows = [
        {
            "network": network, "feature": "after neck", "method": method, "keep": keep, "query": f"q{i}",
            "kind": "control" if method == "uniform" else "paper", "person": PEOPLE[i], "as_drop": value,
            "ap_drop": 2 * value, "ap_increase": 0.0, "as_lost": value, "as_could": 4.0, "ap_lost": value,
            "ap_could": 2.0, "area": 1 - value,
            "insertion": 0.5, "deletion": 0.25, "uniform": 1.0,
        }
        for network, methods in values.items()
        for method, drops in methods.items()
        for keep in ("eq14", "10")
        for i, value in enumerate(drops)
    ]  # fmt: skip
    return pd.DataFrame(rows)


CELLS = toy_cells(
    {
        "a": {"ram": [0.1, 0.2, 0.3], "grad-fam": [0.2, 0.2, NAN], "uniform": [0.0, 0.1, 0.2]},
        "b": {"grad-fam": [0.4, 0.4, 0.4], "uniform": [0.5, 0.5, 0.5]},
    }
)
ABOUT = {name: {"recipe": recipe, "after neck": (90.0, 80.0)} for name, recipe in (("a", "one"), ("b", "two"))}


def test_a_row_for_each_network_and_method() -> None:
    table = tables.networks_table("toys", CELLS, ABOUT)
    rows = table.set_index(["network", "method"])
    assert list(rows.index) == [("a", "ram"), ("a", "grad-fam"), ("a", "uniform"), ("b", "grad-fam"), ("b", "uniform")]
    first = rows.loc[("a", "ram")]
    expected = {
        "dataset": "toys", "recipe": "one", "rank_1": 90, "mean_ap": 80, "kind": "paper", "n_queries": 3,
        "n_identities": 2, "as_drop": 20, "ap_drop": 40, "ap_drop_ratio": 10, "as_drop_ratio": 5,
        "retained_area": 80, "as_undefined": 0,
        "insertion": 0.5, "deletion": 0.25, "uniform_correlation": 1,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert first.as_drop_lo == pytest.approx(15) and first.as_drop_hi == pytest.approx(30)
    assert rows.loc[("a", "grad-fam")].as_undefined == 1 and rows.loc[("a", "grad-fam")].as_drop == pytest.approx(20)
    equal = tables.networks_table("toys", CELLS, ABOUT, ("10",))
    assert set(equal["area"]) == {10} and not {"retained_area", "insertion"} & set(equal.columns)


def test_the_pooled_table_says_how_many_networks_a_method_has() -> None:
    table = tables.pooled_table("toys", CELLS)
    row = table[(table.metric == "as_drop") & (table["keep"] == "eq14")].set_index("method")
    assert row["value"].round(6).to_dict() == {"ram": 20, "grad-fam": 30, "uniform": 30}
    assert row.n_networks.to_dict() == {"ram": 1, "grad-fam": 2, "uniform": 2}
    assert (row.lowest["uniform"], row.highest["uniform"]) == pytest.approx((10, 50))
    assert set(table["keep"]) == {"eq14", "10"} and set(table.n_identities) == {2}
    assert "insertion" not in set(table[table["keep"] == "10"].metric)


def test_pairs_are_compared_on_the_networks_that_have_both() -> None:
    table = tables.pooled_paired_table("toys", CELLS, "after neck")
    columns = ["dataset", "keep", "metric", "method", "rival", "difference", "lo", "hi", "n"]
    assert list(table.columns[:9]) == columns, "as in the table of one network"
    rows = table[(table["keep"] == "eq14") & (table.metric == "as_drop")].set_index(["method", "rival"])
    assert len(rows) == 3
    curves = table[table["keep"] == "curve"]
    assert set(curves.metric) == {"insertion", "deletion"} and (curves.difference == 0).all() and len(curves) == 6
    pair = rows.loc[("grad-fam", "uniform")]
    # a: (0.2 + 0.1) / 2 on the two defined queries; b: -0.1
    assert pair.difference == pytest.approx((15 - 10) / 2)
    assert (pair.n_networks, pair.n_networks_positive, pair.n) == (2, 1, 3)
    assert (pair.lowest, pair.highest) == pytest.approx((-10, 15))
    assert rows.loc[("ram", "uniform")].n_networks == 1 and rows.loc[("ram", "uniform")].difference == pytest.approx(10)


def test_the_area_explains_drops_that_are_made_of_it() -> None:
    whole = CELLS[CELLS.as_drop.notna()]
    table = tables.area_table("toys", tables.networks_table("toys", whole, ABOUT))
    rows = table.set_index(["metric", "methods", "level"])
    # In the toys area = 1 - drop; NaN is left out of the drop but not of the area, hence `whole`.
    assert rows.linear[("as_drop", "all", "all cells")] == pytest.approx(100)
    assert rows.linear[("as_drop", "all", "within networks")] == pytest.approx(100)
    assert rows.n.to_dict()[("ap_drop", "no controls", "all cells")] == 3


def test_statements_of_each_network_and_of_all() -> None:
    named = {"feature": "after neck", "statement": "s"}
    facts = pd.DataFrame(
        {**named, "network": network, "query": f"q{i}", "person": PEOPLE[i], "value": value}
        for network, values in {"a": [1.0, 0, 0.5], "b": [0.0, 0, 0.3]}.items()
        for i, value in enumerate(values)
    )
    table = tables.maps_table("toys", facts).set_index("network")
    assert table["value"].round(6).to_dict() == {"a": 0.5, "b": 0.1, tables.ALL_NETWORKS: 0.3}
    assert table.n_networks.to_dict() == {"a": 1, "b": 1, tables.ALL_NETWORKS: 2}


def test_the_figure_shows_a_dot_for_each_network_and_the_share_explained() -> None:
    fig = fig_networks(tables.networks_table("toys", CELLS, ABOUT), tables.pooled_table("toys", CELLS), note="toys")
    assert_legible(fig)
    said = texts(fig)
    assert {"one (1 network)", "two (1 network)", "controls", "the paper's methods"} <= set(said)
    assert any("explained by the area" in text for text in said)
    dots = [line for line in fig.axes[0].lines if line.get_marker() in ("o", "D")]
    assert sorted(float(line.get_xdata()[0]) for line in dots) == pytest.approx([10, 20, 20, 40, 50])
    with pytest.raises(ValueError, match="no row of the feature"):
        fig_networks(tables.networks_table("toys", CELLS, ABOUT), tables.pooled_table("toys", CELLS), "before neck")


# ---- networks and the job -----------------------------------------------------------------------------

PROFILE = Profile(
    "p", "d", "synthetic", False, (), {}, {"lr": 0.002}, {"one": {"seed": 3}, "two": {"epochs": 4, "size": [64, 32]}}
)


def test_a_network_is_the_profiles_training_with_its_own_fields() -> None:
    one, two = (networks.config(PROFILE, name) for name in ("one", "two"))
    assert (one.lr, one.seed, two.lr, two.epochs, two.size, two.seed) == (0.002, 3, 0.002, 4, (64, 32), 0)
    assert networks.recipe(PROFILE, "one") == "the profile's"
    assert networks.recipe(PROFILE, "two") == "epochs 4, size 64x32"
    assert networks.names(PROFILE) == ["one", "two"] and networks.names(PROFILE, ["two"]) == ["two"]
    with pytest.raises(ValueError, match="no network 'tow'; did you mean 'two'"):
        networks.names(PROFILE, ["tow"])
    wrong = Profile("p", "d", "synthetic", False, (), networks={"one": {"sead": 3}})
    with pytest.raises(ValueError, match="networks: one: unknown entry 'sead'; did you mean 'seed'"):
        networks.check(wrong, "one", Path())


def test_the_committed_networks_can_be_made() -> None:
    for name in profiles.names():
        profile = profiles.load(name)
        for network, entry in profile.networks.items():
            if "onnx" not in entry:
                networks.check(profile, network, Path())
    assert evidence.settings(profiles.load("trainings")) == {"n_queries": 40, "seed": 0}
    assert evidence.settings(profiles.load("cuhk03-pair1")) == {"n_queries": 200, "seed": 0}


def test_a_network_of_others_needs_its_file_and_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile("p", "d", "x", True, (), networks={"o": {"onnx": "o.onnx", "size": [64, 32]}})
    with pytest.raises(FileNotFoundError, match=r"o\.onnx is not there: .*DATA_ROOT"):
        networks.check(profile, "o", tmp_path)
    (tmp_path / "o.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(FileNotFoundError, match="pip install onnx2torch"):
        networks.check(profile, "o", tmp_path)


class OnnxGlobalAveragePool(nn.Module):
    """Named as onnx2torch names it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True)


class WholeModules(torch.fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def test_the_map_before_the_last_pooling_is_explained() -> None:
    attention = (nn.Conv2d(3, 4, 1), OnnxGlobalAveragePool())  # pools too, but not last
    body = nn.Sequential(*attention, nn.Conv2d(4, 5, 1), nn.ReLU(), OnnxGlobalAveragePool(), nn.Flatten())
    traced = torch.fx.GraphModule(body, WholeModules().trace(body))
    assert foreign._last_map(traced) == "3"
    model = foreign.ForeignModel(traced, "3").eval()
    assert isinstance(model.layer, nn.ReLU) and model.returning("after_bn") is model
    torch.testing.assert_close(model(torch.ones(1, 3, 8, 4)), body(torch.ones(1, 3, 8, 4)))
    with pytest.raises(ValueError, match="has the feature 'after_bn' alone"):
        model.returning("before_bn")
    nothing = nn.Sequential(nn.Flatten())
    with pytest.raises(ValueError, match="no global average pooling"):
        foreign._last_map(torch.fx.GraphModule(nothing, WholeModules().trace(nothing)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return toys.blocks(tmp_path_factory.mktemp("blocks"))


def toy_network(name: str, seed: int) -> Network:
    return Network(name, "toy", toys.tiny_model(seed), toys.SIZE)


def queries_of(network: Network, data: ReidData, n: int) -> Queries:
    return look_up(network.model, choose(data.query, n), data.gallery, network.size)


def test_a_network_is_measured_by_both_features_and_found_again(data: ReidData, tmp_path: Path) -> None:
    context = Context(cache=tmp_path, progress=False)
    network = toy_network("a", 0)
    cells, statements, retrieval = measure(network, data, 5, context)
    names = [row.name for row in methods_of(network)]
    assert len(cells) == 2 * len(KEPT) * 5 * len(names)
    assert set(cells.feature) == set(FEATURES.values()) == set(retrieval)
    assert list(cells.method.unique()) == names
    eq14 = cells[cells["keep"] == "eq14"]
    curves = (eq14.feature == "after neck") & eq14.method.isin(TABLE2_METHODS)
    assert eq14.insertion[curves].between(-1, 1).all() and eq14.insertion[~curves].isna().all()
    assert eq14.uniform.notna().any() and cells[cells["keep"] == "10"].insertion.isna().all()
    assert eq14[eq14.method == "uniform"].uniform.to_numpy() == pytest.approx(1)
    assert (eq14[eq14.method == "all-ones"].as_drop.dropna() == 0).all()
    strangers = {STRANGERS.format(name) for name in COMPARED}
    assert set(statements.statement) == {CLASS_MAPS, LOGIT_MAPS, PAIR_MAPS, UNIFORM_MAPS, *strangers}
    chosen = queries_of(network, data, 5)
    maps = explain_queries(network.model, chosen, [*methods_of(network), *runners_up(network.model)], context)
    single = dependence_table("d", network.model, chosen, maps, context).set_index("statement")["value"]
    pooled = statements[statements.feature == "after neck"].groupby("statement")["value"].mean()
    for statement in single.index:  # the table of one network, by its own code
        assert pooled[statement] == pytest.approx(single[statement]), statement
    assert (eq14.person == eq14["query"].str[:4].astype(int)).all()
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    again = measure(network, data, 5, context)
    pd.testing.assert_frame_equal(cells, again[0])
    assert files == sorted(path for path in tmp_path.rglob("*") if path.is_file()), "nothing was computed twice"


def test_without_a_classifier_there_are_no_class_methods(data: ReidData, tmp_path: Path) -> None:
    class Headless(type(toys.tiny_model())):  # type: ignore[misc]
        head = None

    model = toys.tiny_model()
    model.__class__ = Headless
    network = Network("a", "toy", model, toys.SIZE, ("after_bn",), affine=False)
    cells, statements, _ = measure(network, data, 3, Context(cache=tmp_path, progress=False))
    assert not {"grad-cam", "score-cam", "score-cam-logit", "ram"} & set(cells.method)
    assert {"grad-ram", "grad-fam", "score-fam", "uniform"} <= set(cells.method)
    assert set(statements.statement) == {UNIFORM_MAPS, STRANGERS.format("uniform")} and set(cells.feature) == {
        "after neck"
    }


def test_maps_are_held_against_the_truth_at_two_layers(data: ReidData, tmp_path: Path) -> None:
    context = Context(cache=tmp_path, progress=False)
    network = toy_network("a", 0)
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    rows = hold_against_truth(network, data, 5, context)
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())
    assert set(rows.network) == {"a"} and set(rows.feature) == {"after neck"} and set(rows.n) <= set(range(6))
    score = rows[rows.method == "score-fam"]
    assert set(score.layer) == {"backbone.blocks.4"} and set(rows.layer) == {"backbone.blocks.4", "backbone"}
    assert set(rows.state) == {truth.TRAINED, truth.BEHIND, truth.ALL}
    trained = rows[(rows.state == truth.TRAINED) & (rows.layer == "backbone.blocks.4")]
    chosen = queries_of(network, data, 5)
    direct = truth.truth_table(
        network.model, chosen.images, ["backbone.blocks.4"], "d", groups=chosen.image_set.ids, seeds=[]
    )
    assert trained.specific.to_numpy() == pytest.approx(direct.specific.to_numpy(), nan_ok=True, abs=1e-6)


def test_a_network_that_others_trained_has_no_truth_of_random_ones(
    data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_module, "EARLIER", "backbone.a_layer_that_it_lacks")
    rows = hold_against_truth(toy_network("a", 0), data, 5, Context(cache=tmp_path, progress=False))
    assert rows.empty and list(rows.columns) == ["network"]


def test_the_truth_is_pooled_with_students_interval_over_the_networks() -> None:
    head = {"feature": "after neck", "state": "trained", "layer": "l", "truth": "map cell", "measure": "cosine"}
    values = {"a": 0.1, "b": 0.2, "c": 0.6}
    rows = pd.DataFrame(
        [
            {"network": name, **head, "method": "uniform", "n": 16, "spearman": v, "spearman_lo": v, "spearman_hi": v,
             "unrelated": 2 * v, "specific": -v, "specific_lo": -v, "specific_hi": -v}
            for name, v in values.items()
        ]
    )  # fmt: skip
    found = tables.truth_networks_table("d", rows)
    assert list(found.network) == ["a", "b", "c", tables.ALL_NETWORKS] and set(found.dataset) == {"d"}
    pooled = found.iloc[-1]
    half = 4.302652729911275 * 0.07**0.5 / 3**0.5  # t of 2 degrees of freedom at 97.5 %; the variance is 0.07
    assert pooled[["spearman", "spearman_lo", "spearman_hi"]].tolist() == pytest.approx([0.3, 0.3 - half, 0.3 + half])
    assert pooled.specific == pytest.approx(-0.3) and pooled.unrelated == pytest.approx(0.6)
    assert pooled.n_networks == 3 and pooled.n == 16
    random = tables.truth_networks_table("d", rows.assign(state=truth.ALL))
    assert tables.ALL_NETWORKS not in set(random.network), "one seed gives one random network, not three"
    alone = tables.truth_networks_table("d", rows[:1]).iloc[-1]
    assert alone.spearman == 0.1 and np.isnan(alone.spearman_lo)


def test_the_job_writes_what_it_promises_and_says_when_networks_are_missing(
    data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("workbook.prepare.load_data", lambda *_: data)
    seeds = {name: i % 2 for i, name in enumerate(profiles.load("trainings").networks)}
    monkeypatch.setattr(networks, "open_network", lambda p, name, *_: toy_network(name, seeds[name]))
    monkeypatch.setattr(evidence, "settings", lambda profile: {"n_queries": 5, "seed": 0})
    monkeypatch.setattr(check_outputs, "claims_entry", lambda folder: None)
    profile = profiles.load("trainings")

    assert evidence.main(["trainings", "--only", "seed-0"]) == 0
    assert check_outputs.main(["trainings"]) == 1
    assert "only=seed-0" in capsys.readouterr().err
    assert evidence.main(["trainings"]) == 0
    assert outputs.problems(profile, "evidence") == []
    assert check_outputs.main(["trainings"]) == 0
    folder = paths.FIGURES / "trainings"
    assert {path.name for path in folder.iterdir()} == {
        *(output.file for output in outputs.promised(profile)), "manifest.json"
    }  # fmt: skip
    pooled = outputs.read_table(folder / "table_pooled.csv")
    assert set(pooled.n_networks) <= {0, 6} and set(pooled["keep"]) == {"eq14", *AREAS}
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert evidence.main(["trainings"]) == 0
    assert before == {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert evidence.main(["trainings", "--only", "seed-9"]) == 1
    assert "no network 'seed-9'" in capsys.readouterr().err
    assert evidence.main(["quick"]) == 1
    assert "lists no networks" in capsys.readouterr().err
