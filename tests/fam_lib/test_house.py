"""The library stands alone: it loads beside torch, NumPy and SciPy only, knows no workbook, and stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import fam_lib

HOUSE = Path(fam_lib.__file__).parent
SOURCES = {path.relative_to(HOUSE).as_posix(): path.read_text(encoding="utf-8") for path in HOUSE.rglob("*.py")}

# Loads every module where nothing is installed but the three packages and what they require. Its arguments: what else
# lies beside fam_lib, and is refused like every other package.
ALONE = """
import pkgutil, re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires


def canonical(name):
    return re.sub("[-_.]+", "-", name).lower()


needed, todo = set(), ["torch", "numpy", "scipy"]
while todo:
    name = canonical(todo.pop())
    if name not in needed:
        needed.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system
            continue
        todo += [re.match(r"[\\w.-]+", line)[0] for line in lines if "extra ==" not in line]

refused = set(sys.argv[1:])
for name, owners in packages_distributions().items():
    if name != "fam_lib" and not needed & set(map(canonical, owners)):
        refused.add(name)


class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"fam_lib shall not need {name}", name=name)


sys.meta_path.insert(0, Wall())
import fam_lib

modules = [module.name for module in pkgutil.walk_packages(fam_lib.__path__, "fam_lib.")]
for module in modules:
    __import__(module)
print(" ".join(modules), " ".join(refused), sep="\\n")
"""
# Some that must be among the refused wherever they are installed.
OTHERS = ("pandas", "matplotlib", "timm", "lightly", "lightning_fabric", "torchvision", "yaml", "PIL", "tqdm", "pytest")


def test_every_module_loads_beside_torch_numpy_and_scipy_alone() -> None:
    beside = {path.stem for path in HOUSE.parent.iterdir() if path.stem.isidentifier()} - {"fam_lib"}
    environment = {**os.environ, "PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run([sys.executable, "-c", ALONE, *beside], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, refused = map(str.split, done.stdout.splitlines())
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SOURCES}
    assert set(modules) == {f"fam_lib.{name}" for name in names - {"__init__"}}
    installed = {name for name in OTHERS if find_spec(name)}
    assert installed | {"workbook"} <= set(refused) and not {"torch", "numpy", "scipy", "fam_lib"} & set(refused)


def test_no_source_speaks_of_the_workbook() -> None:
    lines = [
        f"fam_lib/{path}:{number}"
        for path, text in SOURCES.items()
        for number, line in enumerate(text.splitlines(), 1)
        if "workbook" in line.lower()
    ]
    assert not lines, f"{lines}: the library does not know who uses it"


def test_it_stays_small() -> None:
    length = {path: len(text.splitlines()) for path, text in SOURCES.items()}
    long = {path: lines for path, lines in length.items() if lines > 420}
    assert not long, f"{long}: more than 420 lines in a file of fam_lib"
    assert sum(length.values()) <= 3600, f"fam_lib has {sum(length.values())} lines, more than 3,600"
