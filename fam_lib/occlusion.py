"""A truth to hold maps against: what is lost of f(X) when one cell is taken away.

A saliency map says where a feature comes from. Taking a place away and looking what becomes of the feature needs no
map, no weights and no gradient (Zeiler and Fergus, 2014), so it can say whether a map is right, and whether it should
have changed when the network under it was replaced by another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib.capture import evaluating, last_spatial_layer, resolve_layer, run_with_layer
from fam_lib.masking import gaussian_blur
from fam_lib.precision import at_least_float32
from fam_lib.settings import default_batch_size

Measure = Literal["cosine", "projection"]
Run = Callable[[Tensor, Tensor], Tensor]  # images (n,) and the cell that each of them lacks (n,) -> outputs (n, D)


@torch.no_grad()
def occlude_image(
    model: nn.Module,
    images: Tensor,
    grid: tuple[int, int],
    measure: Measure | Sequence[Measure] = "cosine",
    *,
    baseline: Callable[[Tensor], Tensor] = gaussian_blur,
    batch_size: int | None = None,
) -> Tensor:
    """The loss when one rectangle of the image is replaced by the baseline: X_c = B in cell c, X elsewhere.

    With f' = f(X_c) and f = f(X) the loss of cell c is

        "cosine":      1 - cos(f', f),  in [0, 2], what a retrieval by cosine sees;
        "projection":  1 - <f', f> / |f|^2,  the share of the length |f| that is lost along f.

    The second is what the gradient of Grad-FAM (Eq. 8, 9) is about: it explains |f|, which the cosine ignores. Where
    f' = s f the first is 0 and the second 1 - s.

    Pixel (y, x) of H x W is in cell (floor(y h / H), floor(x w / W)): the cells of a map (h, w) behind strides. A cell
    whose pixels equal the baseline's has loss 0 exactly; no forward is spent on it.

    Args:
        model: maps images to features (N, D); run in eval mode and left as it was, on error too.
        images: (N, 3, H, W), normalised as the model wants it.
        grid: (h, w), cells.
        measure: of the loss; several share their forwards.
        baseline: images -> B of the same shape; the default is the blur of Section 4.1.
        batch_size: images in one forward; None chooses by :func:`~fam_lib.settings.default_batch_size`.

    Returns:
        (N, h, w) float32 on the CPU; for a sequence of M measures (M, N, h, w).

    Raises:
        ValueError: grid, measure or batch size does not fit, the baseline has another shape, the model does not
            return (N, D), or a feature f(X) is zero or not finite.
    """
    if not all(1 <= cells <= pixels for cells, pixels in zip(grid, images.shape[-2:], strict=True)):
        raise ValueError(f"grid must have 1 to {tuple(images.shape[-2:])} cells along the sides, got {tuple(grid)}")
    names, size = _check(measure), _batch_size(images, batch_size)
    blank = baseline(at_least_float32(images)).to(images)
    if blank.shape != images.shape:
        raise ValueError(f"baseline must return {tuple(images.shape)} like the images, got {tuple(blank.shape)}")
    y, x = (torch.arange(n, device=images.device) * c // n for n, c in zip(images.shape[-2:], grid, strict=True))
    cell_of = y[:, None] * grid[1] + x  # (H, W)
    live = torch.zeros(len(images), grid[0] * grid[1], device=images.device)
    live.scatter_reduce_(1, cell_of.flatten().expand(len(images), -1), _differs(images, blank).flatten(1), "amax")

    def run(rows: Tensor, cells: Tensor) -> Tensor:
        inside = (cell_of == cells[:, None, None])[:, None]
        return model(torch.where(inside, blank[rows], images[rows]))

    with evaluating(model):
        full = torch.cat([model(part) for part in images.split(size)])
        losses = _losses(run, full, live > 0, names, size)
    return _shaped(losses, grid, measure)


@torch.no_grad()
def occlude_map(
    model: nn.Module,
    images: Tensor,
    layer: str | nn.Module | None = None,
    measure: Measure | Sequence[Measure] = "cosine",
    *,
    branch: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """The loss when one cell of the layer's map A is zero in all channels and the rest of the network runs on it.

    The losses are those of :func:`occlude_image`, with f' = f of the map that lacks the cell. Behind GAP, where
    f = (1/Z) sum_c A_c with A_c (D,) the column of cell c, the projection's loss of cell c is
    <A_c, f> / (Z |f|^2): the map of Grad-FAM (Eq. 9) up to a factor. A cell that is zero has loss 0 exactly.

    Args:
        model: as in :func:`occlude_image`.
        images: as in :func:`occlude_image`.
        layer: dotted name or module whose output (N, C, h, w) is A; None: the last one with a spatial output.
        measure: as in :func:`occlude_image`.
        branch: index of the map, where the layer returns a list of tensors.
        batch_size: as in :func:`occlude_image`.

    Returns:
        (N, h, w) float32 on the CPU; for a sequence of M measures (M, N, h, w).

    Raises:
        ValueError: as in :func:`occlude_image`, or the layer is not one that :func:`fam_lib.explain` takes.
    """
    names, size = _check(measure), _batch_size(images, batch_size)
    with evaluating(model):
        chosen = last_spatial_layer(model, images) if layer is None else resolve_layer(model, layer)
        parts = [run_with_layer(model, chosen, part, branch=branch) for part in images.split(size)]
        activations, full = (torch.cat(kind) for kind in zip(*parts, strict=True))
        grid = tuple(activations.shape[2:])
        cell_of = torch.arange(grid[0] * grid[1], device=images.device).view(grid)

        def run(rows: Tensor, cells: Tensor) -> Tensor:
            inside = (cell_of == cells[:, None, None])[:, None]
            return run_with_layer(model, chosen, images[rows], lambda a: a.masked_fill(inside, 0), branch)[1]

        losses = _losses(run, full, activations.any(1).flatten(1), names, size)
    return _shaped(losses, grid, measure)


def _losses(run: Run, full: Tensor, live: Tensor, names: Sequence[Measure], size: int) -> Tensor:
    """The losses (M, N, cells) of the live cells (N, cells) bool, those of all images in common batches."""
    if full.dim() != 2 or not full.isfinite().all() or not full.any(1).all():
        raise ValueError(f"the model must return finite features (N, D), none of them zero, got {tuple(full.shape)}")
    full, losses = full.double(), torch.zeros(len(names), *live.shape, dtype=torch.float64, device=live.device)
    for pairs in live.nonzero().split(size):
        rows, cells = pairs.T
        outputs, own = run(rows, cells).double(), full[rows]  # 1 - cos cancels: in float32 only 1e-7 would be left
        losses[:, rows, cells] = torch.stack([_LOSSES[name](outputs, own) for name in names])
    return losses


def _cosine_loss(outputs: Tensor, full: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(outputs, full, dim=1)


def _projection_loss(outputs: Tensor, full: Tensor) -> Tensor:
    return 1 - (outputs * full).sum(1) / full.square().sum(1)


_LOSSES = {"cosine": _cosine_loss, "projection": _projection_loss}


def _differs(images: Tensor, blank: Tensor) -> Tensor:
    """1.0 where any colour of a pixel differs, else 0.0 -> (N, H, W)."""
    return (images != blank).any(1).float()


def _shaped(losses: Tensor, grid: Sequence[int], measure: Measure | Sequence[Measure]) -> Tensor:
    maps = losses.float().cpu().unflatten(2, tuple(grid))
    return maps[0] if isinstance(measure, str) else maps


def _check(measure: Measure | Sequence[Measure]) -> list[Measure]:
    names = [measure] if isinstance(measure, str) else list(measure)
    if not names or not set(names) <= set(get_args(Measure)):
        raise ValueError(f"measure must be one or more of {get_args(Measure)}, got {measure!r}")
    return names


def _batch_size(images: Tensor, batch_size: int | None) -> int:
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return batch_size or default_batch_size(images)
