"""A panel to explore explanations: choose image, method and layer, and move the thresholds of Eq. 14.

:func:`explorer_state` does the work and knows nothing of widgets; :func:`static_explorer` is its figure, for
readers without a kernel; :func:`explorer` wires it to ipywidgets, which are imported there and nowhere else.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fam_lib import plots
from fam_lib.capture import evaluating
from fam_lib.explain import METHODS, Explainer, find_method
from fam_lib.faithfulness import retained_area
from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_map, explanation_mask, gaussian_blur
from fam_lib.plots import canvas
from fam_lib.targets import cosine

if TYPE_CHECKING:
    from ipywidgets import VBox

Models = nn.Module | Mapping[str, nn.Module]
Images = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Explained:
    """What does not change when a threshold moves, for one image, method and layer.

    Attributes:
        saliency: (1, H, W) in [0, 1].
        flat: the map has no variation.
        feature: (1, D), f(X).
        baseline: (1, 3, H, W), B in the model's normalised space.
        baseline_cosine: cosine of f(B) to f(X): what an empty explanation map would score.
    """

    saliency: Tensor
    flat: bool
    feature: Tensor
    baseline: Tensor
    baseline_cosine: float


@dataclass(frozen=True)
class ExplorerState:
    """What the panel shows for one choice.

    Attributes:
        figure: image, overlay and explanation map side by side.
        saliency: (H, W) in [0, 1].
        retained_area: share of the input that Eq. 14 keeps, in [0, 1].
        cosine: of the explanation map's feature to the original's.
        baseline_cosine: of the blurred image's feature to the original's, for comparison.
        flat: the map has no variation, so there is nothing to see in it.
    """

    figure: Figure
    saliency: Tensor
    retained_area: float
    cosine: float
    baseline_cosine: float
    flat: bool

    @property
    def text(self) -> str:
        """The numbers in words."""
        return (
            f"retained area {self.retained_area:.0%}; cosine to the original feature {self.cosine:.3f} "
            f"(blurred image {self.baseline_cosine:.3f})"
            + ("; the map is flat: it points at nothing" if self.flat else "")
        )


def explorer_state(
    models: Models,
    images: Images,
    image: str,
    method: str = "score-fam",
    layer: str | None = None,
    low: float = B_LOW,
    high: float = B_HIGH,
    delta: float = DELTA,
    *,
    model: str | None = None,
    reference: str | None = None,
    cache: MutableMapping[tuple, Explained] | None = None,
    style: str = "default",
    note: str = "",
    **options: Any,
) -> ExplorerState:
    """Explain one image, make its explanation map (Eq. 14) and measure what is left of the feature.

    Args:
        models: a network that maps images to features, or several by name.
        images: name -> (normalised (3, H, W), the same for display (3, H, W) in [0, 1]).
        image: name of the image to explain.
        method: a name of :data:`fam_lib.explain.METHODS`.
        layer: dotted name; None or empty: the last one with a spatial output.
        low: B_Low of Eq. 14.
        high: B_High of Eq. 14.
        delta: retained proportion in the medium zone.
        model: name of the network, where there are several; default: the first.
        reference: name of the other image, for the methods that compare with one.
        cache: filled with what does not depend on the thresholds; pass the same one again.
        style: "default" or "paper".
        note: what the data are.
        options: ``branch``, ``batch_size``, ``precision``, ``baseline``, ``seed``, as for ``explain``.

    Raises:
        ValueError: an unknown name, thresholds out of order, or an image that does not suit the method.
    """
    networks = _named(models)
    model = next(iter(networks)) if model is None else model
    network = _pick(networks, model, "model")
    normalised, display = _pick(images, image, "image")
    if normalised.shape != display.shape:
        raise ValueError(
            f"image {image!r}: the normalised and the displayed one must have the same shape, got "
            f"{tuple(normalised.shape)} and {tuple(display.shape)}"
        )
    cache = {} if cache is None else cache
    wants_other = find_method(method).reference == "other"
    if wants_other and reference is None:
        raise ValueError(f"{method} compares with another image: choose a reference among {list(images)}")
    other = _pick(images, reference, "reference")[0] if wants_other else None
    key = (model, image, method, layer or None, reference if wants_other else None)
    # Before the costly part, so that a threshold out of order is refused at once.
    explanation_mask(torch.zeros(1, 1, 1), low, high, delta)
    if key not in cache:
        cache[key] = _explain(network, normalised, method, layer or None, other, options)
    found = cache[key]

    x = _batch(network, normalised)
    masked = explanation_map(x, found.baseline, found.saliency, low, high, delta)
    area = retained_area(explanation_mask(found.saliency, low, high, delta)).item()
    similarity = cosine(_features(network, masked), found.feature).item()
    figure = plots.image_grid(
        [[display, (display, found.saliency[0]), _for_display(masked[0], normalised, display)]],
        column_labels=["image", method, "explanation map"],
        captions=[["", f"area {area:.0%}", f"cosine {similarity:.3f}"]],
        title=_title(image, method, layer, model if len(networks) > 1 else None, reference if wants_other else None),
        style=style,
        note=note,
        zones=(low, high),
    )
    return ExplorerState(figure, found.saliency[0], area, similarity, found.baseline_cosine, found.flat)


def static_explorer(models: Models, images: Images, image: str, method: str = "score-fam", **options: Any) -> Figure:
    """The figure of :func:`explorer_state`: what a reader sees where nothing can be moved."""
    return explorer_state(models, images, image, method, **options).figure


def explorer(
    models: Models,
    images: Images,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    *,
    style: str = "default",
    note: str = "",
    **options: Any,
) -> VBox:
    """The panel: image, method, layer and the thresholds of Eq. 14; overlay, explanation map and numbers.

    A saliency map is made once for each image, method and layer; moving a threshold costs one forward.
    Errors are shown in the panel.

    Args:
        models: a network that maps images to features, or several by name.
        images: name -> (normalised (3, H, W), the same for display (3, H, W) in [0, 1]).
        methods: names offered; default: all that explain a feature. Class methods need a network that returns
            logits.
        layers: dotted names offered; any other can be typed. Default: the network's outer modules.
        style: "default" or "paper".
        note: what the data are.
        options: as for :func:`explorer_state`.

    Raises:
        ValueError: there is no model or no image, or a method is unknown.
        ImportError: ipywidgets is not installed.
    """
    import ipywidgets as widgets

    networks = _named(models)
    if not networks or not images:
        raise ValueError("explorer needs at least one model and one image")
    offered = [name for name, m in METHODS.items() if m.reference != "class"] if methods is None else methods
    for name in offered:
        find_method(name)
    controls = _controls(networks, list(images), list(offered), layers)
    message, picture = widgets.HTML(), widgets.Image(format="png")
    cache: dict[tuple, Explained] = {}

    def update(_change: object = None) -> None:
        chosen = {name: control.value for name, control in controls.items()}
        controls["reference"].disabled = METHODS[chosen["method"]].reference != "other"
        low, high = chosen.pop("zones")
        message.value = "explaining ..."
        try:
            state = explorer_state(
                networks, images, low=low, high=high, cache=cache, style=style, note=note, **chosen, **options
            )
            picture.value, message.value = canvas.png(state.figure), html.escape(state.text)
        except Exception as error:  # the traceback of a callback is lost, so whatever it is goes on the panel
            picture.value = b""
            message.value = f"<b>{type(error).__name__}:</b> {html.escape(str(error))}"

    for control in controls.values():
        control.observe(update, names="value")
    update()
    choices = [controls[name] for name in ("model", "image", "method", "reference", "layer")]
    choices = choices if len(networks) > 1 else choices[1:]
    sliders = [controls["zones"], controls["delta"]]
    return widgets.VBox([widgets.HBox([widgets.VBox(choices), widgets.VBox(sliders)]), message, picture])


def _controls(
    networks: Mapping[str, nn.Module], images: list[str], methods: list[str], layers: Sequence[str] | None
) -> dict[str, Any]:
    """The panel's controls, by the names of what they set in :func:`explorer_state`."""
    import ipywidgets as widgets

    look = {"style": {"description_width": "8em"}, "layout": widgets.Layout(width="26em")}
    slider = {"min": 0, "max": 1, "continuous_update": False, **look}
    return {
        "model": widgets.Dropdown(description="model", options=list(networks), **look),
        "image": widgets.Dropdown(description="image", options=images, **look),
        "method": widgets.Dropdown(
            description="method",
            options=methods,
            value="score-fam" if "score-fam" in methods else methods[0],
            **look,
        ),
        "reference": widgets.Dropdown(description="reference", options=images, value=images[-1], **look),
        "layer": widgets.Combobox(
            description="layer",
            placeholder="the last spatial one",
            options=_outer_layers(networks) if layers is None else list(layers),
            continuous_update=False,
            **look,
        ),
        "zones": widgets.FloatRangeSlider(description="B_Low, B_High", value=(B_LOW, B_HIGH), step=0.01, **slider),
        "delta": widgets.FloatSlider(description="delta", value=DELTA, step=0.05, **slider),
    }


