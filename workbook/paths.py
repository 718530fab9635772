"""Where things are, independent of the folder from which Python was started.

Three places can be moved by environment variables, so that tests, ``make lab`` and shared machines leave the
work tree alone: ``FAM_CACHE`` (heavy results), ``FAM_FIGURES`` (figures and tables) and ``FAM_BUILD``
(executed notebooks). Other modules read ``paths.FIGURES`` when they need it and not at import, so that a test
can move it.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _place(variable: str, default: Path) -> Path:
    """The folder named by an environment variable, relative to :data:`ROOT`, or the default."""
    value = os.environ.get(variable, "")
    return (ROOT / value).resolve() if value else default


DATA = ROOT / "data"  # data sets as they were got; never written to, except for the cache
CACHE = _place("FAM_CACHE", DATA / "cache")  # trained networks and shards of heavy results
FIGURES = _place("FAM_FIGURES", ROOT / "figures")  # <profile>/ figures, tables and manifest.json
BUILD = _place("FAM_BUILD", ROOT / "build")  # <profile>/ executed notebooks, logs, manifest parts
PARAMS = ROOT / "params"  # profiles, and the table of promised outputs
NOTEBOOKS = ROOT / "notebooks"


def data_root(given: str = "") -> Path:
    """The folder that holds the data sets: the one that was given, or ``data/`` of the workbook."""
    return Path(given).expanduser() if given else DATA
