"""The tables of the Re-ID notebooks, each computed from the results of :mod:`workbook.reid.evaluation`.

All of them are in percent unless a column's text says otherwise, one row a method, with 95 % bootstrap intervals
over identities (`_lo`, `_hi`) and the number of queries that a mean leaves out (`_undefined`). Means are over
queries; the intervals resample people with all of their queries, since two images of one person are not
independent. They are about one network: another training may lie outside of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fam_lib.faithfulness import (
    METRICS,
    Faithfulness,
    bootstrap_means,
    curve_area,
    paired_difference,
    ratio_of_means,
    summarise,
)
from fam_lib.localisation import energy_inside, pointing_game, region_share
from fam_lib.methods import METHODS
from fam_lib.retrieval import ApKind, cmc, mean_ap
from workbook import published
from workbook.reid.data import ReidData, identity_and_camera
from workbook.reid.evaluation import AREAS, EQ14, STEPS
from workbook.reid.model import ReidModel
from workbook.reid.queries import load_queries
from workbook.tables import interval_columns

UNDEFINED = {"as_drop": "as_undefined", "ap_drop": "ap_undefined"}  # columns; AP increase needs no denominator
STEMS = {"as_drop": "as", "ap_drop": "ap"}  # of the columns of scores that Eq. 15 and 16 compare
CURVE = "curve"  # in the column `keep` of the paired table: no rule, but all steps of a curve


def retrieval_table(data: ReidData, models: Mapping[str, ReidModel], size: tuple[int, int]) -> pd.DataFrame:
    """How well each network retrieves: one row a network.

    Args:
        data: all of its queries and its gallery are used.
        models: name -> network.
        size: (H, W) of the input.
    """
    rows = []
    for name, model in models.items():
        ranking = load_queries(model, data, size, top=1).ranking
        rows.append(
            {
                "dataset": data.name,
                "network": name,
                "n_queries": len(ranking),
                "undefined": ranking.n_undefined,
                "rank_1": 100 * cmc(ranking, (1,))[1],
                "rank_5": 100 * cmc(ranking, (5,))[5],
                "mean_ap": 100 * mean_ap(ranking),
                "mean_ap_trapezoid": 100 * mean_ap(ranking, "trapezoid"),
            }
        )
    return pd.DataFrame(rows)


def measured(results: pd.DataFrame, ap: ApKind = "standard") -> pd.DataFrame:
    """Results with the summands of Eq. 15-17 as columns `as_drop`, `ap_drop` and `ap_increase`, as fractions."""
    stem = {"standard": "ap", "trapezoid": "trapezoid"}[ap]
    found = Faithfulness(*_columns(results, "as"), *_columns(results, stem))
    return results.assign(**{name: values.numpy() for name, values in found.metrics().items()})


def identities(names: Sequence[str]) -> np.ndarray:
    """Who is on each query, by its file's name: (Q,) int64, the groups of every bootstrap here.

    Args:
        names: Q file names, as in the results' column `query`.

    Raises:
        ValueError: a file is not named by identity and camera.
    """
    found = [identity_and_camera(name) for name in names]
    if None in found:
        raise ValueError(f"{list(names)[found.index(None)]} is not named by identity and camera")
    return np.array([identity for identity, _ in found], dtype=np.int64)


def _columns(results: pd.DataFrame, stem: str) -> list[Tensor]:
    """A score of the images X, of the explanation maps E and of the baselines B."""
    return [torch.from_numpy(results[f"{stem}_{which}"].to_numpy(copy=True)) for which in "xeb"]


def by_query(results: pd.DataFrame, metric: str, keep: str = EQ14) -> pd.DataFrame:
    """One value a query (row) and method (column), the methods in the order of the results."""
    chosen = results[results.keep == keep]
    return chosen.pivot(index="query", columns="method", values=metric)[list(chosen.method.unique())]


def table2(dataset: str, results: pd.DataFrame, paper: str | None = None) -> pd.DataFrame:
    """Table 2: Eq. 15-17 by the rule of Eq. 14, with the retained area and the paper's figures.

    `as_drop_ratio` and `ap_drop_ratio` divide the means of Eq. 15 and 16 instead of averaging the ratios: a query
    whose baseline retrieves almost as well as its original cannot move them.

    Args:
        dataset: name of the data set, the first column.
        results: of :func:`workbook.reid.evaluation.score_queries`.
        paper: whose figures of the paper to put beside ours: "Market1501" or "CUHK03"; None leaves them empty.
    """
    theirs = published.TABLE2.get(paper or "", {})
    rows = []
    for method, part in _methods(results, EQ14):
        figures = theirs.get(method, (None, None, None))
        rows.append(
            {
                **_names(dataset, method, part),
                **_score_columns(part),
                "retained_area": 100 * part.area.mean(),
                **{f"paper_{metric}": value for metric, value in zip(METRICS, figures, strict=True)},
                "n_identities": len(np.unique(identities(part["query"]))),
                **{f"{metric}_ratio": _ratio(part, metric) for metric in STEMS},
            }
        )
    return pd.DataFrame(rows)


def equal_area_table(dataset: str, results: pd.DataFrame) -> pd.DataFrame:
    """Every method with the same share of pixels kept, its own best ones: one row a method and share."""
    rows = [
        {**_names(dataset, method, part), "area": int(area), **_score_columns(part)}
        for area in AREAS
        for method, part in _methods(results, area)
    ]
    return pd.DataFrame(rows)


def paired_table(dataset: str, results: pd.DataFrame) -> pd.DataFrame:
    """Every two methods compared on the same queries: mean difference, method minus rival.

    Eq. 15-17 are in percent points, by each rule in `keep`. With `keep` "curve", the areas under the insertion and
    the deletion curve are compared, 0 to 1 as in :func:`curves_table`.
    """
    measures = measured(results)
    rows = []
    for keep in (EQ14, *AREAS):
        for metric in METRICS:
            rows += _pairs({"dataset": dataset, "keep": keep, "metric": metric}, 100 * by_query(measures, metric, keep))
    for name, areas in curve_areas(results).items():
        rows += _pairs({"dataset": dataset, "keep": CURVE, "metric": name}, areas)
    return pd.DataFrame(rows)


def _pairs(head: Mapping[str, object], values: pd.DataFrame) -> list[dict[str, object]]:
    """A row for every two columns of values (query x method), over the queries that all methods define."""
    values = values.dropna()
    resampled = bootstrap_means(values.to_numpy(), groups=identities(values.index))
    rows = []
    for i, j in combinations(range(values.shape[1]), 2):
        lo, hi = np.quantile(resampled[:, i] - resampled[:, j], [0.025, 0.975])
        difference = (values.iloc[:, i] - values.iloc[:, j]).mean()
        names = {"method": values.columns[i], "rival": values.columns[j]}
        rows.append({**head, **names, "difference": difference, "lo": lo, "hi": hi, "n": len(values)})
    return rows


def lead(paired: pd.DataFrame, method: str, keep: str, metric: str, rivals: Sequence[str]) -> pd.DataFrame:
    """A method's rows of the paired table against some rivals, each turned so that the method stands first.

    Returns:
        Columns rival, difference, lo, hi, n and established (the interval does not hold 0).
    """
    rows = paired[(paired["keep"] == keep) & (paired.metric == metric)]
    ours = rows[rows.method == method][["rival", "difference", "lo", "hi", "n"]]
    theirs = rows[rows.rival == method]
    turned = pd.DataFrame(
        {"rival": theirs.method, "difference": -theirs.difference, "lo": -theirs.hi, "hi": -theirs.lo, "n": theirs.n}
    )
    both = pd.concat([ours, turned]).set_index("rival").loc[list(rivals)].reset_index()
    return both.assign(established=(both.lo > 0) | (both.hi < 0))


def curves(results: pd.DataFrame) -> dict[str, dict[str, Tensor]]:
    """Insertion and deletion: the cosine to the original feature as pixels come or go, most salient first.

    Returns:
        "insertion" and "deletion" -> method -> (Q, 11), at 0, 10, ..., 100 % of the pixels.
    """
    panels: dict[str, dict[str, Tensor]] = {"insertion": {}, "deletion": {}}
    for method in results.method.unique():
        cosine = results[results.method == method].pivot(index="query", columns="keep", values="cosine")
        blank = results[(results.method == method) & (results.keep == EQ14)].set_index("query").cosine_b[cosine.index]
        whole = np.ones(len(cosine))
        inserted = [blank, *(cosine[str(step)] for step in STEPS), whole]
        deleted = [whole, *(cosine[f"without {step}"] for step in STEPS), blank]
        panels["insertion"][method] = torch.from_numpy(np.stack(inserted, axis=1))
        panels["deletion"][method] = torch.from_numpy(np.stack(deleted, axis=1))
    return panels


SHARES = torch.tensor([0, *STEPS, 100], dtype=torch.float64) / 100


def curves_table(dataset: str, results: pd.DataFrame) -> pd.DataFrame:
    """Areas under the insertion curve (large is good) and the deletion curve (small is good), 0 to 1."""
    areas, rows = curve_areas(results), []
    for method, part in _methods(results, EQ14):
        row = _names(dataset, method, part)
        for name, values in areas.items():
            row |= interval_columns(name, summarise(values[method].to_numpy(), groups=identities(values.index)))
        rows.append(row)
    return pd.DataFrame(rows)


def curve_areas(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Areas under the curves of :func:`curves`, one value a query (row) and method (column)."""
    queries = sorted(results["query"].unique())  # as the pivots of `curves` sort them
    return {
        name: pd.DataFrame({method: curve_area(heights, SHARES).numpy() for method, heights in panel.items()}, queries)
        for name, panel in curves(results).items()
    }


