"""What rules work with: figures with intervals, differences, the tables they are read from, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

HOLDS = "holds"
ONLY_WITHOUT_AREA_CONTROL = "only without area control"
NO_DIFFERENCE = "no difference"
NOT_ESTABLISHED = "not established"
DOES_NOT_HOLD = "does not hold"
NOT_TESTED = "not tested"
VERDICTS = (HOLDS, ONLY_WITHOUT_AREA_CONTROL, NO_DIFFERENCE, NOT_ESTABLISHED, DOES_NOT_HOLD, NOT_TESTED)

ONE_NETWORK = " (one network)"  # a verdict's suffix: another training may say otherwise
ENOUGH_SYNTHETIC, ENOUGH_REAL = 5, 3  # trainings on synthetic data, and on any other

# Tables that are not about the Re-ID data set, and the column that says what they are about.
_ABOUT = {"table_byol": "dataset", "table_byol_changes": "dataset", "table1_time": "device"}
# Tables of which no figure depends on what a network has learned.
_OF_NO_NETWORK = ("table1_time",)


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    lo: float
    hi: float

    def __neg__(self) -> Interval:
        return Interval(-self.value, -self.hi, -self.lo)

    def minus(self, other: Interval) -> Interval:
        """The difference of two independent figures, by Zou and Donner (2008)."""
        difference = self.value - other.value
        below = math.hypot(self.value - self.lo, other.hi - other.value)
        above = math.hypot(self.hi - self.value, other.value - other.lo)
        return Interval(difference, difference - below, difference + above)

    def widened(self, k: int) -> Interval:
        """The interval by Bonferroni's correction for k comparisons, as if both halves were those of a normal."""
        normal = NormalDist()
        ratio = normal.inv_cdf(1 - 0.025 / k) / normal.inv_cdf(0.975)
        return Interval(
            self.value, self.value - ratio * (self.value - self.lo), self.value + ratio * (self.hi - self.value)
        )

    def side(self, limit: float = 0.0) -> int:
        """1 if the interval lies above the limit, -1 if below, 0 if it contains it."""
        return int(self.lo > limit) - int(self.hi < limit)

    def text(self, spec: str = "z.1f") -> str:
        """For instance "31.1 [27.0, 35.2]"."""
        return f"{self.value:{spec}} [{self.lo:{spec}}, {self.hi:{spec}}]"


class Difference(NamedTuple):
    """One of the differences that a claim asserts.

    Attributes:
        text: the figures.
        lead: positive if the claim is right.
        needed: the lead must exceed it.
        margin: a lead between -margin and margin is none; 0 if no lead is too small to count.
    """

    text: str
    lead: Interval
    needed: float = 0.0
    margin: float = 0.0

    def side(self, k: int = 1) -> int:
        """1 established, -1 the opposite is (corrected for k comparisons), 0 open."""
        if self.lead.side(self.needed) > 0:
            return 1
        return min(0, self.lead.widened(k).side(self.needed))

    @property
    def negligible(self) -> bool:
        """The whole interval lies within the margin."""
        return -self.margin < self.lead.lo and self.lead.hi < self.margin


class NotTestedError(Exception):
    """The tables do not hold what a rule needs; the message is the reason."""


