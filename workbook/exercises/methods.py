"""Notebook 02: the mask of a channel, the map of Score-FAM, the weights of CG-RAM behind average pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fam_lib.explain import combine, explain
from fam_lib.masking import min_max, upsample
from workbook.exercises.verdict import Answer, Trial, judge, normal


def check_mask(answer: Answer) -> None:
    """Exercise 2.1: answer(A, size) -> Norm(Up(A)) of Eq. 11, activations (C, h, w) to masks (C, H, W)."""
    size = (16, 12)
    A = normal(3, 4, 3, seed=0)
    up = upsample(A, size)
    corners = F.interpolate(A[None], size=size, mode="bilinear", align_corners=True)[0]
    by_row = (up - up.amin(-1, keepdim=True)) / (up.amax(-1, keepdim=True) - up.amin(-1, keepdim=True))
    mistakes = {
        "Norm comes before Up: after upsampling the mask no longer spans 0 to 1": upsample(min_max(A), size),
        "Norm is missing: the mask must span 0 to 1": up,
        "Up is missing: the mask must have the size of the image": min_max(A),
        "all channels share one minimum and one maximum: each channel has its own": (up - up.min())
        / (up.max() - up.min()),
        "Norm runs over the rows alone: it takes both dimensions of the map": by_row,
        "divided by the maximum alone: subtract the minimum first": up / up.amax((-2, -1), keepdim=True),
        "divided by the maximum instead of max - min": (up - up.amin((-2, -1), keepdim=True))
        / up.amax((-2, -1), keepdim=True),
        "align_corners=True moves the mask by up to half a cell": min_max(corners),
        "nearest neighbours leave blocks: Up is bilinear": min_max(F.interpolate(A[None], size=size)[0]),
    }
    dead = torch.stack([A[0], torch.full_like(A[0], 0.5)])
    live = min_max(upsample(dead[:1], size))
    dead_is = {
        "a dead channel (max = min) gives 0 / 0 = NaN: its mask is 0": torch.cat(
            [live, torch.full_like(live, torch.nan)]
        ),
        "a dead channel (max = min) keeps the whole image: its mask is 0": torch.cat([live, torch.ones_like(live)]),
    }
    judge(
        answer,
        Trial((A, size), min_max(up), mistakes),
        Trial((dead, size), min_max(upsample(dead, size)), dead_is),
    )


def check_score_map(answer: Answer) -> None:
    """Exercise 2.2: answer(S, A) -> the raw map of Eq. 12 and 13, from S (N, C) and A (N, C, h, w) to (N, h, w)."""
    S, A = normal(3, 4, seed=0), normal(3, 4, 5, 2, seed=1)
    alpha = S.softmax(1)
    mistakes = {
        "the ReLU is missing: negative values must become 0": combine(alpha, A),
        "the ReLU is applied to each channel before the sum: it belongs around the sum": combine(alpha, A.relu()),
        "softmax over the wrong dimension: the weights of one image sum to 1 over its channels": combine(
            S.softmax(0), A
        ).relu(),
        "one softmax over all images together": combine(S.flatten().softmax(0).view_as(S), A).relu(),
        "the softmax is missing: S weighs the channels as it is": combine(S, A).relu(),
        "divided by the sum of S instead of a softmax": combine(S / S.sum(1, keepdim=True), A).relu(),
        "exp(S) without the sum in the denominator": combine(S.exp(), A).relu(),
        "all channels weigh the same: S is not used": A.mean(1).relu(),
        "divided by the number of channels: the weights already sum to 1": combine(alpha, A).relu() / 4,
        "the average over the image's positions is taken: the map keeps them": combine(alpha, A).relu().mean((1, 2)),
    }
    judge(answer, Trial((S, A), combine(alpha, A).relu(), mistakes))


def check_cg_ram(answer: Answer) -> None:
    """Exercise 2.3: answer(f, v, Z) -> alpha of Eq. 7 behind GAP, from features f, v (N, C) to (N, C)."""
    A, v = normal(2, 3, 5, 4, seed=0).abs(), normal(2, 3, seed=1)
    f, Z = A.mean((2, 3)), 20
    pooled = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    right = explain(pooled, A, "cg-ram", "0", reference=v).weights
    length, unit = f.norm(dim=1, keepdim=True), F.normalize(v, dim=1)
    own = F.cosine_similarity(f, v)[:, None] * F.normalize(f, dim=1)
    mistakes = {
        "wrong sign: the weight is large where more of the channel raises the cosine": -right,
        "1 / Z is missing: the mean over positions of dY/dA is dY/df / Z": Z * right,
        "1 / |f| is missing: a longer feature is turned less by the same step": length * right,
        "the second term is missing: growing along f changes the length, not the direction": unit / length / Z,
        "this is the gradient of the projection <f, v> / |v| (Grad-RAM), not of the cosine": unit / Z,
        "this is Grad-FAM: v is not used": F.normalize(f, dim=1) / Z,
        "the second term is added: it is subtracted": (unit + own) / length / Z,
        "the second term lacks the cosine": (unit - F.normalize(f, dim=1)) / length / Z,
        "v has its own length: divide it by |v|": (v - own) / length / Z,
    }
    judge(answer, Trial((f, v, Z), right, mistakes))
