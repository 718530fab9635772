"""Where the floor is: what a masked forward costs beside a plain one, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from fam_lib.capture import run_with_layer
from fam_lib.explain import explain
from workbook.benchmark.clock import synchronise, timed
from workbook.benchmark.networks import Subject, narrow
from workbook.benchmark.rows import masked_forwards, plain_forwards

# Images in one forward. On a CPU a small batch stays in the cache, a GPU wants to be filled.
BATCHES = {"cpu": (4, 8, 16, 32), "cuda": (64, 128, 256, 512)}


def forward_costs(subject: Subject) -> pd.DataFrame:
    """Milliseconds of a forward for several batch sizes; of two runs the second counts.

    Ours is the time between the first mask and the last score, over the number of masks: upsampling, blending
    and the cosine are in it, the few forwards before it are not.

    Returns:
        Columns batch, plain_ms, ours_ms, ratio (ours to plain), one row for each batch size. The layer is
        narrowed to as many channels as the largest batch holds; dead ones among them make that batch smaller.
    """
    batches = BATCHES[subject.image.device.type]
    narrowed = narrow(subject, max(batches))
    n_masks = masked_forwards(run_with_layer(*narrowed)[0])
    rows = []
    for batch in batches:
        plain = _second(lambda batch=batch: _plain(subject, max(batches), batch)) / max(batches)
        ours = _second(lambda batch=batch: _masked(narrowed, batch)) / n_masks
        rows.append((batch, 1000 * plain, 1000 * ours, ours / plain))
    return pd.DataFrame(rows, columns=["batch", "plain_ms", "ours_ms", "ratio"])


def _plain(subject: Subject, total: int, batch: int) -> float:
    return timed(lambda: plain_forwards(subject, total, batch), subject.image.device)[0]


def _masked(subject: Subject, batch: int) -> float:
    """Seconds that Score-FAM spends in its masked forwards."""
    seconds = 0.0

    def watch(batches: Iterable[int]) -> Iterator[int]:
        nonlocal seconds
        synchronise(subject.image.device)
        start = time.perf_counter()
        yield from batches
        synchronise(subject.image.device)
        seconds = time.perf_counter() - start

    explain(subject.model, subject.image, "score-fam", subject.layer, batch_size=batch, progress=watch)
    return seconds


def _second(measure: Callable[[], float]) -> float:
    measure()
    return measure()
