"""The verdict on an answer: not done, right, a mistake by its name, or how far off it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

NOT_DONE = "not done yet: write your answer in place of `return None`"
RIGHT = "right"

Answer = Callable[..., Tensor | float | None]


class Trial(NamedTuple):
    """One case that an answer is tried on.

    Attributes:
        case: the arguments of the answer.
        right: the library's answer.
        mistakes: the name of each typical mistake, as the student reads it, and what it gives on this case.
    """

    case: tuple[object, ...]
    right: Tensor
    mistakes: Mapping[str, Tensor]


def judge(answer: Answer, *trials: Trial) -> None:
    """Try an answer on each case in turn, from the ordinary to the special, and print the first fault."""
    verdicts = (verdict(answer(*copy.deepcopy(trial.case)), trial) for trial in trials)
    print(next((found for found in verdicts if found != RIGHT), RIGHT))


def verdict(given: Tensor | float | None, trial: Trial) -> str:
    """One line on what an answer gave for one case; numbers may be off by 1e-5 plus a thousandth."""
    if given is None:
        return NOT_DONE
    given = torch.as_tensor(given)
    if _same(given, trial.right):
        return RIGHT
    for name, wrong in trial.mistakes.items():
        if _same(given, wrong):
            return f"not right: {name}"
    if given.shape != trial.right.shape:
        return f"not right: the shape is {tuple(given.shape)}, expected {tuple(trial.right.shape)}"
    off = (given.double() - trial.right.double()).abs().max().item()
    return f"not right: off by up to {off:.3g}, and no mistake that this checker knows by name"


def _same(a: Tensor, b: Tensor) -> bool:
    close = dict(rtol=1e-3, atol=1e-5, equal_nan=True)
    return a.shape == b.shape and torch.allclose(a.detach().double(), b.double(), **close)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers (shape), the same on every machine."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
