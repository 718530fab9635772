"""Notebook 04: sharper weights, rank correlation, and a network that forgets without touching the original."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import combinations

import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from fam_lib import similarity
from workbook.exercises.verdict import NOT_DONE, RIGHT, Answer, Trial, judge, normal

LAYERS = (0, 2, 4, 6)  # the layers with weights of the network that check_cascade hands out


def check_sharper(answer: Answer) -> None:
    """Exercise 4.1: answer(S, factor) -> softmax(factor S), from S (N, C) to weights (N, C)."""
    S, factor = 0.2 * normal(3, 4, seed=0), 10.0
    alpha, by_image = S.softmax(1), (factor * S).softmax(0)
    mistakes = {
        "the factor multiplies the weights: multiply S, before the softmax": factor * alpha,
        "divided by the factor: the weights become more uniform, not less": (S / factor).softmax(1),
        "the factor has no effect: added to all S, or not used, it leaves the softmax as it was": alpha,
        "the weights no longer sum to 1: raise exp(S) to the power and divide by the new sum": alpha**factor,
        "softmax over the wrong dimension: the weights of one image sum to 1 over its channels": by_image,
        "exp without the sum in the denominator": (factor * S).exp(),
        "wrong sign: the channels with the lowest S get the largest weights": (-factor * S).softmax(1),
    }
    judge(answer, Trial((S, factor), (factor * S).softmax(1), mistakes))


def check_spearman(answer: Answer) -> None:
    """Exercise 4.2: answer(a, b) -> Spearman's rank correlation of each pair of maps, (N, H, W) twice to (N,)."""
    a, b = normal(2, 4, 3, seed=0), normal(2, 4, 3, seed=1).exp()
    right = similarity.spearman(a, b)
    ranks = [_by_rank(x) for x in (a, b)]
    centred = (ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())
    mistakes = {
        "this is Pearson's correlation of the values: rank them first": similarity.pearson(a, b),
        "the mean rank is not subtracted: this is the cosine of the ranks": similarity.cosine(*(1 + r for r in ranks)),
        "argsort gives the order, not the ranks: take the argsort of the argsort": similarity.pearson(
            *(x.flatten(1).argsort(1).double().view_as(x) for x in (a, b))
        ),
        "all images are ranked together: every pair of maps has its own correlation": similarity.spearman(
            a.view(1, 8, 3), b.view(1, 8, 3)
        )[0],
        "one number for all images: every pair of maps has its own correlation": right.mean(),
        "wrong sign: one map is ranked upwards, the other downwards": -right,
        "the product of the centred ranks is not divided by their spread": centred.mean((1, 2)),
    }
    tied = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]]), torch.tensor([[[3.0, 1.0, 1.0], [2.0, 5.0, 4.0]]])
    ties = {
        "tied values get different ranks by their place in the map: give them their mean rank": similarity.pearson(
            *(_by_rank(x) for x in tied)
        ),
        **{
            f"tied values get their {word} rank: give them their mean rank": similarity.pearson(
                *(torch.from_numpy(rankdata(x.numpy(), kind)).double().view_as(x) for x in tied)
            )
            for word, kind in (("lowest", "min"), ("highest", "max"))
        },
    }
    judge(answer, Trial((a, b), right, mistakes), Trial(tied, similarity.spearman(*tied), ties))


def _by_rank(maps: Tensor) -> Tensor:
    """Ranks from 0 of the values of each map; of equal values the first in reading order has the lowest."""
    return maps.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).double().view_as(maps)


def check_cascade(answer: Callable[[nn.Sequential, int], nn.Sequential | None]) -> None:
    """Exercise 4.3: answer(network, n) -> a copy of a Sequential whose last n linear layers are random again."""
    network = nn.Sequential(*(nn.ReLU() if i % 2 else nn.Linear(6, 6) for i in range(7)))
    for i, parameter in enumerate(network.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    trained = copy.deepcopy(network)
    forgotten = answer(network, 2)
    if forgotten is None:
        print(NOT_DONE)
    else:
        print(next((f"not right: {fault}" for fault in _cascade_faults(trained, network, forgotten)), RIGHT))


def _cascade_faults(trained: nn.Sequential, network: nn.Sequential, forgotten: nn.Sequential) -> Iterator[str]:
    """What is wrong with a network that was to forget its last two layers with weights."""
    if _changed(trained, network, "weight") or _changed(trained, network, "bias"):
        yield "the weights of the network in hand were changed in place: work on copy.deepcopy(network)"
    found = _changed(trained, forgotten, "weight")
    if not found:
        yield "no layer was changed"
    if found == list(LAYERS[:2]):
        yield "the first layers are random: the cascade starts at the output"
    if found in ([LAYERS[-2]], [LAYERS[-1]]):
        yield "one layer alone is random: the cascade randomises it and all layers behind it"
    if found == list(LAYERS):
        yield "all layers are random: only the last n are"
    if found != list(LAYERS[-2:]):
        yield f"the layers {found} are random, not {list(LAYERS[-2:])}"
    if _changed(trained, forgotten, "bias") != found:
        yield "the weights are new, but the biases are still those of the trained network"
    if any(torch.equal(forgotten[i].weight, forgotten[j].weight) for i, j in combinations(LAYERS, 2)):
        yield "two layers got the same weights: the generator was seeded again before each of them"


def _changed(trained: nn.Sequential, network: nn.Sequential, kind: str) -> list[int]:
    """Positions of the layers whose weight or bias is not that of the trained network."""
    return [i for i in LAYERS if not torch.equal(getattr(trained[i], kind), getattr(network[i], kind))]
