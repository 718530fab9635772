"""Data sets of a few kilobytes for BYOL: street photographs with masks, and a folder of ImageNet's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbook import paths
from workbook.byol import train_byol
from workbook.byol.config import BYOLConfig
from workbook.byol.training import Checkpoint

TINY = BYOLConfig(
    backbone="test_resnet",
    epochs=5,
    batch_size=4,
    view_size=(32, 16),
    hidden_dim=16,
    output_dim=8,
    optimiser="sgd",
    learning_rate=1.0,
    warmup_epochs=1,
)
BOX = (8, 16, 39, 47)  # xmin, ymin, xmax, ymax in the validation pictures, whose size is 64 x 64


def noise(path: Path, height: int, width: int) -> None:
    """A picture of its own, in blocks of 8 pixels so that it survives resizing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    Image.fromarray(pixels).save(path)


def train_in(cache: Path, *arguments: object, **options: object) -> list[Checkpoint]:
    """:func:`train_byol` with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", cache)
        return train_byol(*arguments, **options)


def write_street(
    root: Path, n_photos: int = 5, masked: tuple[int, ...] = (1, 3), size: tuple[int, int] = (48, 32)
) -> Path:
    """``street-photos/``: photos 0000.jpg and so on; the masked ones show a person in the left half."""
    folder = root / "street-photos"
    for i in range(n_photos):
        noise(folder / "photos" / f"{i:04d}.jpg", *size)
    for i in masked:
        mask = np.zeros(size, dtype=bool)
        mask[:, : size[1] // 2] = True
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / f"{i:04d}.png")
    return folder


def write_imagenet(root: Path) -> Path:
    """``imagenet/`` with two classes, nine pictures of several sizes to train on, four with boxes to validate."""
    folder = root / "imagenet"
    sizes = (40, 60), (64, 32), (50, 50), (35, 61), (33, 47), (70, 41), (48, 48), (34, 80), (52, 39)
    for i, (height, width) in enumerate(sizes):
        noise(folder / "train" / f"n0{1 + i % 2}" / f"{i}.JPEG", height, width)
    boxes = folder / "Annotations" / "CLS-LOC" / "val"
    boxes.mkdir(parents=True)
    sides = "".join(f"<{side}>{at}</{side}>" for side, at in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    for i in range(4):
        noise(folder / "val" / f"n0{1 + i % 2}" / f"ILSVRC2012_val_{i}.JPEG", 64, 64)
        text = f"<annotation><object><name>x</name><bndbox>{sides}</bndbox></object></annotation>"
        (boxes / f"ILSVRC2012_val_{i}.xml").write_text(text)
    return folder
