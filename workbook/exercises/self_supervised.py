"""Notebook 05: the target's slow average, the spread that shows a collapse, the nearest neighbour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from workbook.byol.analysis import nearest_correct
from workbook.byol.training import spread
from workbook.exercises.verdict import Answer, Trial, judge, normal


def check_momentum(answer: Answer) -> None:
    """Exercise 5.1: answer(target, online, tau) -> the target's weights after a step, all of one shape."""
    target, online, tau = normal(4, 3, seed=0), normal(4, 3, seed=1), 0.9
    mistakes = {
        "tau and 1 - tau are exchanged: the target moves slowly, tau is near 1": tau * online + (1 - tau) * target,
        "the target became the online network": online,
        "the target did not move": target,
        "moved away from the online network: wrong sign": target - (1 - tau) * (online - target),
        "the old target is not made smaller: its share is tau": target + (1 - tau) * online,
        "the plain average of the two: tau is not used": (target + online) / 2,
    }
    judge(answer, Trial((target, online, tau), tau * target + (1 - tau) * online, mistakes))


def check_spread(answer: Answer) -> None:
    """Exercise 5.2: answer(z) -> spread of the directions of features (N, D), one number."""
    z = normal(8, 5, seed=0) * torch.arange(1, 9)[:, None] + 1
    unit = F.normalize(z, dim=1)
    right = spread(z)
    mistakes = {
        "the features are not normalised: long ones count more, and only directions matter": z.std(0).mean() * 5**0.5,
        "normalised along the wrong axis: a length belongs to an image (a row)": F.normalize(z, dim=0).std(0).mean()
        * 5**0.5,
        "the deviation is taken over the dimensions of one image: take it over the images": unit.std(1).mean() * 5**0.5,
        "sqrt(D) is missing: without it the value of isotropic features depends on D": unit.std(0).mean(),
        "multiplied by D: the factor is sqrt(D)": unit.std(0).mean() * 5,
        "this is 1 - spread: 0 must stand for collapse": 1 - right,
        "the variance, not the standard deviation": unit.var(0).mean() * 5**0.5,
        "the deviation divides by N; torch's std divides by N - 1": unit.std(0, correction=0).mean() * 5**0.5,
        "one value for each dimension: take their mean": unit.std(0) * 5**0.5,
    }
    judge(answer, Trial((z,), right, mistakes))


def check_nearest(answer: Answer) -> None:
    """Exercise 5.3: answer(z, labels) -> is the nearest other image, by cosine, of the same label? (N,) bool."""
    labels = torch.arange(12) % 4
    z = (normal(12, 6, seed=0) + 1.2 * normal(4, 6, seed=1)[labels]) * torch.arange(12, 0, -1)[:, None]
    right = nearest_correct(z, labels)
    unit, itself = F.normalize(z, dim=1), torch.eye(12, dtype=torch.bool)

    def hits(closeness: Tensor) -> Tensor:
        return labels[closeness.masked_fill(itself, -torch.inf).argmax(1)] == labels

    mistakes = {
        "each image finds itself, and all are right: leave the image itself out": torch.ones(12),
        "the dot product favours long features: normalise them for the cosine": hits(z @ z.T),
        "the distance of unnormalised features: the cosine looks at directions": hits(-torch.cdist(z, z)),
        "normalised along the wrong axis: a length belongs to an image (a row)": hits(
            F.normalize(z, dim=0) @ F.normalize(z, dim=0).T
        ),
        "this is the farthest image: wrong sign": hits(-unit @ unit.T),
        "the mean over the images: first say for each image whether it is right": right.double().mean(),
        "this is the neighbour's label: compare it with the image's own": labels[
            (unit @ unit.T).masked_fill(itself, -torch.inf).argmax(1)
        ],
    }
    judge(answer, Trial((z, labels), right, mistakes))
