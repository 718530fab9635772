"""Figures of numbers: weights, correlations, the scores of Table 2, insertion and deletion curves.

Arrays or tables in, a figure out. ``note`` says what the data are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fam_lib.similarity import pearson
from workbook.plots import canvas, style
from workbook.plots.canvas import LINE, MARGIN, axes_at, text_at, text_width, wrap
from workbook.plots.overlays import Array, same_length, to_numpy
from workbook.plots.style import FONT, GREY, PAGE_WIDTH, ZONES

KIND_LABELS = {"paper": "in the paper", "grid": "new in the grid", "control": "control"}
KIND_MARKERS = {"paper": "o", "grid": "D", "control": "s"}
KIND_COLOURS = {"paper": style.BLUE, "grid": style.RED, "control": GREY}
METRIC_PANEL = 2.7  # height in inches
METRICS = {"as_drop": "AS drop (%)", "ap_drop": "AP drop (%)"}  # one panel each, lower is better in both


def find_kinds(methods: Sequence[str], kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """Kind of each method, from :data:`fam_lib.methods.METHODS` where the caller says nothing."""
    if kinds is None:
        from fam_lib.methods import METHODS

        kinds = {name: method.kind for name, method in METHODS.items()}
    found = {name: kinds.get(name, "grid") for name in methods}
    if unknown := sorted(set(found.values()) - set(KIND_LABELS)):
        raise ValueError(f"kinds must be among {list(KIND_LABELS)}, got {unknown}")
    return found


def effective_channels(weights: Array) -> float:
    """exp(entropy) of weights that sum to one: C for uniform weights, 1 for a single channel."""
    values = to_numpy(weights)
    positive = values[values > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


@style.context()
def fig_weights(similarities: Array, weights: Array, note: str = "") -> Figure:
    """Two histograms over channels: S_k on its full range, and a_k times C, whose uniform value is 1.

    Args:
        similarities: (C,), S_k of Eq. 10.
        weights: (C,), a_k of Eq. 13, summing to one.
        note: what the data are.

    Raises:
        ValueError: the lengths differ, or the weights do not sum to one.
    """
    same_length(similarities=similarities, weights=weights)
    scores, alphas = to_numpy(similarities), to_numpy(weights)
    if abs(alphas.sum() - 1) > 1e-3:
        raise ValueError(f"weights must sum to 1, got {alphas.sum():.4g}")
    relative = alphas * len(alphas)
    fig, top = canvas.page(PAGE_WIDTH, 2.9, "What the softmax of Eq. 13 makes of the similarities", note)
    left, right = (axes_at(fig, x, top + 0.45, 2.85, 1.85) for x in (0.6, 4.15))
    left.hist(scores, bins=np.linspace(-1, 1, 41), color=style.BLUE)
    left.set(xlim=(-1, 1), xlabel="$S_k$", ylabel="channels")
    left.set_title("(a) increase of similarity, Eq. 10", loc="left")
    reach = max(2.0, float(relative.max()) * 1.05)
    right.hist(relative, bins=np.linspace(0, reach, 41), color=style.BLUE)
    right.axvline(1, color=style.RED, linestyle="--")
    right.set(xlim=(0, reach), xlabel="$C\\,a_k$   (1 = uniform, dashed)", ylabel="channels")
    near = float((np.abs(relative - 1) <= 0.25).mean())
    share = effective_channels(alphas) / len(alphas)
    text = f"(b) weight, Eq. 13: {near:.0%} of channels within 25% of uniform, effective channels {share:.0%}"
    right.set_title(wrap(text, 2.9), loc="left")
    return fig


def _pearson(first: Array, second: Array) -> np.ndarray:
    return pearson(*map(torch.as_tensor, (first, second))).numpy()


@style.context()
def fig_agreement(saliencies: Mapping[str, Array], note: str = "") -> Figure:
    """How alike the maps of every two methods are: Pearson's r, averaged over the images.

    Args:
        saliencies: method -> (N, H, W); a method all of whose maps are flat is left out.
        note: what the data are.
    """
    methods = [name for name, maps in saliencies.items() if np.ptp(to_numpy(maps)) > 0]
    pairs = [[np.nanmean(_pearson(saliencies[a], saliencies[b])) for b in methods] for a in methods]
    table = pd.DataFrame(pairs, index=methods, columns=methods)
    side = 0.42 * len(methods)
    fig, top = canvas.page(PAGE_WIDTH, side + 1.35, "Which methods draw the same map?", note)
    ax = axes_at(fig, 1.3, top + 0.1, side, side)
    bar = axes_at(fig, 1.5 + side, top + 0.1, 0.15, side)
    sns.heatmap(table, vmin=-1, vmax=1, cmap="vlag", annot=True, fmt=".2f", annot_kws={"size": 7}, ax=ax, cbar_ax=bar)
    ax.set_xticks(ax.get_xticks(), methods, rotation=45, ha="right")
    bar.set_ylabel("mean correlation over images")
    return fig


@style.context()
def fig_correlation(score_fam: Array, uniform: Array, note: str = "") -> Figure:
    """(a) the maps of Score-FAM and the mean activation, pixel against pixel; (b) their correlation for each image.

    Args:
        score_fam: (N, H, W) in [0, 1].
        uniform: (N, H, W) in [0, 1], of the same images.
        note: what the data are.

    Raises:
        ValueError: the shapes differ or every pair has a flat map.
    """
    r = _pearson(score_fam, uniform)
    known = np.sort(r[np.isfinite(r)])
    if not len(known):
        raise ValueError("every pair has a flat map: there is no correlation to show")
    fig, top = canvas.page(PAGE_WIDTH, 3.2, "Score-FAM against the plain mean of the activations", note)
    left, right = axes_at(fig, 0.6, top + 0.3, 2.35, 2.35), axes_at(fig, 4.45, top + 0.3, 2.6, 2.35)
    x, y = (to_numpy(maps).ravel() for maps in (uniform, score_fam))
    counts = left.hist2d(x, y, bins=50, range=[[0, 1], [0, 1]], cmap="Greys", norm="log")[3]
    left.plot([0, 1], [0, 1], color=style.RED, linestyle="--", linewidth=1)
    ticks = [0, *ZONES, 1]
    left.set(xlabel="uniform", ylabel="score-fam", xticks=ticks, yticks=ticks, aspect="equal")
    left.set_title("(a) all pixels; dashed: equal maps", loc="left")
    bar = fig.colorbar(counts, cax=axes_at(fig, 3.05, top + 0.3, 0.1, 2.35))
    bar.set_label("pixels")
    right.plot(known, np.arange(1, len(known) + 1), "o", color=style.BLUE, markersize=5)
    median = float(np.median(known))
    right.axvline(median, color=style.RED, linestyle="--", linewidth=1)
    right.set(xlabel=f"Pearson's r   (median {median:.3f}, dashed)", ylabel="images, by rising r")
    right.set_xlim(min(0.0, float(known[0]) - 0.05), 1.02)
    right.yaxis.get_major_locator().set_params(integer=True)
    flat = len(r) - len(known)
    right.set_title("(b) one dot an image" + (f" ({flat} flat, left out)" if flat else ""), loc="left")
    return fig


def _kind_handles(kinds: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", label=KIND_LABELS[kind], **_kind_marker(kind))
        for kind in KIND_LABELS
        if kind in kinds
    ]


def _kind_marker(kind: str) -> dict[str, Any]:
    """Marker of a kind: shape and filling tell it, colour only helps."""
    colour = KIND_COLOURS[kind]
    return {
        "marker": KIND_MARKERS[kind],
        "color": colour,
        "markersize": 6,
        "markerfacecolor": "white" if kind == "control" else colour,
    }


@style.context()
def fig_metrics(table: pd.DataFrame | Sequence[Mapping[str, Any]], note: str = "") -> Figure:
    """Table 2 as a picture: AS and AP drop against the retained area, with intervals, every method named.

    Args:
        table: rows with the columns method, kind, retained_area, and for both metrics m: m, m_lo, m_hi, all in
            percent and of one data set. A method whose score is undefined (NaN) is named below the panels.
        note: what the data are.

    Raises:
        ValueError: a column is missing, there is more than one data set, or a kind is unknown.
    """
    rows = pd.DataFrame(table)
    wanted = ["method", "kind", "retained_area", *(m + end for m in METRICS for end in ("", "_lo", "_hi"))]
    if missing := [column for column in wanted if column not in rows]:
        raise ValueError(f"table lacks the columns {missing}")
    if "dataset" in rows and rows["dataset"].nunique() > 1:
        raise ValueError(f"table holds several data sets, draw one at a time: {sorted(rows['dataset'].unique())}")
    find_kinds(list(rows["method"]), dict(zip(rows["method"], rows["kind"], strict=True)))
    undefined = sorted({m for metric in METRICS for m in rows["method"][rows[metric].isna()]})
    foot = wrap("undefined for every query: " + ", ".join(undefined), PAGE_WIDTH - 2 * MARGIN) if undefined else ""
    foot_height = canvas.n_lines(foot) * LINE + 0.06
    body = len(METRICS) * (METRIC_PANEL + 0.42) + 0.7 + foot_height
    fig, top = canvas.page(PAGE_WIDTH, body, "Every score beside the area that the maps retain", note)
    for i, (metric, name) in enumerate(METRICS.items()):
        last = i == len(METRICS) - 1
        panel_top = top + 0.3 + i * (METRIC_PANEL + 0.42)
        ax = axes_at(fig, 0.6, panel_top, PAGE_WIDTH - 0.6 - MARGIN, METRIC_PANEL)
        ax.set_title(f"({'ab'[i]}) {name}: lower is better", loc="left")
        ax.set(xlabel="retained area (%)" if last else "", ylabel=name)
        ax.tick_params(labelbottom=last)
        ax.yaxis.set_label_coords(-0.065, 0.5)
        _metric_panel(ax, rows[rows[metric].notna()], metric)
    fig.legend(
        handles=_kind_handles(list(rows["kind"])),
        loc="lower center",
        bbox_to_anchor=(0.5, foot_height / fig.get_figheight()),
        borderaxespad=0,
        ncols=3,
    )
    if foot:
        text_at(fig, MARGIN, fig.get_figheight() - 0.06, foot, va="bottom")
    return fig


def _metric_panel(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    area, value = rows["retained_area"].to_numpy(float), rows[metric].to_numpy(float)
    low, high = (np.where(np.isfinite(v), v, value) for v in (rows[metric + "_lo"], rows[metric + "_hi"]))
    ax.grid(True)
    for x, y, lo, hi, kind in zip(area, value, low, high, rows["kind"], strict=True):
        ax.plot([x, x], [lo, hi], color=KIND_COLOURS[kind], linewidth=1.2, zorder=2)
        ax.plot(x, y, linestyle="", zorder=3, **_kind_marker(kind))
    span = max(high.max(initial=1) - min(low.min(initial=0), 0), 1)
    ax.set_xlim(-4, 107)
    ax.set_ylim(min(low.min(initial=0), 0) - 0.08 * span, high.max(initial=1) + 0.14 * span)
    _label_points(ax, area, value, low, high, list(rows["method"]))


def _label_points(ax: Axes, x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, names: list[str]) -> None:
    """Write each name beside its point, with a thin line where it had to move away."""
    scale = 72 / ax.figure.dpi

    def to_points(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return ax.transData.transform(np.column_stack([u, v])) * scale

    points, bottoms, tops = to_points(x, y), to_points(x, low), to_points(x, high)
    bars = [(b[0] - 1.5, b[1], b[0] + 1.5, t[1]) for b, t in zip(bottoms, tops, strict=True)]
    markers = [(p[0] - 4, p[1] - 4, p[0] + 4, p[1] + 4) for p in points]
    sizes = [(text_width(name) * 72 + 3, FONT * 1.25) for name in names]
    frame = np.array(ax.bbox.extents) * scale
    boxes = canvas.place_labels(points, np.array(sizes).reshape(-1, 2), frame, np.array([*bars, *markers]))
    back = ax.transData.inverted()
    for name, point, box in zip(names, points, boxes, strict=True):
        line = canvas.leader(point, box)
        if np.linalg.norm(line[1] - line[0]) > 9:
            ax.plot(*back.transform(line / scale).T, color=GREY, linewidth=0.6, zorder=1)
        ax.text(*back.transform((box[:2] + box[2:]) / 2 / scale), name, ha="center", va="center", zorder=4)


@style.context()
def fig_curves(shares: Array, panels: Mapping[str, Mapping[str, Array]], note: str = "") -> Figure:
    """Curves of several methods, told apart by marker and line style, with the area under each in the legend.

    Args:
        shares: (T,) in [0, 1], rising.
        panels: heading ("insertion") -> method -> (T,) mean curve.
        note: what the data are.

    Raises:
        ValueError: a curve has not the length of ``shares``, or the panels hold different methods.
    """
    x = to_numpy(shares)
    names = list(next(iter(panels.values())))
    for heading, curves in panels.items():
        if set(curves) != set(names):
            raise ValueError(f"panel {heading!r} must hold the methods {names}, got {list(curves)}")
        same_length(shares=x, **{f"{heading}[{name!r}]": curve for name, curve in curves.items()})
    looks = line_looks(names, find_kinds(names))
    area = {
        h: {m: float(np.trapezoid(to_numpy(c), x) / (x[-1] - x[0])) for m, c in p.items()} for h, p in panels.items()
    }
    first = next(iter(panels))
    names.sort(key=lambda name: -area[first][name])
    table = [f"{name}  " + " / ".join(f"{area[h][name]:.2f}" for h in panels) for name in names]
    heading = wrap("area under the curve: " + " / ".join(panels), 1.7)
    legend_width = max(text_width(line) for line in [*table, *heading.split("\n")]) + 0.55
    left, gap = 0.6, 0.25
    width = (PAGE_WIDTH - left - MARGIN - legend_width - gap * len(panels)) / len(panels)
    body = max(2.9, (len(names) + canvas.n_lines(heading)) * 1.15 * LINE + 0.5)
    fig, top = canvas.page(PAGE_WIDTH, body, "Insertion and deletion", note)
    for i, (panel, curves) in enumerate(panels.items()):
        ax = axes_at(fig, left + i * (width + gap), top + 0.3, width, body - 0.85)
        for name in names:
            ax.plot(100 * x, to_numpy(curves[name]), label=name, markevery=max(1, len(x) // 8), **looks[name])
        ax.grid(True)
        ax.set_title(f"({'abcdef'[i]}) {panel}", loc="left")
        ax.set_xlim(-2, 102)
        if i:
            ax.sharey(fig.axes[0])
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("cosine to the original feature")
    centre = left + (len(panels) * (width + gap) - gap) / 2
    text_at(fig, centre, top + body - 0.08, "pixels inserted or deleted (%)", ha="center", va="bottom")
    handles = [Line2D([], [], label=line, **looks[name]) for name, line in zip(names, table, strict=True)]
    fig.legend(
        handles=handles,
        title=heading,
        loc="upper left",
        bbox_to_anchor=(1 - (legend_width + MARGIN) / PAGE_WIDTH, 1 - (top + 0.1) / fig.get_figheight()),
        borderaxespad=0,
        alignment="left",
        handlelength=2.2,
        labelspacing=0.3,
    )
    return fig


def line_looks(names: Sequence[str], kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Methods are solid and coloured, controls dashed and grey; markers tell the lines of a kind apart."""
    palette = [style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK]
    markers = "osD^v<>Ph*X"
    looks: dict[str, dict[str, Any]] = {}
    counts = {"control": 0, "method": 0}
    for name in names:
        control = kinds[name] == "control"
        i = counts["control" if control else "method"]
        counts["control" if control else "method"] += 1
        looks[name] = {
            "color": GREY if control else palette[i % len(palette)],
            "linestyle": "--" if control else "-",
            "marker": markers[i % len(markers)],
            "markersize": 4.5,
            "markerfacecolor": "white" if control else palette[i % len(palette)],
            "linewidth": 1.0 if control else 1.5,
        }
    return looks
