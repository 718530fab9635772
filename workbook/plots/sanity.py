"""The figure of the sanity check: similarity to the trained network's map against the depth of randomisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbook.plots import canvas, style
from workbook.plots.canvas import LINE, MARGIN, axes_at, n_lines, text_at, text_width, wrap
from workbook.plots.charts import find_kinds, line_looks
from workbook.plots.style import GREY, PAGE_WIDTH

MEASURE, LABEL = "spearman", "Spearman's rank correlation"  # the column of the table, and its name on the axis
PANELS = {
    "cascade": "random from the output down to this group",
    "independent": "only this group is random",
}
UNRELATED = "another image"
DODGE = 0.5  # of the distance of two steps, shared by the methods so that intervals do not cover one another


@style.context()
def fig_sanity_curves(table: pd.DataFrame | Sequence[Mapping[str, Any]], note: str = "") -> Figure:
    """Rank correlation, a line for each method with intervals, controls dashed; a panel for each scheme.

    At the right of each panel stands the level of no relation: the trained network's map of one image against
    that of another.

    Args:
        table: rows of :func:`workbook.sanity.sanity_table` and :func:`~workbook.sanity.unrelated_table`,
            of one data set. A method whose correlation is undefined (NaN) everywhere is named below the panels.
        note: what the data are.

    Raises:
        ValueError: a column is missing, there are several data sets, or no randomised network.
    """
    rows = pd.DataFrame(table)
    wanted = ["method", "kind", "scheme", "step", "layer", "n", *(MEASURE + end for end in ("", "_lo", "_hi"))]
    if missing := [column for column in wanted if column not in rows]:
        raise ValueError(f"table lacks the columns {missing}")
    if "dataset" in rows and rows["dataset"].nunique() > 1:
        raise ValueError(f"table holds several data sets, draw one at a time: {sorted(rows['dataset'].unique())}")
    panels = [scheme for scheme in PANELS if (rows["scheme"] == scheme).any()]
    if not panels:
        raise ValueError(f"table has no row whose scheme is one of {list(PANELS)}")
    defined = rows.groupby("method", sort=False)[MEASURE].count() > 0
    names, undefined = list(defined[defined].index), list(defined[~defined].index)
    kinds = dict(zip(rows["method"], rows["kind"], strict=True))
    looks = line_looks(names, find_kinds(names, kinds))
    size = rows.groupby("method")["n"].max()
    labels = {name: f"{name} (n = {size[name]})" for name in names}

    legend_width = max(map(text_width, labels.values())) + 0.6
    left = 0.7
    width = PAGE_WIDTH - left - MARGIN - legend_width
    foot = wrap("undefined: " + ", ".join(undefined), PAGE_WIDTH - 2 * MARGIN) if undefined else ""
    height, gap, below = 2.3, 0.4, 0.85 + n_lines(foot) * LINE
    body = 0.3 + len(panels) * (height + gap) - gap + below
    fig, top = canvas.page(PAGE_WIDTH, body, "Similarity to the map of the trained network", note)
    for i, scheme in enumerate(panels):
        ax = axes_at(fig, left, top + 0.3 + i * (height + gap), width, height)
        part = rows[rows["scheme"].isin([scheme, UNRELATED]) & rows["method"].isin(names)]
        _panel(ax, part, scheme, {name: looks[name] | {"label": labels[name]} for name in names})
        ax.set_title(f"({'ab'[i]}) {PANELS[scheme]}", loc="left")
        ax.set_ylabel(LABEL)
        ax.yaxis.set_label_coords(-0.5 / width, 0.5)
        ax.tick_params(labelbottom=i == len(panels) - 1)
    handles, texts = fig.axes[0].get_legend_handles_labels()
    corner = (1 - (legend_width + MARGIN) / PAGE_WIDTH, 1 - (top + 0.3) / fig.get_figheight())
    fig.legend(handles, texts, loc="upper left", bbox_to_anchor=corner, borderaxespad=0, labelspacing=0.5)
    if foot:
        text_at(fig, MARGIN, fig.get_figheight() - 0.06, foot, va="bottom")
    return fig


def _panel(ax: Axes, rows: pd.DataFrame, scheme: str, looks: dict[str, dict[str, Any]]) -> None:
    steps = rows[rows["scheme"] == scheme].drop_duplicates("step").set_index("step")["layer"].sort_index()
    beyond = len(steps) + 1.3
    for offset, (name, look) in zip(np.linspace(-DODGE / 2, DODGE / 2, len(looks)), looks.items(), strict=True):
        own = rows[rows["method"] == name].sort_values("step")
        lines = own[own["scheme"] == scheme], own[own["scheme"] == UNRELATED]
        for part, x, joined in zip(lines, (lines[0]["step"], beyond), (True, False), strict=True):
            y, low, high = (part[MEASURE + end].to_numpy(float) for end in ("", "_lo", "_hi"))
            x = np.broadcast_to(np.asarray(x, float), y.shape) + offset
            ax.vlines(x, low, high, color=look["color"], linewidth=1)
            ax.plot(x, y, **(look if joined else look | {"linestyle": "", "label": "_"}))
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axvline(beyond - 0.65, color=style.RULE)
    ax.grid(True, axis="y")
    ax.set_xlim(0.5, beyond + 0.5)
    ax.set_xticks([*steps.index, beyond], [*steps, UNRELATED], rotation=30, ha="right")
