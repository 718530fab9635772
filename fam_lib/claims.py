"""The claims ledger: each empirical claim of the paper, and what our tables say about it.

A claim is one row of :data:`CLAIMS`: what the paper says, where, what we measure, and a *judge*, a rule that
reads tables and returns a verdict and the figures behind it. Rules know nothing of the profile, and no verdict
is written by hand. There are five:

- *holds*: the difference that the claim asserts is established, and at equal retained area it stays so;
- *only without area control*: established, but not, or the other way round, once area is taken out;
- *not established*: the figures leave the direction open;
- *does not hold*: the opposite is established;
- *not tested*: a table, a column or an interval is missing; the evidence says which.

*Established* means that the 95 % interval of the difference lies on one side of 0, or of the limit that the row
names. A claim about several methods or metrics is established if every one of its differences is, and does not
hold if the opposite of any one is.

*Area.* Eq. 14 lets a map choose how much it keeps, and whoever keeps more loses less. So a lead in AS drop, AP
drop or AP increase must stay established at a majority of the equal areas (three of 10, 20, 30 and 50 %), all
differences of a claim together. In the ablation, a better setting must not keep more pixels. Scores that do not
depend on Eq. 14 (curves, localisation, sanity check, time) need no such control.

*Intervals.* Those of differences between methods are paired over queries (``table_paired``). Where a table
holds two means only, the interval of their difference is made from theirs (Zou and Donner 2008) as if they were
independent, which is on the wide side for the same images. No interval is widened for the number of differences
that a claim asserts.

Statements that are algebra (Eq. 8; that the gradient of the cosine vanishes for an image with itself) are no rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fam_lib.faithfulness import EQUAL_AREAS
from fam_lib.outputs import read_table
from fam_lib.reid.tables import METRICS, PAPER_TABLE2

HOLDS = "holds"
ONLY_WITHOUT_AREA_CONTROL = "only without area control"
NOT_ESTABLISHED = "not established"
DOES_NOT_HOLD = "does not hold"
NOT_TESTED = "not tested"
VERDICTS = (HOLDS, ONLY_WITHOUT_AREA_CONTROL, NOT_ESTABLISHED, DOES_NOT_HOLD, NOT_TESTED)
COLUMNS = ("id", "claim", "where", "measured", "data", "verdict", "evidence", "table")
CONTROL = "control (ours)"  # where a row is made that the paper does not claim, but that its claims rest on

DROPS = ("as_drop", "ap_drop")
EARLIER = ("grad-cam", "score-cam", "ram", "cg-ram")
FAM = ("grad-fam", "score-fam")
RIVALS = (*EARLIER, "grad-fam")  # of Score-FAM
PAPER_METHODS = (*EARLIER, *FAM)
AREAS = tuple(str(round(100 * share)) for share in EQUAL_AREAS)  # as in the column `keep` of table_paired

ALIKE = math.sqrt(0.5)  # two maps are alike if they share half of their variance or more: r^2 >= 0.5
MUCH_SLOWER = 10  # times: an order of magnitude
# The larger AP drop of Score-FAM in the paper, which calls the retrieval similar to the original's.
SIMILAR_RETRIEVAL = max(paper["score-fam"][METRICS.index("ap_drop")] for paper in PAPER_TABLE2.values())
EMPTY_MAPS = 5  # percent of the maps that may be empty if a method is to count as applicable

_LABEL = {name: name.replace("as_", "AS ").replace("ap_", "AP ") for name in METRICS}
_FIGURE6 = {"method": "grad-fam", "map": "last"}  # what the paper's Figure 6 shows, as we read it
# Tables that are not about the Re-ID data set, and the column that says what they are about.
_ABOUT = {"table_byol": "dataset", "table_byol_changes": "dataset", "table1_time": "device"}


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
    """

    text: str
    lead: Interval
    needed: float = 0.0

    @property
    def side(self) -> int:
        """1 established, -1 the opposite is, 0 open."""
        return self.lead.side(self.needed)


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
    """

    def __init__(self, tables: Mapping[str, pd.DataFrame], dataset: str) -> None:
        self._tables = tables
        self._dataset = dataset
        self.used: list[str] = []
        self.about: list[str] = []

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
        names = _ends(columns) if isinstance(columns, str) else columns
        return _interval(self.row(name, names, **where), names, f"{name}: {', '.join(map(str, where.values()))}")


Judge = Callable[[Tables], tuple[str, str]]  # -> verdict, evidence


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: a short name that stays.
        text: the claim in our own words.
        where: the places of the paper where it is made, or :data:`CONTROL`.
        measured: the reading of the claim that the judge decides, in words.
        judge: the rule: tables to verdict and evidence.
    """

    id: str
    text: str
    where: str
    measured: str
    judge: Judge


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of ``figures/<profile>/``, by file name without suffix.

    Raises:
        FileNotFoundError: the folder holds no ``table*.csv``.
        ValueError: a file that is not a table.
    """
    files = sorted(Path(folder).glob("table*.csv"))
    if not files:
        raise FileNotFoundError(f"no table*.csv in {folder}: run the notebooks of this profile first")
    return {file.stem: read_table(file) for file in files}


def ledger(tables: Mapping[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    """Every claim with its verdict, in the order of :data:`CLAIMS`.

    Args:
        tables: by file name without suffix; claims whose tables are missing are "not tested".
        dataset: the Re-ID data set, as in the column ``dataset`` of the tables.

    Returns:
        Columns :data:`COLUMNS`; `data` names the data set, or the device of a timing, and `table` the files.
    """
    return pd.DataFrame([_ledger_row(claim, Tables(tables, dataset), dataset) for claim in CLAIMS], columns=COLUMNS)


def _ledger_row(claim: Claim, tables: Tables, dataset: str) -> dict[str, str]:
    try:
        verdict, evidence = claim.judge(tables)
    except NotTestedError as reason:
        verdict, evidence = NOT_TESTED, str(reason)
    return {
        "id": claim.id,
        "claim": claim.text,
        "where": claim.where,
        "measured": claim.measured,
        "data": ", ".join(tables.about) or dataset,
        "verdict": verdict,
        "evidence": evidence,
        "table": ", ".join(f"{name}.csv" for name in tables.used),
    }


# ---- from differences to verdicts -----------------------------------------------------------------------


def _verdict(side: int) -> str:
    """The verdict where area plays no part."""
    return {1: HOLDS, 0: NOT_ESTABLISHED, -1: DOES_NOT_HOLD}[side]


def _joint(differences: Sequence[Difference]) -> int:
    """1 if all differences are established, -1 if the opposite of any is, else 0."""
    return min(difference.side for difference in differences)


def _weakest(differences: Sequence[Difference]) -> Difference:
    """The one that decides: reversed before open before established, then the smallest lead."""
    return min(differences, key=lambda d: (d.side, d.lead.value - d.needed))


def _evidence(differences: Sequence[Difference]) -> str:
    """Both of two differences; of more, their count and the weakest."""
    if len(differences) <= 2:
        return "; ".join(difference.text for difference in differences)
    sides = [difference.side for difference in differences]
    count = f"{sides.count(1)} of {len(sides)} differences established, {sides.count(-1)} reversed"
    return f"{count}; the weakest: {_weakest(differences).text}"


def _judged(differences: Sequence[Difference]) -> tuple[str, str]:
    """Verdict and evidence where area plays no part."""
    return _verdict(_joint(differences)), _evidence(differences)


def _ends(column: str) -> tuple[str, str, str]:
    return column, f"{column}_lo", f"{column}_hi"


def _interval(row: pd.Series, columns: tuple[str, str, str], what: str) -> Interval:
    interval = Interval(*(float(row[column]) for column in columns))
    if any(math.isnan(figure) for figure in interval):
        raise NotTestedError(f"no interval of {columns[0]} in {what}")
    return interval


# ---- Table 2 and equal area -----------------------------------------------------------------------------


def beats(
    methods: Sequence[str], rivals: Sequence[str], metrics: Sequence[str] = METRICS, *, large: bool = False
) -> Judge:
    """Every method scores better than every rival on every metric, by Eq. 14 and at equal area.

    Args:
        methods: names of ``table2_reid``.
        rivals: likewise.
        metrics: of Eq. 15 to 17.
        large: by Eq. 14 each lead must exceed a share of the rival's score, :func:`large_lead`. At equal area
            only the direction is asked for.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        pairs = list(product(metrics, methods, rivals))
        needed = {metric: large_lead(methods, rivals, metric) if large else 0.0 for metric in metrics}
        by_eq14 = [_by_eq14(tables, *pair, needed[pair[0]]) for pair in pairs]
        kept, at_areas = _equal_area(tables, pairs)
        return _with_area(_joint(by_eq14), kept), f"Eq. 14: {_evidence(by_eq14)}. {at_areas}"

    return judge


