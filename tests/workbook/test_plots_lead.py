"""The figure of a lead: what points to the right is better, and the colour says whether that is established."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb

from test_plots import assert_legible, texts
from workbook import plots
from workbook.plots import style

RIVALS = ["grad-fam", "ram", "uniform"]


def rows(*intervals: tuple[float, float, float], rivals: list[str] = RIVALS) -> pd.DataFrame:
    """Differences of a drop, lo, hi: negative is better."""
    frame = pd.DataFrame(intervals, columns=["difference", "lo", "hi"])
    return frame.assign(rival=rivals, n=40, established=(frame.lo > 0) | (frame.hi < 0))


BETTER, OPEN, WORSE = (-12.0, -16.0, -8.0), (3.0, -1.0, 7.0), (5.0, 4.0, 6.0)
LEADS = {
    "Eq. 14": rows(BETTER, OPEN, WORSE),
    "10 % kept": rows(WORSE, BETTER, OPEN),
    "50 % kept": rows(OPEN, OPEN, OPEN),
}
LOOKS = {BETTER: ("o", style.BLUE), OPEN: ("D", style.GREY), WORSE: ("s", style.RED)}


def drawn(ax: Axes) -> list[tuple]:
    """(difference, lo, hi, marker, colour) of each rival, as the table would hold them."""
    found = {}
    for line in ax.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_marker() not in ("None", "", None):
            found.setdefault(int(y[0]), {}).update(value=x[0], marker=line.get_marker(), colour=line.get_color())
        elif len(set(y)) == 1:
            found.setdefault(int(y[0]), {}).update(ends=tuple(x), bar=line.get_color())
    for each in found.values():
        assert same_color(each["colour"], each["bar"])
    return [
        (-each["value"], -each["ends"][1], -each["ends"][0], each["marker"], to_rgb(each["colour"]))
        for _, each in sorted(found.items())
    ]


def test_three_verdicts_have_three_looks_and_a_smaller_drop_lies_right() -> None:
    fig = plots.fig_lead(LEADS, note="toy data")
    assert [ax.get_title() for ax in fig.axes] == list(LEADS)
    for ax, table in zip(fig.axes, LEADS.values(), strict=True):
        intervals = [tuple(interval) for interval in table[["difference", "lo", "hi"]].values.tolist()]
        looks = [(LOOKS[interval][0], to_rgb(LOOKS[interval][1])) for interval in intervals]
        assert drawn(ax) == [(*interval, *look) for interval, look in zip(intervals, looks, strict=True)]
    assert_legible(fig)


def test_rivals_are_named_from_above_and_controls_in_grey() -> None:
    fig = plots.fig_lead(LEADS)
    ax = fig.axes[0]
    labels = ax.get_yticklabels()
    assert [label.get_text() for label in labels] == [f"over {rival}" for rival in RIVALS]
    assert [same_color(label.get_color(), style.GREY) for label in labels] == [False, False, True]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first rival stands on top"
    assert not "".join(label.get_text() for label in fig.axes[1].get_yticklabels())
    assert {"better, established", "open: the interval holds 0", "worse, established"} <= set(texts(fig))
    assert "What is left of the lead of score-fam in AS drop" in texts(fig)


def test_all_panels_have_the_same_scale_and_hold_every_interval_and_0() -> None:
    fig = plots.fig_lead(LEADS)
    limits = {ax.get_xlim() for ax in fig.axes}
    ((low, high),) = limits
    assert -7 > low > -9 and 16 < high < 18
    alone = plots.fig_lead({"Eq. 14": rows(BETTER, BETTER, BETTER)})
    low, high = alone.axes[0].get_xlim()
    assert -1 < low < 0 and 16 < high < 17


def test_a_difference_without_an_interval_is_open() -> None:
    fig = plots.fig_lead({"Eq. 14": rows((-2.0, np.nan, np.nan), BETTER, WORSE)})
    markers = [line.get_marker() for line in fig.axes[0].lines if line.get_marker() not in ("None", "", None)]
    assert markers == ["D", "o", "s"]
    assert np.isfinite(fig.axes[0].get_xlim()).all()


@pytest.mark.parametrize("other", [["grad-fam", "uniform", "ram"], ["grad-fam", "ram", "random-map"]])
def test_panels_of_other_rivals_are_refused(other: list[str]) -> None:
    leads = {"Eq. 14": rows(BETTER, OPEN, WORSE), "10 % kept": rows(BETTER, OPEN, WORSE, rivals=other)}
    with pytest.raises(ValueError, match="panel '10 % kept' must hold the rivals"):
        plots.fig_lead(leads)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        plots.fig_lead({})
