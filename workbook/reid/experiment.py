"""The whole evaluation of one network on one data set: what notebook 03 reads and ``make evaluate`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from workbook.cache.context import ALONE, Context
from workbook.reid.ablation import REWEIGHTED, ablation_table
from workbook.reid.budgeted import budget_table
from workbook.reid.data import ReidData
from workbook.reid.evaluation import TABLE2_METHODS, explain_queries, score_queries
from workbook.reid.model import ReidModel
from workbook.reid.motivation import dependence_table, runners_up
from workbook.reid.queries import Queries, choose, look_up


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the evaluation found.

    Attributes:
        queries: explained and measured.
        maps: method of Table 2 -> (Q, h, w), raw maps.
        results: one row for each method, rule of keeping pixels, and query; see
            :func:`workbook.reid.evaluation.score_queries`.
        ablation: see :func:`workbook.reid.ablation.ablation_table`.
        dependence: see :func:`workbook.reid.motivation.dependence_table`.
        budget: see :func:`workbook.reid.budgeted.budget_table`.
    """

    queries: Queries
    maps: dict[str, Tensor]
    results: pd.DataFrame
    ablation: pd.DataFrame
    dependence: pd.DataFrame
    budget: pd.DataFrame


def run(
    model: ReidModel,
    data: ReidData,
    size: tuple[int, int],
    n_queries: int = 0,
    n_ablated: int = 0,
    layers: Sequence[str] = (),
    context: Context = ALONE,
) -> Evidence:
    """Explain the queries by every method, measure the maps, and vary the choices behind them.

    Every part is kept in the cache as it is made, so a run that was killed goes on where it stopped. Several
    processes share the parts that are missing, and each of them gets the whole evidence; each by itself reads
    what the others made, ranks the gallery, and computes the tables.

    Args:
        model: the network.
        data: queries and gallery.
        size: (H, W) of the input.
        n_queries: queries to evaluate, drawn by the seed; 0 takes all.
        n_ablated: the first so many of them serve the ablations; 0 takes all.
        layers: dotted names of other layers to explain in the ablation.
        context: where and how to compute.
    """
    chosen = choose(data.query, n_queries, context.seed)
    queries = look_up(model, chosen, data.gallery, size, context=context)
    # What Score-FAM with other weights and Score-CAM of other classes need is read off the same forwards.
    methods = [*TABLE2_METHODS, *REWEIGHTED.values(), *runners_up(model)]
    maps = explain_queries(model, queries, methods, context)
    shown = {name: maps[name] for name in TABLE2_METHODS}
    some = queries.subset(torch.arange(len(queries))[: n_ablated or None])
    return Evidence(
        queries=queries,
        maps=shown,
        results=score_queries(model, queries, shown, context=context),
        ablation=ablation_table(model, some, size, data.label, layers, context),
        dependence=dependence_table(data.label, model, queries, maps, context),
        budget=budget_table(model, queries, context=context),
    )
