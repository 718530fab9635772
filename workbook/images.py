"""Images from files as tensors, and the colour statistics that a network wants them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

UNREADABLE = (OSError, SyntaxError, ValueError)  # what Pillow raises for broken files; the last two for some PNG


def load_images(paths: Sequence[Path | str], size: tuple[int, int]) -> Tensor:
    """Load images as (N, 3, H, W) float32 RGB in [0, 1], resized to ``size`` = (H, W) bilinearly.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is truncated or no image (it is named), or the size is not two positive integers.
    """
    return load_pixels(paths, size).to(torch.float32).div_(255)


def load_pixels(paths: Sequence[Path | str], size: tuple[int, int]) -> Tensor:
    """Load images like `load_images`, as (N, 3, H, W) uint8: a quarter of the memory."""
    if len(size) != 2 or not all(isinstance(length, int) and length > 0 for length in size):
        raise ValueError(f"size must be (height, width), two positive integers, got {size!r}")
    pixels = torch.empty((len(paths), 3, *size), dtype=torch.uint8)
    for row, path in zip(pixels, paths, strict=True):
        row.copy_(torch.from_numpy(_read_rgb(Path(path), size)).permute(2, 0, 1))
    return pixels


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std per colour channel; images (N, 3, H, W) in [0, 1], mean and std three numbers
    each."""
    if images.dim() != 4 or images.shape[1] != len(mean) or len(mean) != len(std):
        raise ValueError(
            f"images must be (N, C, H, W) with one mean and std for each channel; "
            f"got {tuple(images.shape)}, {len(mean)} means and {len(std)} stds"
        )
    shape = (1, len(mean), 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo `normalise`, for showing: images (N, C, H, W) -> values clipped to [0, 1]."""
    shape = (1, len(mean), 1, 1)
    return (images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)).clamp(0, 1)


def _read_rgb(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One image as (H, W, 3) uint8."""
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the image {path} does not exist") from error
    except UNREADABLE as error:
        raise ValueError(f"the image {path} cannot be read: {error}; restore it from the data set") from error
    return np.array(resized)
