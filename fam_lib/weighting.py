"""Weightings: how the channel weights alpha_k are got from a target.

A :class:`Weighting` is a function of a :class:`Probe`, and says what it needs of the network's passes. It returns
either channel weights (N, C), weights for every position (N, C, h, w), or, for the controls that look at no
channel, the map itself (N, h, w).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, update_wrapper

import torch
from torch import Tensor

from fam_lib.passes import Passes, Reading, classify
from fam_lib.precision import at_least_float32


@dataclass(frozen=True)
class Probe:
    """What a weighting may read: the passes over a batch of images, and the scalar that its method explains.

    Attributes:
        passes: shared by all methods of a call.
        reading: the method's target; None for the controls.
        partial: a budget or tolerance is set, and how the weights grow with S is not known.
    """

    passes: Passes
    reading: Reading | None
    partial: bool = False

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W), X."""
        return self.passes.images

    @property
    def activations(self) -> Tensor:
        """(N, C, h, w), A."""
        return self.passes.activations.detach()

    @property
    def gradient(self) -> Tensor:
        """d target / d A, (N, C, h, w)."""
        return self.passes.gradient(self.reading)


@dataclass(eq=False)
class Weighting:
    """How alpha_k is got from a target.

    Attributes:
        alpha: probe -> weights or map, in one of the three shapes above.
        gradient: alpha reads :attr:`Probe.gradient`, so the forward has to record a graph.
        growth: of a weighting by masked scores, the increasing function of S that its weights are proportional to; a
            budget's bound is made of it. None for all others.
    """

    alpha: Callable[[Probe], Tensor]
    gradient: bool = False
    growth: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        update_wrapper(self, self.alpha, updated=())  # a callable object's own attributes stay its own

    def __call__(self, probe: Probe) -> Tensor:
        return self.alpha(probe)

    def __reduce__(self) -> str | tuple:
        name = getattr(self, "__name__", "")
        if getattr(sys.modules.get(self.__module__), name, None) is self:
            return name  # where it decorates a function, that function's name leads to the weighting
        return type(self), (self.alpha, self.gradient, self.growth)


_of_gradient = partial(Weighting, gradient=True)


def _of_scores(growth: Callable[[Tensor], Tensor]) -> Callable[[Callable[[Probe], Tensor]], Weighting]:
    return partial(Weighting, growth=growth)


# ---- gradient weightings ------------------------------------------------------------------------------


@_of_gradient
def gradient_mean(probe: Probe) -> Tensor:
    """alpha_k = (1/Z) sum_ij dY/dA^k_ij (Eq. 3, 6, 9; Grad-CAM) -> (N, C)."""
    return probe.gradient.mean((2, 3))


@_of_gradient
def gradient_plus_plus(probe: Probe) -> Tensor:
    """Grad-CAM++ (Chattopadhyay et al., 2018): alpha_k = sum_ij w_ij ReLU(g_ij) -> (N, C).

    w_ij = g_ij^2 / (2 g_ij^2 + g_ij^3 sum_ab A_ab), and 0 where the gradient g_ij is 0.
    """
    g = probe.gradient
    total = probe.activations.sum((2, 3), keepdim=True)
    # g^2 cancels; what is left is finite where the gradient underflows when squared.
    denominator = 2 + g * total
    w = torch.where((g != 0) & (denominator != 0), 1 / denominator, 0)
    return (w * g.relu()).sum((2, 3))


@_of_gradient
def gradient_x_activation(probe: Probe) -> Tensor:
    """XGrad-CAM (Fu et al., 2020): alpha_k = sum_ij g_ij A_ij / sum_ij A_ij -> (N, C); 0 for an empty channel."""
    activations = probe.activations
    total = activations.sum((2, 3))
    weighted = (probe.gradient * activations).sum((2, 3))
    return torch.where(total != 0, weighted / torch.where(total != 0, total, 1), 0)


@_of_gradient
def gradient_positive(probe: Probe) -> Tensor:
    """Layer-CAM (Jiang et al., 2021): a weight for every position, alpha^k_ij = ReLU(g_ij) -> (N, C, h, w)."""
    return probe.gradient.relu()


# ---- weightings without a gradient --------------------------------------------------------------------


@_of_scores(growth=Tensor.clone)
def masked_scores(probe: Probe) -> Tensor:
    """S(A^k) = target(f(E_k)) - target(f(B)), E_k = X M_k + B (1 - M_k), M_k = Norm(Up(A^k)) (Eq. 10, 11).

    With the cosine to the image's own feature this is the paper's Channel-wise Increase of Similarity. A dead
    channel (max = min) has S = 0 exactly.

    Returns:
        (N, C), float32 or better.

    Raises:
        ValueError: some scores are left out, and the weighting is not one whose map has a bound.
    """
    if probe.partial:
        raise ValueError(
            "budget and tolerance need to know how a weighting depends on the scores: give yours as "
            "Weighting(function, growth=...), with the increasing function of S that its weights are proportional to"
        )
    return probe.passes.masked[probe.reading].scores


