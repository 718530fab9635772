"""Small networks whose answers can be worked out by hand, and a census of a model's state."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class GapNet(nn.Module):
    """conv -> ReLU -> GAP [-> BN neck] [-> linear]: every closed form of the paper holds for it."""

    def __init__(self, channels: int = 6, neck: bool = False, classes: int = 0, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, stride=4, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.neck = nn.BatchNorm1d(channels) if neck else nn.Identity()
        self.head = nn.Linear(channels, classes) if classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.neck(self.relu(self.conv(images)).mean((2, 3))))


class ConvHead(nn.Module):
    """A head with a convolution behind the layer that is explained: gradients differ from place to place."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.conv = nn.Conv2d(5, 7, 3, stride=2, padding=1)
        self.head = nn.Linear(7, classes) if classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(self.body(images)).tanh().add(0.3).relu().mean((2, 3)))


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Normal weights and lively batch-norm statistics from a seed; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        spread = 1 / max(1, parameter[0].numel()) ** 0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def pictures(n: int = 2, size: tuple[int, int] = (64, 32), seed: int = 0) -> Tensor:
    """Smooth random images (N, 3, H, W): blurring them leaves a baseline that still differs from them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, size[0] // 4, size[1] // 4, generator=generator)
    return nn.functional.interpolate(coarse, size=size, mode="bilinear")


def census(model: nn.Module) -> dict[str, object]:
    """All that a caller could find changed: hooks of every kind, modes, gradients, parameters, buffers."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(module, kind)) for module in model.modules() for kind in kinds],
        "training": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [parameter.grad is None for parameter in model.parameters()],
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "grad_mode": torch.is_grad_enabled(),
    }


def assert_untouched(before: dict[str, object], after: dict[str, object]) -> None:
    for name in ("hooks", "training", "requires_grad", "grad", "grad_mode"):
        assert before[name] == after[name], name
    for name, value in before["state"].items():
        assert torch.equal(value, after["state"][name]), name


def summing(model: nn.Module, n: int) -> Callable[[], Tensor]:
    """A call that holds n more floats; here, since a fresh process that is to run it imports its module."""
    return lambda: torch.ones(n).sum() + model.conv.weight.sum()