def large_lead(methods: Sequence[str], rivals: Sequence[str], metric: str) -> float:
    """What we call a large lead: half of the paper's smallest one, as a share of the rival's score.

    The smallest is over its two data sets and all pairs of a method and a rival in its Table 2. The share is
    taken of the rival's mean, without that mean's own uncertainty.
    """
    column = METRICS.index(metric)
    leads = [
        _better(metric) * (paper[method][column] - paper[rival][column]) / paper[rival][column]
        for paper, method, rival in product(PAPER_TABLE2.values(), methods, rivals)
    ]
    return min(leads) / 2


def _better(metric: str) -> int:
    """1 if a high score is good, -1 if a low one is."""
    return -1 if metric in DROPS else 1


def _lead(metric: str, difference: Interval) -> Interval:
    """A difference of two methods, turned so that positive is better."""
    return difference if _better(metric) > 0 else -difference


def _by_eq14(tables: Tables, metric: str, method: str, rival: str, share: float) -> Difference:
    own, other = (tables.interval("table2_reid", metric, method=name) for name in (method, rival))
    difference, n = _paired(tables, "eq14", metric, method, rival)
    text = f"{_LABEL[metric]} {method} {own.text()} against {rival} {other.text()}; paired {difference.text()}, n={n}"
    needed = share * other.value
    if needed:
        text += f"; a lead above {needed:.1f} is large ({share:.0%} of the rival's score)"
    return Difference(text, _lead(metric, difference), needed)


