"""The figures of the self-supervised trainings: where maps look, what features are worth, by progress and by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbook.plots import canvas, style
from workbook.plots.canvas import MARGIN, axes_at, wrap
from workbook.plots.charts import find_kinds, line_looks
from workbook.plots.style import GREY, PAGE_WIDTH

MEASURES = {"energy": "saliency on the foreground (%)", "area": "area at half maximum (%)"}
DODGE = 4.0  # percent of the schedule, shared by the methods so that intervals do not cover one another
APART = 0.55  # inches between the panels of a column
TASK_LOOKS = ((GREY, "s"), (style.BLUE, "o"), (style.RED, "D"))  # the untrained network, then the pretext tasks
ROW = 0.17  # inches for one network


@style.context()
def fig_byol_trend(table: pd.DataFrame | Sequence[Mapping[str, Any]], note: str = "") -> Figure:
    """Energy on the foreground and area of the maps, a column for each map, and the k-NN accuracy.

    Controls are dashed. The dotted line is the foreground's share of the pixels: a map without preference.

    Args:
        table: rows of :func:`workbook.byol.checkpoint_table`, of one data set.
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
    looks = line_looks(names, find_kinds(names))
    left, gap, below, height = 0.65, 0.35, 0.45, 1.75
    width = (PAGE_WIDTH - left - gap * len(maps)) / len(maps)
    fig, top = canvas.page(PAGE_WIDTH, 0.3 + 3 * height + 2 * APART + below, "Where maps look while BYOL learns", note)
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
    _panel(ax, knn, "knn", {"k-NN": {"color": style.BLACK, "marker": "*", "markersize": 7}})
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


@style.context()
def fig_byol_pretexts(
    table: pd.DataFrame | Sequence[Mapping[str, Any]],
    runs: pd.DataFrame | Sequence[Mapping[str, Any]],
    note: str = "",
) -> Figure:
    """Energy on the foreground by method, a panel for each map, and the k-NN accuracy, for each pretext task.

    Args:
        table: rows of :func:`workbook.byol.pretext_table`, of one data set: means with intervals over trainings.
        runs: rows of :func:`workbook.byol.run_pretexts`: a dot for each training.
        note: what the data are.

    Raises:
        ValueError: a column is missing, there are several rows for a task, map and method, or more tasks than looks.
    """
    means, singles = _comparable(pd.DataFrame(table), pd.DataFrame(runs))
    tasks, maps, methods = (list(means[column].unique()) for column in ("pretext", "map", "method"))
    left, gap, wide, narrow = 0.95, 0.25, 1.85, 1.15
    height = ROW * (len(tasks) + 1) * len(methods)
    fig, top = canvas.page(PAGE_WIDTH, 0.45 + height + 1.15, "What networks look at that learned other tasks", note)
    for j, which in enumerate(maps):
        ax = axes_at(fig, left + j * (wide + gap), top + 0.45, wide, height)
        if j:
            ax.sharex(fig.axes[0])
        part = means[means["map"] == which]
        centres = _blocks(ax, part, singles[singles["map"] == which], methods)
        ax.set_yticks(centres, methods if j == 0 else [""] * len(methods))
        ax.axvline(part["foreground"].iloc[0], color=GREY, linestyle=":")
        ax.set_xlabel(wrap(MEASURES["energy"], wide))
        ax.set_title(wrap(f"({'ab'[j]}) {which} map, {part['layer'].iloc[0]}", wide), loc="left")
    ax = axes_at(fig, PAGE_WIDTH - MARGIN - narrow, top + 0.45, narrow, height)
    _tasks(ax, means.drop_duplicates("pretext"), singles.drop_duplicates(["pretext", "seed"]), "knn")
    ax.set_ylim(len(tasks), -1)
    ax.set_yticks(np.arange(len(tasks)), tasks)
    ax.set_title(wrap("(c) features: nearest neighbour", narrow), loc="left")
    ax.set_xlabel("accuracy (%)")
    fig.legend(handles=_task_handles(tasks), loc="lower center", ncols=3, borderaxespad=0.4)
    return fig


def _comparable(table: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables, with all that is drawn, of one data set, and few enough tasks."""
    where = ["pretext", "map", "layer", "method"]
    ends = [f"{name}{end}" for name in ("energy", "knn") for end in ("_lo", "_hi")]
    for name, frame, columns in (("table", table, [*where, "foreground", *ends]), ("runs", runs, [*where, "seed"])):
        if missing := [column for column in (*columns, "energy", "knn") if column not in frame]:
            raise ValueError(f"{name} lacks the columns {missing}")
    if table.duplicated(where).any():
        raise ValueError("table has several rows for a pretext task, map and method: draw one data set at a time")
    if (n := table["pretext"].nunique()) > len(TASK_LOOKS):
        raise ValueError(f"table has {n} networks in column pretext, at most {len(TASK_LOOKS)} can be told apart")
    return table, runs


def _blocks(ax: Axes, means: pd.DataFrame, runs: pd.DataFrame, methods: Sequence[str]) -> list[float]:
    """A block of rows for each method, the first on top; returns where their middles are."""
    n = means["pretext"].nunique()
    for i, method in enumerate(methods):
        _tasks(ax, means[means["method"] == method], runs[runs["method"] == method], "energy", i * (n + 1))
    ax.set_ylim(len(methods) * (n + 1) - 1, -1)
    return [i * (n + 1) + (n - 1) / 2 for i in range(len(methods))]


def _tasks(ax: Axes, means: pd.DataFrame, runs: pd.DataFrame, measure: str, start: int = 0) -> None:
    """A row for each pretext task: its mean and interval, and a dot for each training."""
    for i, (task, (colour, marker)) in enumerate(zip(means["pretext"], TASK_LOOKS, strict=False)):
        row, single = means.iloc[i], runs.loc[runs["pretext"] == task, measure]
        ax.hlines(start + i, row[f"{measure}_lo"], row[f"{measure}_hi"], color=colour)
        ax.plot(row[measure], start + i, marker, color=colour, markersize=6)
        ax.plot(single, [start + i] * len(single), ".", color=style.BLACK, markersize=3.5)
    ax.grid(True, axis="x")


def _task_handles(tasks: Sequence[str]) -> list[Line2D]:
    means = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=6, label=f"{task}, mean")
        for task, (colour, marker) in zip(tasks, TASK_LOOKS, strict=False)
    ]
    return [
        *means,
        Line2D([], [], linestyle="", marker=".", color=style.BLACK, markersize=3.5, label="one training"),
        Line2D([], [], color=GREY, label="95 % interval over trainings"),
        Line2D([], [], color=GREY, linestyle=":", label="no preference"),
    ]
