"""The passes through the network that methods share: each is made once for a batch, whoever asks for it.

The costly part of an explanation is forwards, and what a method reads off their outputs is a cheap scalar. So
one :class:`Passes` serves all methods of a call: the forward of the images, that of the baseline, one backward
for each target, and above all the masked forwards, whose outputs are read for every target at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from fam_lib.budget import fill_in, most_energetic
from fam_lib.capture import run_with_layer
from fam_lib.folding import fold_batch_norm
from fam_lib.masking import blend, min_max, upsample
from fam_lib.precision import at_least_float32, float32_as
from fam_lib.settings import Settings, default_batch_size
from fam_lib.targets import Target

# Activations fed to the head at once by the methods that re-run only the head: 2**24 floats are 64 MiB.
HEAD_ELEMENTS = 2**24


@dataclass(frozen=True, eq=False)
class Reading:
    """A scalar read off the network's outputs: Y = target(outputs, reference).

    Attributes:
        target: the target.
        reference: one row per image of the batch.
        classifier: maps features to the logits that a class target reads; None: the target reads the outputs.
    """

    target: Target
    reference: Tensor
    classifier: nn.Module | None = None

    def __call__(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Y of outputs (n, D), where row i belongs to image rows[i] (None: in order) -> (n,)."""
        reference = self.reference if rows is None else self.reference[rows]
        return self.target(at_least_float32(classify(self.classifier, outputs)), reference)


def classify(classifier: nn.Module | None, outputs: Tensor) -> Tensor:
    """The logits of features (n, D), in the classifier's own precision; without a classifier the outputs."""
    if classifier is None:
        return outputs
    return classifier(outputs.to(next(classifier.parameters(), outputs).dtype))


@dataclass(frozen=True, eq=False)
class MaskedScores:
    """What one reading made of the masked forwards.

    Attributes:
        scores: (N, C), S; where a channel was left out, that of the scored channel with the nearest mask.
        baseline: (N,), Y(B).
        scored: (N, C) bool, channels whose S is exact, the dead ones among them.
    """

    scores: Tensor
    baseline: Tensor
    scored: Tensor


@dataclass(eq=False)
class _Scoring:
    """What the masked forwards of a batch share, and what is known so far.

    Attributes:
        same: (N, C), see :func:`first_with_equal_mask`.
        network: the model with its batch norms folded.
        baseline: (N, 3, H, W), B.
        of_baseline: (R, N), every reading of f(B).
        scores: (R, N * C), S where a forward was run.
        scored: (N, C) bool, channels whose S is known.
    """

    same: Tensor
    network: nn.Module
    baseline: Tensor
    of_baseline: Tensor
    scores: Tensor
    scored: Tensor