def _paired(tables: Tables, keep: str, metric: str, method: str, rival: str) -> tuple[Interval, int]:
    """Method minus rival and the number of queries; the table may hold either direction."""
    there = {"keep": keep, "metric": metric, "method": method, "rival": rival}
    back = there | {"method": rival, "rival": method}
    swapped = tables.rows("table_paired", (), **there).empty and not tables.rows("table_paired", (), **back).empty
    columns = ("difference", "lo", "hi")
    row = tables.row("table_paired", (*columns, "n"), **(back if swapped else there))
    difference = _interval(row, columns, f"table_paired: {', '.join(there.values())}")
    return (-difference if swapped else difference), int(row["n"])


def _equal_area(tables: Tables, pairs: Sequence[tuple[str, str, str]]) -> tuple[int, str]:
    """At how many equal areas all (metric, method, rival) are established, and the weakest figure of each."""
    kept, texts = 0, []
    for area in AREAS:
        differences = []
        for metric, method, rival in pairs:
            difference, _ = _paired(tables, area, metric, method, rival)
            text = f"{area} %: {_LABEL[metric]} {method} minus {rival} {difference.text('+z.1f')}"
            differences.append(Difference(text, _lead(metric, difference)))
        kept += _joint(differences) > 0
        texts.append(_weakest(differences).text)
    return kept, f"Established at {kept} of {len(AREAS)} equal areas: {'; '.join(texts)}"


def _with_area(side: int, kept: int) -> str:
    """The verdict where area plays a part: by Eq. 14, and at how many equal areas it stays."""
    if side <= 0:
        return _verdict(side)
    return HOLDS if 2 * kept > len(AREAS) else ONLY_WITHOUT_AREA_CONTROL


def retrieves_alike(tables: Tables) -> tuple[str, str]:
    """Score-FAM's AP drop lies below :data:`SIMILAR_RETRIEVAL`, and at equal area below that of noise."""
    drop = tables.interval("table2_reid", "ap_drop", method="score-fam")
    kept, at_areas = _equal_area(tables, [("ap_drop", "score-fam", "random-map")])
    verdict = _with_area((-drop).side(-SIMILAR_RETRIEVAL), kept)
    return verdict, f"Eq. 14: AP drop {drop.text()}, limit {SIMILAR_RETRIEVAL}. {at_areas}"


def ignores_area(tables: Tables) -> tuple[str, str]:
    """A map of noise gets no better score for keeping 50 % of the pixels than for keeping 10 %."""
    differences = []
    for metric in DROPS:
        small, large = (
            tables.interval("table_equal_area", metric, method="random-map", area=area) for area in (10, 50)
        )
        lead = large.minus(small)
        text = f"{_LABEL[metric]} of random-map {small.text()} at 10 %, {large.text()} at 50 %"
        differences.append(Difference(f"{text}; change {lead.text()}", lead))
    return _judged(differences)


