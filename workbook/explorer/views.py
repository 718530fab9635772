"""One image explained and cut by the thresholds of Eq. 14: the work behind the panel, and its picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from fam_lib.explain import Explanation, explain
from fam_lib.faithfulness import retained_area
from fam_lib.features import extract
from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_map, explanation_mask, gaussian_blur
from fam_lib.methods import Method, find_method
from fam_lib.targets import cosine
from workbook import plots

Pair = tuple[Tensor, Tensor]  # an image as the model wants it and the same for display, (3, H, W) both
Images = Mapping[str, Pair]


@dataclass(frozen=True)
class Mapped:
    """What does not change when a threshold moves, for one image, method, layer and budget.

    Attributes:
        explanation: of the one image.
        feature: (1, D), f(X).
        baseline: (1, 3, H, W), B in the model's normalised space.
        baseline_cosine: cosine of f(B) to f(X): what an empty explanation map would score.
    """

    explanation: Explanation
    feature: Tensor
    baseline: Tensor
    baseline_cosine: float


@dataclass(frozen=True)
class View:
    """One image explained by one method and cut by the thresholds of Eq. 14.

    Attributes:
        method: its name.
        reference: name of the other image, where the method compares with one.
        saliency: (H, W) in [0, 1].
        explanation_map: (3, H, W) in [0, 1], what Eq. 14 leaves of the image.
        retained_area: share of the input that Eq. 14 keeps, in [0, 1].
        cosine: of the explanation map's feature to the original's.
        baseline_cosine: of the blurred image's feature to the original's, for comparison.
        flat: the map has no variation, so there is nothing to see in it.
        bound: under a budget, how far the map can be from the map without one at any pixel.
    """

    method: str
    reference: str | None
    saliency: Tensor
    explanation_map: Tensor
    retained_area: float
    cosine: float
    baseline_cosine: float
    flat: bool
    bound: float | None

    @property
    def label(self) -> str:
        """The method, and the image that it compares with."""
        return f"{self.method} against {self.reference}" if self.reference else self.method

    @property
    def text(self) -> str:
        """The numbers in words."""
        return (
            f"{self.method}: retained area {self.retained_area:.0%}; cosine to the original feature {self.cosine:.3f} "
            f"(blurred image {self.baseline_cosine:.3f})"
            + ("" if self.bound is None else f"; no pixel is more than {self.bound:.2f} off the map without a budget")
            + ("; the map is flat: it points at nothing" if self.flat else "")
        )


def look(
    model: nn.Module,
    images: Images,
    image: str,
    method: str = "score-fam",
    layer: str | None = None,
    low: float = B_LOW,
    high: float = B_HIGH,
    delta: float = DELTA,
    *,
    reference: str | None = None,
    budget: float = 1.0,
    cache: MutableMapping[tuple, Mapped] | None = None,
    **options: Any,
) -> View:
    """Explain one image, make its explanation map (Eq. 14) and measure what is left of the feature.

    Args:
        model: maps images to features.
        images: name -> (normalised (3, H, W), the same for display (3, H, W) in [0, 1]).
        image: name of the image to explain.
        method: a name of :data:`fam_lib.methods.METHODS`.
        layer: dotted name; None or empty: the last one with a spatial output.
        low: B_Low of Eq. 14.
        high: B_High of Eq. 14.
        delta: retained proportion in the medium zone.
        reference: name of the other image, for the methods that compare with one.
        budget: share of the channels that a masked-score method scores, in (0, 1].
        cache: filled with what does not depend on the thresholds; pass the same one again.
        options: ``classifier``, ``branch``, ``batch_size``, ``precision``, ``baseline``, ``seed``, ``progress``, as
            for ``explain``.

    Raises:
        ValueError: an unknown name, thresholds out of order, or an image that does not suit the method.
    """
    normalised, display = _pick(images, image, "image")
    if normalised.shape != display.shape:
        raise ValueError(
            f"image {image!r}: the normalised and the displayed one must have the same shape, got "
            f"{tuple(normalised.shape)} and {tuple(display.shape)}"
        )
    row = find_method(method)
    if row.reference != "other":
        reference = None
    elif reference is None:
        raise ValueError(f"{method} compares with another image: choose a reference among {list(images)}")
    other = None if reference is None else _pick(images, reference, "reference")[0]
    # Before the costly part, so that a threshold out of order is refused at once.
    explanation_mask(torch.zeros(1, 1, 1), low, high, delta)
    cache = {} if cache is None else cache
    budget = budget if row.needs_scores else 1.0
    key = (image, method, layer or None, reference, budget)
    if key not in cache:
        cache[key] = _explain(model, normalised, row, layer or None, other, {**options, "budget": budget})
    found = cache[key]

    saliency, bound = found.explanation.saliency, found.explanation.bound
    masked = explanation_map(batch(model, normalised), found.baseline, saliency, low, high, delta)
    return View(
        method=method,
        reference=reference,
        saliency=saliency[0],
        explanation_map=_convert(masked[0], normalised, display).clamp(0, 1),
        retained_area=retained_area(explanation_mask(saliency, low, high, delta)).item(),
        cosine=cosine(extract(model, masked), found.feature).item(),
        baseline_cosine=found.baseline_cosine,
        flat=bool(found.explanation.flat[0]),
        bound=None if bound is None else bound.item(),
    )


def fig_views(
    display: Tensor,
    views: Sequence[View],
    subject: str,
    zones: tuple[float, float] = (B_LOW, B_HIGH),
    *,
    note: str = "",
) -> Figure:
    """The image, and for each view its map and its explanation map, side by side on one scale.

    Args:
        display: (3, H, W) in [0, 1].
        views: of this image.
        subject: what is explained, for the title.
        zones: B_Low and B_High, drawn as contours and on the colour bar.
        note: what the data are.
    """
    cells, heads, captions = [display], ["image"], [""]
    for view in views:
        cells += [(display, view.saliency), view.explanation_map]
        heads += [view.method, "explanation map"]
        captions += [f"area {view.retained_area:.0%}", f"cosine {view.cosine:.3f}"]
    return plots.image_grid(
        [cells],
        column_labels=heads,
        captions=[captions],
        groups=[("", 1), *(("", 2) for _ in views)],
        title=f"{' and '.join(view.label for view in views)} of {subject}",
        note=note,
        zones=zones,
    )


def static_explorer(model: nn.Module, images: Images, image: str, method: str, *, note: str = "") -> Figure:
    """What a reader sees where nothing can be moved: the picture of one method; arguments as for :func:`look`."""
    return fig_views(images[image][1], [look(model, images, image, method)], image, note=note)


def _pick(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in table:
        near = get_close_matches(str(name), table, n=3) or list(table)
        raise ValueError(f"unknown {what} {name!r}; did you mean one of {near}?")
    return table[name]


def batch(network: nn.Module, images: Tensor) -> Tensor:
    """An image (3, H, W) or several (N, 3, H, W) as a batch, where the network's parameters are."""
    parameter = next(network.parameters(), None)
    images = images.reshape(-1, *images.shape[-3:])
    return images if parameter is None else images.to(parameter.device)


