"""The checkpoints that are explained: those that ship, or those of a training of one's own, both in half precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from workbook import networks
from workbook.byol.config import BYOLConfig
from workbook.byol.network import make_backbone
from workbook.byol.pictures import PictureFolder
from workbook.byol.training import Checkpoint, train_byol, training_name


def checkpoints(images: Tensor | PictureFolder, config: BYOLConfig, **how: Any) -> list[Checkpoint]:
    """The untrained network and one checkpoint for each milestone, the weights rounded to half precision.

    Where a training of these images and this configuration ships with the workbook it is read
    (:mod:`workbook.networks`); else it is trained, or found in the cache.

    Args:
        images: see :func:`~workbook.byol.training.train_byol`.
        config: likewise.
        how: its other arguments.
    """
    if file := networks.shipped(training_name(images, config)):
        return read_checkpoints(file, config)
    return trained(images, config, **how)


def trained(images: Tensor | PictureFolder, config: BYOLConfig, **how: Any) -> list[Checkpoint]:
    """The same of a training of one's own, whatever ships."""
    found = train_byol(images, config, **how)
    for checkpoint in found:
        networks.rounded(checkpoint.backbone)
    return found


def read_checkpoints(file: Path, config: BYOLConfig) -> list[Checkpoint]:
    """What :func:`write_checkpoints` wrote."""
    states, card = networks.read(file)
    history = json.loads(card["history"])
    found = []
    for name, state in states.items():
        epoch = int(name.removeprefix("epoch-"))
        backbone = make_backbone(config)
        backbone.load_state_dict(state)
        last = history[epoch - 1] if epoch else {"loss": float("nan"), "spread": float("nan")}
        found.append(Checkpoint(epoch, backbone.eval(), last["loss"], last["spread"], tuple(history[:epoch])))
    return sorted(found, key=lambda checkpoint: checkpoint.epoch)


def write_checkpoints(file: Path, found: Sequence[Checkpoint], card: dict[str, str]) -> None:
    """All checkpoints of one training in one file, with the history of the training."""
    history = json.dumps(list(found[-1].history))
    states = {f"epoch-{checkpoint.epoch:04d}": checkpoint.backbone for checkpoint in found}
    networks.write(file, states, card | {"history": history})
