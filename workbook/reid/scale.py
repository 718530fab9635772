"""How long the evaluation of a whole query set takes on several devices, from rates measured on one.

``python -m workbook.run.evaluate PROFILE --estimate`` measures them with a profile's network, and prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from workbook.cache.context import Context
from workbook.reid.data import ReidData
from workbook.reid.evaluation import MAP_SHARD, SCORE_SHARD, TABLE2_METHODS, explain_queries, score_queries
from workbook.reid.features import extract_features
from workbook.reid.model import ReidModel
from workbook.reid.queries import FEATURE_SHARD, Queries, load_queries

# Queries and gallery images of the official splits.
QUERY_SETS = {"Market1501": (3368, 19732), "MSMT17": (11659, 82161)}


@dataclass(frozen=True)
class Rates:
    """Seconds that one device takes.

    Attributes:
        feature: to read one image and compute its feature.
        explain: to explain one query by all methods.
        measure: to measure one map of one query by all rules, for each of :data:`QUERY_SETS`: retrieval in a larger
            gallery takes longer.
    """

    feature: float
    explain: float
    measure: Mapping[str, float]


def measure(model: ReidModel, data: ReidData, size: tuple[int, int]) -> Rates:
    """The rates of a network on its device, from the methods of Table 2 on 16 queries, or all; nothing is kept.

    Maps are measured against the gallery as often as it takes to be as large as that of a query set.

    Args:
        model: the network.
        data: queries and gallery.
        size: (H, W) of the input.
    """
    n = min(SCORE_SHARD, len(data.query))
    extract_features(model, data.gallery.subset(torch.arange(1)), size)  # the first call starts the device
    queries, looked_up = _timed(load_queries, model, data, size, n)
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        explain_queries(model, queries.subset(torch.arange(1)), context=Context(cache / "warm-up", progress=False))
        maps, explained = _timed(explain_queries, model, queries, context=Context(cache))
        one = {"score-fam": maps["score-fam"]}
        measured = {}
        for name, (_, n_gallery) in QUERY_SETS.items():
            large = _with_gallery_of(queries, n_gallery)
            # Named by its gallery before the clock starts: a run reads that once, not once for 16 queries.
            context = Context(cache / large.gallery_fingerprint)
            measured[name] = _timed(score_queries, model, large, one, context=context)[1] / n
    return Rates(looked_up / (n + len(data.gallery)), explained / n, measured)


def _with_gallery_of(queries: Queries, n_gallery: int) -> Queries:
    """The queries with their gallery repeated until it has so many images."""
    places = torch.arange(n_gallery) % len(queries.gallery)
    return replace(queries, gallery=queries.gallery[places], gallery_set=queries.gallery_set.subset(places))


def _timed(compute: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return compute(*arguments, **options), time.perf_counter() - start


def estimate(rates: Rates, devices: Sequence[int] = (1, 8, 64)) -> pd.DataFrame:
    """The time of Table 2 for the query sets of Market1501 and MSMT17.

    One device makes a shard, so the device with the most shards decides. Q queries and G gallery images have
    F = ceil((Q + G) / 128) shards of features, M = ceil(Q / 4) of maps and R = 12 ceil(Q / 16) of results; of d
    devices that one makes ceil(F / d), ceil(M / d) and ceil(R / d) of them.

    Left out are the training, the ablations, the budget table (a third of Score-FAM's forwards more), the start of
    Python and of the processes, reading what the others made, the ranking and the tables, which every process makes
    for itself, and that the devices of one machine share its disk, memory and processor. The rates are taken to hold
    for every query and device, and images of another size have others. Real runs take longer.

    Args:
        rates: of one device.
        devices: numbers of devices, d.

    Returns:
        Columns dataset, n_queries, devices, seconds and speedup (over one device).
    """
    rows = []
    for dataset, (n_queries, _) in QUERY_SETS.items():
        seconds = [_seconds(rates, dataset, d) for d in devices]
        speedup = [_seconds(rates, dataset, 1) / taken for taken in seconds]
        rows += [
            {"dataset": dataset, "n_queries": n_queries, "devices": d, "seconds": taken, "speedup": over_one}
            for d, taken, over_one in zip(devices, seconds, speedup, strict=True)
        ]
    return pd.DataFrame(rows)


def _seconds(rates: Rates, dataset: str, devices: int) -> float:
    """What the device with the most shards takes for them."""
    n_queries, n_gallery = QUERY_SETS[dataset]
    features = ceil((n_queries + n_gallery) / FEATURE_SHARD)
    maps = ceil(n_queries / MAP_SHARD)
    results = len(TABLE2_METHODS) * ceil(n_queries / SCORE_SHARD)
    return (
        rates.feature * FEATURE_SHARD * ceil(features / devices)
        + rates.explain * MAP_SHARD * ceil(maps / devices)
        + rates.measure[dataset] * SCORE_SHARD * ceil(results / devices)
    )
