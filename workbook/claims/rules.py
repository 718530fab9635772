"""The rules: each reads tables and returns a verdict and the figures behind it.

A rule with settings is a function that returns a :data:`Judge`; one without is a judge itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product

import pandas as pd

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
    joint,
    judged,
    read_interval,
    weakest,
)
from workbook.reid import motivation
from workbook.sanity import UNCHANGED

Judge = Callable[[Tables], tuple[str, str]]  # -> verdict, evidence

DROPS = ("as_drop", "ap_drop")
FAM = ("grad-fam", "score-fam")
AREAS = tuple(str(round(100 * share)) for share in EQUAL_AREAS)  # as in the column `keep` of table_paired

NEGLIGIBLE = 0.05  # of a correlation or an area under a curve, both between -1 and 1: less is no difference
MUCH_SLOWER = 10  # times: an order of magnitude
# The larger AP drop of Score-FAM in the paper, which calls the retrieval similar to the original's.
SIMILAR_RETRIEVAL = max(paper["score-fam"][METRICS.index("ap_drop")] for paper in published.TABLE2.values())
EMPTY_MAPS = 5  # percent of the maps that may be empty if a method is to count as applicable

_LABEL = {name: name.replace("as_", "AS ").replace("ap_", "AP ") for name in METRICS}
STRANGERS = "another image"  # the scheme of the sanity tables that compares the maps of different people
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
        return _with_area(tables, by_eq14, pairs)

    return judge


def large_lead(methods: Sequence[str], rivals: Sequence[str], metric: str) -> float:
    """What we call a large lead: half of the paper's smallest one, as a share of the rival's score.

    The smallest is over its two data sets and all pairs of a method and a rival in its Table 2. The share is
    taken of the rival's mean, without that mean's own uncertainty.
    """
    pairs = _paper_scores(methods, rivals, metric)
    return min(_better(metric) * (own - other) / other for own, other in pairs) / 2


def _paper_scores(methods: Sequence[str], rivals: Sequence[str], metric: str) -> list[tuple[float, float]]:
    """The paper's scores of a method and a rival, for each of its data sets and each pair."""
    column = METRICS.index(metric)
    combined = product(published.TABLE2.values(), methods, rivals)
    return [(paper[method][column], paper[rival][column]) for paper, method, rival in combined]


def _margin(metric: str, score: float) -> float:
    """A lead over this score within the margin is none: half of the paper's smallest lead of Score-FAM.

    The smaller one of that lead in points and as a share of the rival's score: near 0 a difference of few points
    matters, near 100 % so does a small share.
    """
    rivals = [name for name in next(iter(published.TABLE2.values())) if name != "score-fam"]
    points = min(abs(own - other) for own, other in _paper_scores(("score-fam",), rivals, metric)) / 2
    return min(points, large_lead(("score-fam",), rivals, metric) * score)


def _better(metric: str) -> int:
    """1 if a high score is good, -1 if a low one is."""
    return -1 if metric in (*DROPS, "deletion") else 1


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
    return Difference(text, _lead(metric, difference), needed, _margin(metric, other.value))


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


