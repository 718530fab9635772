"""How far a run's tables are from the published ones.

The networks ship, so tables agree on every processor up to rounding: a sum in another order turns the last bit of a
map, and now and then a pixel, a rank, a digit. ``data/published/<profile>/`` holds the tables as published, and the
tolerance says how much may turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbook import paths
from workbook.outputs import read_table

PUBLISHED = paths.DATA / "published"
CLAIMS = "claims"
POINTS = 0.5  # a column in percent may differ by so much
UNITS = 0.01  # a correlation, or another figure between -1 and 1

# Where a rounding weighs more. A network of random weights scores all masks nearly alike, and its lesson explains three
# images; the ablation ranks the matches of twelve queries. Seen between AVX-512 and AVX2 with one thread: 0.073 (in 10
# of 592 rows beyond UNITS), 0.047 (4 of 330), 1.3 points (1 of 76); all other tables 0.12 points and 0.0095 at most.
LOOSER: Mapping[str, float] = {"table_alpha_or_a": 0.1, "table_sanity": 0.1, "table_ablation": 2.0}
# Times are the machine's own.
TIMES = ("table1_time",)
# Columns of figures between -1 and 1, by the beginning of their names; every other broken number is in percent.
IN_UNITS: Mapping[str, tuple[str, ...]] = {
    "table_maps": ("value", "lo", "hi"),
    "table_sanity": ("spearman", "ssim", "cosine"),
    "table_alpha_or_a": ("spearman",),
    "table_truth": ("spearman", "unrelated", "specific"),
    "table_curves": ("insertion", "deletion"),
    "table_budget": ("correlation", "difference", "bound"),
    "table_byol_probe": ("spearman",),
}


class Distance(NamedTuple):
    """The farthest figure of a table.

    Attributes:
        table: file name without suffix.
        column: where the figure stands.
        difference: absolute, in the unit of the column.
        share: of the tolerance; infinite where the tables cannot be compared.
    """

    table: str
    column: str
    difference: float
    share: float


def distance(table: str, ours: pd.DataFrame, published: pd.DataFrame) -> Distance:
    """The figure of a table that lies farthest from the published one, as a share of its tolerance.

    Names and counts must be equal, and what is undefined in one must be so in the other.
    """
    if list(ours.columns) != list(published.columns) or len(ours) != len(published):
        return Distance(table, "rows or columns", np.inf, np.inf)
    found = [_column_distance(table, name, ours[name], published[name]) for name in ours.columns]
    return max(found, key=lambda one: one.share)


def _column_distance(table: str, name: str, ours: pd.Series, published: pd.Series) -> Distance:
    numbers = all(pd.api.types.is_numeric_dtype(x) and not pd.api.types.is_bool_dtype(x) for x in (ours, published))
    if not numbers:
        same = ours.astype(str).tolist() == published.astype(str).tolist()
        return Distance(table, name, 0.0 if same else np.inf, 0.0 if same else np.inf)
    if (ours.isna() != published.isna()).any():
        return Distance(table, name, np.inf, np.inf)
    difference = float((ours - published).abs().max()) if ours.notna().any() else 0.0
    return Distance(table, name, difference, difference / _tolerance(table, name))


def _tolerance(table: str, column: str) -> float:
    if table in LOOSER:
        return LOOSER[table]
    return UNITS if column.startswith(IN_UNITS.get(table, ())) else POINTS


def summary(tables: Mapping[str, pd.DataFrame], published: Mapping[str, pd.DataFrame]) -> str:
    """One line: how far the tables are from the published ones, which is farthest, whether a verdict differs.

    Args:
        tables: by file name without suffix, the ledger among them.
        published: likewise.
    """
    measured = sorted(set(published) - {CLAIMS, *TIMES})
    missing = [name for name in measured if name not in tables]
    if missing:
        return f"agreement with the published tables: {', '.join(missing)} missing"
    far = max((distance(name, tables[name], published[name]) for name in measured), key=lambda one: one.share)
    tolerance = f"{POINTS} points of percent, {UNITS} of correlations (more in {', '.join(LOOSER)})"
    where = f"{far.table}.csv, {far.column}, by {far.difference:.2g}"
    within = (
        "equal" if far.share == 0 else f"{'within' if far.share <= 1 else 'OUTSIDE'} {tolerance}; farthest: {where}"
    )
    return f"agreement with the published tables: {within}; {_verdicts(tables[CLAIMS], published[CLAIMS])}"


def _verdicts(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    timed = ours[ours.table.fillna("").str.contains("|".join(TIMES))].id
    here, there = (frame[~frame.id.isin(timed)].set_index("id").verdict for frame in (ours, published))
    turned = [name for name in there.index if here.get(name) != there[name]]
    return f"other verdicts: {', '.join(turned)}" if turned else "every verdict as published"


def published_tables(profile: str) -> dict[str, pd.DataFrame]:
    """The published tables of a profile; none if it has none."""
    return read_tables(PUBLISHED / profile)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """All tables of a folder by file name without suffix, the ledger among them."""
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
