"""The tables of the Re-ID notebooks: retrieval quality, Table 2, and methods at equal retained area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from torch import Tensor

from fam_lib.explain import METHODS
from fam_lib.faithfulness import EQUAL_AREAS, Summary, paired_difference, summarise
from fam_lib.masking import top_share_mask
from fam_lib.reid.data import ReidData
from fam_lib.reid.evaluation import MethodScores, Queries, load_queries, score_maps
from fam_lib.reid.model import ReidModel
from fam_lib.retrieval import cmc, mean_ap

METRICS = ("as_drop", "ap_drop", "ap_increase")

# Table 2 of the paper, in percent, in the order of METRICS.
PAPER_TABLE2 = {
    "Market1501": {
        "grad-cam": (52.08, 77.18, 2.49),
        "score-cam": (54.07, 67.41, 7.66),
        "ram": (29.65, 38.45, 14.61),
        "cg-ram": (57.95, 79.05, 2.70),
        "grad-fam": (28.28, 35.14, 15.97),
        "score-fam": (16.57, 17.01, 30.26),
    },
    "CUHK03": {
        "grad-cam": (56.97, 74.53, 8.57),
        "score-cam": (51.27, 62.62, 18.07),
        "ram": (35.88, 51.32, 22.00),
        "cg-ram": (59.63, 77.73, 7.64),
        "grad-fam": (33.11, 47.55, 24.86),
        "score-fam": (17.49, 28.68, 38.86),
    },
}


def retrieval_table(data: ReidData, models: Mapping[str, ReidModel], size: tuple[int, int]) -> pd.DataFrame:
    """How well each network retrieves, in percent: one row a network.

    Args:
        data: all of its queries and its gallery are used.
        models: name -> network.
        size: (H, W) of the input.
    """
    rows = []
    for name, model in models.items():
        ranking = load_queries(model, data, size, top=1).ranking
        rows.append(
            {
                "dataset": data.name,
                "network": name,
                "n_queries": len(ranking),
                "undefined": ranking.n_undefined,
                "rank_1": 100 * cmc(ranking, (1,))[1],
                "rank_5": 100 * cmc(ranking, (5,))[5],
                "mean_ap": 100 * mean_ap(ranking),
                "mean_ap_trapezoid": 100 * mean_ap(ranking, "trapezoid"),
            }
        )
    return pd.DataFrame(rows)


def table2(dataset: str, scores: Mapping[str, MethodScores], paper: str = "Market1501") -> pd.DataFrame:
    """Table 2: one row a method, in percent, with intervals, undefined counts, area and the paper's figures.

    Args:
        dataset: name of the data set, the first column.
        scores: of :func:`score_maps`.
        paper: whose figures of the paper to put beside ours: "Market1501" or "CUHK03".
    """
    return pd.DataFrame([_table2_row(dataset, name, scores[name], paper) for name in scores])


def _table2_row(dataset: str, name: str, scores: MethodScores, paper: str) -> dict[str, object]:
    as_drop, ap_drop, increase = (summarise(getattr(scores.faithfulness, metric)) for metric in METRICS)
    published = PAPER_TABLE2[paper].get(name, (None, None, None))
    return {
        "dataset": dataset,
        "method": name,
        "kind": METHODS[name].kind,
        "n_queries": len(scores.area),
        **_percent("as_drop", as_drop),
        "as_undefined": as_drop.undefined,
        **_percent("ap_drop", ap_drop),
        "ap_undefined": ap_drop.undefined,
        **_percent("ap_increase", increase),
        "retained_area": 100 * float(scores.area.mean()),
        **{f"paper_{metric}": value for metric, value in zip(METRICS, published, strict=True)},
    }


def _percent(name: str, summary: Summary) -> dict[str, float]:
    return {name: 100 * summary.mean, f"{name}_lo": 100 * summary.lo, f"{name}_hi": 100 * summary.hi}


def equal_area_table(
    dataset: str,
    model: ReidModel,
    queries: Queries,
    maps: Mapping[str, Tensor],
    areas: Sequence[float] = EQUAL_AREAS,
) -> pd.DataFrame:
    """Every method with the same share of pixels kept, its own best ones: one row a method and share, percent."""
    rows = []
    for area in areas:
        scores = score_maps(model, queries, maps, mask=partial(top_share_mask, share=area))
        for name, score in scores.items():
            as_drop, ap_drop = (summarise(getattr(score.faithfulness, m)) for m in ("as_drop", "ap_drop"))
            rows.append(
                {
                    "dataset": dataset,
                    "method": name,
                    "kind": METHODS[name].kind,
                    "area": round(100 * area),
                    "n_queries": len(queries),
                    **_percent("as_drop", as_drop),
                    "as_undefined": as_drop.undefined,
                    **_percent("ap_drop", ap_drop),
                    "ap_undefined": ap_drop.undefined,
                }
            )
    return pd.DataFrame(rows)


def paired_table(scores: Mapping[str, MethodScores], method: str, rivals: Sequence[str], metric: str) -> pd.DataFrame:
    """Mean difference of a metric between a method and each rival on the same queries, percent points.

    Returns:
        Columns rival, difference, lo, hi, n and established (the interval does not hold 0).
    """
    rows = []
    for rival in rivals:
        ours, theirs = (getattr(scores[name].faithfulness, metric) for name in (method, rival))
        difference = paired_difference(ours, theirs)
        rows.append(
            {
                "rival": rival,
                "difference": 100 * difference.mean,
                "lo": 100 * difference.lo,
                "hi": 100 * difference.hi,
                "n": difference.n,
                "established": difference.lo > 0 or difference.hi < 0,
            }
        )
    return pd.DataFrame(rows)
