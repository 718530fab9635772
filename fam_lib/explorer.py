"""Panels to explore explanations live: :func:`explorer` for one image, :func:`match_explorer` for a rank list.

:func:`look` and :func:`look_at_matches` do the work and know nothing of widgets; :func:`static_explorer` and
:func:`fig_matches` draw what they return, also for readers without a kernel. The panels wire them to ipywidgets,
which are imported there and nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import html
import io
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from fam_lib import plots
from fam_lib.capture import evaluating
from fam_lib.explain import METHODS, Explainer, Explanation, Method, find_method
from fam_lib.faithfulness import retained_area
from fam_lib.masking import B_HIGH, B_LOW, DELTA, explanation_map, explanation_mask, gaussian_blur
from fam_lib.passes import Progress
from fam_lib.plots import canvas
from fam_lib.targets import cosine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipywidgets import VBox, Widget

    from fam_lib.reid.queries import Queries

Models = nn.Module | Mapping[str, nn.Module]
Pair = tuple[Tensor, Tensor]  # an image as the model wants it and the same for display, (3, H, W) both
Images = Mapping[str, Pair]

PAIR_METHODS = ("grad-ram", "cg-ram")  # the projection on the other image's feature, and the cosine to it
NOTHING = "nothing"


# --- one image --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mapped:
    """What does not change when a threshold moves, for one image, network, method, layer and budget.

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
    budget: float = 1.0,
    cache: MutableMapping[tuple, Mapped] | None = None,
    **options: Any,
) -> View:
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
        budget: share of the channels that a masked-score method scores, in (0, 1].
        cache: filled with what does not depend on the thresholds; pass the same one again.
        options: ``classifier``, ``branch``, ``batch_size``, ``precision``, ``baseline``, ``seed``, ``progress``, as
            for ``explain``.

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
    key = (model, image, method, layer or None, reference, budget)
    if key not in cache:
        cache[key] = _explain(network, normalised, row, layer or None, other, {**options, "budget": budget})
    found = cache[key]

    saliency, bound = found.explanation.saliency, found.explanation.bound
    masked = explanation_map(_batch(network, normalised), found.baseline, saliency, low, high, delta)
    return View(
        method=method,
        reference=reference,
        saliency=saliency[0],
        explanation_map=_convert(masked[0], normalised, display).clamp(0, 1),
        retained_area=retained_area(explanation_mask(saliency, low, high, delta)).item(),
        cosine=cosine(_features(network, masked), found.feature).item(),
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
    style: str = "default",
    note: str = "",
) -> Figure:
    """The image, and for each view its map and its explanation map, side by side on one scale.

    Args:
        display: (3, H, W) in [0, 1].
        views: of this image.
        subject: what is explained, for the title.
        zones: B_Low and B_High, drawn as contours and on the colour bar.
        style: "default" or "paper".
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
        style=style,
        note=note,
        zones=zones,
    )


def static_explorer(
    models: Models,
    images: Images,
    image: str,
    method: str = "score-fam",
    *,
    style: str = "default",
    note: str = "",
    **options: Any,
) -> Figure:
    """What a reader sees where nothing can be moved: the picture of one method; `options` are those of :func:`look`."""
    view = look(models, images, image, method, **options)
    zones = options.get("low", B_LOW), options.get("high", B_HIGH)
    return fig_views(images[image][1], [view], image, zones, style=style, note=note)


# --- a query and its rank list ----------------------------------------------------------------------------


class RankList(NamedTuple):
    """A query and its k nearest gallery images, best first.

    Attributes:
        query: normalised and displayed.
        gallery: k pairs, likewise.
        correct: k flags: the same identity as the query.
    """

    query: Pair
    gallery: Sequence[Pair]
    correct: Sequence[bool]


def rank_lists(queries: Queries, mean: Sequence[float], std: Sequence[float], k: int = 5) -> dict[str, RankList]:
    """The rank lists of Re-ID queries, named by number and identity; no more than the k best of each.

    Args:
        queries: of :func:`fam_lib.reid.queries.load_queries`.
        mean: (3,), of the normalisation; ``model.mean``.
        std: (3,), ``model.std``.
        k: gallery images in a list.
    """
    from fam_lib.reid import load_images, normalise

    size = tuple(queries.images.shape[-2:])
    lists = {}
    for number, best in enumerate(queries.best[:, :k], start=1):
        near = queries.gallery_set.subset(best)
        shown = load_images([queries.image_set.paths[number - 1], *near.paths], size)
        query, *gallery = zip(normalise(shown, mean, std), shown, strict=True)
        identity = int(queries.image_set.ids[number - 1])
        lists[f"query {number}, id {identity}"] = RankList(query, gallery, (near.ids == identity).tolist())
    return lists


@dataclass(frozen=True)
class Matches:
    """A rank list explained: one map for each image, and two for each side of one pair.

    Attributes:
        similarities: (k,), cosine of the query's feature to that of each gallery image.
        saliency: (1 + k, H, W) in [0, 1], the query's map first.
        rank: which gallery image stands in the pair, from 1.
        pair: for each of :data:`PAIR_METHODS` the query explained against the match and the match against the
            query, N = 2.
    """

    similarities: Tensor
    saliency: Tensor
    rank: int
    pair: Mapping[str, Explanation]


def look_at_matches(
    model: nn.Module,
    ranks: RankList,
    method: str = "cg-ram",
    layer: str | None = None,
    rank: int = 1,
    **options: Any,
) -> Matches:
    """Explain a query and its gallery images, and why one of them matched.

    A method that compares with another image explains every gallery image against the query, and the query
    against the image at `rank`; any other method explains each image by itself.

    Args:
        model: maps images to features.
        ranks: the query and its gallery images.
        method: a name of :data:`fam_lib.explain.METHODS`, not one that asks for a class.
        layer: dotted name; None or empty: the last one with a spatial output.
        rank: from 1.
        options: as for ``explain``.

    Raises:
        ValueError: an unknown method or layer, or a rank that the list does not have.
    """
    if not 1 <= rank <= len(ranks.gallery):
        raise ValueError(f"rank must lie in 1..{len(ranks.gallery)}, got {rank}")
    images = _batch(model, torch.stack([ranks.query[0], *(normalised for normalised, _ in ranks.gallery)]))
    features = _features(model, images)
    # Everybody's other image: the query, and for the query the match.
    other = torch.cat([features[rank : rank + 1], features[:1].expand(len(ranks.gallery), -1)])
    reference = other if find_method(method).reference == "other" else None
    ends = [0, rank]
    return Matches(
        similarities=cosine(features[1:], other[1:]).cpu(),
        saliency=Explainer(model, method, layer or None, **options)(images, reference).saliency,
        rank=rank,
        pair={
            name: Explainer(model, name, layer or None, **options)(images[ends], other[ends]) for name in PAIR_METHODS
        },
    )


def fig_matches(
    ranks: RankList, found: Matches, method: str, *, style: str = "default", note: str = ""
) -> list[Figure]:
    """The rank list with a map under each thumbnail, and the pair with its projection and cosine maps."""
    shown = [ranks.query[1], *(display for _, display in ranks.gallery)]
    n = len(ranks.gallery)
    flat = [["flat map" if e.flat[i] else f"{e.target[i]:.2f}" for e in found.pair.values()] for i in range(2)]
    ends = [shown[0], shown[found.rank]]
    pair = [[end, *((end, e.saliency[i]) for e in found.pair.values())] for i, end in enumerate(ends)]
    return [
        plots.image_grid(
            [shown, list(zip(shown, found.saliency, strict=True))],
            column_labels=["query", *(f"rank {i}" for i in range(1, n + 1))],
            captions=[["", *(f"cosine {s:.2f}" for s in found.similarities)], [""] * (n + 1)],
            frames=[[None, *ranks.correct], [None] * (n + 1)],
            groups=[("", 1), ("", n)],
            title=f"The rank list, and {method} of every image",
            style=style,
            note=note,
        ),
        plots.image_grid(
            pair,
            row_labels=["query, against the match", f"rank {found.rank}, against the query"],
            column_labels=["image", "projection (grad-ram)", "cosine (cg-ram)"],
            captions=[["", *row] for row in flat],
            title="Why this pair: what in each image makes it like the other",
            style=style,
            note=note,
        ),
    ]


# --- the panels -------------------------------------------------------------------------------------------


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
    """The panel for one image: maps, explanation maps and numbers of one method, or of two side by side.

    A map is made once for each choice of image, network, method, layer and budget; moving a threshold costs one
    forward. An uploaded picture is cut and normalised like the first image. Long work shows its progress and can
    be cancelled; errors are shown in the panel.

    Args:
        models: a network that maps images to features, or several by name. The panel works on a copy, so that a
            cell may use the network meanwhile.
        images: name -> (normalised (3, H, W), the same for display (3, H, W) in [0, 1]).
        methods: names offered; default: all, those that ask for a class only with the option ``classifier``.
        layers: dotted names offered; any other can be typed. Default: the network's outer modules.
        style: "default" or "paper".
        note: what the data are.
        options: as for :func:`look`.

    Raises:
        ValueError: there is no model or no image, or a method is unknown.
        ImportError: ipywidgets is not installed.
    """
    import ipywidgets as widgets

    networks, images, options = copy.deepcopy((_named(models), dict(images), options))
    if not networks or not images:
        raise ValueError("explorer needs at least one model and one image")
    offered = _offered(methods, with_classes="classifier" in options)
    job, cache = Job(), {}
    target, method = _method_controls(offered, "score-fam")
    choices = {
        "image": _dropdown("image", list(images)),
        "model": _dropdown("network", list(networks)),
        "layer": _layer_control(networks, layers),
        "method": method,
        "compare": _dropdown("compare with", [NOTHING, *offered]),
        "reference": _dropdown("other image", list(images), value=list(images)[-1]),
        "zones": widgets.FloatRangeSlider(description="B_Low, B_High", value=(B_LOW, B_HIGH), **_slider(0, 0.01)),
        "delta": widgets.FloatSlider(description="delta", value=DELTA, **_slider(0, 0.05)),
        "budget": widgets.FloatSlider(description="budget", value=1.0, **_slider(0.05, 0.05)),
    }
    upload = widgets.FileUpload(description="upload", accept="image/*", tooltip="a picture of your own")

    def update(_change: object = None) -> None:
        chosen = {name: control.value for name, control in choices.items()}
        names = [name for name in (chosen.pop("method"), chosen.pop("compare")) if name != NOTHING]
        zones = chosen.pop("zones")
        rows = [METHODS[name] for name in names]
        choices["reference"].disabled = all(row.reference != "other" for row in rows)
        choices["budget"].disabled = not any(row.needs_scores for row in rows)
        subject = chosen["image"] + (f" in {chosen['model']}" if len(networks) > 1 else "")
        subject += f" at {chosen['layer']}" if chosen["layer"] else ""

        def work(progress: Progress) -> list[View]:
            low, high = zones
            fixed = {**chosen, **options, "low": low, "high": high, "cache": cache, "progress": progress}
            return [look(networks, images, method=name, **fixed) for name in names]

        def show(views: list[View]) -> tuple[str, str]:
            display = images[chosen["image"]][1]
            figure = fig_views(display, views, subject, zones, style=style, note=note)
            return "<br>".join(html.escape(view.text) for view in views), _as_html(figure, views[0].label)

        job.start(work, show)

    def add(_change: object) -> None:
        for file in upload.value:
            try:
                images[file["name"]] = _read_upload(file["name"], bytes(file["content"]), next(iter(images.values())))
            except ValueError as error:
                return job.fail(error)
            for name in ("image", "reference"):
                with choices[name].hold_trait_notifications():
                    value, choices[name].options = choices[name].value, list(images)
                    choices[name].value = value
            cache.clear()  # a picture of the same name may have been there
            choices["image"].value = file["name"]

    for control in choices.values():
        control.observe(update, names="value")
    upload.observe(add, names="value")
    update()
    left = ["image", "model", "layer"] if len(networks) > 1 else ["image", "layer"]
    columns = [
        [choices["image"], upload, *(choices[name] for name in left[1:])],
        [target, method, choices["compare"], choices["reference"]],
        [choices["zones"], choices["delta"], choices["budget"]],
    ]
    return widgets.VBox([_flow(map(widgets.VBox, columns)), *job.widgets])


def match_explorer(
    model: nn.Module,
    lists: Mapping[str, RankList],
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    *,
    style: str = "default",
    note: str = "",
    **options: Any,
) -> VBox:
    """The panel for retrieval: a query, its rank list with a map under each thumbnail, and why one pair matched.

    Args:
        model: maps images to features. The panel works on a copy.
        lists: name -> rank list, for instance of :func:`rank_lists`.
        methods: names offered; default: all but those that ask for a class.
        layers: dotted names offered; any other can be typed. Default: the network's outer modules.
        style: "default" or "paper".
        note: what the data are.
        options: as for ``explain``.

    Raises:
        ValueError: there is no rank list, or a method is unknown.
        ImportError: ipywidgets is not installed.
    """
    import ipywidgets as widgets

    if not lists:
        raise ValueError("match_explorer needs at least one rank list")
    model, options = copy.deepcopy((model, options))
    target, method = _method_controls(_offered(methods, with_classes=False), "cg-ram")
    job, longest = Job(), max(len(ranks.gallery) for ranks in lists.values())
    choices = {
        "query": _dropdown("query", list(lists)),
        "rank": widgets.IntSlider(description="pair: rank", min=1, max=longest, continuous_update=False, **_look()),
        "layer": _layer_control({"model": model}, layers),
        "method": method,
    }

    def update(_change: object = None) -> None:
        chosen = {name: control.value for name, control in choices.items()}
        ranks = lists[chosen.pop("query")]

        def show(found: Matches) -> tuple[str, str]:
            figures = fig_matches(ranks, found, chosen["method"], style=style, note=note)
            similarity = found.similarities[found.rank - 1].item()
            person = "the same identity" if ranks.correct[found.rank - 1] else "another identity"
            text = f"rank {found.rank} is {person}; cosine of the two features {similarity:.3f}"
            return text, "".join(map(_as_html, figures, ("rank list with maps", "projection and cosine maps")))

        job.start(lambda progress: look_at_matches(model, ranks, **chosen, **{**options, "progress": progress}), show)

    for control in choices.values():
        control.observe(update, names="value")
    update()
    columns = [[choices["query"], choices["rank"]], [target, method, choices["layer"]]]
    return widgets.VBox([_flow(map(widgets.VBox, columns)), *job.widgets])


class Job:
    """One computation at a time beside the kernel's event loop, so that the panel stays alive meanwhile.

    A new computation takes the place of the running one. Where no event loop runs (a script, a test) the work is
    done in place.

    Attributes:
        widgets: progress with a button to cancel, the message, the picture.
    """

    def __init__(self) -> None:
        import ipywidgets as widgets

        self._bar = widgets.IntProgress(description="progress", **_look())
        self._button = widgets.Button(description="cancel", icon="stop")
        self._message, self._picture = widgets.HTML(), widgets.HTML()
        self._button.on_click(lambda _: self.cancel())
        self._stop, self._lock = Event(), Lock()
        self.widgets: list[Widget] = [_flow([self._bar, self._button]), self._message, self._picture]

    def start(self, work: Callable[[Progress], Any], show: Callable[[Any], tuple[str, str]]) -> None:
        """Do the work, then show its result.

        Args:
            work: is given what ``explain`` takes as ``progress``; may run in a thread.
            show: result -> HTML of the message and of the picture; runs in the kernel's thread.
        """
        self._stop.set()
        stop = self._stop = Event()
        self._bar.value, self._bar.max, self._button.disabled = 0, 1, False
        self._message.value = "explaining ..."
        try:
            back = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:
            self._run(work, show, stop, lambda function, *arguments: function(*arguments))
        else:
            # A daemon: a kernel that is shut down does not wait for it.
            Thread(target=self._run, args=(work, show, stop, back), daemon=True).start()

    def cancel(self) -> None:
        """Give up what is running: it ends at its next batch."""
        self._stop.set()
        self._end("cancelled; any change of a control starts again")

    def fail(self, error: Exception) -> None:
        """Give up, and say why."""
        self._stop.set()
        self._end(f"<b>{type(error).__name__}:</b> {html.escape(str(error))}")

    def _run(self, work: Callable, show: Callable, stop: Event, back: Callable) -> None:
        """Work, in a thread; `back` calls a function in the kernel's thread, where the widgets are."""
        try:
            with self._lock:  # hooks of two computations on one network would meet
                result = work(lambda steps: self._watched(steps, stop, back))
        except Exception as error:  # a traceback would be lost, so whatever it is goes on the panel
            back(self._finish, stop, self.fail, error)
        else:
            back(self._finish, stop, self._show, show, result)

    def _watched(self, steps: Sequence, stop: Event, back: Callable) -> Iterator:
        for done, step in enumerate(steps):
            if stop.is_set():
                raise CancelledError
            back(self._finish, stop, self._advance, done, len(steps))
            yield step

    def _finish(self, stop: Event, function: Callable, *arguments: Any) -> None:
        """Call the function, unless the computation that asks for it has been given up."""
        if not stop.is_set():
            function(*arguments)

    def _advance(self, done: int, total: int) -> None:
        self._bar.max, self._bar.value = total, done

    def _show(self, show: Callable[[Any], tuple[str, str]], result: Any) -> None:
        try:
            self._end(*show(result))
        except Exception as error:
            self.fail(error)

    def _end(self, message: str, picture: str = "") -> None:
        self._bar.value, self._button.disabled = 0, True
        self._message.value, self._picture.value = message, picture


