"""Do the calls that are timed find the same? Computed for a few channels before any time is taken."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fam_lib.capture import run_with_layer
from fam_lib.masking import gaussian_blur
from fam_lib.similarity import pearson
from workbook.benchmark.networks import Subject
from workbook.benchmark.peers import MASKS, Found, loop_scores, norm_of_up
from workbook.benchmark.rows import Rows, rival


class Agreement(NamedTuple):
    """How near a call comes to what it should find.

    Attributes:
        agrees: Pearson's correlation of its map with ours (exact Score-FAM, or Grad-FAM).
        score_error: largest difference of its scores S, up to the offset that the softmax takes away, from a
            loop over plain forwards that masks as the library does; NaN for a call without masked forwards.
    """

    agrees: float
    score_error: float


def agreement(rows: Rows, subject: Subject) -> dict[tuple[str, str], Agreement]:
    """Run every call once and compare; calls without a map are left out.

    Args:
        rows: of this subject, ours among them.
        subject: network, layer and image.
    """
    found = {name: row.run() for name, row in rows.items()}
    expected = {library: _expected(subject, library) for library in (*MASKS, "")}
    return {
        name: Agreement(
            pearson(found[rival(rows[name])].saliency, result.saliency).item(),
            _score_error(result, expected.get(name[1], expected[""])) if rows[name].forwards else math.nan,
        )
        for name, result in found.items()
        if result is not None
    }


def _expected(subject: Subject, library: str) -> Tensor:
    """S by the loop, (1, C): with a peer's masks and zeros for a baseline, or else with ours."""
    model, layer, image = subject
    baseline = torch.zeros_like(image) if library in MASKS else gaussian_blur(image)
    activations = run_with_layer(model, layer, image)[0]
    return loop_scores(model, image, activations, baseline, MASKS.get(library, norm_of_up))


def _score_error(result: Found, expected: Tensor) -> float:
    difference = result.weights.cpu().log() - expected.cpu()
    return (difference - difference.mean()).abs().max().item()
