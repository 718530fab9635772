"""The claims ledger: each empirical claim of the paper, and what our tables say about it.

A claim is one row of :data:`CLAIMS`: what the paper says, where, what we measure, and a *judge*, a rule that
reads tables and returns a verdict and the figures behind it. Rules know nothing of the profile, and no verdict
is written by hand. There are five:

- *holds*: the difference that the claim asserts is established, and at equal retained area it stays so;
- *only without area control*: established, but not, or the other way round, once area is taken out;
- *not established*: the figures leave the direction open;
- *does not hold*: the opposite is established;
- *not tested*: a table, a column or an interval is missing; the evidence says which.

*Established* means that the 95 % interval of the difference lies on one side of 0, or of the limit that the row
names. A claim about several methods or metrics is established if every one of its differences is, and does not
hold if the opposite of any one is.

*Area.* Eq. 14 lets a map choose how much it keeps, and whoever keeps more loses less. So a lead in AS drop, AP
drop or AP increase must stay established at a majority of the equal areas (three of 10, 20, 30 and 50 %), all
differences of a claim together. In the ablation, a better setting must not keep more pixels. Scores that do not
depend on Eq. 14 (curves, localisation, sanity check, time) need no such control.

*Intervals.* Those of differences between methods are paired over queries (``table_paired``). Where a table
holds two means only, the interval of their difference is made from theirs (Zou and Donner 2008) as if they were
independent, which is on the wide side for the same images. No interval is widened for the number of differences
that a claim asserts.

Statements that are algebra (Eq. 8; that the gradient of the cosine vanishes for an image with itself) are no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from workbook.claims.evidence import NOT_TESTED, VERDICTS, NotTestedError, Tables
from workbook.claims.paper import CLAIMS, Claim
from workbook.outputs import read_table

__all__ = ["CLAIMS", "VERDICTS", "ledger", "read_tables"]

COLUMNS = ("id", "claim", "where", "measured", "data", "verdict", "evidence", "table")


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of ``figures/<profile>/``, by file name without suffix.

    Raises:
        FileNotFoundError: the folder holds no ``table*.csv``.
        ValueError: a file that is not a table.
    """
    files = sorted(Path(folder).glob("table*.csv"))
    if not files:
        raise FileNotFoundError(f"no table*.csv in {folder}: run the notebooks of this profile first")
    return {file.stem: read_table(file) for file in files}


def ledger(tables: Mapping[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    """Every claim with its verdict, in the order of :data:`CLAIMS`.

    Args:
        tables: by file name without suffix; claims whose tables are missing are "not tested".
        dataset: the Re-ID data set, as in the column ``dataset`` of the tables.

    Returns:
        Columns :data:`COLUMNS`; `data` names the data set, or the device of a timing, and `table` the files.
    """
    return pd.DataFrame([_ledger_row(claim, Tables(tables, dataset), dataset) for claim in CLAIMS], columns=COLUMNS)


def _ledger_row(claim: Claim, tables: Tables, dataset: str) -> dict[str, str]:
    try:
        verdict, evidence = claim.judge(tables)
    except NotTestedError as reason:
        verdict, evidence = NOT_TESTED, str(reason)
    return {
        "id": claim.id,
        "claim": claim.text,
        "where": claim.where,
        "measured": claim.measured,
        "data": ", ".join(tables.about) or dataset,
        "verdict": verdict,
        "evidence": evidence,
        "table": ", ".join(f"{name}.csv" for name in tables.used),
    }
