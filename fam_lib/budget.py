"""Budgeted masked scores: which channels are scored, what the others get, and how wrong the map can be.

The forwards that a budget saves leave S_k of some channels unknown, but not unlimited: a cosine lies in [-1, 1],
so S_k = d_cos(E_k) - d_cos(B) lies in [-1 - d_cos(B), 1 - d_cos(B)]. An interval for each weight gives an interval
for every pixel of the map. It is wide: weights that may differ by the factor e^2 leave much open, whatever the
method of bounding. The map itself is far nearer to the exact one than its bound says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fam_lib.masking import min_max, upsample
from fam_lib.targets import Target, class_confidence, cosine

# Where the values of a target lie, whatever the image; a target without an entry has no limits.
RANGES: dict[Target, tuple[float, float]] = {cosine: (-1.0, 1.0), class_confidence: (0.0, 1.0)}
# Pixels that are compared pair by pair: their number grows with the square, and 512 are those of a 16 x 8 grid.
PAIRED_PIXELS = 512


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
    return live & (rank < (share * live.sum(1, keepdim=True).double()).ceil())


def fill_in(scores: Tensor, scored: Tensor, activations: Tensor) -> Tensor:
    """Scores in which a channel that was not scored has the score of the scored one with the nearest mask.

    S_k depends on channel k through its mask M_k alone, and the mean of |M_k - M_j| on the layer's grid says how
    much two masked images differ. A dead channel, with an empty mask and S = 0, counts as scored. Measured on ten
    queries of the quick profile with a quarter of the live channels scored, against the lowest of the scored for
    all others: the mean correlation with the exact map was 0.99996 against 0.9990, the mean of the largest
    differences 0.009 against 0.037.

    Args:
        scores: (R, N, C), S.
        scored: (N, C) bool, at least one channel in each image.
        activations: (N, C, h, w), A.

    Returns:
        (R, N, C).
    """
    if scored.all():
        return scores
    nearest = []
    for masks, known in zip(min_max(activations).flatten(2), scored, strict=True):
        nearest.append(torch.cdist(masks, masks, p=1).masked_fill(~known, torch.inf).argmin(1))
    return torch.where(scored, scores, scores.gather(2, torch.stack(nearest).expand_as(scores)))


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
    will do. With U = Up(L), m = min U and M = max U the exact map is

        exact_p = (U_p - m) / (M - m) = G / (G + D),   G = U_p - m >= 0,   D = M - U_p >= 0,

    which grows with G and falls with D. Limits of both give

        G- / (G- + D+)  <=  exact_p  <=  G+ / (G+ + D-).

    The limits come from :func:`_limits_apart` or, where the ReLU changes nothing and U is linear in w, from
    the tighter :func:`_limits_of_pairs`, unless the grid has too many pixels for pairs. If the span M - m may be
    zero, the exact map may be flat, and nothing is known of it but that it lies in [0, 1].

    Both maps are Up of a grid of cells, and so is their difference, up to a constant. Up is linear along a row
    or a column between two of its bends, so the difference is largest at a bend: no other pixel is looked at.
    The bound is the largest distance of the saliency from an end of its interval there. It holds up to the
    rounding of float32 maps.

    Args:
        saliency: (N, H, W) in [0, 1], the map that is certified: Norm(Up(.)) of a map (N, h, w).
        activations: (N, C, h, w), A.
        low: (N, C), lower limits of the weights, up to one positive factor per image.
        high: (N, C), upper limits of the weights, of the same factor; infinite ones give the bound 1.
        rectify: the method applies the ReLU.

    Returns:
        (N,) float32 in [0, 1].
    """
    a, low, high = activations.double(), low.double(), high.double()
    sides = zip(a.shape[-2:], saliency.shape[-2:], strict=True)
    (y, up_y), (x, up_x) = (_bends(cells, pixels, a.device) for cells, pixels in sides)

    def up(maps: Tensor) -> Tensor:
        return (up_y @ maps @ up_x.T).flatten(-2)

    v_low, v_high = _interval(low, high, a)
    linear = (v_low >= 0).flatten(1).all(1) | (not rectify)
    u_low, u_high = (up(v.relu() if rectify else v) for v in (v_low, v_high))
    limits = _limits_apart(u_low, u_high)
    if linear.any() and u_low.shape[1] <= PAIRED_PIXELS:
        limits = torch.where(linear[:, None], _limits_of_pairs(up(a), low, high), limits)
    g_low, g_high, d_low, d_high = limits
    shown = saliency[:, y[:, None], x].flatten(1)
    bound = torch.maximum(shown - g_low / (g_low + d_high), g_high / (g_high + d_low) - shown).amax(1)
    # A map is called flat when its span is a rounding error of its height: see fam_lib.explain.is_flat.
    smallest_span, height = (g_low + d_low).amax(1), torch.maximum(u_high.amax(1).abs(), u_low.amin(1).abs())
    sure = smallest_span > 1e-5 * height  # false for NaN, which infinite weights give
    return torch.where(sure, bound.clamp(0, 1), 1.0).float()


