"""How alike two maps are, image by image: cosine, correlations, structural similarity."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

SSIM_WINDOW = 7  # pixels, the uniform window of scikit-image's default


def _flat_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of maps (N, H, W) as float64 rows (N, H*W)."""
    if a.shape != b.shape or a.dim() != 3:
        raise ValueError(f"maps must be (N, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.detach().cpu().double().flatten(1), b.detach().cpu().double().flatten(1)


def _cosine_rows(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each pair of rows; NaN where a row is zero."""
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two maps as vectors. (N, H, W) twice -> (N,) float64; NaN where a map is all zero."""
    return _cosine_rows(*_flat_pair(a, b))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of two maps. (N, H, W) twice -> (N,) float64 in [-1, 1]; NaN where a map is constant."""
    a, b = (x - x.mean(1, keepdim=True) for x in _flat_pair(a, b))
    return _cosine_rows(a, b)


def spearman(a: Tensor, b: Tensor, absolute: bool = False) -> Tensor:
    """Spearman's rank correlation of two maps, ties given their mean rank.

    Args:
        a: (N, H, W).
        b: (N, H, W).
        absolute: rank the absolute values, so that a map and its negative count as the same.

    Returns:
        (N,) float64 in [-1, 1]; NaN where a map is constant and so has no ranking.
    """
    rows = (x.abs() if absolute else x for x in _flat_pair(a, b))
    ranks = [torch.from_numpy(np.asarray(rankdata(x.numpy(), axis=1))) for x in rows]
    a, b = (r - (r.shape[1] + 1) / 2 for r in ranks)  # ranks 1..n have mean (n + 1) / 2, ties or not
    return _cosine_rows(a, b)


def ssim(a: Tensor, b: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity of two maps: scikit-image's default, for a whole batch at once.

    A uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03, averaged over the windows that lie wholly
    inside the map.

    Args:
        a: (N, H, W), H and W at least 7.
        b: (N, H, W).
        data_range: largest possible difference of two values; 1 for normalised maps.

    Returns:
        (N,) float64 in [-1, 1].
    """
    _flat_pair(a, b)
    if min(a.shape[1:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs maps of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {tuple(a.shape[1:])}")
    x, y = (m.detach().cpu().double().unsqueeze(1) for m in (a, b))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = unbiased * (_window_mean(x * x) - mean_x * mean_x)
    var_y = unbiased * (_window_mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _window_mean(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, SSIM_WINDOW, stride=1)
