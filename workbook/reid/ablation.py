"""What Table 2 owes to the choices that the paper leaves open: each of them varied alone, all else as it is.

Maps and results go through the same cache as those of Table 2, so that an ablation that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_mask
from fam_lib.methods import METHODS, Method
from fam_lib.precision import at_least_float32
from fam_lib.weighting import Probe, masked_scores
from workbook.cache.context import ALONE, Context
from workbook.reid.evaluation import BLURRED, EQ14, baselines, explain_queries, score_queries
from workbook.reid.model import Feature, ReidModel
from workbook.reid.queries import Queries, look_up
from workbook.reid.tables import ablation_row

ABLATED = ("ram", "grad-fam", "score-fam", "uniform")
ANY_LAYER = ("grad-fam", "score-fam", "uniform")  # RAM needs the layer before the pooling
TEMPERATURES = (0.3, 0.1, 0.03)  # beside 1, the default
ZONES = ((0.2, 0.5, DELTA), (0.4, 0.7, DELTA), (B_LOW, B_HIGH, 0.5), (B_LOW, B_HIGH, 1.0))
FEATURES: dict[Feature, str] = {"after_bn": "after BN", "before_bn": "before BN"}


def _tempered(probe: Probe, temperature: float) -> Tensor:
    """alpha = softmax(S / T); the paper's is T = 1."""
    return (masked_scores(probe) / temperature).softmax(1)


# Score-FAM with other weights made from the same S: they cost no forward of their own.
REWEIGHTED: dict[str, Method] = {
    "raw S": replace(METHODS["score-fam"], name="score-fam, raw S", kind="grid", weighting=masked_scores),
    **{
        f"softmax of S / {t}": replace(
            METHODS["score-fam"],
            name=f"score-fam, S / {t}",
            kind="grid",
            weighting=partial(_tempered, temperature=t),
        )
        for t in TEMPERATURES
    },
}


def _pooled_reference(probe: Probe) -> Tensor:
    """alpha_k = v_k / |v| of Eq. 5 to the letter, v = GAP(A) of the other image -> (N, C).

    The other image's feature is g = v W + b with W and b of the head, read off by impulses as RAM reads them; what
    was pooled comes back by solving for v. Behind plain GAP, W = 1 and b = 0, this is RAM.

    Raises:
        ValueError: the head does not map C channels to C numbers, or cannot be inverted.
    """
    responses, offset = (at_least_float32(part).double() for part in probe.passes.head)
    head, feature = responses - offset, probe.reading.reference.double() - offset
    try:
        pooled = torch.linalg.solve(head, feature, left=False)
    except RuntimeError as error:
        raise ValueError(f"what was pooled cannot be had from the feature behind this head: {error}") from error
    return F.normalize(pooled, dim=1).to(probe.activations)


# RAM with the batch norm folded in explains the similarity; this one is what Eq. 5 says.
RAM_EQ5 = replace(METHODS["ram"], name="ram-eq5", kind="grid", weighting=_pooled_reference, source="Eq. 5, not folded")


def ablation_table(
    model: ReidModel,
    queries: Queries,
    size: tuple[int, int],
    dataset: str,
    layers: Sequence[str] = (),
    context: Context = ALONE,
) -> pd.DataFrame:
    """Every choice varied alone, for some methods; each choice begins with what Table 2 uses, its default.

    Args:
        model: the network.
        queries: explained and measured.
        size: (H, W) of the input.
        dataset: name for the first column.
        layers: dotted names of other layers to explain.
        context: where and how to compute.

    Returns:
        Columns dataset, choice, setting, default, method, n_queries, the columns of Eq. 15-17, retained_area, and
        the paired changes of both drops from the default (`as_drop_change`, `ap_drop_change`, with `_lo` and
        `_hi`). An average of another kind (ratio of means) has no interval and no change.
    """
    explain, score = (partial(function, context=context) for function in (explain_queries, score_queries))
    thresholds = {
        _zones(*zones): partial(explanation_mask, low=zones[0], high=zones[1], delta=zones[2]) for zones in ZONES
    }
    maps = explain(model, queries, [*ABLATED, *REWEIGHTED.values(), RAM_EQ5])
    results = score(model, queries, maps, {EQ14: explanation_mask, **thresholds})
    usual = results[results["keep"] == EQ14]
    table: list[dict[str, Any]] = []

    def add(choice: str, setting: str, results: pd.DataFrame, methods: Sequence[str] = ABLATED, **options: Any) -> None:
        table.extend(
            ablation_row(dataset, choice, setting, method, results, usual=usual, **options) for method in methods
        )

    def add_default(choice: str, setting: str, methods: Sequence[str] = ABLATED) -> None:
        add(choice, setting, usual, methods, default=True)

    add_default("AP", "standard")
    add("AP", "trapezoid", usual, ap="trapezoid")

    add_default("average", "mean of ratios")
    add("average", "ratio of means", usual, ratio_first=False)

    add_default("thresholds", _zones(B_LOW, B_HIGH, DELTA))
    for name in thresholds:
        add("thresholds", name, results[results["keep"] == name])

    add_default("weights", "softmax of S", ["score-fam"])
    for setting, row in REWEIGHTED.items():
        renamed = usual[usual.method == row.name].assign(method="score-fam")
        add("weights", setting, renamed, ["score-fam"])

    add_default("RAM", "batch norm folded", ["ram"])
    add("RAM", "Eq. 5 to the letter", usual[usual.method == RAM_EQ5.name].assign(method="ram"), ["ram"])

    eq14 = {EQ14: explanation_mask}
    add_default("baseline", BLURRED)
    for name in [name for name in baselines(model) if name != BLURRED]:
        other = explain(model, queries, ABLATED, baseline=name)
        add("baseline", name, score(model, queries, other, eq14, baseline=name))

    if layers:
        add_default("layer", "the last map", ANY_LAYER)
    for layer in layers:
        add("layer", layer, score(model, queries, explain(model, queries, ANY_LAYER, layer=layer), eq14), ANY_LAYER)

    add_default("feature", FEATURES[model.feature])
    for feature in [feature for feature in FEATURES if feature != model.feature]:
        changed = model.returning(feature)
        again = look_up(changed, queries.image_set, queries.gallery_set, size, context=context)
        other = explain(changed, again, ABLATED)
        add("feature", FEATURES[feature], score(changed, again, other, eq14))
    return pd.DataFrame(table)


def _zones(low: float, high: float, delta: float) -> str:
    return f"B_Low {low}, B_High {high}, delta {delta}"
