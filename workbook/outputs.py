"""The outputs that the workbook promises, and the records of those that were made.

``params/outputs.txt`` names every promised file. A notebook records what it writes in its own *part*,
``build/<profile>/manifest/<notebook>.json``, so that notebooks can run side by side;
``workbook/run/check_outputs.py`` joins the parts into ``figures/<profile>/manifest.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbook import paths
from workbook.cache import store
from workbook.profiles import Profile, short


@dataclass(frozen=True)
class Output:
    """One promised output: a file, the notebook that writes it, and the item of the paper it answers."""

    notebook: str
    file: str
    profiles: tuple[str, ...]  # empty: every profile that runs the notebook
    paper: str


def table() -> list[Output]:
    """All promised outputs: one line each of notebook, file, profiles (or ``all``) and the item of the paper.

    Raises:
        ValueError: A line with fewer than four words, a suffix that is neither .png nor .csv, or a file named
            twice.
    """
    path = paths.PARAMS / "outputs.txt"
    found: dict[str, Output] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split(maxsplit=3)
        if not words or words[0].startswith("#"):
            continue
        place = f"{short(path)}, line {number}"
        if len(words) < 4:
            raise ValueError(f"{place}: expected notebook, file, profiles and item of the paper, got {line.strip()!r}")
        notebook, file, profiles, paper = words
        if Path(file).suffix not in (".png", ".csv") or Path(file).name != file:
            raise ValueError(f"{place}: an output is a .png or .csv file without a folder, not {file!r}")
        if file in found:
            raise ValueError(f"{place}: {file} is promised twice")
        found[file] = Output(notebook, file, () if profiles == "all" else tuple(profiles.split(",")), paper.strip())
    return list(found.values())


def promised(profile: Profile, notebook: str | None = None) -> list[Output]:
    """The outputs that a profile promises, of all its notebooks or of one."""
    wanted = profile.parts if notebook is None else (notebook,)
    return [
        output
        for output in table()
        if output.notebook in wanted and (not output.profiles or profile.name in output.profiles)
    ]


def stays_here(profile: Profile, file: str) -> bool:
    """Whether an output must not leave this machine: every picture made from photographs of real people."""
    return profile.numbers_only and not file.endswith(".csv")


def place(profile: Profile, file: str) -> Path:
    """Where an output lies: in ``figures/<profile>/``, or in the ignored ``build/<profile>/figures/``."""
    folder = paths.BUILD / profile.name / "figures" if stays_here(profile, file) else paths.FIGURES / profile.name
    return folder / file


def part_path(profile: Profile, notebook: str) -> Path:
    """Where a notebook's part of the manifest lies."""
    return paths.BUILD / profile.name / "manifest" / f"{notebook}.json"


def read_part(profile: Profile, notebook: str) -> dict[str, Any]:
    """A notebook's part of the manifest; empty if it has none, or an unreadable one."""
    try:
        part = json.loads(part_path(profile, notebook).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return part if isinstance(part, dict) else {}


def problems(profile: Profile, notebook: str) -> list[str]:
    """What is wrong with a notebook's outputs: promised but not recorded, missing, or not as recorded."""
    recorded = {entry["file"]: entry for entry in read_part(profile, notebook).get("outputs", [])}
    found = []
    for output in promised(profile, notebook):
        path = place(profile, output.file)
        if output.file not in recorded:
            found.append(f"{output.file} was not written")
        elif not path.is_file():
            found.append(f"{short(path)} is missing")
        elif store.sha256(path) != recorded[output.file]["sha256"]:
            found.append(f"{short(path)} was changed after {notebook} wrote it")
    return found


def read_table(path: Path) -> pd.DataFrame:
    """A table as :class:`workbook.report.Report` wrote it.

    Raises:
        ValueError: A file that is not a table.
    """
    try:
        return pd.read_csv(path, dtype={"keep": str})
    except ValueError as error:  # the parser's errors are ValueErrors too
        raise ValueError(f"{short(path)} is not a table ({error}): delete it and run its notebook again") from error
