"""What the tables of all experiments have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from fam_lib.faithfulness import LEVEL, Summary


def interval_columns(name: str, summary: Summary, scale: float = 1) -> dict[str, float]:
    """A mean and the ends of its interval, times `scale`, as the columns ``name``, ``name_lo`` and ``name_hi``."""
    return {name: scale * summary.mean, f"{name}_lo": scale * summary.lo, f"{name}_hi": scale * summary.hi}


def over_seeds(values: Sequence[float]) -> Summary:
    """Mean of one value per training, with Student's t interval; few trainings are too few for a bootstrap.

    Args:
        values: (S,); NaN is undefined and left out.

    Returns:
        The Summary; no interval (NaN) for fewer than two defined values.
    """
    vector = np.asarray(values, dtype=float)
    defined = vector[~np.isnan(vector)]
    n = len(defined)
    mean = float(defined.mean()) if n else float("nan")
    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * defined.std(ddof=1) / n**0.5) if n > 1 else float("nan")
    return Summary(mean, mean - half, mean + half, n, len(vector) - n)
