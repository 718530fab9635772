"""The tables of the evidence over networks, from the rows of :func:`workbook.evidence.measure.measure`.

In percent, as the tables of one network are, but for correlations and the areas under curves, which lie in [-1, 1].
Intervals resample networks and people; those of one network resample people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from fam_lib.faithfulness import METRICS
from workbook.evidence.pooling import Pooled, explained, pool, within
from workbook.evidence.truth import ALL
from workbook.reid.evaluation import AREAS, EQ14
from workbook.reid.tables import CURVE
from workbook.tables import interval_columns, over_seeds

# Column of the tables -> column of the cells, the column it is divided by (or None), and the scale.
SCORES: dict[str, tuple[str, str | None, float]] = {
    **{metric: (metric, None, 100) for metric in METRICS},
    "as_drop_ratio": ("as_lost", "as_could", 100),
    "ap_drop_ratio": ("ap_lost", "ap_could", 100),
    "retained_area": ("area", None, 100),
}
EQ14_ONLY: dict[str, tuple[str, str | None, float]] = {
    "insertion": ("insertion", None, 1),
    "deletion": ("deletion", None, 1),
    "uniform_correlation": ("uniform", None, 1),
}
UNDEFINED = {"as_drop": "as_undefined", "ap_drop": "ap_undefined"}
DROPS = ("as_drop", "ap_drop")


class Block(NamedTuple):
    """Cells of one feature and rule as an array.

    Attributes:
        values: (N, Q, M), NaN where undefined or not there.
        networks: N names.
        people: (Q,).
        methods: M names.
    """

    values: np.ndarray
    networks: list[str]
    people: np.ndarray
    methods: list[str]


def block(rows: pd.DataFrame, column: str, methods: list[str] | None = None) -> Block:
    """A column of the cells, the networks, queries and methods in the order of their first row.

    Args:
        rows: cells of one feature and rule, or statements with the statement as `method`.
        column: what to read.
        methods: which; None: all.
    """
    named = methods or list(rows.method.unique())
    networks, queries = list(rows.network.unique()), list(rows["query"].unique())
    index = pd.MultiIndex.from_product([networks, queries, named])
    values = rows.set_index(["network", "query", "method"])[column].reindex(index).to_numpy(float)
    people = rows.drop_duplicates("query").set_index("query").person[queries].to_numpy()
    return Block(values.reshape(len(networks), len(queries), len(named)), networks, people, named)


def _scores(keep: str) -> dict[str, tuple[str, str | None, float]]:
    """What is known under one rule."""
    return {**SCORES, **(EQ14_ONLY if keep == EQ14 else {})}


def _pooled(rows: pd.DataFrame, score: tuple[str, str | None, float]) -> Pooled:
    """A score of every method over the networks in these rows, scaled."""
    column, of, scale = score
    data = block(rows, column)
    found = pool(data.values, data.people, None if of is None else block(rows, of).values)
    return found._replace(**{name: scale * getattr(found, name) for name in ("value", "lo", "hi", "lowest", "highest")})


def _each(cells: pd.DataFrame, keeps: tuple[str, ...]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Feature, rule and their rows."""
    for feature in cells.feature.unique():
        for keep in keeps:
            yield feature, keep, cells[(cells.feature == feature) & (cells["keep"] == keep)]


def _kinds(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows.method, rows.kind, strict=True))


# ---- each network -------------------------------------------------------------------------------------


