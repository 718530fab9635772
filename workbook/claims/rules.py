"""The rules: each reads tables and returns a verdict and the figures behind it.

A rule with settings is a function that returns a :data:`Judge`; one without is a judge itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, product

from fam_lib.faithfulness import EQUAL_AREAS, METRICS
from workbook import published
from workbook.claims.evidence import (
    DOES_NOT_HOLD,
    HOLDS,
    NOT_ESTABLISHED,
    ONLY_WITHOUT_AREA_CONTROL,
    Difference,
    Interval,
    NotTestedError,
    Tables,
    ends,
    evidence_of,
    joint,
    judged,
    read_interval,
    verdict_of,
    weakest,
)

Judge = Callable[[Tables], tuple[str, str]]  # -> verdict, evidence

DROPS = ("as_drop", "ap_drop")
FAM = ("grad-fam", "score-fam")
AREAS = tuple(str(round(100 * share)) for share in EQUAL_AREAS)  # as in the column `keep` of table_paired

ALIKE = math.sqrt(0.5)  # two maps are alike if they share half of their variance or more: r^2 >= 0.5
MUCH_SLOWER = 10  # times: an order of magnitude
# The larger AP drop of Score-FAM in the paper, which calls the retrieval similar to the original's.
SIMILAR_RETRIEVAL = max(paper["score-fam"][METRICS.index("ap_drop")] for paper in published.TABLE2.values())
EMPTY_MAPS = 5  # percent of the maps that may be empty if a method is to count as applicable

_LABEL = {name: name.replace("as_", "AS ").replace("ap_", "AP ") for name in METRICS}
_FIGURE6 = {"method": "grad-fam", "map": "last"}  # what the paper's Figure 6 shows, as we read it


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
        return _with_area(joint(by_eq14), kept), f"Eq. 14: {evidence_of(by_eq14)}. {at_areas}"

    return judge


def large_lead(methods: Sequence[str], rivals: Sequence[str], metric: str) -> float:
    """What we call a large lead: half of the paper's smallest one, as a share of the rival's score.

    The smallest is over its two data sets and all pairs of a method and a rival in its Table 2. The share is
    taken of the rival's mean, without that mean's own uncertainty.
    """
    column = METRICS.index(metric)
    leads = [
        _better(metric) * (paper[method][column] - paper[rival][column]) / paper[rival][column]
        for paper, method, rival in product(published.TABLE2.values(), methods, rivals)
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
    difference = read_interval(row, columns, f"table_paired: {', '.join(there.values())}")
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
        kept += joint(differences) > 0
        texts.append(weakest(differences).text)
    return kept, f"Established at {kept} of {len(AREAS)} equal areas: {'; '.join(texts)}"


def _with_area(side: int, kept: int) -> str:
    """The verdict where area plays a part: by Eq. 14, and at how many equal areas it stays."""
    if side <= 0:
        return verdict_of(side)
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
    return judged(differences)


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
        return judged(differences)

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
    return judged([Difference(text, parts, even)])


def differ(statement: str) -> Judge:
    """Two maps share less than half of their variance: a row of ``table_maps`` lies below :data:`ALIKE`."""

    def judge(tables: Tables) -> tuple[str, str]:
        correlation = tables.interval("table_maps", ("value", "lo", "hi"), statement=statement)
        n = int(tables.row("table_maps", ("n",), statement=statement)["n"])
        return judged([Difference(f"correlation {correlation.text('z.2f')}, n={n}", -correlation, -ALIKE)])

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
        verdict, evidence = judged(differences)
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
        return judged(differences)

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
    return judged([Difference(text, ratio, MUCH_SLOWER)])


def affordable(tables: Tables) -> tuple[str, str]:
    """Score-FAM takes less time for an image than the paper's own."""
    seconds, paper = _time(tables, "score-fam")
    return judged([Difference(f"{seconds.text('#.3g')} s for an image; the paper {paper:g} s", -seconds, -paper)])


def _time(tables: Tables, method: str) -> tuple[Interval, float]:
    """Seconds for an image with the fastest and slowest run, and the paper's seconds."""
    where = {"method": method, "library": "fam_lib"}
    paper = float(tables.row("table1_time", ("paper_seconds",), **where)["paper_seconds"])
    return tables.interval("table1_time", ("seconds", "seconds_min", "seconds_max"), **where), paper


def changes_with_weights(methods: Sequence[str]) -> Judge:
    """With all layers random, the maps no longer are :data:`ALIKE` the original ones (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        last = [_after_cascade(tables, method) for method in methods]
        return judged([Difference(text, -similarity, -ALIKE) for text, similarity in last])

    return judge


def stays_alike(method: str) -> Judge:
    """With all layers random, the maps still are :data:`ALIKE` the original ones (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        text, similarity = _after_cascade(tables, method)
        return judged([Difference(text, similarity, ALIKE)])

    return judge


def _after_cascade(tables: Tables, method: str) -> tuple[str, Interval]:
    """Similarity to the original maps after the last step of the cascade."""
    columns = ends("spearman")
    steps = tables.rows("table_sanity", ("step", "layer", "n", *columns), method=method, scheme="cascade")
    if steps.empty or steps["step"].duplicated().any():
        raise NotTestedError(f"table_sanity has not one row a step for {method}")
    last = steps.sort_values("step").iloc[-1]
    similarity = read_interval(last, columns, f"table_sanity: {method}")
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
        return judged([Difference(text, -similarity, -ALIKE)])

    return judge


def localises(tables: Tables) -> tuple[str, str]:
    """From the first checkpoint to the last, the energy on the foreground rises and the maps' area falls."""
    first, last = _stages(tables)
    energy, area = (_change(tables, measure, first, last) for measure in ("energy", "area"))
    return judged([energy, Difference(area.text, -area.lead)])


def notices_foreground(tables: Tables) -> tuple[str, str]:
    """At the first checkpoint more energy lies on the foreground than before training."""
    first, _ = _stages(tables)
    return judged([_change(tables, "energy", 0.0, first)])


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
