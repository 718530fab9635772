"""The panels: controls, wired by a :class:`workbook.explorer.job.Job` to the work behind them."""

from __future__ import annotations

import base64
import copy
import html
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import nn

from fam_lib.masking import B_HIGH, B_LOW, DELTA
from fam_lib.methods import METHODS, Method
from fam_lib.settings import Progress
from workbook.explorer.job import Job
from workbook.explorer.matches import Matches, RankList, fig_matches, look_at_matches
from workbook.explorer.views import Images, View, fig_views, look, read_picture
from workbook.plots import canvas

NOTHING = "nothing"


def explorer(model: nn.Module, images: Images, *, note: str = "", **options: Any) -> widgets.VBox:
    """The panel for one image: maps, explanation maps and numbers of one method, or of two side by side.

    A map is made once for each choice of image, method, layer and budget; moving a threshold costs one forward. An
    uploaded picture is cut and normalised like the first image. Long work shows its progress and can be cancelled;
    errors are shown in the panel.

    Args:
        model: maps images to features. The panel works on a copy, so that a cell may use the network meanwhile.
        images: name -> (normalised (3, H, W), the same for display (3, H, W) in [0, 1]).
        note: what the data are.
        options: as for :func:`workbook.explorer.views.look`; with ``classifier`` methods that ask for a class are
            offered too.

    Raises:
        ValueError: there is no image.
    """
    model, images, options = copy.deepcopy((model, dict(images), options))
    if not images:
        raise ValueError("explorer needs at least one image")
    offered = _offered(with_classes="classifier" in options)
    target, method = _method_controls(offered, "score-fam")
    controls = {
        "image": _control(widgets.Dropdown, "image", options=list(images)),
        "layer": _layer_control(model),
        "method": method,
        "compare": _control(widgets.Dropdown, "compare with", options=[NOTHING, *offered]),
        "reference": _control(widgets.Dropdown, "other image", options=list(images), value=[*images][-1]),
        "zones": _control(widgets.FloatRangeSlider, "boundaries", value=(B_LOW, B_HIGH), max=1, step=0.01),
        "delta": _control(widgets.FloatSlider, "delta", value=DELTA, max=1, step=0.05),
        "budget": _control(widgets.FloatSlider, "budget", value=1, min=0.05, max=1, step=0.05, continuous_update=False),
    }
    below = widgets.Layout(width="17em", margin="2px 2px 2px 7em")  # under the control itself, not under its name
    upload = widgets.FileUpload(description="upload", accept="image/*", layout=below)
    job, cache = Job(), {}

    def update(_change: object = None) -> None:
        chosen = {name: control.value for name, control in controls.items()}
        both = [name for name in (chosen.pop("method"), chosen.pop("compare")) if name != NOTHING]
        low, high = zones = chosen.pop("zones")
        controls["reference"].disabled = all(METHODS[name].reference != "other" for name in both)
        controls["budget"].disabled = not any(METHODS[name].needs_scores for name in both)
        subject = chosen["image"] + (f" at {chosen['layer']}" if chosen["layer"] else "")

        def work(progress: Progress) -> list[View]:
            settings = {**chosen, **options, "low": low, "high": high, "cache": cache, "progress": progress}
            return [look(model, images, method=name, **settings) for name in both]

        def show(views: list[View]) -> tuple[str, str]:
            figure = fig_views(images[chosen["image"]][1], views, subject, zones, note=note)
            alt = f"{subject}: the image, and for {' and '.join(both)} its map and its explanation map"
            return "<br>".join(html.escape(view.text) for view in views), _as_html(figure, alt)

        job.start(work, show)

    def add(_change: object) -> None:
        for file in upload.value:
            names = chain([file["name"]], (f"{file['name']} ({i})" for i in count(2)))
            title = next(name for name in names if name not in images)
            try:
                images[title] = read_picture(title, bytes(file["content"]), next(iter(images.values())))
            except ValueError as error:
                job.fail(error)
                return
            for control in (controls["reference"], controls["image"]):
                control.options, control.value = list(images), control.value
            controls["image"].value = title

    for control in controls.values():
        control.observe(update, names="value")
    upload.observe(add, names="value")
    update()
    which = [controls["image"], upload, controls["layer"]]
    how = [target, method, controls["compare"], controls["reference"]]
    return _panel([which, how, [controls["zones"], controls["delta"], controls["budget"]]], job)