class Tables:
    """What a judge reads: the tables' rows of one data set; it notes which tables were asked for.

    Args:
        tables: by file name without suffix.
        dataset: as in the column ``dataset`` of the tables.

    Attributes:
        used: names of the tables asked for, missing ones included.
        about: what their rows are about: the data set, or the device of a timing.
        n_networks: the least number of trainings behind a row that was read (column `n_networks`; without it a table
            is about one); None while no row depends on a training.
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame], dataset: str) -> None:
        self._tables = tables
        self._dataset = dataset
        self.used: list[str] = []
        self.about: list[str] = []
        self.n_networks: int | None = None

    def rows(self, name: str, columns: Iterable[str], **where: object) -> pd.DataFrame:
        """The rows of a table with the given values in the given columns; maybe none.

        Raises:
            NotTestedError: no such table, no such column, or no row of the data set.
        """
        if name not in self.used:
            self.used.append(name)
        if name not in self._tables:
            raise NotTestedError(f"this run has no {name}")
        frame = self._tables[name]
        about = _ABOUT.get(name, "dataset")
        missing = [column for column in (about, *where, *columns) if column not in frame]
        if missing:
            raise NotTestedError(f"{name} has no column {missing[0]!r}")
        if name not in _ABOUT:
            where = {"dataset": self._dataset} | where
            if not (frame["dataset"] == self._dataset).any():
                raise NotTestedError(f"{name} has no row of {self._dataset}")
        # One mask: a claim looks up hundreds of pairs.
        matches = [frame[column].to_numpy() == value for column, value in where.items()]
        found = frame[np.logical_and.reduce(matches)]
        self.about += [str(value) for value in found[about].unique() if str(value) not in self.about]
        if name not in _OF_NO_NETWORK and not found.empty:
            trainings = int(found["n_networks"].fillna(1).min()) if "n_networks" in found else 1
            self.n_networks = trainings if self.n_networks is None else min(self.n_networks, trainings)
        return found

    def row(self, name: str, columns: Iterable[str], **where: object) -> pd.Series:
        """The only row with the given values.

        Raises:
            NotTestedError: as :meth:`rows`; no such row, or several.
        """
        frame = self.rows(name, columns, **where)
        if len(frame) != 1:
            wanted = ", ".join(f"{column} {value}" for column, value in where.items())
            raise NotTestedError(f"{name} has {'several rows' if len(frame) else 'no row'} with {wanted}")
        return frame.iloc[0]

    def interval(self, name: str, columns: str | tuple[str, str, str], **where: object) -> Interval:
        """A figure and its interval from the only row with the given values.

        Args:
            name: of the table.
            columns: those of value, lower and upper end; ``"x"`` stands for x, x_lo and x_hi.
            where: column and value.

        Raises:
            NotTestedError: as :meth:`row`; or one of the three is empty.
        """
        names = ends(columns) if isinstance(columns, str) else columns
        return read_interval(self.row(name, names, **where), names, f"{name}: {', '.join(map(str, where.values()))}")


def verdict_of(side: int) -> str:
    """The verdict where area plays no part."""
    return {1: HOLDS, 0: NOT_ESTABLISHED, -1: DOES_NOT_HOLD}[side]


def qualified(verdict: str, n_networks: int | None, enough: int) -> str:
    """The verdict, with :data:`ONE_NETWORK` or its like if it rests on fewer trainings than are enough.

    Args:
        verdict: one of :data:`VERDICTS`.
        n_networks: see :class:`Tables`.
        enough: see :func:`enough_networks`.
    """
    if verdict == NOT_TESTED or n_networks is None or n_networks >= enough:
        return verdict
    return verdict + (ONE_NETWORK if n_networks <= 1 else f" ({n_networks} networks)")


def enough_networks(about: Iterable[str]) -> int:
    """How many trainings a verdict about these data sets needs."""
    return ENOUGH_SYNTHETIC if any("synthetic" in name for name in about) else ENOUGH_REAL


def joint(differences: Sequence[Difference]) -> int:
    """1 if all differences are established, -1 if the opposite of any is, else 0."""
    return min(difference.side(len(differences)) for difference in differences)


def weakest(differences: Sequence[Difference]) -> Difference:
    """The one that decides: reversed before open before established, then the smallest lead."""
    return min(differences, key=lambda d: (d.side(len(differences)), d.lead.value - d.needed))


def evidence_of(differences: Sequence[Difference]) -> str:
    """Both of two differences; of more, their count and the weakest."""
    k = len(differences)
    if k <= 2:
        text = "; ".join(difference.text for difference in differences)
        return f"{text}; a reversal is corrected for {k}" if k > 1 else text
    sides = [difference.side(k) for difference in differences]
    count = f"{sides.count(1)} of {k} differences established, {sides.count(-1)} reversed (corrected for {k})"
    return f"{count}; the weakest: {weakest(differences).text}"


def judged(differences: Sequence[Difference]) -> tuple[str, str]:
    """Verdict and evidence where area plays no part, or before it is asked for."""
    verdict, evidence = verdict_of(joint(differences)), evidence_of(differences)
    if verdict == NOT_ESTABLISHED and all(difference.negligible for difference in differences):
        smallest = min(difference.margin for difference in differences)
        return NO_DIFFERENCE, f"{evidence}; all within their margins, the smallest {smallest:.2g}"
    return verdict, evidence


def ends(column: str) -> tuple[str, str, str]:
    return column, f"{column}_lo", f"{column}_hi"


def read_interval(row: pd.Series, columns: tuple[str, str, str], what: str) -> Interval:
    interval = Interval(*(float(row[column]) for column in columns))
    if any(math.isnan(figure) for figure in interval):
        raise NotTestedError(f"no interval of {columns[0]} in {what}")
    return interval
