"""How far a run's tables are from the published ones: hand-made tables, hand-computed distances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbook import agreement
from workbook.agreement import distance, summary

CLAIMS = pd.DataFrame(
    {"id": ["lead", "time"], "verdict": ["holds", "holds"], "table": ["table2_reid.csv", "table1_time.csv"]}
)


def reid(**changes: object) -> pd.DataFrame:
    return pd.DataFrame({"method": ["ram", "fam"], "n_queries": [40, 40], "as_drop": [10.0, np.nan]} | changes)


def test_a_difference_counts_as_a_share_of_its_tolerance() -> None:
    far = distance("table2_reid", reid(as_drop=[10.2, np.nan]), reid())
    assert (far.column, far.difference, far.share) == ("as_drop", pytest.approx(0.2), pytest.approx(0.2 / 0.5))


def test_correlations_are_held_to_a_hundredth() -> None:
    ours, theirs = (pd.DataFrame({"spearman": [x]}) for x in (0.505, 0.50))
    assert distance("table_truth", ours, theirs).share == pytest.approx(0.5)
    assert distance("table_sanity", ours, theirs).share == pytest.approx(0.05)  # of random networks
    assert distance("table_byol", ours, theirs).share == pytest.approx(0.01)  # a column in percent by that name


@pytest.mark.parametrize(
    "changes", [{"method": ["ram", "cam"]}, {"as_drop": [10.0, 0.0]}, {"n_queries": [40, 39]}, {"more": [1, 2]}]
)
def test_names_counts_and_what_is_undefined_must_be_equal(changes: dict[str, object]) -> None:
    assert distance("table2_reid", reid(**changes), reid()).share > 1


def test_the_line_names_the_farthest_table() -> None:
    published = {"claims": CLAIMS, "table2_reid": reid(), "table_maps": pd.DataFrame({"value": [0.5]})}
    ours = published | {"table2_reid": reid(as_drop=[10.1, np.nan]), "table_maps": pd.DataFrame({"value": [0.509]})}
    line = summary(ours, published)
    assert "within" in line and "table_maps.csv, value, by 0.009" in line and "every verdict as published" in line
    assert ": equal;" in summary(published, published)
    assert "OUTSIDE" in summary(ours | {"table_maps": pd.DataFrame({"value": [0.52]})}, published)


def test_a_verdict_about_the_network_counts_and_one_about_the_time_does_not() -> None:
    published = {"claims": CLAIMS, "table2_reid": reid()}
    slow = CLAIMS.assign(verdict=["holds", "does not hold"])
    assert "every verdict as published" in summary(published | {"claims": slow}, published)
    turned = CLAIMS.assign(verdict=["not established", "holds"])
    assert "other verdicts: lead" in summary(published | {"claims": turned}, published)


def test_a_table_that_is_missing_is_named() -> None:
    published = {"claims": CLAIMS, "table2_reid": reid()}
    assert "table2_reid missing" in summary({"claims": CLAIMS}, published)


def test_times_are_not_compared() -> None:
    published = {"claims": CLAIMS, "table2_reid": reid(), "table1_time": pd.DataFrame({"seconds": [1.0]})}
    assert ": equal;" in summary(published | {"table1_time": pd.DataFrame({"seconds": [9.0]})}, published)


def test_the_quick_profile_is_published_and_agrees_with_the_committed_figures() -> None:
    """A reader's own run of another processor may lie there by now: it must agree, too."""
    published = agreement.published_tables("quick")
    assert "table2_reid" in published
    line = summary(agreement.read_tables(agreement.paths.ROOT / "figures" / "quick"), published)
    assert "OUTSIDE" not in line and "missing" not in line, line
