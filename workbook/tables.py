"""What the tables of all experiments have in common."""

from __future__ import annotations

from fam_lib.faithfulness import Summary


def interval_columns(name: str, summary: Summary, scale: float = 1) -> dict[str, float]:
    """A mean and the ends of its interval, times `scale`, as the columns ``name``, ``name_lo`` and ``name_hi``."""
    return {name: scale * summary.mean, f"{name}_lo": scale * summary.lo, f"{name}_hi": scale * summary.hi}
