"""What is timed: ours, the peers, the textbook's loop and the plain forwards, each as one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fam_lib.budget import most_energetic
from fam_lib.capture import run_with_layer
from fam_lib.explain import explain
from fam_lib.passes import first_with_equal_mask, live_channels
from workbook.benchmark.networks import Subject
from workbook.benchmark.peers import Found, Run, loop_score_fam, peers

BUDGET = 0.25
OURS = "fam_lib"
EXACT = ("score-fam", OURS)
GRADIENT = ("grad-fam", OURS)


class Row(NamedTuple):
    """A call that is timed.

    Attributes:
        run: explains the image once; None as its result where there is no map.
        forwards: masked images that it sends through the network; None for methods without.
    """

    run: Run
    forwards: int | None = None


Rows = dict[tuple[str, str], Row]


def rival(row: Row) -> tuple[str, str]:
    """What a row is compared with: ours with masked forwards, or ours without."""
    return EXACT if row.forwards else GRADIENT


def table1_rows(subject: Subject) -> Rows:
    """(method, library) -> what Table 1 of the workbook times. The model must be in eval mode."""
    model, layer, image = subject
    ours = partial(_ours, subject)
    activations = run_with_layer(model, layer, image)[0]
    rows = {
        ("forward", "torch"): Row(lambda: plain_forwards(subject, 1, 1)),
        ("uniform", OURS): Row(ours("uniform")),
        ("fam", OURS): Row(ours("fam")),
        GRADIENT: Row(ours("grad-fam")),
        EXACT: Row(ours("score-fam"), masked_forwards(activations)),
        ("score-fam", f"{OURS} {BUDGET:.0%}"): Row(
            ours("score-fam", budget=BUDGET), masked_forwards(activations, BUDGET)
        ),
    }
    channels = activations.shape[1]
    for name, run in peers(model, image, layer).items():
        rows[name] = Row(run, channels if name[0] == EXACT[0] else None)
    return rows


def all_rows(subject: Subject, batch: int) -> Rows:
    """The rows of :func:`table1_rows`, coarser precisions, the loop, and a plain forward for every channel.

    Args:
        subject: network, layer and image.
        batch: images in one plain forward, the best size on this device.
    """
    activations = run_with_layer(subject.model, subject.layer, subject.image)[0]
    channels, masked = activations.shape[1], masked_forwards(activations)
    coarse = {"float16": torch.float16, "tf32": "tf32"} if subject.image.is_cuda else {"bfloat16": torch.bfloat16}
    return {
        ("forwards", f"torch, batch {batch}"): Row(lambda: plain_forwards(subject, channels, batch), channels),
        **{
            ("score-fam", f"{OURS} {name}"): Row(_ours(subject, "score-fam", precision=precision), masked)
            for name, precision in coarse.items()
        },
        ("score-fam", "loop"): Row(loop_score_fam(subject.model, subject.image, subject.layer), channels),
    } | table1_rows(subject)


def _ours(subject: Subject, method: str, **options: object) -> Callable[[], Found]:
    def run() -> Found:
        explanation = explain(subject.model, subject.image, method, subject.layer, **options)
        return Found(explanation.saliency, explanation.weights)

    return run


@torch.no_grad()
def plain_forwards(subject: Subject, total: int, batch: int) -> None:
    """So many forwards of the image through the plain network, `batch` at a time."""
    images = subject.image.expand(batch, -1, -1, -1).contiguous()
    for start in range(0, total, batch):
        subject.model(images[: total - start])


def masked_forwards(activations: Tensor, budget: float = 1.0) -> int:
    """How many masked images Score-FAM forwards for A (1, C, h, w): distinct masks of the live channels it scores."""
    chosen = most_energetic(activations, live_channels(activations), budget)
    return len(first_with_equal_mask(activations)[chosen].unique())