def networks_table(
    dataset: str, cells: pd.DataFrame, about: Mapping[str, Mapping[str, object]], keeps: tuple[str, ...] = (EQ14,)
) -> pd.DataFrame:
    """Table 2 of each network: a row for each network, feature, rule and method.

    Args:
        dataset: the first column.
        cells: of :func:`workbook.evidence.measure.measure`, of all networks.
        about: network -> `recipe`, and by feature (rank-1, mAP).
        keeps: rules; Eq. 14 alone has no column `area`.
    """
    made: list[dict[str, object]] = []
    for network in cells.network.unique():
        for feature, keep, rows in _each(cells[cells.network == network], keeps):
            if rows.empty:
                continue
            scores = {name: _pooled(rows, score) for name, score in _scores(keep).items()}
            kinds, total = _kinds(rows), rows["query"].nunique()
            for m, method in enumerate(rows.method.unique()):
                rank_1, mean_ap = about[network][feature]  # type: ignore[misc]
                row = {
                    "dataset": dataset, "network": network, "recipe": about[network]["recipe"], "rank_1": rank_1,
                    "mean_ap": mean_ap, "feature": feature, "method": method, "kind": kinds[method],
                    **({} if keep == EQ14 else {"area": int(keep)}),
                    "n_queries": total, "n_identities": rows.person.nunique(),
                }  # fmt: skip
                for name, found in scores.items():
                    row[name] = found.value[m]
                    if name in METRICS:
                        row |= {f"{name}_lo": found.lo[m], f"{name}_hi": found.hi[m]}
                    if name in UNDEFINED:
                        row[UNDEFINED[name]] = int(total - found.n[m])
                if keep != EQ14:
                    row.pop("retained_area")  # the same for all methods, as `area` says
                made.append(row)
    return pd.DataFrame(made)


# ---- all networks -------------------------------------------------------------------------------------