def match_explorer(model: nn.Module, lists: Mapping[str, RankList], *, note: str = "", **options: Any) -> widgets.VBox:
    """The panel for retrieval: a query, its rank list with a map under each thumbnail, and why one pair matched.

    A map is made once for each choice of query, method and layer, and of the pair where the method compares two.

    Args:
        model: maps images to features. The panel works on a copy.
        lists: name -> rank list, for instance of :func:`workbook.explorer.rank_lists`.
        note: what the data are.
        options: as for ``explain``.

    Raises:
        ValueError: there is no rank list.
    """
    if not lists:
        raise ValueError("match_explorer needs at least one rank list")
    model, options = copy.deepcopy((model, options))
    target, method = _method_controls(_offered(with_classes=False), "grad-ram")
    longest = max(len(ranks.gallery) for ranks in lists.values())
    controls = {
        "query": _control(widgets.Dropdown, "query", options=list(lists)),
        "rank": _control(widgets.IntSlider, "pair: rank", min=1, max=longest, continuous_update=False),
        "layer": _layer_control(model),
        "method": method,
    }
    job, caches = Job(), {name: {} for name in lists}

    def update(_change: object = None) -> None:
        chosen = {name: control.value for name, control in controls.items()}
        query = chosen.pop("query")
        ranks = lists[query]

        def work(progress: Progress) -> Matches:
            settings = {**chosen, **options, "cache": caches[query], "progress": progress}
            return look_at_matches(model, ranks, **settings)

        def show(found: Matches) -> tuple[str, str]:
            figures = fig_matches(ranks, found, chosen["method"], note=note)
            alts = ("the rank list with a map under each image", "the pair with its projection and cosine maps")
            person = "the same identity" if ranks.correct[found.rank - 1] else "another identity"
            similarity = found.similarities[found.rank - 1].item()
            text = f"rank {found.rank} shows {person}; cosine of the two features {similarity:.3f}"
            return text, "".join(map(_as_html, figures, alts))

        job.start(work, show)

    for control in controls.values():
        control.observe(update, names="value")
    update()
    return _panel([[controls["query"], controls["rank"]], [target, method, controls["layer"]]], job)


def _control(kind: type[widgets.Widget], description: str, **settings: Any) -> widgets.Widget:
    """A control with its name before it, all names and all controls equally wide."""
    look = {"style": {"description_width": "7em"}, "layout": widgets.Layout(width="24em")}
    return kind(description=description, **look, **settings)


def _layer_control(model: nn.Module) -> widgets.Widget:
    """Offers the modules at most two levels deep; any other name can be typed."""
    return _control(
        widgets.Combobox,
        "layer",
        placeholder="the last spatial one",
        options=[name for name, _ in model.named_modules() if name and name.count(".") <= 1],
        continuous_update=False,
    )


def _method_controls(offered: list[str], first: str) -> tuple[widgets.Widget, widgets.Widget]:
    """Target and weighting. The value of the second is the method; the first decides what the second offers."""

    def weightings(question: str) -> list[tuple[str, str]]:
        rows = [METHODS[name] for name in offered if _question(METHODS[name]) == question]
        return [(f"{row.name}: {row.weighting.__name__.replace('_', ' ')}", row.name) for row in rows]

    questions, chosen = [_question(METHODS[name]) for name in offered], _question(METHODS[first])
    target = _control(widgets.Dropdown, "target", options=list(dict.fromkeys(questions)), value=chosen)
    method = _control(widgets.Dropdown, "weighting", options=weightings(chosen), value=first)
    target.observe(lambda _: setattr(method, "options", weightings(target.value)), names="value")
    return target, method


def _question(row: Method) -> str:
    """What a method asks for, target and reference, in words."""
    if row.target is None:
        return "none: a control"
    if row.reference == "class":
        return "score of the likeliest class"
    target = {"projection": "projection on", "cosine": "cosine to"}[row.target.__name__]
    return f"{target} {'itself' if row.reference == 'self' else 'another image'}"


def _offered(with_classes: bool) -> list[str]:
    return [name for name, row in METHODS.items() if with_classes or row.reference != "class"]


def _panel(columns: Iterable[Iterable[widgets.Widget]], job: Job) -> widgets.VBox:
    controls = widgets.HBox([widgets.VBox(list(column)) for column in columns])
    controls.layout.flex_flow = "row wrap"  # a narrow window has its columns below one another
    return widgets.VBox([controls, *job.widgets])


def _as_html(figure: Figure, alt: str) -> str:
    """A figure with an alternative text, for which ipywidgets' Image has no place."""
    content = base64.b64encode(canvas.png(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{content}">'
