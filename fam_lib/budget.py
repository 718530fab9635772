"""Budgeted masked scores: which channels are scored, what the others get, and how wrong the map can be.

The forwards that a budget saves leave S_k of some channels unknown, but not unlimited: a cosine lies in [-1, 1],
so S_k = d_cos(E_k) - d_cos(B) lies in [-1 - d_cos(B), 1 - d_cos(B)]. The map is monotone in every weight, so
an interval for each weight gives an interval for every pixel of the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fam_lib.masking import upsample
from fam_lib.targets import Target, class_confidence, cosine

# Where the values of a target lie, whatever the image; a target without an entry has no limits.
RANGES: dict[Target, tuple[float, float]] = {cosine: (-1.0, 1.0), class_confidence: (0.0, 1.0)}


def most_energetic(activations: Tensor, live: Tensor, share: float) -> Tensor:
    """The share of each image's live channels, rounded up, that can matter most: by the sum of |A_k|.

    Args:
        activations: (N, C, h, w), A.
        live: (N, C) bool, channels that may be chosen.
        share: in (0, 1].

    Returns:
        (N, C) bool.
    """
    energy = activations.abs().sum((2, 3)).masked_fill(~live, -1)
    rank = energy.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return live & (rank < (share * live.sum(1, keepdim=True)).ceil())


def fill_in(scores: Tensor, scored: Tensor, live: Tensor) -> Tensor:
    """Scores (..., N, C) in which a channel that was not scored has the lowest of its image's scored live ones.

    Weak channels keep less of the image than strong ones, so their scores are lower. With a quarter of the
    channels scored, the map came 1.4 to 9.5 times nearer to the exact one than with the mean of the scored, in
    six cases of an ImageNet EfficientNet-Lite0 on photographs.
    """
    lowest = scores.masked_fill(~(scored & live), torch.inf).amin(-1, keepdim=True)
    return torch.where(scored, scores, lowest)


def score_interval(target: Target, scores: Tensor, scored: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """Where the exact S_k lies: a scored one in its value, another in the target's range less Y(B).

    Args:
        target: the target.
        scores: (N, C), S.
        scored: (N, C) bool.
        baseline: (N,), Y(B).

    Returns:
        Lower and upper limits, (N, C) each; infinite for a target without limits.
    """
    low, high = RANGES.get(target, (-torch.inf, torch.inf))
    baseline = baseline.unsqueeze(1)
    return torch.where(scored, scores, low - baseline), torch.where(scored, scores, high - baseline)


def certified_bound(saliency: Tensor, activations: Tensor, low: Tensor, high: Tensor, rectify: bool = True) -> Tensor:
    """The largest possible difference at any pixel between a saliency map and the exact one.

    Let L = ReLU(V), V = sum_k w_k A_k, with w_k in [low_k, high_k] and w_k known up to a common positive factor:
    Norm takes the factor away, so the denominator of the softmax of Eq. 13 need not be known and w_k = exp(S_k)
    will do. With A = A+ - A- (both >= 0), at every place of the grid

        V in [V-, V+],  V- = sum_k low_k A+_k - high_k A-_k,  V+ = sum_k high_k A+_k - low_k A-_k

    (a weight of either sign: both products are monotone in it). ReLU is monotone. So is Up, whose pixels are
    convex combinations of places of the grid; hence U = Up(L) lies in [U-, U+] with U- = Up(ReLU(V-)) and
    U+ = Up(ReLU(V+)). The exact map is (U_p - m) / (M - m), m = min U in [min U-, min U+] and M = max U in
    [max U-, max U+]. For m <= U_p <= M this grows with U_p and falls with m and with M, so

        (U-_p - min U+) / (max U+ - min U+)  <=  exact_p  <=  (U+_p - min U-) / (max U- - min U-),

    both cut to [0, 1]: the left side is negative, hence true, where U-_p < min U+, and the right side is at
    least 1, hence true, where U+_p >= max U-. Where a denominator is not positive the exact map may be flat, and
    nothing is known of it but that it lies in [0, 1]. The bound is the largest distance of the saliency from an
    end of its interval. It holds up to the rounding of float32 maps.

    Args:
        saliency: (N, H, W) in [0, 1], the map that is certified.
        activations: (N, C, h, w), A.
        low: (N, C), lower limits of the weights, up to one positive factor per image.
        high: (N, C), upper limits of the weights, of the same factor; infinite ones give the bound 1.
        rectify: the method applies the ReLU.

    Returns:
        (N,) float32 in [0, 1].
    """
    a = activations.double()
    positive, negative = a.clamp_min(0), a.clamp_max(0)

    def extreme(for_positive: Tensor, for_negative: Tensor) -> Tensor:
        v = _sum(for_positive, positive) + _sum(for_negative, negative)
        return upsample(v.relu() if rectify else v, saliency.shape[-2:])

    u_low, u_high = extreme(low, high), extreme(high, low)
    m_low, m_high = (u.amin((1, 2), keepdim=True) for u in (u_low, u_high))
    top_low, top_high = (u.amax((1, 2), keepdim=True) for u in (u_low, u_high))
    least = ((u_low - m_high) / (top_high - m_high)).clamp(0, 1)
    most = ((u_high - m_low) / (top_low - m_low)).clamp(0, 1)
    bound = torch.maximum(saliency - least, most - saliency).amax((1, 2))
    # A map is called flat when its span is a rounding error of its height: see fam_lib.explain.is_flat.
    smallest_span, height = (top_low - m_high).flatten(), torch.maximum(top_high.abs(), m_low.abs()).flatten()
    sure = smallest_span > 1e-5 * height  # false for NaN, which infinite weights give
    return torch.where(sure, bound, 1.0).float()


def _sum(weights: Tensor, activations: Tensor) -> Tensor:
    return torch.einsum("nc,nchw->nhw", weights.double(), activations)
