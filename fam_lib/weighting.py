"""Weightings: how the channel weights alpha_k are got from a target.

A weighting is a function of a :class:`Probe` and returns either channel weights (N, C), weights for every
position (N, C, h, w), or, for the controls that look at no channel, the map itself (N, h, w).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fam_lib.capture import run_with_layer
from fam_lib.masking import blend, min_max, upsample
from fam_lib.targets import Target

# Activations fed to the head at once by the methods that re-run only the head: 2**24 floats are 64 MiB.
HEAD_ELEMENTS = 2**24

Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class Probe:
    """What a weighting may read: one batch of images seen by one network.

    Attributes:
        model: the network, in eval mode, free of hooks.
        layer: the module whose output is A.
        branch: which tensor of that output, or None.
        images: (N, 3, H, W), X.
        activations: (N, C, h, w), A. A leaf with a graph to ``outputs`` where the weighting needs a gradient.
        outputs: (N, D), f(X) or the logits.
        target: the target, None for the controls.
        reference: the target's reference, one row per image.
        make_baseline: images -> B, (N, 3, H, W).
        batch_size: masked images in one forward.
        precision: dtype of the masked forwards, None for that of the model.
        seed: of the random controls.
        progress: wraps an iterable and shows how far it has come, for instance ``tqdm``.
    """

    model: nn.Module
    layer: nn.Module
    branch: int | None
    images: Tensor
    activations: Tensor
    outputs: Tensor
    target: Target | None
    reference: Tensor | None
    make_baseline: Callable[[Tensor], Tensor]
    batch_size: int
    precision: torch.dtype | None
    seed: int
    progress: Progress | None

    def score(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """The target of outputs (n, D), where row i belongs to image rows[i] (None: in order) -> (n,)."""
        reference = self.reference if rows is None else self.reference[rows]
        return self.target(at_least_float32(outputs), reference)

    def forward(self, images: Tensor) -> Tensor:
        """A forward without hooks, in the chosen precision."""
        with self._autocast():
            return self.model(images)

    def _autocast(self) -> AbstractContextManager:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.images.device.type, dtype=self.precision)

    def run_head(self, image: int, activations: Tensor) -> Tensor:
        """The output for other activations (n, C, h, w) in place of those of one image -> (n, D).

        The part below the layer sees the single image, the head sees n rows. Where a connection round the
        layer cannot broadcast one row over n, the image is repeated instead.
        """
        single = self.images[image : image + 1]

        def run(images: Tensor) -> Tensor:
            replace = lambda _: activations.clone()  # noqa: E731  (an in-place layer must not reach them)
            return run_with_layer(self.model, self.layer, images, replace, self.branch)[1]

        try:
            outputs = run(single)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            outputs = None
        if outputs is None or len(outputs) != len(activations):
            outputs = run(single.expand(len(activations), -1, -1, -1))
        return outputs

    @cached_property
    def gradient(self) -> Tensor:
        """d target / d A, (N, C, h, w)."""
        if not self.outputs.requires_grad:
            raise ValueError(
                "the model's output has no gradient with respect to the layer: choose a layer on its path, or a "
                "model that does not detach"
            )
        with torch.enable_grad():
            total = self.score(self.outputs).sum()
        return torch.autograd.grad(total, self.activations)[0]

    def batches(self, total: int, size: int) -> Iterator[slice]:
        """Slices that cover range(total), shown as progress."""
        starts = range(0, total, size)
        for start in self.progress(starts) if self.progress else starts:
            yield slice(start, start + size)


Weighting = Callable[[Probe], Tensor]


def at_least_float32(x: Tensor) -> Tensor:
    """Cosines differ by less than the spacing of half precision: scores are float32 or float64 always."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# ---- gradient weightings ------------------------------------------------------------------------------


def gradient_mean(probe: Probe) -> Tensor:
    """alpha_k = (1/Z) sum_ij dY/dA^k_ij (Eq. 3, 6, 9; Grad-CAM) -> (N, C)."""
    return probe.gradient.mean((2, 3))


