"""The tables of the evaluation: every column from results whose answer is known."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation_toys import SIZE, blocks, tiny_model
from fam_lib.faithfulness import (
    ap_drop,
    ap_increase,
    as_drop,
    curve_area,
    paired_difference,
    ratio_of_means,
    summarise,
)
from fam_lib.methods import METHODS
from fam_lib.retrieval import cmc, mean_ap
from workbook.claims import ledger
from workbook.claims.evidence import NOT_TESTED
from workbook.reid import tables
from workbook.reid.evaluation import AREAS, EQ14, RULES, STEPS

NAMES = ("score-fam", "grad-fam", "uniform")


def made_up(n: int = 12, methods: tuple[str, ...] = NAMES, seed: int = 0) -> pd.DataFrame:
    """Results of all rules with random scores; X and B are shared, and one query in six has no match.

    Two queries show one person, but for the last, which is alone where n is odd.
    """
    rng = np.random.default_rng(seed)
    of_query = {f"{score}_{which}": rng.random(n) for score in ("as", "ap", "trapezoid") for which in "xb"}
    lonely = np.arange(n) % 6 == 5
    frames = []
    for method in methods:
        for keep in RULES:
            scores = of_query | {f"{score}_e": rng.random(n) for score in ("as", "ap", "trapezoid")}
            scores = {name: np.where(lonely, np.nan, values) for name, values in scores.items()}
            others = {"area": rng.random(n), "cosine": rng.random(n), "cosine_b": np.arange(n) / n - 0.5}
            names = [f"{1 + query // 2:04d}_c{1 + query % 2}_01.png" for query in range(n)]
            frames.append(pd.DataFrame(scores | others).assign(method=method, keep=keep, query=names, flat=False))
    return pd.concat(frames, ignore_index=True)


def part(results: pd.DataFrame, method: str, keep: str = EQ14) -> pd.DataFrame:
    return results[(results.method == method) & (results["keep"] == keep)]


BY_HAND = ["0002_c1_01.jpg", "0002_c2_01.jpg", "0011_c1s1_000451_03.jpg", "0012_c1_01.jpg"]  # a person twice


def people(queries: pd.Series) -> torch.Tensor:
    """The numbers that the names begin with."""
    return torch.tensor(queries.str[:4].astype(int).to_numpy())


def by_hand() -> pd.DataFrame:
    """Four queries: half lost, nothing lost and AP gained, undefined in Eq. 15, without a match."""
    nan = np.nan
    return pd.DataFrame(
        {
            "method": "score-fam", "keep": EQ14, "query": BY_HAND, "flat": False, "area": [0.2, 0.4, 0.1, 0.1],
            "as_x": [0.9, 0.8, 0.5, nan], "as_e": [0.7, 0.9, 0.1, nan], "as_b": [0.5, 0.3, 0.6, nan],
            "ap_x": [1.0, 0.5, 0.4, nan], "ap_e": [0.25, 0.6, 0.3, nan], "ap_b": [0.0, 0.1, 0.2, nan],
            "trapezoid_x": [0.8, 0.5, 0.4, nan], "trapezoid_e": [0.6, 0.5, 0.4, nan], "trapezoid_b": [0, 0, 0, nan],
        }
    )  # fmt: skip


# ---- one value a query ---------------------------------------------------------------------------------------


def test_measured_adds_the_summands_of_eq_15_to_17() -> None:
    found = tables.measured(by_hand())
    assert found.as_drop.tolist() == pytest.approx([0.5, 0, np.nan, np.nan], nan_ok=True)
    assert found.ap_drop.tolist() == pytest.approx([0.75, 0, 0.5, np.nan], nan_ok=True)
    assert found.ap_increase.tolist() == pytest.approx([0, 1, 0, np.nan], nan_ok=True)
    trapezoid = tables.measured(by_hand(), "trapezoid")
    assert trapezoid.ap_drop.tolist() == pytest.approx([0.25, 0, 0, np.nan], nan_ok=True)
    assert trapezoid.ap_increase.tolist() == pytest.approx([0, 0, 0, np.nan], nan_ok=True)
    assert trapezoid.as_drop.equals(found.as_drop)


def test_by_query_has_a_column_a_method_in_the_order_of_the_results() -> None:
    results = tables.measured(made_up())
    wide = tables.by_query(results, "as_drop", "30")
    assert list(wide.columns) == list(NAMES)
    for name in NAMES:
        own = part(results, name, "30")
        assert wide[name][own["query"]].tolist() == pytest.approx(own.as_drop.tolist(), nan_ok=True)


# ---- Table 2 -------------------------------------------------------------------------------------------------


def test_table_2_by_hand_with_the_columns_of_the_design() -> None:
    frame = tables.table2("toy", by_hand(), "Market1501")
    assert list(frame.columns) == [
        *("dataset", "method", "kind", "n_queries"),
        *("as_drop", "as_drop_lo", "as_drop_hi", "as_undefined"),
        *("ap_drop", "ap_drop_lo", "ap_drop_hi", "ap_undefined"),
        *("ap_increase", "ap_increase_lo", "ap_increase_hi", "retained_area"),
        *("paper_as_drop", "paper_ap_drop", "paper_ap_increase"),
        *("n_identities", "as_drop_ratio", "ap_drop_ratio"),
    ]
    row = frame.iloc[0]
    assert (row.dataset, row.method, row.kind, row.n_queries) == ("toy", "score-fam", "paper", 4)
    assert (row.as_drop, row.as_undefined) == (pytest.approx(25), 2)
    assert (row.ap_drop, row.ap_undefined) == (pytest.approx(125 / 3), 1)
    assert (row.ap_increase, row.retained_area) == (pytest.approx(100 / 3), pytest.approx(20))
    assert (row.paper_as_drop, row.paper_ap_drop, row.paper_ap_increase) == (16.57, 17.01, 30.26)
    assert row.n_identities == 3
    assert row.as_drop_ratio == pytest.approx(100 * (0.2 + 0) / (0.4 + 0.5))
    assert row.ap_drop_ratio == pytest.approx(100 * (0.75 + 0 + 0.1) / (1.0 + 0.4 + 0.2))


def test_identities_are_read_from_the_names() -> None:
    assert tables.identities(BY_HAND).tolist() == [2, 2, 11, 12]
    assert tables.identities([]).shape == (0,)
    with pytest.raises(ValueError, match=r"query\.png is not named by identity and camera"):
        tables.identities([BY_HAND[0], "query.png"])


def test_intervals_of_table_2_resample_identities() -> None:
    results = made_up()
    frame = tables.table2("toy", results).set_index("method")
    for name in NAMES:
        own = part(results, name)
        x, e, b = (torch.tensor(own[f"as_{which}"].to_numpy()) for which in "xeb")
        summary = summarise(as_drop(x, e, b), groups=people(own["query"]))
        assert summary != summarise(as_drop(x, e, b)), "the toy must not answer for us"
        found = frame.loc[name, ["as_drop", "as_drop_lo", "as_drop_hi"]].tolist()
        assert found == pytest.approx([100 * summary.mean, 100 * summary.lo, 100 * summary.hi])
        assert frame.as_undefined[name] == summary.undefined > 2
    assert frame.filter(like="paper").isna().all(axis=None)


@pytest.mark.parametrize(
    ("dataset", "method", "figures"),
    [
        ("Market1501", "cg-ram", [57.95, 79.05, 2.70]),
        ("CUHK03", "ram", [35.88, 51.32, 22.00]),
        ("CUHK03", "score-fam", [17.49, 28.68, 38.86]),
        ("Market1501", "uniform", [np.nan] * 3),
        ("Market1501", "grad-ram", [np.nan] * 3),
    ],
)
def test_the_papers_figures_stand_beside_ours(dataset: str, method: str, figures: list[float]) -> None:
    row = tables.table2("toy", made_up(methods=(method,)), dataset).iloc[0]
    found = row[["paper_as_drop", "paper_ap_drop", "paper_ap_increase"]].astype(float).tolist()
    assert found == pytest.approx(figures, nan_ok=True)
    assert row.kind == METHODS[method].kind


def test_equal_areas_have_a_row_each_of_their_own_rule() -> None:
    results = made_up()
    frame = tables.equal_area_table("toy", results)
    assert frame.area.tolist() == [area for area in (10, 20, 30, 50) for _ in NAMES]
    assert frame.method.tolist() == [*NAMES] * 4
    for row in frame.itertuples():
        own = part(results, row.method, str(row.area))
        expected = ap_drop(*(torch.tensor(own[f"ap_{which}"].to_numpy()) for which in "xeb"))
        assert row.ap_drop == pytest.approx(100 * expected.nanmean().item())
        assert row.ap_undefined == expected.isnan().sum()


# ---- paired differences --------------------------------------------------------------------------------------


def test_paired_differences_are_those_of_the_same_resamples_pair_by_pair() -> None:
    results = made_up()
    paired = tables.paired_table("toy", results).set_index(["keep", "metric", "method", "rival"]).sort_index()
    assert len(paired) == ((1 + len(AREAS)) * 3 + 2) * 3 and paired.index.is_unique
    for (keep, metric, method, rival), row in paired.drop("curve").iterrows():
        a, b = (values_of(part(results, name, keep), metric) for name in (method, rival))
        summary = paired_difference(a, b, groups=people(part(results, method, keep)["query"]))
        found = row[["difference", "lo", "hi"]].astype(float).tolist()
        assert found == pytest.approx([100 * summary.mean, 100 * summary.lo, 100 * summary.hi], abs=1e-9)
        assert row.n == summary.n


def test_areas_under_the_curves_are_paired_too() -> None:
    results = made_up().sample(frac=1, random_state=0)
    paired = tables.paired_table("toy", results).query("keep == 'curve'").set_index(["metric", "method", "rival"])
    panels = tables.curves(results)
    who = people(pd.Series(sorted(results["query"].unique())))
    assert len(paired) == 6
    for (metric, method, rival), row in paired.iterrows():
        a, b = (curve_area(panels[metric][name], tables.SHARES) for name in (method, rival))
        summary = paired_difference(a, b, groups=who)
        found = row[["difference", "lo", "hi"]].astype(float).tolist()
        assert found == pytest.approx([summary.mean, summary.lo, summary.hi])
        assert row.n == 12 and abs(row.difference) < 1


def values_of(results: pd.DataFrame, metric: str) -> torch.Tensor:
    stem = "as" if metric == "as_drop" else "ap"
    x, e, b = (torch.tensor(results[f"{stem}_{which}"].to_numpy()) for which in "xeb")
    return {"as_drop": as_drop, "ap_drop": ap_drop}[metric](x, e, b) if "drop" in metric else ap_increase(x, e)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_the_queries_of_one_person_establish_nothing(n: int) -> None:
    results = made_up()
    defined = results["query"].isin(sorted(results["query"].unique())[:n])
    paired = tables.paired_table("toy", results.assign(as_b=(results.as_x - 0.5).where(defined, 2.0)))
    rows = paired[paired.metric == "as_drop"]
    assert (rows.n == n).all() and rows[["lo", "hi"]].isna().all(axis=None)
    assert not tables.lead(paired, "score-fam", EQ14, "as_drop", ["uniform"]).established.any()


def pairs() -> pd.DataFrame:
    rows = [("a", "b", -2.0, -3.0, -1.0), ("a", "c", 4.0, 3.0, 5.0), ("b", "c", 6.0, -1.0, 13.0)]
    frame = pd.DataFrame(rows, columns=["method", "rival", "difference", "lo", "hi"])
    frame = frame.assign(dataset="toy", keep="30", metric="as_drop", n=9)
    return pd.concat([frame, frame.assign(keep="10", difference=99.0), frame.assign(metric="ap_drop", difference=99.0)])


def test_a_lead_is_turned_so_that_the_method_stands_first() -> None:
    columns = ["rival", "difference", "lo", "hi", "n", "established"]
    first = tables.lead(pairs(), "a", "30", "as_drop", ["c", "b"])
    assert list(first.columns) == columns
    assert first.values.tolist() == [["c", 4, 3, 5, 9, True], ["b", -2, -3, -1, 9, True]]
    middle = tables.lead(pairs(), "b", "30", "as_drop", ["a", "c"])
    assert middle.values.tolist() == [["a", 2, 1, 3, 9, True], ["c", 6, -1, 13, 9, False]]
    last = tables.lead(pairs(), "c", "30", "as_drop", ["a", "b"])
    assert last.values.tolist() == [["a", -4, -5, -3, 9, True], ["b", -6, -13, 1, 9, False]]


def test_leads_of_two_methods_are_opposite() -> None:
    paired = tables.paired_table("toy", made_up())
    for one, two in permutations(NAMES, 2):
        (ours,), (theirs,) = (
            tables.lead(paired, a, "20", "ap_drop", [b]).itertuples() for a, b in ((one, two), (two, one))
        )
        assert (ours.difference, ours.lo, ours.hi) == (-theirs.difference, -theirs.hi, -theirs.lo)
        assert ours.established == theirs.established


# ---- curves --------------------------------------------------------------------------------------------------


def test_curves_start_and_end_at_the_blurred_and_the_whole_image() -> None:
    results = made_up().sample(frac=1, random_state=0)  # the order of the rows means nothing
    panels = tables.curves(results)
    assert tables.SHARES.tolist() == pytest.approx(np.linspace(0, 1, 11).tolist())
    for name in NAMES:
        own = part(results, name).sort_values("query")
        insertion, deletion = (panels[panel][name] for panel in ("insertion", "deletion"))
        assert insertion.shape == deletion.shape == (12, 11)
        for curve, blurred, whole in ((insertion, 0, -1), (deletion, -1, 0)):
            assert curve[:, blurred].tolist() == own.cosine_b.tolist()
            assert curve[:, whole].tolist() == [1] * 12
        for place, percent in enumerate(STEPS, start=1):
            for curve, keep in ((insertion, f"{percent}"), (deletion, f"without {percent}")):
                assert curve[:, place].tolist() == part(results, name, keep).sort_values("query").cosine.tolist()


def test_areas_under_straight_curves_are_their_mean_heights() -> None:
    results = made_up(methods=("uniform",))
    share = results["keep"].str.extract(r"(\d+)").astype(float)[0] / 100
    kept = share.where(~results["keep"].str.startswith("without"), 1 - share).fillna(0)
    results = results.assign(cosine=results.cosine_b + (1 - results.cosine_b) * kept)
    row = tables.curves_table("toy", results).iloc[0]
    mean = (1 + results.cosine_b.mean()) / 2
    assert (row.insertion, row.deletion) == (pytest.approx(mean), pytest.approx(mean))
    assert row.insertion_lo < mean < row.insertion_hi
    assert (row.method, row.kind, row.n_queries) == ("uniform", "control", 12)


# ---- localisation, retrieval, ablation -----------------------------------------------------------------------


def test_localisation_of_maps_whose_place_is_known() -> None:
    left = torch.zeros(3, 4, 4)
    left[..., :1] = 1
    corner = torch.zeros(3, 4, 4, dtype=torch.bool)
    corner[:2, :2, :2] = True  # the third picture does not show it
    saliency = {"grad-fam": left, "all-ones": torch.ones(3, 4, 4)}
    frame = tables.localisation_table("toy", saliency, {"person": corner | True, "part": corner})
    assert frame[["region", "method"]].values.tolist() == [[r, m] for r in ("person", "part") for m in saliency]
    assert frame.energy.tolist() == [100, 100, 50, 25] and frame.pointing.tolist() == [100, 100, 50, 25]
    assert frame.chance.tolist() == [100, 100, 25, 25]
    assert frame.n.tolist() == [3, 3, 2, 2] and frame.undefined.tolist() == [0, 0, 1, 1]
    assert frame.kind.tolist() == ["paper", "control"] * 2
    some, same = (tables.localisation_table("toy", saliency, {"part": corner}, ids) for ids in IDS)
    assert some.energy_lo.notna().all() and same[["energy_lo", "pointing_hi"]].isna().all(axis=None)


IDS = (torch.tensor([4, 7, 7]), torch.tensor([4, 4, 7]))  # the two pictures that show it: of two people, of one


def test_retrieval_table_ranks_all_queries(tmp_path: Path) -> None:
    data, model = blocks(tmp_path), tiny_model()
    frame = tables.retrieval_table(data, {"tiny": model, "before": model.returning("before_bn")}, SIZE)
    assert frame.network.tolist() == ["tiny", "before"] and (frame.dataset == "blocks").all()
    for row, network in zip(frame.itertuples(), (model, model.returning("before_bn")), strict=True):
        ranking = tables.load_queries(network, data, SIZE).ranking
        assert (row.n_queries, row.undefined) == (6, 1)
        assert (row.rank_1, row.rank_5) == tuple(100 * share for share in cmc(ranking, (1, 5)).values())
        assert (row.mean_ap, row.mean_ap_trapezoid) == (100 * mean_ap(ranking), 100 * mean_ap(ranking, "trapezoid"))
    assert frame.mean_ap[0] != frame.mean_ap[1]


def test_a_row_of_the_ablation_by_hand() -> None:
    row = tables.ablation_row("toy", "AP", "standard", "score-fam", by_hand(), default=True)
    assert list(row)[:6] == ["dataset", "choice", "setting", "default", "method", "n_queries"]
    assert (row["default"], row["n_queries"], row["retained_area"]) == (True, 4, pytest.approx(20))
    assert (row["as_drop"], row["ap_drop"]) == (pytest.approx(25), pytest.approx(125 / 3))
    trapezoid = tables.ablation_row("toy", "AP", "trapezoid", "score-fam", by_hand(), ap="trapezoid")
    assert (trapezoid["as_drop"], trapezoid["ap_drop"]) == (pytest.approx(25), pytest.approx(25 / 3))


def test_a_row_of_the_ablation_is_compared_with_the_default_query_by_query() -> None:
    usual = by_hand()
    # The drops become 3/4, 1/5 and undefined: changes of 1/4 and 1/5, one person's.
    other = usual.assign(as_e=[0.6, 0.7, 0.1, np.nan]).sample(frac=1, random_state=1)
    row = tables.ablation_row("toy", "layer", "early", "score-fam", other, usual=usual)
    assert row["as_drop_change"] == pytest.approx(100 * (0.25 + 0.2) / 2) and row["ap_drop_change"] == pytest.approx(0)
    assert np.isnan(row["as_drop_change_lo"]) and (row["ap_drop_change_lo"], row["ap_drop_change_hi"]) == (0, 0)
    for ratio_first, default in ((False, False), (True, True)):
        row = tables.ablation_row(
            "toy", "layer", "", "score-fam", other, usual=usual, default=default, ratio_first=ratio_first
        )
        ends = ("", "_lo", "_hi")
        assert [row[f"{metric}_change{end}"] for metric in ("as_drop", "ap_drop") for end in ends] == [None] * 6


def test_changes_of_the_ablation_resample_identities() -> None:
    results = made_up()
    usual, other = part(results, "uniform"), part(results, "uniform", "30")
    row = tables.ablation_row("toy", "rule", "30 %", "uniform", other, usual=usual)
    before, after = (values_of(rows, "ap_drop") for rows in (usual, other))
    summary = paired_difference(after, before, groups=people(usual["query"]))
    found = [row[f"ap_drop_change{end}"] for end in ("", "_lo", "_hi")]
    assert found == pytest.approx([100 * figure for figure in summary[:3]])


def test_the_claims_ledger_reads_these_tables() -> None:
    results = made_up(methods=tuple(name for name in METHODS if METHODS[name].kind != "grid"))
    usual, other = (results[results["keep"] == keep] for keep in (EQ14, "30"))
    ablation = [
        tables.ablation_row("toy", "thresholds", setting, method, rows, default=rows is usual, usual=usual)
        for setting, rows in (("default", usual), ("other", other))
        for method in NAMES
    ]
    made = {
        "table2_reid": tables.table2("toy", results),
        "table_paired": tables.paired_table("toy", results),
        "table_equal_area": tables.equal_area_table("toy", results),
        "table_curves": tables.curves_table("toy", results),
        "table_ablation": pd.DataFrame(ablation),
    }
    rows = ledger(made, "toy").set_index("id")
    read = {"lead-as-drop", "lead-large", "retrieves-alike", "finds-what-counts", "control-uniform", "thresholds-fair"}
    assert not read & set(rows.index[rows["verdict"] == NOT_TESTED]), rows.loc[sorted(read), "evidence"].tolist()


def test_the_ratio_of_means_divides_the_sums_of_the_defined_queries() -> None:
    row = tables.ablation_row("toy", "average", "ratio of means", "score-fam", by_hand(), ratio_first=False)
    assert row["as_drop"] == pytest.approx(100 * (0.2 + 0) / (0.4 + 0.5))
    assert row["ap_drop"] == pytest.approx(100 * (0.75 + 0 + 0.1) / (1.0 + 0.4 + 0.2))
    assert row["ap_increase"] == pytest.approx(100 / 3) and row["as_undefined"] == 2
    assert [row[f"{metric}_{end}"] for metric in ("as_drop", "ap_drop") for end in ("lo", "hi")] == [None] * 4
    own = part(made_up(), "uniform")
    found = tables.ablation_row("toy", "average", "", "uniform", own, ratio_first=False)["ap_drop"]
    assert found == pytest.approx(100 * ratio_of_means(*(torch.tensor(own[f"ap_{w}"].to_numpy()) for w in "xeb")))