# --- controls ---------------------------------------------------------------------------------------------


def _look() -> dict[str, Any]:
    import ipywidgets as widgets

    return {"style": {"description_width": "7em"}, "layout": widgets.Layout(width="24em")}


def _slider(low: float, step: float) -> dict[str, Any]:
    return {"min": low, "max": 1, "step": step, "continuous_update": False, **_look()}


def _dropdown(description: str, options: Sequence, value: str | None = None) -> Widget:
    import ipywidgets as widgets

    return widgets.Dropdown(description=description, options=options, value=value or options[0], **_look())


def _layer_control(networks: Mapping[str, nn.Module], layers: Sequence[str] | None) -> Widget:
    import ipywidgets as widgets

    return widgets.Combobox(
        description="layer",
        placeholder="the last spatial one",
        options=_outer_layers(networks) if layers is None else list(layers),
        continuous_update=False,
        **_look(),
    )


def _method_controls(offered: Sequence[str], preferred: str) -> tuple[Widget, Widget]:
    """Target and weighting. The value of the second is the method; the first chooses what the second offers."""
    first = preferred if preferred in offered else offered[0]
    questions = list(dict.fromkeys(_question(METHODS[name]) for name in offered))
    target = _dropdown("target", questions, _question(METHODS[first]))

    def weightings() -> list[tuple[str, str]]:
        rows = [METHODS[name] for name in offered if _question(METHODS[name]) == target.value]
        return [(f"{row.weighting.__name__.replace('_', ' ')}: {row.name}", row.name) for row in rows]

    method = _dropdown("weighting", weightings(), first)
    target.observe(lambda _: setattr(method, "options", weightings()), names="value")
    return target, method