def _bends(cells: int, pixels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The P pixels of one side at which Up bends: their positions (P,) and what they take of each cell (P, cells).

    A pixel whose weights are the mean of its neighbours' lies on a straight line; the border is repeated.
    """
    weights = upsample(torch.eye(cells, dtype=torch.float64)[:, :, None], (pixels, 1)).squeeze(2).T
    bend = weights.diff(2, 0, prepend=weights[:1], append=weights[-1:]).abs().amax(1) > 1e-9
    bend[0] |= ~bend.any()  # a single cell: Up is constant
    positions = bend.nonzero().squeeze(1)
    return positions.to(device), weights[positions].to(device)


def _interval(low: Tensor, high: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
    """The limits of V = sum_k w_k A_k at every cell, (N, h, w) each.

    With A = A+ - A-, both >= 0: V- = sum_k low_k A+_k - high_k A-_k and V+ = sum_k high_k A+_k - low_k A-_k. Both
    products are monotone in a weight of either sign.
    """
    positive, negative = activations.clamp_min(0), activations.clamp_max(0)

    def total(for_positive: Tensor, for_negative: Tensor) -> Tensor:
        return sum(
            torch.einsum("nc,nchw->nhw", weights, part)
            for weights, part in ((for_positive, positive), (for_negative, negative))
        )

    return total(low, high), total(high, low)


def _limits_apart(u_low: Tensor, u_high: Tensor) -> Tensor:
    """G-, G+, D-, D+ at P pixels from the interval [U-, U+] of each, which ReLU and Up, monotone both, keep.

    Args:
        u_low: (N, P), U-.
        u_high: (N, P), U+.

    Returns:
        (4, N, P).
    """
    m_low, m_high = u_low.amin(1, keepdim=True), u_high.amin(1, keepdim=True)
    top_low, top_high = u_low.amax(1, keepdim=True), u_high.amax(1, keepdim=True)
    g_low, d_low = (u_low - m_high).clamp_min(0), (top_low - u_high).clamp_min(0)
    return torch.stack([g_low, u_high - m_low, d_low, top_high - u_low])


def _limits_of_pairs(u: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """G-, G+, D-, D+ at P pixels from the pairs of pixels, for U_p = sum_k w_k u_kp.

    A weight that raises two pixels raises both at once, and leaves their difference. With c_k and r_k the centre
    and radius of the interval of w_k,

        U_p - U_q  lies within  sum_k r_k |u_kp - u_kq|  of  sum_k c_k (u_kp - u_kq),

    and both limits are attained. G = max_q (U_p - U_q) and D = max_q (U_q - U_p) are at least the largest lower
    limit of a pair and at most the largest upper one; the pair of p with itself makes all of them >= 0.

    Args:
        u: (N, C, P), the activations at the pixels.
        low: (N, C).
        high: (N, C).

    Returns:
        (4, N, P).
    """
    centre, radius = (low + high) / 2, (high - low) / 2
    unknown = (radius != 0).any(0)  # by far most of the cost is in the pairs, and known weights add nothing
    height, spread = torch.einsum("nc,ncp->np", centre, u), (radius[..., None] * u)[:, unknown].mT.contiguous()
    limits = []
    for h, s in zip(height, spread, strict=True):
        difference, distance = h[:, None] - h, torch.cdist(s, s, p=1)
        least, most = difference - distance, difference + distance
        limits.append(torch.stack([least.amax(1), most.amax(1), least.amax(0), most.amax(0)]))
    return torch.stack(limits, 1)
