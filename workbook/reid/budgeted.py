"""What a budget costs: Score-FAM of a share of the channels against Score-FAM of all, on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from fam_lib import similarity
from fam_lib.explain import explain, to_saliency
from fam_lib.masking import explanation_mask
from workbook import paths
from workbook.cache import shards
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
    cache: Path | None = None,
    *,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Budgeted Score-FAM against the exact one, resumable: one row a share.

    Args:
        model: the network.
        queries: explained and measured.
        shares: budgets in (0, 1), shares of the live channels of each image.
        cache: folder of the shards; None is the workbook's cache. The exact maps are those of Table 2.
        fabric: processes that share the work, as in :func:`workbook.reid.evaluation.explain_queries`.
        progress: show progress bars.

    Returns:
        - share: of the live channels, in percent; n_queries; scored: channels scored in an image, on average;
        - correlation, correlation_min: Pearson's, of the map with the exact one, mean and least over the queries;
        - difference, difference_max: the largest at any pixel, mean and largest over the queries;
        - bound, bound_max: the certified bound of that difference; within: queries in which it holds, in percent
          (up to 1e-4, the rounding of the scores);
        - as_drop, ap_drop and as_drop_exact, ap_drop_exact: Eq. 15 and 16 in percent, undefined queries left out.
    """
    size = queries.images.shape[-2:]
    exact = explain_queries(model, queries, [METHOD], cache, fabric=fabric, progress=progress)[METHOD]
    found = {share: _explain_budgeted(model, queries, share, cache, fabric, progress) for share in shares}
    cams = {METHOD: exact} | {f"{METHOD}, {share:g}": part["cam"] for share, part in found.items()}
    rules = {EQ14: explanation_mask}
    results = measured(score_queries(model, queries, cams, rules, cache, fabric=fabric, progress=progress))
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


def _explain_budgeted(
    model: ReidModel, queries: Queries, share: float, cache: Path | None, fabric: Fabric | None, progress: bool
) -> dict[str, Tensor]:
    """The budgeted `cam` (Q, h, w), its `bound` (Q,) and how many channels were `scored` (Q,)."""
    device = next(model.parameters()).device
    seen_by = [*network_parts(model, queries), share]
    parts = torch.arange(len(queries)).split(MAP_SHARD)
    names = [key(*seen_by, fingerprint(queries.image_set.subset(numbers))) for numbers in parts]
    files = [(cache or paths.CACHE) / "budgeted" / f"{name}.pt" for name in names]

    def compute(shard: int) -> dict[str, Tensor]:
        explanation = explain(model, queries.images[parts[shard]].to(device), METHOD, model.layer, budget=share)
        made = {"cam": explanation.cam, "bound": explanation.bound, "scored": explanation.scored.sum(1)}
        return {name: values.cpu() for name, values in made.items()}

    found = shards.remember_each(files, compute, f"budget {share:g}", fabric, progress)
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
