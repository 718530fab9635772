"""What a budget costs: Score-FAM of a share of the channels against Score-FAM of all, on the same queries."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from fam_lib import similarity
from fam_lib.explain import explain, to_saliency
from fam_lib.masking import explanation_mask
from workbook.cache.context import ALONE, Context
from workbook.cache.shards import remember
from workbook.cache.store import key
from workbook.reid.evaluation import EQ14, MAP_SHARD, explain_queries, network_parts, score_queries
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries, fingerprint
from workbook.reid.tables import measured

METHOD = "score-fam"
SHARES = (0.1, 0.25)


def budget_table(
    model: ReidModel,
    queries: Queries,
    shares: Sequence[float] = SHARES,
    context: Context = ALONE,
) -> pd.DataFrame:
    """Budgeted Score-FAM against the exact one, resumable: one row a share.

    Args:
        model: the network.
        queries: explained and measured.
        shares: budgets in (0, 1), shares of the live channels of each image.
        context: where and how to compute. The exact maps are those of Table 2.

    Returns:
        - share: of the live channels, in percent; n_queries; scored: channels scored in an image, on average;
        - correlation, correlation_min: Pearson's, of the map with the exact one, mean and least over the queries;
        - difference, difference_max: the largest at any pixel, mean and largest over the queries;
        - bound, bound_max: the certified bound of that difference; within: queries in which it holds, in percent
          (up to 1e-4, the rounding of the scores);
        - as_drop, ap_drop and as_drop_exact, ap_drop_exact: Eq. 15 and 16 in percent, undefined queries left out.
    """
    size = queries.images.shape[-2:]
    exact = explain_queries(model, queries, [METHOD], context)[METHOD]
    found = {share: _explain_budgeted(model, queries, share, context) for share in shares}
    cams = {METHOD: exact} | {f"{METHOD}, {share:g}": part["cam"] for share, part in found.items()}
    results = measured(score_queries(model, queries, cams, {EQ14: explanation_mask}, context))
    drops = 100 * results.groupby("method")[["as_drop", "ap_drop"]].mean()
    reference = to_saliency(exact, size)
    rows = []
    for share, part in found.items():
        saliency = to_saliency(part["cam"], size)
        correlation = similarity.pearson(saliency, reference)
        difference = (saliency - reference).abs().amax((1, 2))
        rows.append(
            {
                "share": 100 * share,
                "n_queries": len(queries),
                "scored": part["scored"].double().mean().item(),
                "correlation": correlation.mean().item(),
                "correlation_min": correlation.min().item(),
                "difference": difference.mean().item(),
                "difference_max": difference.max().item(),
                "bound": part["bound"].mean().item(),
                "bound_max": part["bound"].max().item(),
                "within": 100 * (difference <= part["bound"] + 1e-4).double().mean().item(),
                **drops.loc[f"{METHOD}, {share:g}"],
                **drops.loc[METHOD].add_suffix("_exact"),
            }
        )
    return pd.DataFrame(rows)


def _explain_budgeted(model: ReidModel, queries: Queries, share: float, context: Context) -> dict[str, Tensor]:
    """The budgeted `cam` (Q, h, w), its `bound` (Q,) and how many channels were `scored` (Q,)."""
    device = next(model.parameters()).device
    seen_by = [*network_parts(model, queries), share]

    def name(numbers: Tensor) -> str:
        return key(*seen_by, fingerprint(queries.image_set.subset(numbers)))

    def compute(numbers: Tensor) -> dict[str, Tensor]:
        explanation = explain(model, queries.images[numbers].to(device), METHOD, model.layer, budget=share)
        made = {"cam": explanation.cam, "bound": explanation.bound, "scored": explanation.scored.sum(1)}
        return {name: values.cpu() for name, values in made.items()}

    folder = context.folder("budgeted")
    return remember(folder, len(queries), MAP_SHARD, name, compute, f"budget {share:g}", context)
