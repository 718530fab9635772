"""The photographs that ship inside scikit-image, as tensors: real pictures without a download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

PHOTOGRAPHS = {
    "astronaut": data.astronaut,
    "cat": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
}


def load_photographs(names: Sequence[str] = tuple(PHOTOGRAPHS), size: int = 224) -> Tensor:
    """The middle square of each photograph, resized to size x size pixels.

    Args:
        names: keys of :data:`PHOTOGRAPHS`.
        size: side in pixels.

    Returns:
        (N, 3, size, size) float32 in [0, 1], RGB.

    Raises:
        ValueError: a name is not one of the photographs.
    """
    unknown = [name for name in names if name not in PHOTOGRAPHS]
    if unknown:
        raise ValueError(f"no photograph {unknown[0]!r}; there are {', '.join(PHOTOGRAPHS)}")
    return torch.stack([_middle_square(PHOTOGRAPHS[name](), size) for name in names])


def _middle_square(pixels: np.ndarray, size: int) -> Tensor:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    resized = square.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
