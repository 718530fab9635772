"""Notebook 03: what Eq. 14 keeps, AP drop with undefined queries, the best share of the pixels."""

from __future__ import annotations

import torch

from fam_lib import faithfulness
from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_mask, top_share_mask
from workbook.exercises.verdict import Answer, Trial, judge, normal


def check_retained_area(answer: Answer) -> None:
    """Exercise 3.1: answer(L) -> share of each image that Eq. 14 keeps, saliency (N, H, W) to (N,)."""
    L = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.9, 0.7])[:, None, None]
    mask, high, low = explanation_mask(L), L >= B_HIGH, L >= B_LOW
    right = faithfulness.retained_area(mask)
    mistakes = {
        "the medium zone is kept in full: it counts delta = 0.9": low.double().mean((1, 2)),
        "the medium zone is lost: it counts delta = 0.9": high.double().mean((1, 2)),
        "the high zone counts delta as well: it is kept in full": DELTA * low.double().mean((1, 2)),
        "the high zone is counted twice, once in full and once with delta": (high + DELTA * low).mean((1, 2)),
        "this is the share that is removed": 1 - right,
        "this is the mean saliency: the area does not weigh a kept pixel by its value": L.mean((1, 2)),
        "kept pixels are weighted by their saliency: each counts 1 or delta": (mask * L).mean((1, 2)),
        "averaged over the images: every image has an area of its own": mask.mean(0),
        "one number for all images: every image has an area of its own": mask.mean(),
        "this counts pixels: divide by H * W": mask.sum((1, 2)),
    }
    edge = torch.tensor([[[B_LOW, B_HIGH, 0.0, 1.0]]])
    boundaries = {
        "a pixel at a boundary belongs to the zone above it: use >=, not >": torch.tensor([(1 + DELTA) / 4]),
        "a pixel at B_High belongs to the high zone: use >=, not >": torch.tensor([(1 + 2 * DELTA) / 4]),
        "a pixel at B_Low belongs to the medium zone: use >=, not >": torch.tensor([2 / 4]),
    }
    judge(
        answer,
        Trial((L,), right, mistakes),
        Trial((edge,), faithfulness.retained_area(explanation_mask(edge)), boundaries),
    )


def check_ap_drop(answer: Answer) -> None:
    """Exercise 3.2: answer(ap_x, ap_e, ap_b) -> Eq. 16 as one fraction, of three (Q,) average precisions."""
    x, e, b = torch.tensor([[0.9, 0.8, 0.5, 0.6], [0.5, 0.9, 0.4, 0.2], [0.2, 0.3, 0.1, 0.3]])
    drops = faithfulness.ap_drop(x, e, b)
    mistakes = {
        "the baseline is missing: the denominator is AP(X) - AP(B)": ((x - e).clamp(min=0) / x).mean(),
        "the denominator is AP(X) - AP(B), not AP(E) - AP(B)": ((x - e).clamp(min=0) / (e - b)).mean(),
        "the denominator is missing": (x - e).clamp(min=0).mean(),
        "max(0, .) is missing: a query that E improves counts 0": ((x - e) / (x - b)).mean(),
        "wrong sign: the drop is X minus E": ((e - x).clamp(min=0) / (x - b)).mean(),
        "this is the ratio of two means: Eq. 16 is the mean of the queries' ratios": torch.tensor(
            faithfulness.ratio_of_means(x, e, b)
        ),
        "one value for each query: Eq. 16 is their mean": drops,
        "in percent: give a fraction": 100 * drops.mean(),
    }
    judge(answer, Trial((x, e, b), drops.mean(), mistakes), _undefined_queries())


def _undefined_queries() -> Trial:
    """Four queries, of which the blurred image of one does as well as the original, and that of one better."""
    x, e, b = torch.tensor([[0.9, 0.8, 0.5, 0.4], [0.5, 0.7, 0.3, 0.3], [0.1, 0.3, 0.5, 0.6]])
    loss, full = (x - e).clamp(min=0), x - b
    right = faithfulness.ap_drop(x, e, b).nanmean()
    mistakes = {
        "undefined queries count as 0: leave them out of the mean": right / 2,
        "where the blurred image does as well as the original, this divides by 0: leave the query out": torch.tensor(
            torch.inf
        ),
        "where the blurred image does better than the original, the denominator is negative: leave the query out": (
            loss / full
        )[full != 0].mean(),
        "the mean is NaN: leave undefined queries out": torch.tensor(torch.nan),
    }
    for tiny in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
        mistakes |= {
            f"{tiny:g} added to the denominator makes a huge drop of an undefined query: leave it out": (
                loss / (full + tiny)
            ).mean(),
            f"a denominator of at least {tiny:g} makes a huge drop of an undefined query: leave it out": (
                loss / full.clamp(min=tiny)
            ).mean(),
        }
    return Trial((x, e, b), right, mistakes)


def check_top_share(answer: Answer) -> None:
    """Exercise 3.3: answer(L, share) -> 0/1 mask of the best share of the pixels, (N, H, W) to (N, H, W)."""
    L = normal(2, 6, 5, seed=0).abs() * torch.tensor([1.0, 3.0])[:, None, None]
    right = top_share_mask(L, 0.3)
    mistakes = {
        "the least salient pixels are kept": top_share_mask(-L, 0.3),
        "this is the mask turned round: 1 where a pixel is kept": 1 - right,
        "the images are ranked together: each keeps its own share": top_share_mask(L.view(1, 12, 5), 0.3).view_as(L),
        "each row keeps its share: rank the pixels of the whole image": top_share_mask(L.view(-1, 1, 5), 0.3).view_as(
            L
        ),
        "a threshold at a share of the maximum keeps another number of pixels for each map": (
            L / L.amax((1, 2), keepdim=True) >= 0.7
        ),
        "the kept pixels carry their saliency: a mask holds 0 and 1": right * L,
    }
    plateau = torch.tensor([[[1.0, 0.5, 0.5], [0.5, 0.5, 0.0]]])
    ties = {
        "ties at the threshold keep too many pixels: exactly round(share * H * W) are kept": plateau >= 0.5,
        "ties at the threshold keep too few pixels: exactly round(share * H * W) are kept": plateau > 0.5,
        "of equal pixels those that come first in reading order are kept": torch.tensor([[[1, 0, 0], [1, 1, 0]]]),
    }
    judge(answer, Trial((L, 0.3), right, mistakes), Trial((plateau, 0.5), top_share_mask(plateau, 0.5), ties))
