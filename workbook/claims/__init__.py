"""The claims ledger: each empirical claim of the paper, and what our tables say about it.

A claim is one row of :data:`CLAIMS`: what the paper says, where, what we measure, and a *judge*, a rule that
reads tables and returns a verdict and the figures behind it. Rules know nothing of the profile, and no verdict
is written by hand. There are six:

- *holds*: the difference that the claim asserts is established, and at equal retained area it stays so;
- *only without area control*: established, but not, or the other way round, once area is taken out;
- *no difference*: open, and too small to matter: every interval lies within the margin of the row;
- *not established*: the figures leave the direction open;
- *does not hold*: the opposite is established;
- *not tested*: a table, a column or an interval is missing; the evidence says which.

*Established* means that the 95 % interval of the difference lies on one side of 0, or of the limit that the row
names.

*One network.* A verdict carries the suffix " (one network)" unless every row that it rests on is over trainings: five
or more on synthetic data, three on other (column ``n_networks``; a table without it is about one network). An interval
over the people of one network says nothing about the next training. Times do not depend on what a network has learned
and have no suffix.

*Several differences.* A claim about k methods or metrics is established if every one of its differences is: that all
of k hold by chance is no more likely than that one does, so nothing is corrected. It does not hold if the opposite of
any one is established; there k chances to err add up, so for the opposite both halves of the interval are widened by
z(1 - 0.025/k) / z(0.975), Bonferroni's correction. The evidence names k.

*Margins.* Of a drop or of AP increase: half of the paper's smallest lead of Score-FAM, in points or as a share of the
rival's score, whichever is less. Of the area under a curve: 0.05. A claim that has no margin (time, localisation,
BYOL, area) cannot be "no difference".

*Likeness.* Maps of any two people correlate (at some layers 0.93), for people stand in the middle of their images. So
two maps are alike only if they are more alike than those of two different people by the same method at the same layer,
which the tables hold: alike if the excess over these strangers lies above 0; unlike if it lies below 0.05 and not
above 0; open otherwise. This folds the margin in: as unlike as strangers *is* unlike.

*Area.* Eq. 14 lets a map choose how much it keeps, and whoever keeps more loses less. So a lead in AS drop, AP
drop or AP increase must stay established at a majority of the equal areas (three of 10, 20, 30 and 50 %), all
differences of a claim together. In the ablation, a better setting must not keep more pixels. Scores that do not
depend on Eq. 14 (curves, localisation, sanity check, time) need no such control.

*Intervals.* Those of one network resample people, not queries. Differences between methods are paired over queries
(``table_paired``), and so are those between the settings of an ablation. Where a table holds two means only
(likeness, control-area), or two paired figures are added (thresholds-fair), the interval is made from theirs (Zou
and Donner 2008) as if they were independent, which is on the wide side for the same images.

Statements that are algebra (Eq. 8; that the gradient of the cosine vanishes for an image with itself) are no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from workbook.claims.evidence import (
    NOT_TESTED,
    ONE_NETWORK,
    VERDICTS,
    NotTestedError,
    Tables,
    enough_networks,
    qualified,
)
from workbook.claims.paper import CLAIMS, Claim
from workbook.claims.pooled import MADE_FROM, over_networks
from workbook.outputs import read_table

__all__ = ["CLAIMS", "ONE_NETWORK", "VERDICTS", "ledger", "read_tables"]

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
        tables: by file name without suffix; claims whose tables are missing are "not tested". Tables over several
            networks (``table_pooled`` and its like) take the place of those of one.
        dataset: the Re-ID data set, as in the column ``dataset`` of the tables.

    Returns:
        Columns :data:`COLUMNS`; `data` names the data set, or the device of a timing, and `table` the files.
    """
    pooled = over_networks(tables)
    rows = pd.DataFrame([_ledger_row(claim, Tables(pooled, dataset), dataset) for claim in CLAIMS], columns=COLUMNS)
    if "table_pooled" in tables:
        rows["table"] = rows["table"].map(_made_from)
    return rows


def _made_from(files: str) -> str:
    """The files over networks behind the names that the rules know."""
    stems = (name.removesuffix(".csv") for name in files.split(", ") if name)
    return ", ".join(dict.fromkeys(f"{MADE_FROM.get(stem, stem)}.csv" for stem in stems))


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
        "verdict": qualified(verdict, tables.n_networks, enough_networks(tables.about)),
        "evidence": evidence,
        "table": ", ".join(f"{name}.csv" for name in tables.used),
    }
