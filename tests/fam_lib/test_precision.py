"""What float32 means while something is measured, and that the caller's choice is back afterwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from fam_lib import explain
from fam_lib.capture import evaluating
from fam_lib.precision import float32_as

NAMES = {True: "tf32", False: "ieee"}


def chosen() -> tuple[str, str]:
    """For convolutions and for matrix products, with a torch of whatever age."""
    if hasattr(torch.backends.cudnn, "conv"):
        return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return NAMES[torch.backends.cudnn.allow_tf32], NAMES[torch.backends.cuda.matmul.allow_tf32]


class Watching(nn.Module):
    """Notes in every forward what float32 means, and how many images there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.seen: list[tuple[str, str]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(chosen())
        return self.conv(images).relu().mean((2, 3))


@pytest.mark.parametrize("legacy", [True, False])
def test_the_choice_of_the_caller_is_back_on_error_too(legacy: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = legacy
    mine = chosen()
    try:
        with pytest.raises(KeyError), float32_as("ieee"), float32_as("tf32"):
            assert chosen() == ("tf32", "tf32")
            raise KeyError
        assert chosen() == mine and torch.backends.cudnn.allow_tf32 is legacy
    finally:
        torch.backends.cudnn.allow_tf32 = before


class OldTorch:
    """The switches of a torch without `fp32_precision`, and what they were set to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cudnn: bool, products: str) -> None:
        self.cudnn, self.products = SimpleNamespace(allow_tf32=cudnn), products
        monkeypatch.setattr(torch.backends, "cudnn", self.cudnn)
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: self.products)
        monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda name: setattr(self, "products", name))

    def chosen(self) -> tuple[bool, str]:
        return self.cudnn.allow_tf32, self.products


@pytest.mark.parametrize("mine", [(True, "highest"), (False, "high"), (True, "medium"), (False, "medium")])
def test_an_old_torch_has_the_choice_too(monkeypatch: pytest.MonkeyPatch, mine: tuple[bool, str]) -> None:
    before, old = chosen(), OldTorch(monkeypatch, *mine)
    with pytest.raises(KeyError), float32_as("ieee"):
        assert old.chosen() == (False, "highest")
        with float32_as("tf32"):
            assert old.chosen() == (True, "high")
        assert old.chosen() == (False, "highest")
        raise KeyError
    assert old.chosen() == mine, "the caller's choice is back"
    monkeypatch.undo()
    assert chosen() == before, "nothing else was touched"


def test_whatever_is_evaluated_is_computed_in_ieee_float32() -> None:
    model, before = Watching(), chosen()
    with evaluating(model):
        model(torch.rand(1, 3, 64, 64))
    assert model.seen == [("ieee", "ieee")] != [before] and chosen() == before


@pytest.mark.parametrize(("precision", "expected"), [(None, "ieee"), ("tf32", "tf32")])
def test_everything_is_ieee_but_the_masked_forwards_that_shall_not_be(
    precision: Literal["tf32"] | None, expected: str
) -> None:
    torch.manual_seed(0)
    model, before = Watching(), chosen()
    explain(model, torch.rand(1, 3, 64, 64), "score-fam", "conv", precision=precision)
    features, *scored = model.seen
    assert features == ("ieee", "ieee") and (expected, expected) in scored
    assert set(scored) <= {("ieee", "ieee"), (expected, expected)} and chosen() == before