# ---- curves, localisation, maps -------------------------------------------------------------------------


def curves_beat(methods: Sequence[str], rivals: Sequence[str]) -> Judge:
    """Every method's insertion curve lies above, and its deletion curve below, that of every rival (areas)."""

    def judge(tables: Tables) -> tuple[str, str]:
        differences = []
        for curve, method, rival in product(("insertion", "deletion"), methods, rivals):
            own, other = (tables.interval("table_curves", curve, method=name) for name in (method, rival))
            lead = own.minus(other) if curve == "insertion" else other.minus(own)
            text = f"{curve} {method} {own.text('z.3f')} against {rival} {other.text('z.3f')}"
            text += f"; lead {lead.text('+z.3f')}"
            differences.append(Difference(text, lead))
        return _judged(differences)

    return judge


def finds_parts(tables: Tables) -> tuple[str, str]:
    """Score-FAM's energy in the distinguishing parts exceeds that of an even spread over the person."""

    def of(region: str) -> tuple[Interval, float]:
        where = {"method": "score-fam", "region": region}
        row = tables.row("table_localisation", ("chance",), **where)
        return tables.interval("table_localisation", "energy", **where), float(row["chance"])

    (parts, share_of_parts), (person, share_of_person) = of("distinguishing parts"), of("person")
    even = person.value * share_of_parts / share_of_person
    text = f"energy of score-fam in the parts {parts.text()} %, on the person {person.text()} %; "
    text += f"spread evenly over the person, the parts would get {even:.1f} %"
    return _judged([Difference(text, parts, even)])


def differ(statement: str) -> Judge:
    """Two maps share less than half of their variance: a row of ``table_maps`` lies below :data:`ALIKE`."""

    def judge(tables: Tables) -> tuple[str, str]:
        correlation = tables.interval("table_maps", ("value", "lo", "hi"), statement=statement)
        n = int(tables.row("table_maps", ("n",), statement=statement)["n"])
        return _judged([Difference(f"correlation {correlation.text('z.2f')}, n={n}", -correlation, -ALIKE)])

    return judge


# ---- ablation -------------------------------------------------------------------------------------------


