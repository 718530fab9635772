"""What float32 means on a GPU: the 24 bits of IEEE, or the 11 of TF32, which NVIDIA's are told to use by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


@contextmanager
def float32_as(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    """How convolutions and matrix products of float32 are computed on CUDA within the block; a CPU has no choice.

    cuDNN's convolutions use TF32 unless told otherwise. A score S then moves by up to 0.01 (emulated on a CPU,
    EfficientNet-Lite0), and the maps of two devices differ: whatever is measured here is computed in IEEE float32.
    """
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = kind
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.fp32_precision = old