def localisation_table(
    dataset: str,
    saliency: Mapping[str, Tensor],
    regions: Mapping[str, Tensor],
    ids: Tensor | None = None,
) -> pd.DataFrame:
    """How much of each map lies where the truth is known: one row a method and region.

    Args:
        dataset: name of the data set.
        saliency: method -> (Q, H, W) in [0, 1].
        regions: name -> (Q, H, W) bool.
        ids: (Q,) identities of the queries, which the intervals resample; None where each query is another person.
    """
    rows = []
    for region, mask in regions.items():
        for method, maps in saliency.items():
            energy, pointing = (summarise(score(maps, mask), groups=ids) for score in (energy_inside, pointing_game))
            rows.append(
                {
                    "dataset": dataset,
                    "method": method,
                    "kind": _kind(method),
                    "region": region,
                    "n": energy.n,
                    "undefined": energy.undefined,
                    **interval_columns("energy", energy, 100),
                    **interval_columns("pointing", pointing, 100),
                    "chance": 100 * float(region_share(mask[mask.flatten(1).any(1)]).mean()),
                }
            )
    return pd.DataFrame(rows)


def ablation_row(
    dataset: str,
    choice: str,
    setting: str,
    method: str,
    results: pd.DataFrame,
    *,
    default: bool = False,
    usual: pd.DataFrame | None = None,
    ap: ApKind = "standard",
    ratio_first: bool = True,
) -> dict[str, object]:
    """One row of the table of ablations: a method's scores under another choice.

    Args:
        dataset: name of the data set.
        choice: what is varied, for instance "feature".
        setting: what it is set to, for instance "before BN".
        method: of `results`.
        results: of the method under this choice, with one rule.
        default: whether this is what Table 2 uses.
        usual: results of the default on the same queries. From them come `as_drop_change`, `ap_drop_change` and
            their intervals: this setting minus the default, query by query. They are empty for a default, without
            `usual`, and for a ratio of means.
        ap: which average precision.
        ratio_first: average the ratios of Eq. 15 and 16, as the paper does; False divides the averages, which
            have no interval here.
    """
    part = measured(results[results.method == method], ap)
    scores = _score_columns(part)
    if not ratio_first:
        for metric in STEMS:
            scores |= {metric: _ratio(part, metric), f"{metric}_lo": None, f"{metric}_hi": None}
    paired = None if default or usual is None or not ratio_first else usual[usual.method == method]
    return {
        "dataset": dataset,
        "choice": choice,
        "setting": setting,
        "default": default,
        "method": method,
        "n_queries": len(part),
        **scores,
        "retained_area": 100 * part.area.mean(),
        **_changes(part, paired),
    }