def default_is_best(choice: str, methods: Sequence[str]) -> Judge:
    """The default setting has smaller drops than every other; with no more pixels kept, area is no reason.

    Args:
        choice: as in the column of ``table_ablation``.
        methods: those of them are judged that the table has for this choice.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        default, others = _settings(tables, choice)
        present = set(tables.rows("table_ablation", ("method",), choice=choice)["method"])
        differences, more_area = [], False
        for method, other, metric in product(sorted(present.intersection(methods)), others, DROPS):
            own, theirs = (_drop(tables, choice, setting, method, metric) for setting in (default, other))
            area, their_area = (_area(tables, choice, setting, method) for setting in (default, other))
            text = f"{_LABEL[metric]} {method} with {default} {own.text()}, with {other} {theirs.text()}"
            lead = theirs.minus(own)
            text += f"; lead {lead.text('+z.1f')}; area {area:.1f} and {their_area:.1f} %"
            differences.append(Difference(text, lead))
            more_area |= area > their_area
        if not differences:
            raise NotTestedError(f"table_ablation has no {choice} for {' or '.join(methods)}")
        verdict, evidence = _judged(differences)
        return (ONLY_WITHOUT_AREA_CONTROL if verdict == HOLDS and more_area else verdict), evidence

    return judge


def order_stays(choice: str) -> Judge:
    """Methods whose drops differ in the default setting differ likewise in every other."""

    def judge(tables: Tables) -> tuple[str, str]:
        default, others = _settings(tables, choice)
        methods = tables.rows("table_ablation", ("method",), choice=choice)["method"].unique()
        differences = []
        for (one, two), metric in product(combinations(methods, 2), DROPS):
            usual, *found = (
                _drop(tables, choice, setting, one, metric).minus(_drop(tables, choice, setting, two, metric))
                for setting in (default, *others)
            )
            for other, lead in zip(others, found, strict=True) if usual.side() else ():
                text = f"{_LABEL[metric]} {one} minus {two} {usual.text('+z.1f')}, with {other} {lead.text('+z.1f')}"
                differences.append(Difference(text, lead if usual.side() > 0 else -lead))
        if not differences:
            return NOT_ESTABLISHED, f"no two of {len(methods)} methods differ in a drop with {default}"
        return _judged(differences)

    return judge


def _settings(tables: Tables, choice: str) -> tuple[str, list[str]]:
    """The default setting of a choice, and the others."""
    rows = tables.rows("table_ablation", ("setting", "default"), choice=choice)
    default, others = (rows.loc[rows["default"] == flag, "setting"].unique() for flag in (True, False))
    if len(default) != 1 or not len(others):
        raise NotTestedError(f"table_ablation has not one default and another setting of {choice}")
    return default[0], list(others)


def _drop(tables: Tables, choice: str, setting: str, method: str, metric: str) -> Interval:
    return tables.interval("table_ablation", metric, choice=choice, setting=setting, method=method)


def _area(tables: Tables, choice: str, setting: str, method: str) -> float:
    where = {"choice": choice, "setting": setting, "method": method}
    return float(tables.row("table_ablation", ("retained_area",), **where)["retained_area"])


# ---- time, sanity check, BYOL ---------------------------------------------------------------------------


def much_slower(tables: Tables) -> tuple[str, str]:
    """Score-FAM takes at least :data:`MUCH_SLOWER` times as long as Grad-FAM (fastest against slowest run)."""
    score, paper_score = _time(tables, "score-fam")
    grad, paper_grad = _time(tables, "grad-fam")
    ratio = Interval(score.value / grad.value, score.lo / grad.hi, score.hi / grad.lo)
    text = f"{score.text('#.3g')} s against {grad.text('#.3g')} s: {ratio.text('.0f')} times"
    text += f"; the paper {paper_score:g} s against {paper_grad:g} s: {paper_score / paper_grad:.0f} times"
    return _judged([Difference(text, ratio, MUCH_SLOWER)])


def affordable(tables: Tables) -> tuple[str, str]:
    """Score-FAM takes less time for an image than the paper's own."""
    seconds, paper = _time(tables, "score-fam")
    return _judged([Difference(f"{seconds.text('#.3g')} s for an image; the paper {paper:g} s", -seconds, -paper)])


def _time(tables: Tables, method: str) -> tuple[Interval, float]:
    """Seconds for an image with the fastest and slowest run, and the paper's seconds."""
    where = {"method": method, "library": "fam_lib"}
    paper = float(tables.row("table1_time", ("paper_seconds",), **where)["paper_seconds"])
    return tables.interval("table1_time", ("seconds", "seconds_min", "seconds_max"), **where), paper


