"""Localisation: does a saliency map lie on the region where the truth is known to be?

Regions are boolean masks, of a person or of one part; where there is no region, or no saliency, the score is
NaN and must be counted, not averaged. A uniform map scores `region_share`: that is the level of chance.

Values are per map, float64, on the CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def energy_inside(saliency: Tensor, region: Tensor) -> Tensor:
    """Share of the saliency that lies inside the region.

    Args:
        saliency: (N, H, W), finite and >= 0.
        region: (N, H, W) bool.

    Returns:
        (N,) in [0, 1]; NaN for an all-zero map or an empty region.

    Raises:
        TypeError: region is not boolean.
        ValueError: shapes disagree, or saliency is negative or not finite.
    """
    maps, region = _pair(saliency, region)
    inside = (maps * region).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
    return inside.masked_fill(~region.any(dim=2).any(dim=1), torch.nan)


def pointing_game(saliency: Tensor, region: Tensor) -> Tensor:
    """Whether the maximum of the map lies inside the region.

    Args:
        saliency: (N, H, W), finite and >= 0.
        region: (N, H, W) bool.

    Returns:
        (N,) 1 or 0; where several pixels share the maximum, the share of them inside. NaN for an all-zero map
        or an empty region.

    Raises:
        TypeError: region is not boolean.
        ValueError: shapes disagree, or saliency is negative or not finite.
    """
    maps, region = _pair(saliency, region)
    peak = maps.amax(dim=(1, 2), keepdim=True)
    at_peak = (maps == peak) & (peak > 0)
    hits = (at_peak & region).sum(dim=(1, 2)).double() / at_peak.sum(dim=(1, 2))
    return hits.masked_fill(~region.any(dim=2).any(dim=1), torch.nan)


def region_share(region: Tensor) -> Tensor:
    """Share of the pixels inside the region: what both scores give a uniform map.

    Args:
        region: (N, H, W) bool.

    Returns:
        (N,) in [0, 1].

    Raises:
        TypeError: region is not boolean.
        ValueError: region is not (N, H, W) with H, W >= 1.
    """
    return _region(region).double().mean(dim=(1, 2))


def map_area(saliency: Tensor, threshold: float = 0.5) -> Tensor:
    """Share of the pixels at or above a threshold.

    Args:
        saliency: (N, H, W), finite and >= 0; in [0, 1] if thresholds of several maps are to mean the same.
        threshold: in the units of the map.

    Returns:
        (N,) in [0, 1].

    Raises:
        ValueError: saliency is not (N, H, W) with H, W >= 1, or is negative or not finite.
    """
    _saliency(saliency)
    return (saliency.detach() >= threshold).cpu().double().mean(dim=(1, 2))


def map_entropy(saliency: Tensor) -> Tensor:
    """How spread out a map is: the entropy of its energy over the pixels, divided by its maximum log(H*W).

    Args:
        saliency: (N, H, W), finite and >= 0, with H*W >= 2.

    Returns:
        (N,) in [0, 1]: 0 for a single bright pixel, 1 for a uniform map, NaN for an all-zero map.

    Raises:
        ValueError: saliency is not (N, H, W), has fewer than two pixels, or is negative or not finite.
    """
    maps = _saliency(saliency).flatten(1)
    if maps.shape[1] < 2:
        raise ValueError("the entropy of a map needs at least two pixels")
    share = maps / maps.sum(dim=1, keepdim=True)
    return torch.special.entr(share).sum(dim=1) / math.log(maps.shape[1])


def _pair(saliency: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    maps, region = _saliency(saliency), _region(region)
    if maps.shape != region.shape:
        raise ValueError(f"saliency {tuple(maps.shape)} and region {tuple(region.shape)} differ in shape")
    return maps, region


def _saliency(saliency: Tensor) -> Tensor:
    maps = saliency.detach().cpu().double()
    _check_shape("saliency", maps)
    if not (maps.isfinite() & (maps >= 0)).all():
        raise ValueError("saliency must be finite and not negative; apply ReLU or take absolute values first")
    return maps


def _region(region: Tensor) -> Tensor:
    if region.dtype != torch.bool:
        raise TypeError(f"region must be boolean, got {region.dtype}; from a label map, pass labels > 0")
    _check_shape("region", region)
    return region.cpu()


def _check_shape(name: str, values: Tensor) -> None:
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise ValueError(f"{name} must be (N, H, W) with H, W >= 1, got shape {tuple(values.shape)}")