def gradient_plus_plus(probe: Probe) -> Tensor:
    """Grad-CAM++ (Chattopadhyay et al., 2018): alpha_k = sum_ij w_ij ReLU(g_ij) -> (N, C).

    w_ij = g_ij^2 / (2 g_ij^2 + g_ij^3 sum_ab A_ab), and 0 where the gradient g_ij is 0.
    """
    g = probe.gradient
    total = probe.activations.detach().sum((2, 3), keepdim=True)
    # g^2 cancels; what is left is finite where the gradient underflows when squared.
    denominator = 2 + g * total
    w = torch.where((g != 0) & (denominator != 0), 1 / denominator, 0)
    return (w * g.relu()).sum((2, 3))


def gradient_x_activation(probe: Probe) -> Tensor:
    """XGrad-CAM (Fu et al., 2020): alpha_k = sum_ij g_ij A_ij / sum_ij A_ij -> (N, C); 0 for an empty channel."""
    activations = probe.activations.detach()
    total = activations.sum((2, 3))
    weighted = (probe.gradient * activations).sum((2, 3))
    return torch.where(total != 0, weighted / torch.where(total != 0, total, 1), 0)


def gradient_positive(probe: Probe) -> Tensor:
    """Layer-CAM (Jiang et al., 2021): a weight for every position, alpha^k_ij = ReLU(g_ij) -> (N, C, h, w)."""
    return probe.gradient.relu()


# ---- weightings without a gradient --------------------------------------------------------------------


def masked_scores(probe: Probe) -> Tensor:
    """S(A^k) = target(f(E_k)) - target(f(B)), E_k = X M_k + B (1 - M_k), M_k = Norm(Up(A^k)) (Eq. 10, 11).

    With the cosine to the image's own feature this is the paper's Channel-wise Increase of Similarity. The
    masks of all images share their batches, and are made batch by batch: memory does not grow with C. A dead
    channel (max = min) has mask 0, so E_k = B and S = 0 exactly; no forward is spent on it.

    Returns:
        (N, C), float32 or better.
    """
    images, activations = probe.images, probe.activations
    baseline = probe.make_baseline(images)
    if baseline.shape != images.shape:
        raise ValueError(f"baseline must return {tuple(images.shape)} like the images, got {tuple(baseline.shape)}")
    s_baseline = probe.score(probe.forward(baseline))
    rows, channels = (activations.amax((2, 3)) > activations.amin((2, 3))).nonzero(as_tuple=True)
    scores = s_baseline.new_zeros(activations.shape[:2])
    for part in probe.batches(len(rows), probe.batch_size):
        row, channel = rows[part], channels[part]
        masks = min_max(upsample(activations[row, channel], images.shape[-2:]))
        outputs = probe.forward(blend(images[row], baseline[row], masks))
        scores[row, channel] = probe.score(outputs, row) - s_baseline[row]
    return scores


def softmax_of_masked_scores(probe: Probe) -> Tensor:
    """alpha_k = exp(S_k) / sum_h exp(S_h) (Eq. 13; Score-CAM, Score-FAM) -> (N, C), rows sum to 1."""
    return masked_scores(probe).softmax(1)