def _explain(
    network: nn.Module, image: Tensor, method: Method, layer: str | None, other: Tensor | None, options: dict[str, Any]
) -> Mapped:
    x = batch(network, image)
    reference = None if other is None else extract(network, batch(network, other))
    baseline, feature = options.get("baseline", gaussian_blur)(x), extract(network, x)
    return Mapped(
        explanation=explain(network, x, method, layer, reference=reference, **options),
        feature=feature,
        baseline=baseline,
        baseline_cosine=cosine(extract(network, baseline), feature).item(),
    )


def _convert(image: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Take an image (3, H, W) from the space of one rendering of a picture to that of another.

    Normalised and displayed image differ by x -> (x - mean) / std in each channel: two numbers, found by least
    squares from the pair (source, target), so that nobody has to pass them.
    """
    z, x, y = (values.detach().cpu().double().flatten(1) for values in (image, source, target))
    centred = x - x.mean(1, keepdim=True)
    slope = (centred * y).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp_min(1e-12)
    return ((z - x.mean(1, keepdim=True)) * slope + y.mean(1, keepdim=True)).view_as(image).float()


def read_picture(name: str, content: bytes, like: Pair) -> Pair:
    """A picture of the user's, its middle cut to the shape of another image and normalised alike.

    Raises:
        ValueError: the file is no picture.
    """
    normalised, display = like
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is no picture that can be read; upload a JPEG or PNG file") from error
    fitted = ImageOps.fit(picture, (display.shape[2], display.shape[1]), Image.Resampling.BILINEAR)
    shown = torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 255
    return _convert(shown, display, normalised), shown
