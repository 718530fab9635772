"""What one retrieval costs at Market1501's size: `evaluate` beside a plain Python loop over the queries.

The loop has the form of the evaluation loops in use (torchreid, fast-reid): it sorts the gallery, drops the
query's own camera and takes the precision at every rank. It is timed twice. With NumPy integers divided by
Python floats, as in those libraries, the division is most of its time; with Python numbers it is several times
faster, and that is the fairer peer.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fam_lib.retrieval import Labels, Ranking, cmc, evaluate, mean_ap
from workbook.benchmark.clock import machine, timed
from workbook.benchmark.memory import peak_memory

N_IDS, N_CAMS, N_QUERIES = 750, 6, 3_368
N_MATCHABLE, N_DISTRACTORS = 13_115, 2_798  # gallery images with and without an identity among the queries
DIM = 64
CAMERA_SHIFT, NOISE = 0.3, 0.9  # against identities of unit variance: mAP near 0.87

SAMPLE = 300
REPEATS = 5


class Retrieval(NamedTuple):
    """The arguments of `fam_lib.retrieval.evaluate`; features are float32."""

    query_features: Tensor
    gallery_features: Tensor
    labels: Labels


def market1501_shape() -> Retrieval:
    """Random features with the identities and cameras of Market1501's test set in number and kind.

    Each of the 750 identities is seen by two to six cameras, has one query and at least one gallery image in
    each of them, and 14.7 matches a query on average; 2,798 distractors have identity 0.

    Returns:
        3,368 queries and 15,913 gallery images with features (., 64): identity + camera + noise.
    """
    rng = np.random.default_rng(0)
    ids, cams = _seen(rng)
    share = rng.gamma(2.3, size=N_IDS)[ids]  # some identities are seen far more often
    n_images = 1 + rng.multinomial(N_MATCHABLE - N_QUERIES, share / share.sum())
    gallery_ids = np.concatenate([np.repeat(ids, n_images), N_IDS + np.arange(N_DISTRACTORS)])
    gallery_cams = np.concatenate([np.repeat(cams, n_images), rng.integers(N_CAMS, size=N_DISTRACTORS)])

    identity, camera = rng.normal(size=(N_IDS + N_DISTRACTORS, DIM)), rng.normal(size=(N_CAMS, DIM))

    def features(of_ids: np.ndarray, of_cams: np.ndarray) -> Tensor:
        noise = rng.normal(size=(len(of_ids), DIM))
        return torch.from_numpy(identity[of_ids] + CAMERA_SHIFT * camera[of_cams] + NOISE * noise).float()

    labels = np.where(gallery_ids < N_IDS, gallery_ids + 1, 0)
    query, gallery = features(ids, cams), features(gallery_ids, gallery_cams)
    return Retrieval(query, gallery, Labels(*map(torch.from_numpy, (ids + 1, cams, labels, gallery_cams))))


def _seen(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The (identity, camera) pairs of the queries, two for every identity and the others at random."""
    order = rng.random((N_IDS, N_CAMS)) + 0.2 * rng.random((N_IDS, 1))
    np.put_along_axis(order, order.argsort(axis=1)[:, :2], -1, axis=1)
    return np.divmod(np.sort(order.ravel().argsort(kind="stable")[:N_QUERIES]), N_CAMS)