def _question(row: Method) -> str:
    """What a method asks, its target and reference, in words."""
    if row.reference is None:
        return "none: a control"
    if row.reference == "class":
        return "class score"
    target = {"projection": "projection on", "cosine": "cosine to"}[row.target.__name__]
    return f"{target} {'itself' if row.reference == 'self' else 'another image'}"


def _offered(methods: Sequence[str] | None, with_classes: bool) -> list[str]:
    if methods is None:
        return [name for name, row in METHODS.items() if with_classes or row.reference != "class"]
    return [find_method(name).name for name in methods]


def _outer_layers(networks: Mapping[str, nn.Module]) -> list[str]:
    """Names of modules at most two levels deep, in the networks' order."""
    names = (name for network in networks.values() for name, _ in network.named_modules())
    return list(dict.fromkeys(name for name in names if name and name.count(".") <= 1))


def _flow(children: Any) -> Widget:
    import ipywidgets as widgets

    return widgets.HBox(list(children), layout=widgets.Layout(flex_flow="row wrap"))


def _as_html(figure: Figure, alt: str) -> str:
    """A figure that a screen reader can announce, which ipywidgets' Image is not."""
    content = base64.b64encode(canvas.png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{content}">'


# --- plumbing ---------------------------------------------------------------------------------------------


def _named(models: Models) -> dict[str, nn.Module]:
    return {"model": models} if isinstance(models, nn.Module) else dict(models)


def _pick(table: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in table:
        near = get_close_matches(str(name), table, n=3) or list(table)
        raise ValueError(f"unknown {what} {name!r}; did you mean one of {near}?")
    return table[name]


def _batch(network: nn.Module, images: Tensor) -> Tensor:
    """An image (3, H, W) or several (N, 3, H, W) as a batch, where the network's parameters are."""
    parameter = next(network.parameters(), None)
    images = images.view(-1, *images.shape[-3:])
    return images if parameter is None else images.to(parameter.device)


def _features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(network):
        return network(images).float()


def _explain(
    network: nn.Module, image: Tensor, method: Method, layer: str | None, other: Tensor | None, options: dict[str, Any]
) -> Mapped:
    x = _batch(network, image)
    reference = None if other is None else _features(network, _batch(network, other))
    baseline, feature = options.get("baseline", gaussian_blur)(x), _features(network, x)
    return Mapped(
        explanation=Explainer(network, method, layer, **options)(x, reference),
        feature=feature,
        baseline=baseline,
        baseline_cosine=cosine(_features(network, baseline), feature).item(),
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


def _read_upload(name: str, content: bytes, like: Pair) -> Pair:
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
