"""The tables over several networks, in the form in which the rules read those of one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fam_lib.faithfulness import METRICS
from workbook.evidence.measure import FEATURES
from workbook.evidence.tables import ALL_NETWORKS
from workbook.reid.evaluation import AREAS, EQ14

FEATURE = FEATURES["after_bn"]  # what Table 2 retrieves with
CURVES = ("insertion", "deletion")
# Table of one network -> the table over several from which it is made.
MADE_FROM = {
    "table2_reid": "table_pooled",
    "table_curves": "table_pooled",
    "table_equal_area": "table_pooled",
    "table_paired": "table_pooled_paired",
    "table_maps": "table_networks_maps",
}


def over_networks(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with those of one network replaced by their pooled counterparts, where a run has these.

    Each pooled table has the column ``n_networks``, by which a verdict knows what it rests on.
    """
    if "table_pooled" not in tables:
        return dict(tables)
    rows = tables["table_pooled"]
    rows = rows[rows.feature == FEATURE]
    areas = [_wide(rows[rows["keep"] == area], METRICS).assign(area=int(area)) for area in AREAS]
    found = {
        "table2_reid": _wide(rows[rows["keep"] == EQ14], (*METRICS, "retained_area")),
        "table_curves": _wide(rows[rows["keep"] == EQ14], CURVES),
        "table_equal_area": pd.concat(areas, ignore_index=True),
    }
    if "table_pooled_paired" in tables:
        found["table_paired"] = tables["table_pooled_paired"]
    if "table_networks_maps" in tables:
        maps = tables["table_networks_maps"]
        found["table_maps"] = maps[(maps.network == ALL_NETWORKS) & (maps.feature == FEATURE)]
    return {**tables, **found}


def _wide(rows: pd.DataFrame, metrics: tuple[str, ...]) -> pd.DataFrame:
    """A row for each method, with the value and the ends of the interval of each metric."""
    shared = rows.drop_duplicates("method").set_index("method")[["dataset", "kind"]]
    parts = [shared]
    for metric in metrics:
        of = rows[rows.metric == metric].set_index("method")[["value", "lo", "hi", "n_networks"]]
        parts.append(of.rename(columns={"value": metric, "lo": f"{metric}_lo", "hi": f"{metric}_hi"}))
    wide = pd.concat([part.drop(columns="n_networks", errors="ignore") for part in parts], axis=1)
    wide["n_networks"] = pd.concat([part["n_networks"] for part in parts[1:]], axis=1).min(axis=1)
    return wide.rename_axis("method").reset_index()
