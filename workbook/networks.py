"""Trained networks that ship with the workbook, so that every reader explains the same weights.

Training is chaotic: one recipe and one seed give another network on another processor, and with it other tables. A
network is therefore an input. ``data/networks/`` holds those that the ``quick`` profile explains, as safetensors in
half precision; what is explained is exactly that, the stored weights widened to float32, whoever trained them.

``FAM_NETWORKS=mine`` (``make reproduce NETWORKS=mine``) passes over them: the same code then trains, or finds in the
cache what ``make train`` trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workbook import paths
from workbook.cache.store import atomic_path, check_sha256

FOLDER = paths.DATA / "networks"
SHIPPED, MINE = "shipped", "mine"

# The cache's name of a training, made of its recipe, its images and the version of the code -> file and sha256.
# A training that is not listed here is never replaced by one that is.
FILES: Mapping[str, tuple[str, str]] = {
    "reid-f0f6901e04dc606f": (
        "reid-synthetic.safetensors",
        "259bb3040acf26b2c766ed8461f1c0be0d778f765632424aa1b08a78ae7e145b",
    ),
    "byol-8fa2c148c77bb642": (
        "byol-synthetic.safetensors",
        "934b71e56e1a7a63819b34cacd64df62e9fef6c9e6df254bb6d5ddcdedbab5e4",
    ),
    "simclr-8fa2c148c77bb642": (
        "simclr-synthetic.safetensors",
        "c0877c67226d9ff58017f8daa29da99fd1da390a5dd13ba0ebfa1d03d431b389",
    ),
}

Module = TypeVar("Module", bound=nn.Module)


def choice() -> str:
    """Whose networks are explained: :data:`SHIPPED`, or :data:`MINE` if ``FAM_NETWORKS`` says so.

    Raises:
        ValueError: the variable holds another word.
    """
    chosen = os.environ.get("FAM_NETWORKS") or SHIPPED
    if chosen not in (SHIPPED, MINE):
        raise ValueError(f"FAM_NETWORKS (make's NETWORKS) must be {SHIPPED!r} or {MINE!r}, not {chosen!r}")
    return chosen


def shipped(training: str) -> Path | None:
    """The file of a training that ships, checked; None where none does, or the reader wants their own.

    Args:
        training: the training's name in the cache.

    Raises:
        FileNotFoundError: the file is gone.
        ValueError: it is not the file that was published.
    """
    if training not in FILES or choice() == MINE:
        return None
    name, digest = FILES[training]
    check_sha256(FOLDER / name, digest)
    return FOLDER / name


def rounded(network: Module) -> Module:
    """Round a network's weights to half precision, in place, and keep them as float32: as they would be after shipping.

    Raises:
        ValueError: a weight is too large for half precision.
    """
    for name, value in network.state_dict().items():
        value.copy_(_half(name, value))
    return network


def write(path: Path, networks: Mapping[str, nn.Module | Mapping[str, Tensor]], card: Mapping[str, str]) -> None:
    """Write networks to one file, in half precision.

    Args:
        path: ends in ``.safetensors``.
        networks: name without a full stop -> network, or its state.
        card: how they were made, in words; part of the file.

    Raises:
        ValueError: a weight is too large for half precision.
    """
    states = {name: net.state_dict() if isinstance(net, nn.Module) else net for name, net in networks.items()}
    tensors = {
        f"{network}.{name}": _half(name, value).contiguous().clone()
        for network, state in states.items()
        for name, value in state.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=dict(card))


def read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """What :func:`write` wrote: name -> state, floating point widened to float32; and the card.

    Raises:
        ValueError: the file is not of safetensors.
    """
    states: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            card = dict(file.metadata() or {})
            for key in file.keys():  # noqa: SIM118 (it cannot be iterated)
                network, name = key.split(".", 1)
                value = file.get_tensor(key)
                states.setdefault(network, {})[name] = value.float() if value.is_floating_point() else value
    except SafetensorError as error:
        raise ValueError(f"{path} is not a file of safetensors: delete it and get it again") from error
    return states, card


def _half(name: str, value: Tensor) -> Tensor:
    """A tensor in half precision; counters stay integers."""
    if not value.is_floating_point():
        return value
    half = value.detach().half()
    if not torch.isfinite(half).all():
        raise ValueError(f"{name} holds a value that half precision cannot: the network cannot be shipped")
    return half
