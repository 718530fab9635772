"""Features of images: computed with the model left as it was, and compared by their cosine.

Cosines are never computed below float32, whatever autocast says: half precision is too coarse to rank by.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fam_lib.capture import evaluating


@torch.no_grad()
def extract(model: nn.Module, images: Tensor, batch_size: int | None = None) -> Tensor:
    """The features of images in eval mode; the model is left as it was.

    Args:
        model: maps images to features (N, D).
        images: (N, 3, H, W) float, normalised as the model wants it, on the model's device.
        batch_size: images in one forward; None takes all at once.

    Returns:
        (N, D) float32 on the model's device, as the model gives them: not L2-normalised.
    """
    with evaluating(model):
        return torch.cat([model(part).float() for part in images.split(batch_size or len(images))])


@torch.no_grad()
def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of a with every row of b, never below float32, whatever autocast says.

    Args:
        a: (Q, D) floating.
        b: (G, D) floating, on the same device. A zero row has cosine 0 with everything.

    Returns:
        (Q, G) float32 (float64 if an input is), in [-1, 1] up to rounding.

    Raises:
        TypeError: an input is not a floating tensor.
        ValueError: an input is not 2-D, the dimensions D disagree, or a feature is not finite.
    """
    dtype = common_dtype(a, b)
    return inner_products(unit_rows("first", a, dtype), unit_rows("second", b, dtype))


def unit_rows(which: str, features: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Features (n, D) as rows of length 1, to be multiplied by :func:`inner_products`; a zero row stays zero.

    Raises:
        ValueError: a feature is not finite; the message says `which` features.
    """
    if not features.isfinite().all():
        raise ValueError(f"the {which} features hold NaN or infinite values")
    return normalize(features.to(dtype), dim=1)


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Of every row of a (Q, D) with every row of b (G, D) -> (Q, G), whatever autocast says."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def common_dtype(a: Tensor, b: Tensor) -> torch.dtype:
    """The precision of the cosines of two feature matrices: the finer one, float32 at least."""
    for which, features in (("first", a), ("second", b)):
        check_matrix(f"the {which} features", features)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features disagree in dimension: {a.shape[1]} and {b.shape[1]}")
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def check_matrix(name: str, values: Tensor) -> None:
    """Refuse what is no floating (n, D) tensor, by name."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a floating tensor, got {kind}")
    if values.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got shape {tuple(values.shape)}")
