"""How long the evaluation of a whole query set takes on several devices, from rates measured on one.

``python -m tools.evaluate PROFILE --estimate`` measures them with a profile's network, and prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from fam_lib.reid.data import ReidData
from fam_lib.reid.evaluation import MAP_SHARD, SCORE_SHARD, TABLE2_METHODS, explain_queries, score_queries
from fam_lib.reid.model import ReidModel
from fam_lib.reid.queries import FEATURE_SHARD, load_queries

# Queries and gallery images of the official splits.
QUERY_SETS = {"Market1501": (3368, 19732), "MSMT17": (11659, 82161)}


@dataclass(frozen=True)
class Rates:
    """Seconds that one device takes.

    Attributes:
        explain: to explain one query by all methods.
        measure: to measure one map of one query by all rules.
        feature: to read one gallery image and compute its feature.
    """

    explain: float
    measure: float
    feature: float


def measure(model: ReidModel, data: ReidData, size: tuple[int, int]) -> Rates:
    """The rates of a network on its device, from the methods of Table 2 on 16 queries, or all; nothing is kept.

    Args:
        model: the network.
        data: queries and gallery.
        size: (H, W) of the input.
    """
    n = min(SCORE_SHARD, len(data.query))
    queries, looked_up = _timed(lambda: load_queries(model, data, size, n))
    with TemporaryDirectory() as folder:
        cache = Path(folder)
        explain_queries(model, queries.subset(torch.arange(1)), cache=cache / "warm-up", progress=False)
        maps, explained = _timed(lambda: explain_queries(model, queries, cache=cache))
        one = {"score-fam": maps["score-fam"]}
        _, measured = _timed(lambda: score_queries(model, queries, one, cache=cache))
    return Rates(explained / n, measured / n, looked_up / len(data.gallery))


def _timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return compute(), time.perf_counter() - start


def estimate(rates: Rates, devices: Sequence[int] = (1, 8, 64)) -> pd.DataFrame:
    """The time of Table 2 for the query sets of Market1501 and MSMT17.

    One device makes a shard, so the device with the most shards decides: with d devices, ceil(F / d) of the
    F = ceil(G / 128) shards of features of G gallery images, ceil(M / d) of the M = ceil(Q / 4) shards of maps and
    ceil(R / d) of the R = 12 ceil(Q / 16) shards of results of Q queries.

    Left out are the training, the ablations, the start of Python and of the processes, reading what the others
    made, the ranking and the tables, which every process makes for itself, and that the devices of one machine share
    its disk, memory and processor. The rates are taken to hold for every query and device, and images of another
    size have others. Real runs take longer.

    Args:
        rates: of one device.
        devices: numbers of devices, d.

    Returns:
        Columns dataset, n_queries, devices, seconds and speedup (over one device).
    """
    rows = []
    for dataset, (n_queries, n_gallery) in QUERY_SETS.items():
        alone = _seconds(rates, n_queries, n_gallery, 1)
        for d in devices:
            seconds = _seconds(rates, n_queries, n_gallery, d)
            found = {"seconds": seconds, "speedup": alone / seconds}
            rows.append({"dataset": dataset, "n_queries": n_queries, "devices": d, **found})
    return pd.DataFrame(rows)


def _seconds(rates: Rates, n_queries: int, n_gallery: int, devices: int) -> float:
    """What the device with the most shards takes for them."""
    n_results = len(TABLE2_METHODS) * ceil(n_queries / SCORE_SHARD)
    return (
        rates.feature * FEATURE_SHARD * ceil(ceil(n_gallery / FEATURE_SHARD) / devices)
        + rates.explain * MAP_SHARD * ceil(ceil(n_queries / MAP_SHARD) / devices)
        + rates.measure * SCORE_SHARD * ceil(n_results / devices)
    )
