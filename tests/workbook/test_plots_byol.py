"""The figures of the self-supervised trainings: what is drawn stands in the table, and all text can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from test_plots import assert_legible
from workbook import plots
from workbook.byol import pretext_table
from workbook.plots.byol import fig_byol_pretexts

METHODS = ("grad-fam", "score-fam", "uniform", "centre-prior")


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = []
    for share in (0.0, 0.4, 0.7, 1.0):
        knn = {"knn": 50 + 20 * share, "knn_lo": 45 + 20 * share, "knn_hi": 53 + 20 * share}
        for which, layer in (("last", "final_layer"), ("earlier", "incre_modules.0")):
            for method in METHODS:
                row = {"share": share, "map": which, "layer": layer, "method": method, "foreground": 29.3} | knn
                for name in ("energy", "area"):
                    y = rng.uniform(20, 60)
                    row |= {name: y, f"{name}_lo": y - 2, f"{name}_hi": y + 3}
                found.append(row)
    return pd.DataFrame(found)


def test_every_panel_is_that_of_the_table() -> None:
    table = rows()
    fig = plots.fig_byol_trend(table, note="toy data")
    panels = [("last", "energy"), ("last", "area"), ("earlier", "energy"), ("earlier", "area")]
    assert len(fig.axes) == 5
    for ax, (which, measure) in zip(fig.axes, panels, strict=False):
        drawn = {line.get_label(): line for line in ax.lines}
        for method in METHODS:
            own = table[(table["map"] == which) & (table.method == method)]
            np.testing.assert_allclose(drawn[method].get_ydata(), own[measure])
            np.testing.assert_allclose(drawn[method].get_xdata(), 100 * own.share, atol=2)
        spans = [tuple(np.round(s[:, 1], 6)) for bars in ax.collections for s in bars.get_segments()]
        part = table[table["map"] == which].round(6)
        assert sorted(spans) == sorted(zip(part[f"{measure}_lo"], part[f"{measure}_hi"], strict=True))
        assert ("no preference" in drawn) == (measure == "energy")
    np.testing.assert_allclose(fig.axes[-1].lines[0].get_ydata(), [50, 58, 64, 70])
    assert_legible(fig)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="area_lo"), r"lacks the columns \['area_lo'\]"),
        (lambda t: pd.concat([t, t]), "several rows"),
    ],
)
def test_wrong_tables_are_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.fig_byol_trend(change(rows()))


TASKS = ("untrained", "byol", "simclr")


def runs(n_seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    found = []
    for seed in range(n_seeds):
        for task in TASKS:
            knn = rng.uniform(40, 80)
            for which, layer in (("last", "final_layer"), ("earlier", "incre_modules.0")):
                for method in METHODS:
                    where = {"seed": seed, "pretext": task, "map": which, "layer": layer, "method": method}
                    values = dict(zip(("energy", "pointing", "area", "entropy"), rng.uniform(30, 60, 4), strict=True))
                    found.append(where | {"n": 48, "foreground": 29.3, "knn": knn} | values)
    return pd.DataFrame(found)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_each_task_has_its_mean_its_interval_and_a_dot_for_each_training(n_seeds: int) -> None:
    single = runs(n_seeds)
    table = pretext_table(single, "byol")
    fig = fig_byol_pretexts(table, single, note="toy data")
    assert len(fig.axes) == 3
    for ax, which in zip(fig.axes, ("last", "earlier"), strict=False):
        rows = [(method, task) for method in METHODS for task in TASKS]  # from top to bottom
        assert ax.yaxis_inverted()
        drawn = [line for line in ax.lines if line.get_linestyle() == "None"]
        for (method, task), mean, dots in zip(rows, drawn[::2], drawn[1::2], strict=True):
            own = table[(table["map"] == which) & (table.method == method) & (table.pretext == task)]
            each = single[(single["map"] == which) & (single.method == method) & (single.pretext == task)]
            np.testing.assert_allclose(mean.get_xdata(), own.energy)
            np.testing.assert_allclose(dots.get_xdata(), each.energy)
        heights = [line.get_ydata()[0] for line in drawn[::2]]
        assert heights == sorted(heights)
        spans = [s[:, 0] for bars in ax.collections for s in bars.get_segments() if len(s) and np.isfinite(s).all()]
        part = table[table["map"] == which].dropna(subset=["energy_lo"])
        assert len(spans) == (len(rows) if n_seeds > 1 else 0)
        assert sorted(s[0] for s in spans) == pytest.approx(sorted(part.energy_lo))
        assert sorted(s[1] for s in spans) == pytest.approx(sorted(part.energy_hi))
    means = [line.get_xdata()[0] for line in fig.axes[2].lines[::2]]
    assert means == pytest.approx([table[table.pretext == task].knn.iloc[0] for task in TASKS])
    assert_legible(fig)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, r: (t.drop(columns="knn_lo"), r), r"table lacks the columns \['knn_lo'\]"),
        (lambda t, r: (t, r.drop(columns="energy")), r"runs lacks the columns \['energy'\]"),
        (lambda t, r: (pd.concat([t, t]), r), "several rows"),
        (lambda t, r: (pd.concat([t, t[t.pretext == "simclr"].assign(pretext="moco")]), r), "4 networks"),
    ],
)
def test_wrong_comparisons_are_refused(change, message: str) -> None:
    single = runs()
    with pytest.raises(ValueError, match=message):
        fig_byol_pretexts(*change(pretext_table(single, "byol"), single))
