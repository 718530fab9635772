"""Who imports whom: arrows lead from the workbook to the library and nowhere in a circle."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from workbook import paths

HOUSES = ("fam_lib", "workbook")
Graph = dict[str, set[str]]


def name_of(path: Path, root: Path) -> str:
    """The module that a file is: ``workbook/plots/__init__.py`` is ``workbook.plots``."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST, package: str) -> Iterable[str]:
    """What a module of a package imports, wherever in it, also in a function: modules, or names in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def arrows(root: Path) -> Graph:
    """For each module of both houses the modules of both houses that it imports."""
    files = {name_of(path, root): path for house in HOUSES for path in (root / house).rglob("*.py")}
    graph: Graph = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set()
        for target in imported(ast.parse(path.read_text(encoding="utf-8")), package):
            while target and target not in files:  # from a name in a module to the module
                target = target.rpartition(".")[0]
            if target and target != name:
                graph[name].add(target)
    return graph


def rooms(graph: Graph) -> Graph:
    """The same between rooms: the modules and packages that lie directly in a house."""
    found: Graph = {}
    for name, targets in graph.items():
        room = ".".join(name.split(".")[:2])
        found.setdefault(room, set()).update({".".join(target.split(".")[:2]) for target in targets} - {room})
    return found


def circle(graph: Graph) -> str:
    """One circle in words, ``a -> b -> a``; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


GRAPH = arrows(paths.ROOT)


def inside(package: str) -> set[str]:
    """A package and its modules."""
    return {name for name in GRAPH if f"{name}.".startswith(f"{package}.")}


def between(those: set[str], others: set[str]) -> Graph:
    """Which of those modules import which of the others."""
    return {name: GRAPH[name] & others for name in those if GRAPH[name] & others}


def test_the_houses_are_read() -> None:
    assert {"fam_lib", "fam_lib.explain", "workbook.plots", "workbook.plots.canvas"} <= GRAPH.keys()
    assert "fam_lib.explain" in GRAPH["fam_lib"] and between(inside("workbook"), {"fam_lib.explain"})


def test_the_library_imports_nothing_of_the_workbook() -> None:
    wrong = between(inside("fam_lib"), inside("workbook"))
    assert not wrong, f"{wrong}: fam_lib does not know the workbook"


def test_nothing_imports_what_runs_the_notebooks() -> None:
    wrong = between(GRAPH.keys() - inside("workbook.run"), inside("workbook.run"))
    assert inside("workbook.run") and not wrong, f"{wrong}: workbook.run is on top of everything"


@pytest.mark.parametrize("level", ["modules", "rooms"])
def test_no_circle(level: str) -> None:
    found = circle(GRAPH if level == "modules" else rooms(GRAPH))
    assert not found, f"a circle of {level}: {found}"


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    texts = {
        "fam_lib/__init__.py": "from fam_lib.a import f",
        "fam_lib/a.py": "",
        "workbook/__init__.py": "",
        "workbook/x/__init__.py": "def f():\n    from . import inner",
        "workbook/x/inner.py": "import fam_lib.a",
        "workbook/y/__init__.py": "",
        "workbook/y/lower.py": "from ..x.inner import g",
        "workbook/y/upper.py": "",
    }
    for file, text in texts.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    graph = arrows(tmp_path)
    assert graph["fam_lib"] == {"fam_lib.a"} and graph["workbook.x"] == {"workbook.x.inner"}
    assert graph["workbook.x.inner"] == {"fam_lib.a"} and graph["workbook.y.lower"] == {"workbook.x.inner"}
    assert circle(graph) == circle(rooms(graph)) == ""

    (tmp_path / "workbook/x/inner.py").write_text("def late():\n    from workbook.y import upper")
    graph = arrows(tmp_path)
    assert circle(graph) == "" and set(circle(rooms(graph)).split(" -> ")) == {"workbook.x", "workbook.y"}

    (tmp_path / "workbook/x/inner.py").write_text("from workbook.y.lower import h")
    assert set(circle(arrows(tmp_path)).split(" -> ")) == {"workbook.x.inner", "workbook.y.lower"}


def test_opening_a_picture_loads_no_experiment() -> None:
    heavy = ("workbook.reid", "timm", "lightning", "lightning_fabric", "lightly", "pandas", "matplotlib")
    code = f"import sys, workbook.images; print(*[name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not done.stdout.split(), f"import workbook.images also loads {done.stdout.strip()}"
