"""What float32 means on a GPU: the 24 bits of IEEE, or the 11 of TF32, which NVIDIA's are told to use by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from torch import Tensor


def float32_as(kind: Literal["ieee", "tf32"]) -> AbstractContextManager[None]:
    """How convolutions and matrix products of float32 are computed on CUDA within the block; a CPU has no choice.

    cuDNN's convolutions use TF32 unless told otherwise. A score S then moves by up to 0.01 (emulated on a CPU,
    EfficientNet-Lite0), and the maps of two devices differ: whatever is measured here is computed in IEEE float32.
    """
    return _by_operation(kind) if hasattr(torch.backends.cudnn, "conv") else _by_library(kind)


@contextmanager
def _by_operation(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = kind
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.fp32_precision = old


@contextmanager
def _by_library(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    """For a torch without `fp32_precision`; where there is one, these switches warn or clash with it."""
    cudnn, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = kind == "tf32"
        # Not `cuda.matmul.allow_tf32`: that would turn a caller's "medium" into "high".
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(products)


def at_least_float32(x: Tensor) -> Tensor:
    """Cosines differ by less than the spacing of half precision: scores are float32 or float64 always."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