def _changes(part: pd.DataFrame, usual: pd.DataFrame | None) -> dict[str, float | None]:
    """The paired changes of both drops from the usual results to these, which are measured; None is no change."""
    columns: dict[str, float | None] = {}
    for metric in STEMS:
        name = f"{metric}_change"
        if usual is None:
            columns |= dict.fromkeys((name, f"{name}_lo", f"{name}_hi"))
            continue
        before = measured(usual).set_index("query")[metric].loc[part["query"]]
        change = paired_difference(part[metric].to_numpy(), before.to_numpy(), groups=identities(part["query"]))
        columns |= interval_columns(name, change, 100)
    return columns


def _ratio(part: pd.DataFrame, metric: str) -> float:
    """Eq. 15 or 16 as a ratio of means, in percent."""
    return 100 * ratio_of_means(*_columns(part, STEMS[metric]))


def _methods(results: pd.DataFrame, keep: str) -> list[tuple[str, pd.DataFrame]]:
    """The measured rows of each method under one rule, in the order of the results."""
    chosen = measured(results[results.keep == keep])
    return [(method, chosen[chosen.method == method]) for method in chosen.method.unique()]


def _names(dataset: str, method: str, part: pd.DataFrame) -> dict[str, object]:
    return {"dataset": dataset, "method": method, "kind": _kind(method), "n_queries": len(part)}


def _kind(method: str) -> str:
    return METHODS[method].kind if method in METHODS else "grid"


def _score_columns(part: pd.DataFrame) -> dict[str, float | None]:
    """Means and intervals of Eq. 15-17, and the undefined queries of the first two."""
    columns: dict[str, float | None] = {}
    for metric in METRICS:
        summary = summarise(part[metric].to_numpy(), groups=identities(part["query"]))
        columns |= interval_columns(metric, summary, 100)
        if metric in UNDEFINED:
            columns[UNDEFINED[metric]] = summary.undefined
    return columns
