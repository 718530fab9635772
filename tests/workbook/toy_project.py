"""A workbook of toy notebooks in a folder of its own, with the real Makefile, tools and plumbing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
PLUMBING = ("paths", "profiles", "outputs", "report")

PARAMETERS = 'profile: str = "quick"  # which profile\nn: int = 2  # rows of the table'
TABLE = """\
import pandas as pd
from workbook.report import Report
report = Report("{notebook}", profile)
report.table(pd.DataFrame({{"k": range(n), "half": [k / 2 for k in range(n)]}}), "{table}")
report.finish()"""
FIGURE = """\
import matplotlib.pyplot as plt
from workbook.report import Report
report = Report("{notebook}", profile)
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot(range(n))
report.figure(fig, "{figure}", alt="A straight line that rises from zero to one")
report.finish()"""


def notebook(*code: str, parameters: str = PARAMETERS) -> nbformat.NotebookNode:
    """A notebook with a title, a parameters cell, and the given code cells."""
    cells = [nbformat.v4.new_markdown_cell("# A toy"), nbformat.v4.new_code_cell(parameters)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [nbformat.v4.new_code_cell(dedent(source)) for source in code]
    for n, cell in enumerate(cells):
        cell.id = f"cell-{n}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def table_notebook(name: str, table: str) -> nbformat.NotebookNode:
    """A notebook that writes one table."""
    return notebook(TABLE.format(notebook=name, table=table))


def figure_notebook(name: str, figure: str) -> nbformat.NotebookNode:
    """A notebook that writes one figure."""
    return notebook(FIGURE.format(notebook=name, figure=figure))


def make_project(folder: Path, notebooks: dict[str, Any], promised: str, profile: str = "") -> Path:
    """Write a toy workbook.

    Args:
        folder: Where; it is made.
        notebooks: Name -> notebook.
        promised: The content of params/outputs.txt.
        profile: Further lines of params/quick.yaml.
    """
    for sub in ("params", "notebooks", "workbook/cache"):
        (folder / sub).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copytree(
        ROOT / "workbook" / "run", folder / "workbook" / "run", ignore=shutil.ignore_patterns("__pycache__")
    )
    for module in ("__init__", *PLUMBING):
        shutil.copy(ROOT / "workbook" / f"{module}.py", folder / "workbook")
    for module in ("__init__", "store"):
        shutil.copy(ROOT / "workbook" / "cache" / f"{module}.py", folder / "workbook" / "cache")
    for name, content in notebooks.items():
        nbformat.write(content, folder / "notebooks" / f"{name}.ipynb")
    (folder / "params" / "outputs.txt").write_text(promised)
    (folder / "params" / "quick.yaml").write_text(
        f"description: toys\ndataset: synthetic\nnumbers_only: false\nnotebooks: [{', '.join(notebooks)}]\n{profile}"
    )
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment of a command in a toy workbook: its own library, none of this process's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAM_", "MAKE", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(folder)}


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a toy workbook; its output is text."""
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)


def tool(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the tools in a toy workbook."""
    return call(folder, sys.executable, "-m", f"workbook.run.{name}", *arguments)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a toy workbook, with this Python instead of a .venv."""
    return call(folder, "make", f"PY={sys.executable}", *arguments)
