"""The spread over networks: every method on every network, the pooled interval, and what the area alone explains."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbook.evidence.pooling import explained
from workbook.plots import canvas, style
from workbook.plots.canvas import MARGIN, axes_at, text_at, text_width
from workbook.plots.style import GREY, PAGE_WIDTH

ROW = 0.21  # inches
GAP = 0.16
SCATTER = 2.3  # inches, height of the panel of areas
DROPS = {"as_drop": "AS drop (%)", "ap_drop": "AP drop (%)"}
COLOURS = {"paper": style.BLUE, "grid": style.GREEN, "control": GREY}
KINDS = {"paper": "the paper's methods", "grid": "other rows of the grid", "control": "controls"}
# One shape for each recipe: told apart without colour.
SHAPES = ("o", "D", "s", "^", "v", "P", "X", "*")


@style.context()
def fig_networks(networks: pd.DataFrame, pooled: pd.DataFrame, feature: str = "after neck", note: str = "") -> Figure:
    """The spread of Table 2 over networks.

    Args:
        networks: of :func:`workbook.evidence.tables.networks_table` by Eq. 14.
        pooled: of :func:`workbook.evidence.tables.pooled_table`.
        feature: which rows of both to draw.
        note: what the data are.

    Raises:
        ValueError: no row of that feature.
    """
    each = networks[networks.feature == feature]
    means = pooled[(pooled.feature == feature) & (pooled["keep"] == "eq14")]
    if each.empty or means.empty:
        raise ValueError(f"there is no row of the feature {feature!r}")
    methods, shapes = _order(means), dict(zip(each.recipe.unique(), SHAPES * 9, strict=False))
    names = [method for method in methods if method]
    left = max(text_width(name) for name in names) + MARGIN + 0.1
    width = (PAGE_WIDTH - left - MARGIN - GAP) / 2
    height = ROW * len(methods) + 0.1
    title = "The same methods on several networks: what another training changes"
    fig, top = canvas.page(PAGE_WIDTH, height + SCATTER + 2.0, title, note)
    for i, (metric, name) in enumerate(DROPS.items()):
        ax = axes_at(fig, left + i * (width + GAP), top + 0.3, width, height)
        _rows(ax, each, means[means.metric == metric], metric, methods, shapes)
        ax.set_title(f"{name}, lower is better")
        ax.set_yticks([y for y, method in enumerate(methods) if method], names if i == 0 else [])
    _areas(fig, each, shapes, top + height + 0.95, left)
    _legend(fig, each, shapes)
    return fig


def _order(means: pd.DataFrame) -> list[str]:
    """The methods from above: those of the paper and the grid, an empty row, the controls."""
    kinds = dict(zip(means.method, means.kind, strict=True))
    own = [method for method, kind in kinds.items() if kind != "control"]
    return [*own, "", *(method for method, kind in kinds.items() if kind == "control")]


def _rows(
    ax: Axes, each: pd.DataFrame, means: pd.DataFrame, metric: str, methods: list[str], shapes: dict[str, str]
) -> None:
    """One method a row: a dot for each network on the bar of the pooled interval, a stroke at the mean."""
    ax.grid(True, axis="x")
    places = {method: y for y, method in enumerate(methods)}
    for row in means.itertuples():
        y, colour = places[row.method], COLOURS[row.kind]
        ax.plot([row.lo, row.hi], [y, y], color=colour, linewidth=6, alpha=0.3, solid_capstyle="butt")
        ax.plot([row.value, row.value], [y - 0.36, y + 0.36], color=colour, linewidth=1.8)
    for row in each.itertuples():
        ax.plot(
            getattr(row, metric), places[row.method], linestyle="", marker=shapes[row.recipe], markersize=4.2,
            markerfacecolor="white", markeredgecolor=COLOURS[row.kind], markeredgewidth=0.9,
        )  # fmt: skip
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _areas(fig: Figure, each: pd.DataFrame, shapes: dict[str, str], top: float, left: float) -> None:
    """Both drops of every network and method against the area that its maps retain."""
    width = (PAGE_WIDTH - left - MARGIN - GAP) / 2
    highest = np.nanmax(each[list(DROPS)].to_numpy(float), initial=1)
    for i, (metric, name) in enumerate(DROPS.items()):
        ax = axes_at(fig, left + i * (width + GAP), top, width, SCATTER)
        ax.grid(True)
        for row in each.itertuples():
            ax.plot(
                row.retained_area, getattr(row, metric), linestyle="", marker=shapes[row.recipe], markersize=4,
                markerfacecolor="white", markeredgecolor=COLOURS[row.kind], markeredgewidth=0.9,
            )  # fmt: skip
        linear, rank = explained(each.retained_area.to_numpy(float), each[metric].to_numpy(float))
        own = each[each.kind != "control"]
        alone, _ = explained(own.retained_area.to_numpy(float), own[metric].to_numpy(float))
        text = (
            f"explained by the area: {100 * linear:.0f} %\n(ranks {100 * rank:.0f} %, no controls {100 * alone:.0f} %)"
        )
        if np.isfinite(linear):
            ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", linespacing=1.15)
        ax.set(xlim=(-3, 104), ylim=(-0.04 * highest, 1.3 * highest), ylabel="drop (%)" if i == 0 else "")
        ax.tick_params(labelleft=i == 0)  # both panels have one scale
        ax.set_title(f"{name} against the area", loc="left")
    middle = left + (PAGE_WIDTH - MARGIN - left) / 2
    text_at(fig, middle, top + SCATTER + 0.38, "retained area (%)", ha="center")


def _legend(fig: Figure, each: pd.DataFrame, shapes: dict[str, str]) -> None:
    """Shapes are recipes, colours are kinds of methods."""
    counts = each.groupby("recipe", sort=False).network.nunique()
    marks = [
        Line2D(
            [], [], linestyle="", marker=shapes[recipe], markersize=5, markerfacecolor="white", markeredgecolor="black",
            label=f"{recipe} ({n} network{'s' if n > 1 else ''})",
        )
        for recipe, n in counts.items()
    ]  # fmt: skip
    bars = [
        Line2D([], [], color=COLOURS[kind], linewidth=6, alpha=0.5, label=text)
        for kind, text in KINDS.items()
        if kind in set(each.kind)
    ]
    for handles, y in ((marks, 0.27), (bars, 0.04)):
        fig.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.5, y / fig.get_figheight()), borderaxespad=0,
            ncols=len(handles), handletextpad=0.5, columnspacing=1.4,
        )  # fmt: skip
