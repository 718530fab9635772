"""A Re-ID set of coloured blocks and a tiny network, for the tests of the evaluation and its tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import register_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbook.cache import shards
from workbook.cache.store import atomic_path
from workbook.reid import evaluation
from workbook.reid.data import GALLERY_FOLDER, QUERY_FOLDER, TRAIN_FOLDER, ReidData, load_market_layout
from workbook.reid.model import ReidModel

SIZE = (96, 48)
TRAIN_IDS, QUERY_IDS, LONELY = (1, 2, 3, 4), (5, 6, 7, 8, 9, 10), 10


def write_blocks(root: Path, seed: int = 0) -> Path:
    """People as four blocks of colour, seen by two cameras; the gallery has 15 images, three are distractors.

    There are six queries. No other camera has seen the last one, :data:`LONELY`.
    """
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 255, (1 + max(QUERY_IDS), 4, 3))

    def save(folder: str, identity: int, camera: int, index: int) -> None:
        (root / folder).mkdir(parents=True, exist_ok=True)
        blocks = colours[identity].repeat(SIZE[0] // 4, 0)[:, None].repeat(SIZE[1], 1)
        pixels = np.clip(blocks + rng.normal(0, 60, blocks.shape) - 40 * camera, 0, 255)
        Image.fromarray(pixels.astype("uint8")).save(root / folder / f"{identity:04d}_c{camera}_{index:02d}.png")

    for identity in TRAIN_IDS:
        save(TRAIN_FOLDER, identity, 1, 0)
    for identity in QUERY_IDS:
        save(QUERY_FOLDER, identity, 1, 0)
        for camera in (1, 2) if identity != LONELY else (1,):
            save(GALLERY_FOLDER, identity, camera, 1)
        if identity % 2:
            save(GALLERY_FOLDER, identity, 2, 2)
    for index in (1, 2, 3):
        save(GALLERY_FOLDER, 0, 2, index)
    return root


def blocks(root: Path, seed: int = 0) -> ReidData:
    """The set of :func:`write_blocks`, named as a set made by code."""
    return replace(load_market_layout(write_blocks(root, seed), "blocks"), synthetic=True)


@register_model
def toy_efficientnet(pretrained: bool = False, **options: object) -> nn.Module:
    """timm's test network a quarter as wide: Score-FAM masks its 64 channels one by one, not 256."""
    return timm.create_model("test_efficientnet", pretrained, channel_multiplier=0.25, **options)


def tiny_model(seed: int = 0) -> ReidModel:
    """An untrained network of four identities whose features, logits and 6 x 3 maps differ from image to image."""
    torch.manual_seed(seed)
    model = ReidModel("toy_efficientnet", len(TRAIN_IDS), init="random")
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the statistics become those of the batch
    model(torch.randn(16, 3, *(side // 8 for side in SIZE)).repeat_interleave(8, 2).repeat_interleave(8, 3))
    with torch.no_grad():
        model.neck.weight.uniform_(0.5, 2)
        model.classifier.weight.normal_(std=0.05)
    return model.eval()


@contextmanager
def killing(monkeypatch: pytest.MonkeyPatch, shard: int) -> Iterator[None]:
    """Interrupt the evaluation while it writes this file, counted from 0."""
    count = itertools.count()

    @contextmanager
    def killed(path: Path) -> Iterator[Path]:
        with atomic_path(path) as temporary:
            yield temporary
            if next(count) == shard:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for module in (evaluation, shards):  # results and maps
            patch.setattr(module, "atomic_path", killed)
        yield


def classifying(model: ReidModel) -> nn.Module:
    """Images -> logits of the training identities, written out: what explaining behind a classifier must equal."""
    return nn.Sequential(model, model.head).eval()