@_of_scores(growth=Tensor.exp)
def softmax_of_masked_scores(probe: Probe) -> Tensor:
    """alpha_k = exp(S_k) / sum_h exp(S_h) (Eq. 13; Score-CAM, Score-FAM) -> (N, C), rows sum to 1."""
    return masked_scores(probe).softmax(1)


@Weighting
def ablation(probe: Probe) -> Tensor:
    """Ablation-CAM (Ramaswamy et al., 2020): alpha_k = (Y - Y_k) / |Y| with channel k set to zero -> (N, C).

    The original divides by Y. The sign of the target must not turn the map round, and the scale does not
    outlive the min-max normalisation, so the magnitude is used.
    """
    full = probe.reading(probe.passes.outputs)
    return probe.passes.ablation_drops[probe.reading] / full.abs().clamp_min(torch.finfo(full.dtype).tiny)[:, None]


@Weighting
def head_weights(probe: Probe) -> Tensor:
    """The weights of a head that is affine in GAP(A), read off by impulses: CAM (Eq. 2), RAM (Eq. 5) -> (N, C).

    For f(X) = GAP(A) W + b the target's share of channel k is target(W_k): w^c_k for a class score, v_k / |v|
    for a projection behind plain GAP. A BN neck or any other affine layer is folded in, because W_k is the
    head's answer to a map of ones in channel k. No gradient is needed.

    Raises:
        ValueError: the head is not affine in GAP(A).
    """
    reading, activations = probe.reading, probe.activations
    logits = (classify(reading.classifier, part) for part in (*probe.passes.head, probe.passes.outputs))
    responses, offset, outputs = map(at_least_float32, logits)
    head = responses - offset
    predicted = activations.mean((2, 3)).to(head.dtype) @ head + offset
    error = (predicted - outputs).abs().max() / outputs.abs().max()
    if not error < 1e-3 * max(1, torch.finfo(activations.dtype).eps / torch.finfo(torch.float32).eps / 500):
        raise ValueError(
            "cam, ram and fam read the weights of a head that is affine in the global average of the layer "
            f"(GAP, then BN or linear layers); this head is off by {error:.1%}. Use the last layer before GAP, "
            "or a gradient method (grad-cam, grad-ram, grad-fam), which needs no such head"
        )
    images = torch.arange(len(activations), device=head.device)
    return torch.stack([reading.target(head, reading.reference[n.expand(len(head))]) for n in images])


# ---- controls -----------------------------------------------------------------------------------------


@Weighting
def uniform(probe: Probe) -> Tensor:
    """alpha_k = 1/C: the mean activation, the same map for every target -> (N, C)."""
    n, c = probe.activations.shape[:2]
    return probe.activations.new_full((n, c), 1 / c)


@Weighting
def random_weights(probe: Probe) -> Tensor:
    """alpha_k ~ U(0, 1), drawn per image -> (N, C)."""
    return _uniform_noise(probe, probe.activations.shape[1:2])


@Weighting
def random_map(probe: Probe) -> Tensor:
    """A map of U(0, 1) noise on the layer's grid -> (N, h, w)."""
    return _uniform_noise(probe, probe.activations.shape[2:])


@Weighting
def centre_prior(probe: Probe) -> Tensor:
    """A Gaussian in the middle of the layer's grid, sigma a quarter of each side -> (N, h, w)."""
    n, _, h, w = probe.activations.shape
    like = {"device": probe.activations.device, "dtype": probe.activations.dtype}
    y, x = ((torch.arange(side, **like) + 0.5) / side - 0.5 for side in (h, w))
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2)).expand(n, h, w)


@Weighting
def all_ones(probe: Probe) -> Tensor:
    """Everything is important: the explanation map is the image -> (N, h, w)."""
    n, _, h, w = probe.activations.shape
    return probe.activations.new_ones(n, h, w)


def _uniform_noise(probe: Probe, shape: torch.Size) -> Tensor:
    """U(0, 1) noise keyed by the seed and the pixels: an image draws the same numbers in every batch."""
    draws = []
    for image in probe.images:
        digest = hashlib.sha256(at_least_float32(image.detach()).cpu().contiguous().numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "little") + probe.passes.settings.seed)
        draws.append(torch.rand(shape, generator=generator))
    return torch.stack(draws).to(probe.activations)