def _with_area(tables: Tables, by_eq14: Sequence[Difference], pairs: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """Verdict and evidence where area plays a part: by Eq. 14, and whether the pairs' leads stay at equal areas."""
    verdict, evidence = judged(by_eq14)
    kept, at_areas = _equal_area(tables, pairs)
    if verdict == HOLDS and 2 * kept <= len(AREAS):
        verdict = ONLY_WITHOUT_AREA_CONTROL
    return verdict, f"Eq. 14: {evidence}. {at_areas}"


def retrieves_alike(tables: Tables) -> tuple[str, str]:
    """Score-FAM's AP drop lies below :data:`SIMILAR_RETRIEVAL`, and at equal area below that of noise."""
    drop = tables.interval("table2_reid", "ap_drop", method="score-fam")
    below = Difference(f"AP drop {drop.text()}, limit {SIMILAR_RETRIEVAL}", -drop, -SIMILAR_RETRIEVAL)
    return _with_area(tables, [below], [("ap_drop", "score-fam", "random-map")])


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
            difference, n = _paired(tables, "curve", curve, method, rival)
            text = f"{curve} {method} {own.text('z.3f')} against {rival} {other.text('z.3f')}"
            text += f"; paired {difference.text('+z.3f')}, n={n}"
            differences.append(Difference(text, _lead(curve, difference), margin=NEGLIGIBLE))
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


def differ(statement: str, method: str) -> Judge:
    """Two maps of one query are no more alike than those of two different people: rows of ``table_maps``.

    Args:
        statement: the row of the two maps.
        method: whose maps of different people are the level of no relation.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        columns = ("value", "lo", "hi")
        correlation = tables.interval("table_maps", columns, statement=statement)
        n = int(tables.row("table_maps", ("n",), statement=statement)["n"])
        strangers = tables.interval("table_maps", columns, statement=motivation.STRANGERS.format(method))
        return judged([_unlike(f"correlation {correlation.text('z.2f')}, n={n}", correlation, strangers)])

    return judge


def _alike(text: str, similarity: Interval, strangers: Interval) -> Difference:
    """That two maps are more alike than those of strangers.

    Established if the excess lies above 0; the opposite is if it lies below :data:`NEGLIGIBLE`, but not above 0.
    """
    excess = similarity.minus(strangers)
    text += f"; strangers {strangers.text('z.2f')}; excess {excess.text('+z.2f')}"
    return Difference(text, excess, 0.0 if excess.side() > 0 else NEGLIGIBLE)


def _unlike(text: str, similarity: Interval, strangers: Interval) -> Difference:
    """The opposite of :func:`_alike`: that two maps are no more alike than those of strangers."""
    alike = _alike(text, similarity, strangers)
    return Difference(alike.text, -alike.lead, -alike.needed)


# ---- ablation -------------------------------------------------------------------------------------------


def default_is_best(choice: str, methods: Sequence[str]) -> Judge:
    """The default setting has smaller drops than every other; with no more pixels kept, area is no reason.

    Settings are compared query by query: by the paired change of a drop from the default.

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
            change = _drop_change(tables, choice, other, method, metric)
            text += f"; paired change {change.text('+z.1f')}; area {area:.1f} and {their_area:.1f} %"
            differences.append(Difference(text, change, margin=_margin(metric, theirs.value)))
            more_area |= area > their_area
        if not differences:
            raise NotTestedError(f"table_ablation has no {choice} for {' or '.join(methods)}")
        verdict, evidence = judged(differences)
        return (ONLY_WITHOUT_AREA_CONTROL if verdict == HOLDS and more_area else verdict), evidence

    return judge


def order_stays(choice: str) -> Judge:
    """Methods whose drops differ in the default setting differ likewise in every other.

    The default's differences are those of ``table_paired`` by Eq. 14. Another setting adds to each the paired change
    of the one drop and takes away that of the other.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        default, others = _settings(tables, choice)
        methods = tables.rows("table_ablation", ("method",), choice=choice)["method"].unique()
        differences = []
        for (one, two), metric in product(combinations(methods, 2), DROPS):
            usual, _ = _paired(tables, "eq14", metric, one, two)
            margin = _margin(metric, _drop(tables, choice, default, two, metric).value)
            for other in others if usual.side() else ():
                own, theirs = (_drop_change(tables, choice, other, method, metric) for method in (one, two))
                lead = usual.minus(theirs.minus(own))
                text = f"{_LABEL[metric]} {one} minus {two} {usual.text('+z.1f')}, with {other} {lead.text('+z.1f')}"
                differences.append(Difference(text, lead if usual.side() > 0 else -lead, margin=margin))
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


def _drop_change(tables: Tables, choice: str, setting: str, method: str, metric: str) -> Interval:
    """Paired over queries: a drop with this setting minus the same with the default."""
    return _drop(tables, choice, setting, method, f"{metric}_change")


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
    """With all layers random, a map is no more like the original one than another person's is (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        return judged([_unlike(*_after_cascade(tables, method)) for method in methods])

    return judge


def stays_alike(method: str) -> Judge:
    """With all layers random, a map still is more like the original one than another person's is (Spearman)."""

    def judge(tables: Tables) -> tuple[str, str]:
        return judged([_alike(*_after_cascade(tables, method))])

    return judge


def _after_cascade(tables: Tables, method: str) -> tuple[str, Interval, Interval]:
    """Similarity to the original maps after the last step of the cascade, and that of different people's maps."""
    columns = ends("spearman")
    steps = tables.rows("table_sanity", ("step", "layer", "n", *columns), method=method, scheme="cascade")
    if steps.empty or steps["step"].duplicated().any():
        raise NotTestedError(f"table_sanity has not one row a step for {method}")
    last = steps.sort_values("step").iloc[-1]
    similarity = read_interval(last, columns, f"table_sanity: {method}")
    text = f"{method} after {last['layer']}: Spearman {similarity.text('z.2f')}, n={last['n']}"
    return text, similarity, tables.interval("table_sanity", "spearman", method=method, scheme=STRANGERS)


def follows_weights(method: str) -> Judge:
    """With everything random *behind* the explained layer, a map is no more like the original than another person's.

    Read where as much as possible is random while the activations, and with them the uniform control's map, are
    those of the trained network: there nothing but the weights alpha can change a map.
    """

    def judge(tables: Tables) -> tuple[str, str]:
        name, where = "table_alpha_or_a", {"scheme": "cascade", "swapped": "both"}
        columns = ("explained", "step", "layer", "n", "spearman")
        control = tables.rows(name, columns, method="uniform", **where)
        behind = control[(control["spearman"] > UNCHANGED) & (control["step"] > 0)]
        if behind.empty:
            raise NotTestedError(f"{name} has no step that leaves the activations alone")
        at = behind.sort_values("step").iloc[-1]
        where |= {"explained": at["explained"], "step": at["step"], "method": method}
        similarity = tables.interval(name, "spearman", **where)
        text = f"{method} of {at['explained']}, random down to {at['layer']}: Spearman {similarity.text('z.2f')}"
        text += f", n={int(tables.row(name, ('n',), **where)['n'])}"
        people = {"scheme": STRANGERS, "explained": at["explained"], "method": method}
        return judged([_unlike(text, similarity, tables.interval(name, "spearman", **people))])

    return judge


def localises(tables: Tables) -> tuple[str, str]:
    """From the first checkpoint to the last, the energy on the foreground rises and the maps' area falls."""
    first, last = _stages(tables)
    energy, area = (_change(tables, measure, first, last) for measure in ("energy", "area"))
    return _beside_knn(tables, judged([energy, Difference(area.text, -area.lead)]), first, last)


def notices_foreground(tables: Tables) -> tuple[str, str]:
    """At the first checkpoint more energy lies on the foreground than before training."""
    first, _ = _stages(tables)
    return _beside_knn(tables, judged([_change(tables, "energy", 0.0, first)]), 0.0, first)


def _stages(tables: Tables) -> tuple[float, float]:
    """The first and the last checkpoint of the training, as shares of the schedule."""
    shares = tables.rows("table_byol_changes", ("to_share",), **_FIGURE6)["to_share"]
    if shares.nunique() < 2:
        raise NotTestedError("table_byol_changes needs two checkpoints of grad-fam at the last map")
    return shares.min(), shares.max()


def _beside_knn(tables: Tables, found: tuple[str, str], start: float, end: float) -> tuple[str, str]:
    """Verdict and evidence with the k-NN accuracies at both ends: whether anything was learned between them."""
    verdict, evidence = found
    rows = [tables.row("table_byol", (), share=share, **_FIGURE6) for share in (start, end)]
    if any(name not in row or pd.isna(row[name]) for row, name in product(rows, ends("knn"))):
        return found
    old, new = (Interval(*(float(row[name]) for name in ends("knn"))) for row in rows)
    return verdict, f"{evidence}; k-NN accuracy {old.text()} %, then {new.text()} %"


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
    found = (HOLDS if max(shares) <= EMPTY_MAPS else DOES_NOT_HOLD), ", ".join(texts)
    steps = tables.rows("table_byol", ("share",), **_FIGURE6)["share"]
    return _beside_knn(tables, found, steps.min(), steps.max())


def untestable(reason: str) -> Judge:
    """A claim for which the workbook has no measurement."""

    def judge(tables: Tables) -> tuple[str, str]:
        raise NotTestedError(reason)

    return judge
