"""The figure of the BYOL training: where the maps look, and what the features are worth, against its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fam_lib.plots import canvas
from fam_lib.plots import style as styles
from fam_lib.plots.canvas import axes_at
from fam_lib.plots.charts import find_kinds, line_looks
from fam_lib.plots.style import GREY, PAGE_WIDTH

MEASURES = {"energy": "saliency on the foreground (%)", "area": "area at half maximum (%)"}
DODGE = 4.0  # percent of the schedule, shared by the methods so that intervals do not cover one another
APART = 0.55  # inches between the panels of a column


@styles.context()
def fig_byol_trend(
    table: pd.DataFrame | Sequence[Mapping[str, Any]],
    title: str = "Where maps look while BYOL learns",
    note: str = "",
) -> Figure:
    """Energy on the foreground and area of the maps, a column for each map, and the k-NN accuracy.

    Controls are dashed. The dotted line is the foreground's share of the pixels: a map without preference.

    Args:
        table: rows of :func:`fam_lib.byol.checkpoint_table`, of one data set.
        title: one sentence.
        note: what the data are.

    Raises:
        ValueError: a column is missing, or there are several rows for a checkpoint, map and method.
    """
    rows = pd.DataFrame(table)
    ends = [f"{name}{end}" for name in (*MEASURES, "knn") for end in ("", "_lo", "_hi")]
    if missing := [column for column in ("share", "map", "layer", "method", "foreground", *ends) if column not in rows]:
        raise ValueError(f"table lacks the columns {missing}")
    if rows.duplicated(["share", "map", "method"]).any():
        raise ValueError("table has several rows for a checkpoint, map and method: draw one data set at a time")
    names, maps = list(rows["method"].unique()), list(rows["map"].unique())
    looks = line_looks(names, find_kinds(names, None))
    left, gap, below, height = 0.65, 0.35, 0.45, 1.75
    width = (PAGE_WIDTH - left - gap * len(maps)) / len(maps)
    fig, top = canvas.page(PAGE_WIDTH, 0.3 + 3 * height + 2 * APART + below, title, note)
    for j, which in enumerate(maps):
        part = rows[rows["map"] == which]
        for i, (measure, label) in enumerate(MEASURES.items()):
            ax = axes_at(fig, left + j * (width + gap), top + 0.3 + i * (height + APART), width, height)
            _panel(ax, part, measure, looks)
            ax.set_title(f"({'abcd'[2 * i + j]}) {which} map, {part['layer'].iloc[0]}", loc="left")
            if j == 0:
                ax.set_ylabel(label)
    ax = axes_at(fig, left, top + 0.3 + 2 * (height + APART), width, height)
    knn = rows.drop_duplicates("share").assign(method="k-NN")
    _panel(ax, knn, "knn", {"k-NN": {"color": styles.BLACK, "marker": "*", "markersize": 7}})
    ax.set_title("(e) features: nearest neighbour", loc="left")
    ax.set(ylabel="accuracy (%)", xlabel="share of the schedule (%)")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    corner = (1 - (width + gap) / PAGE_WIDTH, 1 - (top + 0.3 + 2 * (height + APART)) / fig.get_figheight())
    fig.legend(handles, labels, loc="upper left", bbox_to_anchor=corner, borderaxespad=0, labelspacing=0.5)
    return fig


def _panel(ax: Axes, rows: pd.DataFrame, measure: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    for offset, (name, look) in zip(np.linspace(-DODGE / 2, DODGE / 2, len(looks)), looks.items(), strict=True):
        own = rows[rows["method"] == name].sort_values("share")
        x = 100 * own["share"] + (offset if len(looks) > 1 else 0)
        ax.vlines(x, own[f"{measure}_lo"], own[f"{measure}_hi"], color=look["color"], linewidth=1)
        ax.plot(x, own[measure], label=name, **look)
    if measure == "energy":
        ax.axhline(rows["foreground"].iloc[0], color=GREY, linestyle=":", label="no preference")
    ax.grid(True, axis="y")
    ax.set_xticks(100 * np.sort(rows["share"].unique()))
