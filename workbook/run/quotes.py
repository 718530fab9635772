"""Bring the numbers that a page quotes from figures/ up to date: ``python -m workbook.run.quotes``.

A quoted value is a link to the file that holds it, whose title names the column and the row::

    [31](../figures/quick/table2_reid.csv "as_drop, method=score-fam")

The value is shown with as many decimals as the page has. Read the page again afterwards: its sentences stay.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from workbook import paths
from workbook.cache import store

PAGE = paths.NOTEBOOKS / "which-method.md"
QUOTE = re.compile(r'\[([^\]]+)\]\((\.\./figures/[\w-]+/\w+\.csv) "([^"]+)"\)')
NUMBER = re.compile(r"[+-]?\d+(?:\.(\d+))?")


def lookup(file: Path, where: str) -> str:
    """The value of a table's cell, given as ``column, key=value, ...``.

    Raises:
        ValueError: the table has no such column, or not exactly one such row.
    """
    column, *conditions = where.split(", ")
    rows = pd.read_csv(file, dtype=str)
    pairs = [condition.partition("=")[::2] for condition in conditions]
    if missing := {column, *(key for key, _ in pairs)} - set(rows.columns):
        raise ValueError(f"{file.parent.name}/{file.name} has no column {', '.join(sorted(missing))}")
    for key, value in pairs:
        rows = rows[rows[key] == value]
    if len(rows) != 1:
        raise ValueError(f"{file.parent.name}/{file.name} has {len(rows)} rows for {where!r}, not one")
    return rows[column].item()


def shown_like(value: str, old: str) -> str:
    """A value in the form of the old one: decimals and sign of a number, words as they are."""
    if not (number := NUMBER.fullmatch(old)):
        return value
    text = f"{float(value):+.{len(number[1] or '')}f}"
    return text if old[0] in "+-" else text.removeprefix("+")


def refreshed(text: str, folder: Path) -> str:
    """The text of a page in ``folder`` with every quoted value as its file has it now."""

    def renew(quote: re.Match[str]) -> str:
        old, file, where = quote.groups()
        return f'[{shown_like(lookup(folder / file, where), old)}]({file} "{where}")'

    return QUOTE.sub(renew, text)


def main() -> int:
    """Command line; see the module's text."""
    text = PAGE.read_text(encoding="utf-8")
    try:
        new = refreshed(text, PAGE.parent)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    changed = sum(a != b for a, b in zip(QUOTE.findall(text), QUOTE.findall(new), strict=True))
    if changed:
        store.write_text(PAGE, new)
    print(f"{changed} of {len(QUOTE.findall(new))} quoted values changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
