"""What Table 2 owes to the choices that the paper leaves open: each of them varied alone, all else as it is.

Maps and results go through the same cache as those of Table 2, so that an ablation that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from fam_lib.explain import METHODS, Method
from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_mask
from fam_lib.reid.evaluation import BLURRED, EQ14, baselines, explain_queries, score_queries
from fam_lib.reid.model import Feature, ReidModel
from fam_lib.reid.queries import Queries, look_up
from fam_lib.reid.tables import ablation_row, with_ratio_of_means
from fam_lib.weighting import Probe, masked_scores

ABLATED = ("ram", "grad-fam", "score-fam", "uniform")
ANY_LAYER = ("grad-fam", "score-fam", "uniform")  # RAM needs the layer before the pooling
TEMPERATURES = (0.1, 0.01)
BOUNDARIES = ((0.2, 0.5, DELTA), (0.4, 0.7, DELTA), (B_LOW, B_HIGH, 0.5), (B_LOW, B_HIGH, 1.0))

_OTHER_FEATURE: dict[str, Feature] = {"after_bn": "before_bn", "before_bn": "after_bn"}


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


def ablation_table(
    model: ReidModel,
    queries: Queries,
    size: tuple[int, int],
    dataset: str,
    layers: Sequence[str] = (),
    *,
    seed: int = 0,
    cache: Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Every choice varied alone, for some methods; the rows of the default come first.

    Args:
        model: the network.
        queries: explained and measured.
        size: (H, W) of the input.
        dataset: name for the first column.
        layers: dotted names of other layers to explain.
        seed: of the random controls.
        cache: folder of the shards; None is the workbook's cache.
        progress: show progress bars.

    Returns:
        Columns dataset, choice, setting, default, method, n_queries, the columns of Eq. 15-17 and retained_area.
        An average of another kind (ratio of means) has no interval.
    """
    explain = partial(explain_queries, cache=cache, seed=seed, progress=progress)
    score = partial(score_queries, cache=cache, progress=progress)
    thresholds = {_zones(*b): partial(explanation_mask, low=b[0], high=b[1], delta=b[2]) for b in BOUNDARIES}
    maps = explain(model, queries, [*ABLATED, *REWEIGHTED.values()])
    results = score(model, queries, maps, {EQ14: explanation_mask, **thresholds})
    usual = results[results["keep"] == EQ14]

    def rows(choice: str, setting: str, results: pd.DataFrame, methods: Sequence[str], **options: Any) -> list[dict]:
        return [ablation_row(dataset, choice, setting, False, method, results, **options) for method in methods]

    table = [ablation_row(dataset, "none", "as in Table 2", True, method, usual) for method in ABLATED]
    table += rows("AP", "trapezoid", usual, ABLATED, ap="trapezoid")
    table += [with_ratio_of_means(row, usual) for row in rows("average", "ratio of means", usual, ABLATED)]
    for name in thresholds:
        table += rows("thresholds of Eq. 14", name, results[results["keep"] == name], ABLATED)
    for setting, method in REWEIGHTED.items():
        renamed = usual[usual.method == method.name].assign(method="score-fam")
        table += rows("weights", setting, renamed, ["score-fam"])

    eq14 = {EQ14: explanation_mask}
    for name in [name for name in baselines(model) if name != BLURRED]:
        other = explain(model, queries, ABLATED, baseline=name)
        table += rows("baseline", name, score(model, queries, other, eq14, baseline=name), ABLATED)
    for layer in layers:
        other = explain(model, queries, ANY_LAYER, layer=layer)
        table += rows("layer", layer, score(model, queries, other, eq14), ANY_LAYER)
    changed = model.returning(_OTHER_FEATURE[model.feature])
    same_queries = look_up(changed, queries.image_set, queries.gallery_set, size)
    other = explain(changed, same_queries, ABLATED)
    setting = "before BN" if changed.feature == "before_bn" else "after BN"
    table += rows("feature", setting, score(changed, same_queries, other, eq14), ABLATED)
    return pd.DataFrame(table)


def _zones(low: float, high: float, delta: float) -> str:
    return f"B_Low {low}, B_High {high}, delta {delta}"