@dataclass(eq=False)
class Passes:
    """One batch of images seen by one network, and every pass over it that some method has asked for.

    Attributes:
        model: the network, in eval mode, free of hooks.
        layer: the module whose output is A.
        images: (N, 3, H, W), X.
        activations: (N, C, h, w), A. A leaf with a graph to ``outputs`` where a method needs a gradient.
        outputs: (N, D), f(X) or the logits.
        readings: what the methods of this call read off the outputs.
        settings: how the passes are made.
    """

    model: nn.Module
    layer: nn.Module
    images: Tensor
    activations: Tensor
    outputs: Tensor
    readings: tuple[Reading, ...]
    settings: Settings
    _gradients: dict[Reading, Tensor] = field(default_factory=dict, init=False)
    _masked: dict[Reading, MaskedScores] = field(default_factory=dict, init=False)

    def gradient(self, reading: Reading) -> Tensor:
        """d Y / d A, (N, C, h, w).

        Raises:
            ValueError: the output does not depend on the layer, or the graph is cut in between.
        """
        if not self.outputs.requires_grad:
            raise ValueError(
                "the model's output has no gradient with respect to the layer: choose a layer on its path, or a "
                "model that does not detach. A weighting of your own that reads the gradient has to say so: "
                "Weighting(function, gradient=True)"
            )
        if reading not in self._gradients:
            with torch.enable_grad():
                total = reading(self.outputs).sum()
            # The graph behind the layer is kept: other targets go back through the same head.
            self._gradients[reading] = torch.autograd.grad(total, self.activations, retain_graph=True)[0]
        return self._gradients[reading]

    @property
    def masked(self) -> dict[Reading, MaskedScores]:
        """S(A^k) = Y(E_k) - Y(B) with E_k = X M_k + B (1 - M_k), M_k = Norm(Up(A^k)), for each reading.

        A dead channel (max = min) has mask 0, so E_k = B and S = 0 exactly; no forward is spent on it. Channels
        of one image with the same mask, those that differ by a scale and an offset, share a forward.
        """
        if not self._masked:
            self.score(self.most_energetic(self.settings.budget))
        return self._masked

    def most_energetic(self, share: float) -> Tensor:
        """The share of each image's live channels with the largest energy, (N, C) bool."""
        return most_energetic(at_least_float32(self.activations.detach()), self.live, share)

    def score(self, chosen: Tensor) -> None:
        """Make :attr:`masked` of the channels chosen (N, C) bool, beside those that are scored already.

        The masks of all images share their batches, and are made batch by batch: memory does not grow with C.
        The host waits for the device before the masks are scored and after, not between the chunks.
        """
        known = self._scoring
        run = known.same[chosen & ~known.scored].unique()
        for part, outputs in self._masked_outputs(known.network, known.baseline, run):
            rows = run[part] // known.same.shape[1]
            known.scores[:, run[part]] = self._read(outputs, rows) - known.of_baseline[:, rows]
        known.scored = known.scored | torch.isin(known.same, run)
        filled = fill_in(known.scores[:, known.same], known.scored, at_least_float32(self.activations.detach()))
        for reading, s, b in zip(self.readings, filled, known.of_baseline, strict=True):
            self._masked[reading] = MaskedScores(s, b, known.scored)

    @property
    def batch_size(self) -> int:
        """Masked images in one forward."""
        return self.settings.batch_size or default_batch_size(self.images, self.settings.precision)

    @cached_property
    def live(self) -> Tensor:
        """Channels whose map is not constant, (N, C) bool."""
        return live_channels(self.activations.detach())

    @cached_property
    def _scoring(self) -> _Scoring:
        """What the calls of :meth:`score` share; nothing is scored yet but the dead channels."""
        same = first_with_equal_mask(self.activations.detach())
        baseline, network = self._baseline(), fold_batch_norm(self.model, self.images)
        of_baseline = self._read(self._forward(network, baseline))
        scores = of_baseline.new_zeros(len(self.readings), same.numel())
        return _Scoring(same, network, baseline, of_baseline, scores, ~self.live)

    def _baseline(self) -> Tensor:
        # Of float32 images: a caller's own blur may hang in float16 as gaussian_blur did, which widens by itself.
        baseline = self.settings.baseline(at_least_float32(self.images)).to(self.images)
        if baseline.shape != self.images.shape:
            raise ValueError(
                f"baseline must return {tuple(self.images.shape)} like the images, got {tuple(baseline.shape)}"
            )
        return baseline

    def _masked_outputs(self, network: nn.Module, baseline: Tensor, run: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Outputs of the images masked by the channels run (n,), numbered through the batch, chunk by chunk.

        Whenever the device's memory runs out the chunks of this call become half as large.
        """
        rows, maps = run // self.activations.shape[1], self.activations.detach().flatten(0, 1)
        size = self.batch_size
        for chunk in self._batches(len(run), size):
            start = chunk.start
            while start < min(chunk.stop, len(run)):
                part = slice(start, min(start + size, chunk.stop))
                row = rows[part]
                try:
                    masks = min_max(upsample(maps[run[part]], self.images.shape[-2:]))
                    outputs = self._forward(network, blend(self.images[row], baseline[row], masks))
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size = (size + 1) // 2
                    continue
                yield part, outputs
                start = part.stop

    @cached_property
    def ablation_drops(self) -> dict[Reading, Tensor]:
        """Y - Y_k, Y_k with channel k of A set to zero, (N, C) for each reading; only the head runs again."""
        activations = self.activations
        full = self._read(self.outputs.detach())
        drops = full.new_zeros(len(self.readings), *activations.shape[:2])
        size = max(1, HEAD_ELEMENTS // activations[0].numel())
        for n, maps in enumerate(activations):
            active = maps.flatten(1).any(1).nonzero().squeeze(1)  # zeroing an empty channel changes nothing
            for part in self._batches(len(active), size):
                channels = active[part]
                ablated = maps.expand(len(channels), -1, -1, -1).clone()
                ablated[torch.arange(len(channels), device=channels.device), channels] = 0
                outputs = self._run_head(n, ablated)
                drops[:, n, channels] = full[:, n, None] - self._read(outputs, torch.full_like(channels, n))
        return dict(zip(self.readings, drops, strict=True))

    @cached_property
    def head(self) -> tuple[Tensor, Tensor]:
        """What the head makes of a map of ones in one channel, (C, D), and of an empty map, (1, D).

        To a head that begins with a global average one cell is as good as a map, and all channels fit in one run.
        Where the head wants maps of the layer's size, to join them with others, it gets them.
        """
        try:
            return self._responses((1, 1))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return self._responses(tuple(self.activations.shape[2:]))

    def _responses(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """:attr:`head` of maps of this size."""
        channels = self.activations.shape[1]
        ones = torch.eye(channels, dtype=self.activations.dtype, device=self.activations.device)
        impulses = ones[..., None, None].expand(-1, -1, *size)
        empty = self._run_head(0, torch.zeros_like(impulses[:1]))
        parts = impulses.split(max(1, HEAD_ELEMENTS // impulses[0].numel()))
        return torch.cat([self._run_head(0, part) for part in parts]), empty

    def _read(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Every reading of outputs (n, D) -> (R, n)."""
        return torch.stack([reading(outputs, rows) for reading in self.readings])

    def _forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """A forward without hooks, in the chosen precision."""
        with self._chosen_precision():
            return network(images)

    def _chosen_precision(self) -> AbstractContextManager:
        precision = self.settings.precision
        if precision in (None, torch.float32):
            return nullcontext()
        if precision == "tf32":
            return float32_as("tf32")
        return torch.autocast(self.images.device.type, dtype=precision)

    def _run_head(self, image: int, activations: Tensor) -> Tensor:
        """The output for other activations (n, C, h, w) in place of those of one image -> (n, D).

        The part below the layer sees the single image, the head sees n rows. Where a connection round the
        layer cannot broadcast one row over n, the image is repeated instead.
        """
        single = self.images[image : image + 1]

        def run(images: Tensor, maps: Tensor) -> Tensor:
            replace = lambda _: maps.clone()  # noqa: E731  (an in-place layer must not reach them)
            return run_with_layer(self.model, self.layer, images, replace, self.settings.branch)[1]

        try:
            outputs = run(single, activations)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            outputs = None
        if outputs is None or len(outputs) != len(activations):
            parts = activations.split(self.batch_size)
            outputs = torch.cat([run(single.expand(len(part), -1, -1, -1), part) for part in parts])
        return outputs

    def _batches(self, total: int, size: int) -> Iterator[slice]:
        """Slices that cover range(total), shown as progress."""
        starts = range(0, total, size)
        for start in self.settings.progress(starts) if self.settings.progress else starts:
            yield slice(start, start + size)


def live_channels(activations: Tensor) -> Tensor:
    """Channels of A (N, C, h, w) whose map is not constant, (N, C) bool; the mask of another is empty."""
    return activations.amax((2, 3)) > activations.amin((2, 3))


def first_with_equal_mask(activations: Tensor) -> Tensor:
    """For each channel the first of its image with the same mask, numbered through the batch -> (N, C) long.

    Norm takes scale and offset away: channels that differ by them, among them all that fire in one place only,
    have the same mask. Compared before upsampling, and bit by bit.
    """
    n, c = activations.shape[:2]
    number = torch.arange(n * c, device=activations.device)
    maps = min_max(at_least_float32(activations)).flatten(2).flatten(0, 1)
    # The number of the image sets equal masks of different images apart.
    group = torch.cat([(number // c)[:, None].to(maps), maps], 1).unique(dim=0, return_inverse=True)[1]
    first = torch.full_like(number, n * c).scatter_reduce(0, group, number, "amin")
    return first[group].view(n, c)
