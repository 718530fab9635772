"""The curves of the sanity check: what is drawn is what stands in the table, and all text can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from test_plots import assert_legible, texts
from workbook import plots

LAYERS = ("neck", "blocks.5", "conv_stem")
METHODS = {"grad-fam": "paper", "score-fam": "paper", "uniform": "control", "all-ones": "control"}


def rows(schemes: tuple[str, ...] = ("cascade", "independent"), dataset: str = "toy") -> pd.DataFrame:
    """Two schemes and the level of no relation; Score-FAM only in the cascade, all-ones undefined."""
    rng = np.random.default_rng(0)
    found = []
    for method, kind in METHODS.items():
        for scheme in (*schemes, "another image"):
            if method == "score-fam" and scheme == "independent":
                continue
            layers = [(0, "")] if scheme == "another image" else list(enumerate(LAYERS, start=1))
            for step, layer in layers:
                y = np.nan if method == "all-ones" else rng.uniform(-0.5, 1)
                row = {"dataset": dataset, "method": method, "kind": kind, "scheme": scheme, "step": step}
                row |= {"layer": layer, "n": 4, "spearman": y, "spearman_lo": y - 0.1, "spearman_hi": y + 0.2}
                found.append(row)
    return pd.DataFrame(found)


def curves(ax: Axes) -> dict[str, np.ndarray]:
    return {line.get_label().split(" (")[0]: line.get_ydata() for line in ax.lines if " (n" in line.get_label()}


def test_every_curve_is_that_of_the_table() -> None:
    table = rows()
    fig = plots.fig_sanity_curves(table, note="toy data")
    assert len(fig.axes) == 2
    for ax, scheme in zip(fig.axes, ("cascade", "independent"), strict=True):
        part = table[(table.scheme == scheme) & table.spearman.notna()]
        drawn = curves(ax)
        for method, own in part.groupby("method"):
            np.testing.assert_allclose(drawn[method], own.spearman)
    assert [tick.get_text() for tick in fig.axes[-1].get_xticklabels()] == [*LAYERS, "another image"]
    assert not len(curves(fig.axes[1])["score-fam"])
    assert_legible(fig)


def test_intervals_and_the_level_of_no_relation_are_drawn() -> None:
    table = rows()
    ax = plots.fig_sanity_curves(table).axes[0]
    spans = [tuple(np.round(segment[:, 1], 6)) for bars in ax.collections for segment in bars.get_segments()]
    wanted = table[table.scheme.isin(["cascade", "another image"]) & table.spearman.notna()]
    assert sorted(spans) == sorted((round(r.spearman_lo, 6), round(r.spearman_hi, 6)) for r in wanted.itertuples())
    level = table[(table.scheme == "another image") & (table.method == "uniform")].spearman.iloc[0]
    dots = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert any(line.get_ydata().tolist() == [level] and line.get_xdata()[0] > len(LAYERS) + 0.5 for line in dots)


def test_controls_are_dashed_and_methods_are_not() -> None:
    ax = plots.fig_sanity_curves(rows()).axes[0]
    styles = {line.get_label(): line.get_linestyle() for line in ax.lines if " (n" in line.get_label()}
    assert styles == {"grad-fam (n = 4)": "-", "score-fam (n = 4)": "-", "uniform (n = 4)": "--"}


def test_what_is_undefined_is_named_below_and_one_scheme_gives_one_panel() -> None:
    fig = plots.fig_sanity_curves(rows(("cascade",)))
    assert len(fig.axes) == 1
    assert "undefined: all-ones" in texts(fig)
    assert_legible(fig)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows().drop(columns="spearman_lo"), "spearman_lo"),
        (pd.concat([rows(), rows(dataset="other")]), "several data sets"),
        (rows(()), "no row whose scheme"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.fig_sanity_curves(table)
