"""Score-FAM's lead over the others: by the paper's rule, and with the same number of pixels kept by all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbook.plots import canvas, style
from workbook.plots.canvas import MARGIN, axes_at, text_at, text_width
from workbook.plots.charts import find_kinds
from workbook.plots.style import GREY, PAGE_WIDTH

ROW = 0.24  # inches
GAP = 0.14
VERDICTS = {
    1: ("better, established", {"marker": "o", "color": style.BLUE, "markerfacecolor": style.BLUE}),
    0: ("open: the interval holds 0", {"marker": "D", "color": GREY, "markerfacecolor": "white"}),
    -1: ("worse, established", {"marker": "s", "color": style.RED, "markerfacecolor": style.RED}),
}


@style.context()
def fig_lead(leads: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """How much smaller Score-FAM's AS drop is than each rival's, with the paired interval; right of 0 it is better.

    Args:
        leads: heading of the panel ("Eq. 14", "10 % kept") -> Score-FAM's rows of
            :func:`workbook.reid.tables.lead`, all for the same rivals in the same order; percent points.
        note: what the data are.

    Raises:
        ValueError: no panel, or panels with different rivals.
    """
    if not leads:
        raise ValueError("leads must hold at least one panel")
    rivals = list(next(iter(leads.values()))["rival"])
    for heading, rows in leads.items():
        if list(rows["rival"]) != rivals:
            raise ValueError(f"panel {heading!r} must hold the rivals {rivals}, got {list(rows['rival'])}")
    found = find_kinds(rivals)
    left = max(text_width(f"over {rival}") for rival in rivals) + MARGIN + 0.1
    width = (PAGE_WIDTH - left - MARGIN - GAP * (len(leads) - 1)) / len(leads)
    height = ROW * len(rivals) + 0.1
    ends = np.concatenate([[0], *(-rows[end] for rows in leads.values() for end in ("difference", "lo", "hi"))])
    low, high = np.nanmin(ends), np.nanmax(ends)
    margin = 0.04 * (high - low) or 1
    fig, top = canvas.page(PAGE_WIDTH, height + 1.15, "What is left of the lead of score-fam in AS drop", note)
    for i, (heading, rows) in enumerate(leads.items()):
        ax = axes_at(fig, left + i * (width + GAP), top + 0.3, width, height)
        _panel(ax, rows)
        ax.set_xlim(low - margin, high + margin)
        ax.set_title(heading)
        ax.set_yticks(range(len(rivals)), [f"over {rival}" for rival in rivals] if i == 0 else [])
        for label, rival in zip(ax.get_yticklabels(), rivals, strict=False):
            label.set_color(GREY if found[rival] == "control" else "black")
    below = top + 0.3 + height + 0.38
    text_at(fig, left + (PAGE_WIDTH - left) / 2, below, "percent points by which the drop is smaller", ha="center")
    handles = [
        Line2D([], [], linestyle="-", linewidth=1.2, markersize=5, label=text, **look)
        for text, look in VERDICTS.values()
    ]
    fig.legend(handles=handles, loc="lower center", ncols=3, borderaxespad=0.2)
    return fig


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    """The differences of one panel, turned so that a smaller drop points to the right."""
    ax.axvline(0, color="black", linewidth=0.8)
    ax.grid(True, axis="x")
    for y, (value, lo, hi) in enumerate(zip(-rows["difference"], -rows["hi"], -rows["lo"], strict=True)):
        look = VERDICTS[int(lo > 0) - int(hi < 0)][1]
        ax.plot([lo, hi], [y, y], color=look["color"], linewidth=1.2)
        ax.plot(value, y, linestyle="", markersize=5, **look)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