def changes_with_weights(methods: Sequence[str]) -> Judge:
    """With all layers random, the maps no longer are :data:`ALIKE` the original ones (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        last = [_after_cascade(tables, method) for method in methods]
        return _judged([Difference(text, -similarity, -ALIKE) for text, similarity in last])

    return judge


def stays_alike(method: str) -> Judge:
    """With all layers random, the maps still are :data:`ALIKE` the original ones (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        text, similarity = _after_cascade(tables, method)
        return _judged([Difference(text, similarity, ALIKE)])

    return judge


def _after_cascade(tables: Tables, method: str) -> tuple[str, Interval]:
    """Similarity to the original maps after the last step of the cascade."""
    columns = _ends("spearman")
    steps = tables.rows("table_sanity", ("step", "layer", "n", *columns), method=method, scheme="cascade")
    if steps.empty or steps["step"].duplicated().any():
        raise NotTestedError(f"table_sanity has not one row a step for {method}")
    last = steps.sort_values("step").iloc[-1]
    similarity = _interval(last, columns, f"table_sanity: {method}")
    return f"{method} after {last['layer']}: Spearman {similarity.text('z.2f')}, n={last['n']}", similarity


def follows_weights(method: str) -> Judge:
    """With everything random *behind* the explained layer, the maps no longer are :data:`ALIKE` the original ones.

    Read where as much as possible is random while the activations, and with them the uniform control's map, are
    those of the trained network: there nothing but the weights alpha can change a map.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        name, where = "table_alpha_or_a", {"scheme": "cascade", "swapped": "both"}
        columns = ("explained", "step", "layer", "n", "spearman")
        control = tables.rows(name, columns, method="uniform", **where)
        behind = control[control["spearman"] == 1]
        if behind.empty:
            raise NotTestedError(f"{name} has no step that leaves the activations alone")
        at = behind.sort_values("step").iloc[-1]
        where |= {"explained": at["explained"], "step": at["step"], "method": method}
        similarity = tables.interval(name, "spearman", **where)
        text = f"{method} of {at['explained']}, random down to {at['layer']}: Spearman {similarity.text('z.2f')}"
        text += f", n={int(tables.row(name, ('n',), **where)['n'])}"
        return _judged([Difference(text, -similarity, -ALIKE)])

    return judge


def localises(tables: Tables) -> tuple[str, str]:
    """From the first checkpoint to the last, the energy on the foreground rises and the maps' area falls."""
    first, last = _stages(tables)
    energy, area = (_change(tables, measure, first, last) for measure in ("energy", "area"))
    return _judged([energy, Difference(area.text, -area.lead)])


def notices_foreground(tables: Tables) -> tuple[str, str]:
    """At the first checkpoint more energy lies on the foreground than before training."""
    first, _ = _stages(tables)
    return _judged([_change(tables, "energy", 0.0, first)])


def _stages(tables: Tables) -> tuple[float, float]:
    """The first and the last checkpoint of the training, as shares of the schedule."""
    ends = tables.rows("table_byol_changes", ("to_share",), **_FIGURE6)["to_share"]
    if ends.nunique() < 2:
        raise NotTestedError("table_byol_changes needs two checkpoints of grad-fam at the last map")
    return ends.min(), ends.max()


def _change(tables: Tables, measure: str, start: float, end: float) -> Difference:
    """The paired change of Grad-FAM's last map between two checkpoints, beside the level at both."""
    where = _FIGURE6 | {"measure": measure, "from_share": start, "to_share": end}
    change = tables.interval("table_byol_changes", ("change", "lo", "hi"), **where)
    n = tables.row("table_byol_changes", ("n",), **where)["n"]
    old, new = (tables.interval("table_byol", measure, share=share, **_FIGURE6) for share in (start, end))
    at = f"{start:.0%} of training {old.text()}, at {end:.0%} {new.text()}"
    return Difference(f"{measure} at {at}; paired {change.text('+z.1f')}, n={n}", change)


def needs_no_classifier(tables: Tables) -> tuple[str, str]:
    """At most :data:`EMPTY_MAPS` percent of the maps are empty, at every checkpoint of a self-supervised network."""
    shares, texts = [], []
    for method in FAM:
        frame = tables.rows("table_byol", ("undefined", "n"), method=method)
        if frame.empty:
            raise NotTestedError(f"table_byol has no row with method {method}")
        share = 100 * frame["undefined"] / frame["n"]
        worst = frame.loc[share.idxmax()]
        shares.append(share.max())
        texts.append(f"{method}: {worst['undefined']} of {worst['n']} maps empty at worst")
    return (HOLDS if max(shares) <= EMPTY_MAPS else DOES_NOT_HOLD), ", ".join(texts)


def untestable(reason: str) -> Judge:
    """A claim for which the workbook has no measurement."""

    def judge(tables: Tables) -> tuple[str, str]:
        raise NotTestedError(reason)

    return judge


# ---- the claims -----------------------------------------------------------------------------------------

_TABLE2 = "Sec. 4.2, Table 2"

CLAIMS = (
    Claim(
        "lead-as-drop",
        "Of the six methods, Score-FAM's explanation maps lose the least similarity to the person's images.",
        "abstract, Sec. 1, 4.2, 5, Table 2",
        "AS drop of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("as_drop",)),
    ),
    Claim(
        "lead-ap-drop",
        "Of the six methods, Score-FAM's explanation maps lose the least average precision.",
        "abstract, Sec. 1, 4.2, 5, Table 2",
        "AP drop of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("ap_drop",)),
    ),
    Claim(
        "lead-ap-increase",
        "Of the six methods, Score-FAM's explanation maps most often retrieve better than the original.",
        _TABLE2,
        "AP increase of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("ap_increase",)),
    ),
    Claim(
        "lead-large",
        "Score-FAM leads the other methods by a large margin on all three metrics.",
        "Sec. 1, 4.2, 5, Table 2",
        "the three leads by Eq. 14, each above half of the paper's smallest one as a share of the rival's score; at "
        "equal area their direction",
        beats(("score-fam",), RIVALS, large=True),
    ),
    Claim(
        "retrieves-alike",
        "Score-FAM's explanation maps retrieve much as the originals do: the feature depends almost entirely on the "
        "regions that Score-FAM marks.",
        _TABLE2,
        f"AP drop of Score-FAM below the paper's larger one, {SIMILAR_RETRIEVAL} %; at equal area below that of a map "
        "of noise",
        retrieves_alike,
    ),
    Claim(
        "grad-fam-beats-ram",
        "Grad-FAM explains better than RAM.",
        _TABLE2,
        "the three metrics of Grad-FAM against RAM",
        beats(("grad-fam",), ("ram",)),
    ),
    Claim(
        "own-reference",
        "The image itself is a better reference for its explanation than another image.",
        "Sec. 3.1, 4.2",
        "the three metrics of Grad-FAM against Grad-RAM, which differ in the reference only",
        beats(("grad-fam",), ("grad-ram",)),
    ),
    Claim(
        "class-maps-worse",
        "Grad-CAM and Score-CAM, asked for a training identity, do much worse than RAM on all metrics.",
        _TABLE2,
        "the three metrics of RAM against both by Eq. 14, each lead above half of the paper's smallest one as a share "
        "of the rival's score; at equal area the direction",
        beats(("ram",), ("grad-cam", "score-cam"), large=True),
    ),
    Claim(
        "class-maps-meaningless",
        "Explanations by training identities mean nothing for images of new people.",
        "Sec. 1, 2.1, 4.2",
        "both drops of a map of noise smaller than those of Grad-CAM and Score-CAM",
        beats(("random-map",), ("grad-cam", "score-cam"), DROPS),
    ),
    Claim(
        "cg-ram-worst",
        "CG-RAM is the worst of the six methods: the gradient of the cosine is no good for explaining.",
        "Sec. 3.1, 4.2, Table 2",
        "both drops of CG-RAM against each of the other five (by AP increase it is not last in the paper's Table 2)",
        beats(tuple(name for name in PAPER_METHODS if name != "cg-ram"), ("cg-ram",), DROPS),
    ),
    Claim(
        "class-dependence",
        "Score-CAM shows what resembles the training identity that it is asked for, not the person.",
        "Sec. 1, Fig. 1 b",
        "correlation between the Score-CAM maps of the three best classes; maps differ if they share less than half of "
        "their variance",
        differ("score-cam: correlation between maps of the three best classes"),
    ),
    Claim(
        "pair-dependence",
        "RAM gives quite different maps of an image for different gallery images.",
        "Sec. 1, Fig. 1 c",
        "correlation between the RAM maps of the three best gallery images; maps differ if they share less than half "
        "of their variance",
        differ("ram: correlation between maps of the three best gallery images"),
    ),
    Claim(
        "finds-what-counts",
        "Unlike earlier methods, FAM finds the regions that contribute most to the feature itself.",
        "abstract, Sec. 1, 4.2, 5",
        "areas under the insertion and deletion curves of the feature's cosine, Grad-FAM and Score-FAM against each of "
        "the four earlier methods",
        curves_beat(FAM, EARLIER),
    ),
    Claim(
        "finds-parts",
        "Score-FAM points out the parts of the person that tell it from others.",
        _TABLE2,
        "energy of Score-FAM inside the distinguishing parts, against an even spread of its energy over the person",
        finds_parts,
    ),
    Claim(
        "pictures",
        "Maps kept by Eq. 14 suit the eye better than a fixed share of pixels, and Score-FAM marks regions that the "
        "other methods overlook.",
        "Sec. 4.2, Fig. 3, Fig. 4",
        "nothing",
        untestable("a matter of looking: no table measures it"),
    ),
    Claim(
        "scores-matter",
        "The similarity score of a channel tells how important it is for the feature.",
        "Sec. 3.2, Eq. 10",
        "both drops of Score-FAM against random weights of the same channels",
        beats(("score-fam",), ("random-weights",), DROPS),
    ),
    Claim(
        "softmax",
        "The softmax of the scores is a sound choice of weights.",
        "Sec. 3.2, Eq. 13",
        "both drops of Score-FAM with its default weights against every other setting of the ablation",
        default_is_best("weights", ("score-fam",)),
    ),
    Claim(
        "last-layer",
        "The last convolutional layer is usually the best one to explain.",
        "Sec. 3.2",
        "both drops of Grad-FAM and Score-FAM at the default layer against every other layer of the ablation",
        default_is_best("layer", FAM),
    ),
    Claim(
        "thresholds-fair",
        "The thresholds of Eq. 14 are a little arbitrary, but the comparison of methods is fair.",
        "Sec. 4.2",
        "every difference of two methods in a drop that is established with the default thresholds, with the others",
        order_stays("thresholds"),
    ),
    Claim(
        "sensitive-to-masking",
        "Taking away a tenth of the input's values already changes the retrieval.",
        "Sec. 4.2",
        "nothing",
        untestable("no table masks the whole image by 10 %"),
    ),
    Claim(
        "time-ratio",
        "Score-FAM takes much more time than Grad-FAM.",
        "Sec. 3.2, Table 1",
        f"ratio of the seconds for an image (slowest and fastest run as interval), above {MUCH_SLOWER}",
        much_slower,
    ),
    Claim(
        "time-acceptable",
        "The time of Score-FAM is acceptable for a few images.",
        "Sec. 3.2, Table 1",
        "seconds for an image, below the paper's own (slowest and fastest run as interval)",
        affordable,
    ),
    Claim(
        "sanity",
        "Grad-FAM and Score-FAM pass the sanity check: their maps change as the weights are made random.",
        "Sec. 4.3, Fig. 5",
        "rank correlation with the original maps when all layers are random; maps have changed if they share less than "
        "half of their variance",
        changes_with_weights(FAM),
    ),
    Claim(
        "map-quality",
        "The quality of a map reflects the quality of the model.",
        "Sec. 4.3",
        "nothing",
        untestable("no table sets the quality of maps against that of models"),
    ),
    Claim(
        "byol-foreground",
        "Early in BYOL's training, objects in the foreground already get much attention.",
        "Sec. 4.4, Fig. 6",
        "paired change of Grad-FAM's energy on the foreground, last map, untrained network to first checkpoint",
        notices_foreground,
    ),
    Claim(
        "byol-localises",
        "As BYOL goes on, attention leaves the background and gathers in a small region.",
        "Sec. 4.4, Fig. 6",
        "paired changes of Grad-FAM's last map, first checkpoint to last: energy on the foreground rises, area falls",
        localises,
    ),
    Claim(
        "no-classifier",
        "FAM explains self-supervised networks without a classifier being trained for it.",
        "abstract, Sec. 1, 4.4, 5",
        f"empty maps of Grad-FAM and Score-FAM at every checkpoint, at most {EMPTY_MAPS} %",
        needs_no_classifier,
    ),
    Claim(
        "control-noise",
        "A map of noise scores worse than the methods.",
        CONTROL,
        "both drops of each of the six methods against a map of noise",
        beats(PAPER_METHODS, ("random-map",), DROPS),
    ),
    Claim(
        "control-uniform",
        "The mean of the activations, which costs one forward pass, scores worse than Score-FAM.",
        CONTROL,
        "both drops of Score-FAM against uniform weights",
        beats(("score-fam",), ("uniform",), DROPS),
    ),
    Claim(
        "control-same-picture",
        "Score-FAM shows something else than the mean of the activations.",
        CONTROL,
        "correlation between the two maps; they differ if they share less than half of their variance",
        differ("score-fam: correlation with the uniform control"),
    ),
    Claim(
        "control-area",
        "The score does not reward area.",
        CONTROL,
        "both drops of a map of noise that keeps 10 % and 50 % of the pixels",
        ignores_area,
    ),
    Claim(
        "control-sanity",
        "The sanity check tells an explanation from the mean of the activations, which ignores what is explained.",
        CONTROL,
        "rank correlation of the uniform control with its original maps when all layers are random: it must fail, that "
        "is still share half of their variance or more",
        stays_alike("uniform"),
    ),
    *(
        Claim(
            f"control-weights-{method}",
            f"{name}'s map changes when the network forgets what its activations are for.",
            CONTROL,
            "rank correlation with the trained network's maps when all layers behind the explained one are random and "
            "its activations are not: below half of the variance",
            follows_weights(method),
        )
        for method, name in (("grad-fam", "Grad-FAM"), ("score-fam", "Score-FAM"))
    ),
)
