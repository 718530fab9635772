"""The ledger over several networks: pooled tables take the place of those of one, and verdicts lose their suffix."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pytest

from fam_lib.faithfulness import METRICS
from workbook import claims
from workbook.claims.paper import PAPER_METHODS
from workbook.claims.pooled import FEATURE, over_networks
from workbook.evidence.tables import ALL_NETWORKS
from workbook.reid.evaluation import AREAS, EQ14


def made_up(n_networks: int, lead: float = 20) -> dict[str, pd.DataFrame]:
    """Score-FAM loses `lead` points less than every rival at every area, known to 1 point."""
    drop = {method: 60.0 - (lead if method == "score-fam" else 0) for method in PAPER_METHODS}
    pooled = [
        {"dataset": "synthetic", "feature": feature, "keep": keep, "method": method, "kind": "paper",
         "metric": metric, "value": drop[method] + shift, "lo": drop[method] + shift - 1,
         "hi": drop[method] + shift + 1, "n_networks": n_networks}
        for feature, shift in ((FEATURE, 0), ("before neck", 7))
        for keep in (EQ14, *AREAS)
        for method in PAPER_METHODS
        for metric in (*METRICS, *(("retained_area", "insertion", "deletion") if keep == EQ14 else ()))
    ]  # fmt: skip
    paired = [
        {"dataset": "synthetic", "keep": keep, "metric": metric, "method": one, "rival": two,
         "difference": drop[one] - drop[two], "lo": drop[one] - drop[two] - 1, "hi": drop[one] - drop[two] + 1,
         "n": 40, "n_networks": n_networks}
        for keep in (EQ14, *AREAS)
        for metric in METRICS
        for one, two in combinations(PAPER_METHODS, 2)
    ]  # fmt: skip
    maps = [
        {"dataset": "synthetic", "feature": feature, "statement": "ram", "network": network, "value": value,
         "lo": value, "hi": value, "n": 40, "n_networks": n_networks}
        for feature, network, value in ((FEATURE, "a", 0.1), (FEATURE, ALL_NETWORKS, 0.2), ("before neck", "a", 0.3))
    ]  # fmt: skip
    tables = {"table_pooled": pooled, "table_pooled_paired": paired, "table_networks_maps": maps}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def test_pooled_rows_become_the_columns_that_the_rules_read() -> None:
    tables = over_networks(made_up(5))
    row = tables["table2_reid"].set_index("method").loc["score-fam"]
    assert (row.as_drop, row.as_drop_lo, row.as_drop_hi, row.retained_area, row.n_networks) == (40, 39, 41, 40, 5)
    areas = tables["table_equal_area"]
    assert sorted(areas.area.unique()) == sorted(map(int, AREAS)) and len(areas) == len(AREAS) * len(PAPER_METHODS)
    assert tables["table_maps"]["value"].tolist() == [0.2]  # of all networks, behind the neck


@pytest.mark.parametrize(("n_networks", "verdict"), [(5, "holds"), (4, "holds (4 networks)")])
def test_a_verdict_over_enough_networks_has_no_suffix(n_networks: int, verdict: str) -> None:
    ledger = claims.ledger(made_up(n_networks), "synthetic").set_index("id")
    assert ledger.verdict["lead-as-drop"].startswith("holds") and (ledger.verdict["lead-as-drop"] == verdict)
    assert ledger.table["lead-as-drop"] == "table_pooled.csv, table_pooled_paired.csv"
    assert ledger.verdict["time-ratio"] == "not tested"


def test_the_opposite_lead_does_not_hold() -> None:
    ledger = claims.ledger(made_up(5, lead=-20), "synthetic").set_index("id")
    assert ledger.verdict["lead-as-drop"] == "does not hold"


def test_a_run_of_one_network_is_left_as_it_is() -> None:
    tables = {"table2_reid": pd.DataFrame({"dataset": ["synthetic"]})}
    assert over_networks(tables) == tables