def _named(models: Models) -> dict[str, nn.Module]:
    return {"model": models} if isinstance(models, nn.Module) else dict(models)


def _pick(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in table:
        near = get_close_matches(str(name), table, n=3) or list(table)
        raise ValueError(f"unknown {what} {name!r}; did you mean one of {near}?")
    return table[name]


def _outer_layers(networks: Mapping[str, nn.Module]) -> list[str]:
    """Names of modules at most two levels deep, in the networks' order."""
    names = (name for network in networks.values() for name, _ in network.named_modules())
    return list(dict.fromkeys(name for name in names if name and name.count(".") <= 1))


def _batch(network: nn.Module, image: Tensor) -> Tensor:
    """One image as a batch, where the network's parameters are."""
    parameter = next(network.parameters(), None)
    return image[None] if parameter is None else image[None].to(parameter.device)


def _features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(network):
        return network(images).float()


def _explain(
    network: nn.Module,
    image: Tensor,
    method: str,
    layer: str | None,
    other: Tensor | None,
    options: Mapping[str, Any],
) -> Explained:
    x = _batch(network, image)
    reference = None if other is None else _features(network, _batch(network, other))
    explanation = Explainer(network, method, layer, **options)(x, reference)
    baseline = options.get("baseline", gaussian_blur)(x)
    feature = _features(network, x)
    return Explained(
        saliency=explanation.saliency,
        flat=bool(explanation.flat[0]),
        feature=feature,
        baseline=baseline,
        baseline_cosine=cosine(_features(network, baseline), feature).item(),
    )


def _for_display(masked: Tensor, normalised: Tensor, display: Tensor) -> Tensor:
    """Undo the normalisation of an image, (3, H, W), as read off a pair of normalised and displayed image.

    The normalisation is x -> (x - mean) / std in each channel: two numbers, found by least squares.
    """
    x, y, z = (image.detach().cpu().double().flatten(1) for image in (normalised, display, masked))
    centred = x - x.mean(1, keepdim=True)
    slope = (centred * y).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp_min(1e-12)
    shown = (z - x.mean(1, keepdim=True)) * slope + y.mean(1, keepdim=True)
    return shown.clamp(0, 1).view_as(display)


def _title(image: str, method: str, layer: str | None, model: str | None, reference: str | None) -> str:
    parts = [f"{method} of {image}"]
    parts += [f"against {reference}"] if reference else []
    parts += [f"in {model}"] if model else []
    parts += [f"at {layer}"] if layer else []
    return " ".join(parts)