def pooled_table(dataset: str, cells: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every method over the networks: a row for each feature, rule, method and metric.

    Columns dataset, feature, keep, method, kind, metric, value (mean over networks), lo, hi, lowest, highest (of the
    networks), n_queries, n_identities, n_networks.
    """
    made = []
    for feature, keep, rows in _each(cells, (EQ14, *AREAS)):
        if rows.empty:
            continue
        kinds, scores = _kinds(rows), {name: _pooled(rows, score) for name, score in _scores(keep).items()}
        for m, method in enumerate(rows.method.unique()):
            for metric, found in scores.items():
                made.append(
                    {
                        "dataset": dataset, "feature": feature, "keep": keep, "method": method, "kind": kinds[method],
                        "metric": metric, "value": found.value[m], "lo": found.lo[m], "hi": found.hi[m],
                        "lowest": found.lowest[m], "highest": found.highest[m], "n_queries": int(found.n[m]),
                        "n_identities": int(found.n_identities[m]), "n_networks": int(found.n_networks[m]),
                    }
                )  # fmt: skip
    return pd.DataFrame(made)


def pooled_paired_table(dataset: str, cells: pd.DataFrame, feature: str) -> pd.DataFrame:
    """Every two methods compared on the same queries of the same networks: method minus rival, in percent points;
    with `keep` "curve" the areas under the insertion and the deletion curve, 0 to 1.

    Columns as in `table_paired` of one network, so that a reader of that one can read this: dataset, keep, metric,
    method, rival, difference, lo, hi, n (queries); then n_identities, n_networks, n_networks_positive (in how many
    the difference is above 0), lowest and highest (of the networks). Networks that lack one of the two are left out.

    Args:
        dataset: the first column.
        cells: of all networks.
        feature: of this feature alone: a row of the result is one pair.
    """
    made = []
    chosen = [(keep, metric, 100) for keep in (EQ14, *AREAS) for metric in METRICS]
    chosen += [(CURVE, name, 1) for name in ("insertion", "deletion")]
    cells = cells[cells.feature == feature]
    for keep, metric, scale in chosen:
        rows = cells[cells["keep"] == (EQ14 if keep == CURVE else keep)]
        if not rows.empty:
            data = block(rows, metric)
            if len(data.methods) < 2:
                continue
            pairs = list(combinations(range(len(data.methods)), 2))
            first, second = (list(side) for side in zip(*pairs, strict=True))
            found = pool(data.values[..., first] - data.values[..., second], data.people)
            for p, (i, j) in enumerate(pairs):
                if not found.n_networks[p]:
                    continue
                made.append(
                    {
                        "dataset": dataset, "keep": keep, "metric": metric, "method": data.methods[i],
                        "rival": data.methods[j], "difference": scale * found.value[p], "lo": scale * found.lo[p],
                        "hi": scale * found.hi[p], "n": int(found.n[p]), "n_identities": int(found.n_identities[p]),
                        "n_networks": int(found.n_networks[p]), "n_networks_positive": int(found.n_positive[p]),
                        "lowest": scale * found.lowest[p], "highest": scale * found.highest[p],
                    }
                )  # fmt: skip
    return pd.DataFrame(made)


def area_table(dataset: str, networks: pd.DataFrame) -> pd.DataFrame:
    """How much of the drops the retained area alone explains, a cell being a network and method.

    Args:
        dataset: the first column.
        networks: of :func:`networks_table` by Eq. 14.

    Returns:
        Columns dataset, feature, metric, methods ("all", "no controls", "controls"), level ("all cells"; "within
        networks": each network's mean taken away), n (cells), linear and rank (percent of the variance explained by a
        straight line, and between ranks).
    """
    made = []
    for feature in networks.feature.unique():
        rows = networks[networks.feature == feature]
        groups = {
            "all": rows,
            "no controls": rows[rows.kind != "control"],
            "controls": rows[rows.kind == "control"],
        }
        for metric in DROPS:
            for methods, chosen in groups.items():
                x, y = (chosen[name].to_numpy(float) for name in ("retained_area", metric))
                of = chosen.network.to_numpy()
                levels = {"all cells": (x, y), "within networks": (within(x, of), within(y, of))}
                for level, (area, drop) in levels.items():
                    linear, rank = explained(area, drop)
                    made.append(
                        {
                            "dataset": dataset, "feature": feature, "metric": metric, "methods": methods,
                            "level": level, "n": int((~(np.isnan(area) | np.isnan(drop))).sum()),
                            "linear": 100 * linear, "rank": 100 * rank,
                        }
                    )  # fmt: skip
    return pd.DataFrame(made)


ALL_NETWORKS = "all networks"


def maps_table(dataset: str, statements: pd.DataFrame) -> pd.DataFrame:
    """How alike the maps of one query are for several references, of each network and over all.

    Columns dataset, feature, statement, network ("all networks" for the pooled row), value, lo, hi, lowest, highest,
    n (queries), n_identities, n_networks.
    """
    made = []
    for feature in statements.feature.unique():
        rows = statements[statements.feature == feature].rename(columns={"statement": "method"})
        parts = {network: rows[rows.network == network] for network in rows.network.unique()} | {ALL_NETWORKS: rows}
        for network, part in parts.items():
            data = block(part, "value")
            found = pool(data.values, data.people)
            for m, statement in enumerate(data.methods):
                made.append(
                    {
                        "dataset": dataset, "feature": feature, "statement": statement, "network": network,
                        "value": found.value[m], "lo": found.lo[m], "hi": found.hi[m], "lowest": found.lowest[m],
                        "highest": found.highest[m], "n": int(found.n[m]),
                        "n_identities": int(found.n_identities[m]), "n_networks": int(found.n_networks[m]),
                    }
                )  # fmt: skip
    order = list(dict.fromkeys(statements.statement))
    table = pd.DataFrame(made)
    return table.sort_values("statement", key=lambda s: s.map(order.index), kind="stable").reset_index(drop=True)


def truth_networks_table(dataset: str, truth: pd.DataFrame) -> pd.DataFrame:
    """Do maps follow the truth by occlusion, and does it move? Each network, and over all.

    Args:
        dataset: the first column.
        truth: of :func:`workbook.evidence.measure.hold_against_truth`, of all networks.

    Returns:
        The columns of `truth` after `dataset`; the rows "all networks" have the means over the networks, the intervals
        of Student's t over them (one value a network: what another training may give), and n_networks. Networks that
        are all random by one seed are one network, whatever was trained before: they are not pooled.
    """
    by = ["feature", "state", "layer", "truth", "measure", "method"]
    pooled = []
    for names, rows in truth[truth.state != ALL].groupby(by, sort=False):  # one seed: all the same random network
        row = {"network": ALL_NETWORKS, **dict(zip(by, names, strict=True)), "n": int(rows.n.min())}
        for column in ("spearman", "specific"):
            row |= interval_columns(column, over_seeds(rows[column]))
        pooled.append({**row, "unrelated": rows.unrelated.mean(), "n_networks": len(rows)})
    both = pd.concat([truth.assign(n_networks=1), pd.DataFrame(pooled)], ignore_index=True)
    both.insert(0, "dataset", dataset)
    return both