def ablation(probe: Probe) -> Tensor:
    """Ablation-CAM (Ramaswamy et al., 2020): alpha_k = (Y - Y_k) / |Y| with channel k set to zero -> (N, C).

    The original divides by Y. The sign of the target must not turn the map round, and the scale does not
    outlive the min-max normalisation, so the magnitude is used.
    """
    activations = probe.activations
    full = probe.score(probe.outputs)
    drop = torch.zeros_like(activations[:, :, 0, 0], dtype=full.dtype)
    size = max(1, HEAD_ELEMENTS // activations[0].numel())
    for n, maps in enumerate(activations):
        active = maps.flatten(1).any(1).nonzero().squeeze(1)  # zeroing an empty channel changes nothing
        for part in probe.batches(len(active), size):
            channels = active[part]
            ablated = maps.expand(len(channels), -1, -1, -1).clone()
            ablated[torch.arange(len(channels)), channels] = 0
            drop[n, channels] = full[n] - probe.score(probe.run_head(n, ablated), torch.full_like(channels, n))
    return drop / full.abs().clamp_min(torch.finfo(full.dtype).tiny).unsqueeze(1)


def head_weights(probe: Probe) -> Tensor:
    """The weights of a head that is affine in GAP(A), read off by impulses: CAM (Eq. 2), RAM (Eq. 5) -> (N, C).

    For f(X) = GAP(A) W + b the target's share of channel k is target(W_k): w^c_k for a class score, v_k / |v|
    for a projection behind plain GAP. A BN neck or any other affine layer is folded in, because W_k is the
    head's answer to a map of ones in channel k. No gradient is needed.

    Raises:
        ValueError: the head is not affine in GAP(A).
    """
    activations = probe.activations
    channels = activations.shape[1]
    offset = probe.run_head(0, torch.zeros_like(activations[:1]))
    size = max(1, HEAD_ELEMENTS // activations[0].numel())
    rows = []
    for part in probe.batches(channels, size):
        index = torch.arange(channels, device=activations.device)[part]
        impulses = activations.new_zeros(len(index), *activations.shape[1:])
        impulses[torch.arange(len(index)), index] = 1
        rows.append(probe.run_head(0, impulses) - offset)
    head = at_least_float32(torch.cat(rows))
    predicted = activations.mean((2, 3)).to(head.dtype) @ head + offset
    error = (predicted - probe.outputs).abs().max() / probe.outputs.abs().max()
    if not error < 1e-3 * max(1, torch.finfo(activations.dtype).eps / torch.finfo(torch.float32).eps / 500):
        raise ValueError(
            "cam, ram and fam read the weights of a head that is affine in the global average of the layer "
            f"(GAP, then BN or linear layers); this head is off by {error:.1%}. Use the last layer before GAP, "
            "or a gradient method (grad-cam, grad-ram, grad-fam), which needs no such head"
        )
    images = torch.arange(len(activations), device=activations.device)
    return torch.stack([probe.score(head, image.expand(channels)) for image in images])


# ---- controls -----------------------------------------------------------------------------------------


def uniform(probe: Probe) -> Tensor:
    """alpha_k = 1/C: the mean activation, the same map for every target -> (N, C)."""
    n, c = probe.activations.shape[:2]
    return probe.activations.new_full((n, c), 1 / c)


def random_weights(probe: Probe) -> Tensor:
    """alpha_k ~ U(0, 1), drawn per image -> (N, C)."""
    return _uniform_noise(probe, probe.activations.shape[1:2])


def random_map(probe: Probe) -> Tensor:
    """A map of U(0, 1) noise on the layer's grid -> (N, h, w)."""
    return _uniform_noise(probe, probe.activations.shape[2:])


def centre_prior(probe: Probe) -> Tensor:
    """A Gaussian in the middle of the layer's grid, sigma a quarter of each side -> (N, h, w)."""
    n, _, h, w = probe.activations.shape
    like = {"device": probe.activations.device, "dtype": probe.activations.dtype}
    y, x = ((torch.arange(side, **like) + 0.5) / side - 0.5 for side in (h, w))
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2)).expand(n, h, w)


def all_ones(probe: Probe) -> Tensor:
    """Everything is important: the explanation map is the image -> (N, h, w)."""
    n, _, h, w = probe.activations.shape
    return probe.activations.new_ones(n, h, w)


def _uniform_noise(probe: Probe, shape: torch.Size) -> Tensor:
    """U(0, 1) noise keyed by the seed and the pixels: an image draws the same numbers in every batch."""
    draws = []
    for image in probe.images:
        digest = hashlib.sha256(at_least_float32(image.detach()).cpu().contiguous().numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "little") + probe.seed)
        draws.append(torch.rand(shape, generator=generator))
    return torch.stack(draws).to(probe.activations)
