"""The curves of the BYOL training: what is drawn is what stands in the table, and all text can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fam_lib import plots
from test_plots import assert_legible

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