def plain_loop(data: Retrieval, n_queries: int, python_numbers: bool) -> np.ndarray:
    """The same scores query by query, for data without junk, ties and queries without a match.

    Args:
        data: features, identities and cameras.
        n_queries: the loop ends after so many.
        python_numbers: hits are counted in Python integers, not NumPy's.

    Returns:
        (n_queries, 3) float64: average precision, trapezoid average precision, rank of the first match.
    """
    features = (x.numpy() for x in (data.query_features, data.gallery_features))
    queries, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in features)
    query_ids, query_cams, gallery_ids, gallery_cams = (x.numpy() for x in vars(data.labels).values())
    scores = []
    for i in range(n_queries):
        order = np.argsort(-(gallery @ queries[i]))
        same_id = gallery_ids[order] == query_ids[i]
        truths = same_id[~(same_id & (gallery_cams[order] == query_cams[i]))]
        hits = truths.cumsum()
        precision = [hit / (place + 1.0) for place, hit in enumerate(hits.tolist() if python_numbers else hits)]
        before = [1.0, *precision]
        places = truths.nonzero()[0]
        ap = sum(precision[p] for p in places) / len(places)
        trapezoid = sum((precision[p] + before[p]) / 2 for p in places) / len(places)
        scores.append((ap, trapezoid, 1 + places[0]))
    return np.array(scores)


def compare(data: Retrieval) -> pd.DataFrame:
    """Time `evaluate` and the loops on the same data, and put their scores side by side.

    Args:
        data: as `plain_loop` takes it, on the CPU.

    Returns:
        Columns evaluation, device, queries_timed, seconds (for all queries; the median), ratio (of seconds to
        those of `evaluate` on the CPU), map, map_trapezoid, rank1 (NaN where only a sample was timed).
    """
    n_queries, cpu = len(data.query_features), torch.device("cpu")
    rows = []
    for device in [cpu] + [torch.device("cuda")] * torch.cuda.is_available():
        seconds, ranking = _timed_evaluate(data, device)
        scores = (mean_ap(ranking), mean_ap(ranking, "trapezoid"), cmc(ranking, (1,))[1])
        rows.append(("fam_lib evaluate", machine(device), n_queries, seconds, *scores))
    for numbers, n in (("Python", n_queries), ("NumPy", min(SAMPLE, n_queries))):
        seconds, found = timed(lambda n=n, numbers=numbers: plain_loop(data, n, numbers == "Python"), cpu)
        ap, trapezoid, first = found.T
        scores = (ap.mean(), trapezoid.mean(), (first == 1).mean()) if n == n_queries else (math.nan,) * 3
        rows.append((f"loop, {numbers} numbers", machine(cpu), n, seconds * n_queries / n, *scores))
    columns = ["evaluation", "device", "queries_timed", "seconds", "map", "map_trapezoid", "rank1"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.insert(4, "ratio", frame["seconds"] / frame["seconds"][0])
    return frame


def _timed_evaluate(data: Retrieval, device: torch.device) -> tuple[float, Ranking]:
    """The median of several times, after one warm-up."""
    moved = Retrieval(*(x.to(device) for x in data))
    ranking = evaluate(*moved)
    return median(timed(lambda: evaluate(*moved), device)[0] for _ in range(REPEATS)), ranking


def ranking_call() -> Callable[[], object]:
    """A call of `evaluate` on data of Market1501's shape, for :func:`peak_memory`."""
    data = market1501_shape()
    return lambda: evaluate(*data)


def main(arguments: list[str] | None = None) -> None:
    """Time `evaluate` and a plain loop on random features of Market1501's shape, for ``make bench``."""
    argparse.ArgumentParser(prog="workbook.benchmark retrieval", description=main.__doc__).parse_args(arguments)
    data = market1501_shape()
    frame = compare(data)
    print(f"{len(data.query_features):,} queries x {len(data.gallery_features):,} gallery images, {DIM}-d features")
    print(frame.drop(columns=["map", "map_trapezoid", "rank1"]).round(3).to_string(index=False))
    print(f"The loop over NumPy numbers was timed on {SAMPLE} queries and scaled to all.")
    scores = frame[["map", "map_trapezoid", "rank1"]].dropna()
    print(scores.to_string(index=False))
    print(f"largest difference of a score: {np.ptp(scores.to_numpy(), axis=0).max():.1e}")
    try:
        print(f"peak memory of evaluate, beyond its data: {peak_memory(ranking_call):.0f} MB")
    except OSError as error:
        print(error, file=sys.stderr)
