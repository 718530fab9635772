"""The committed notebooks keep the rules, and each rule sees a notebook that breaks it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

import notebook_rules as rules
from workbook import outputs, profiles
from workbook.cache import store
from workbook.run.check_outputs import CLAIMS

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("01_setup", "02_fam_methods", "03_reid_evaluation", "04_sanity_check", "05_byol_analysis")
ALT = "Four saliency maps of one pedestrian; all of them cover the bag"


def test_the_five_notebooks_are_there_and_no_other() -> None:
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook(name: str, rule: Callable[[rules.Notebook], Any]) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    faults = list(rule(notebook))
    assert not faults, f"{path.name}:\n" + "\n".join(faults)


def test_committed_notebooks_are_small_on_disk() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(size <= rules.MAX_BYTES for size in sizes.values()), sizes


# -- each rule ----------------------------------------------------------------------------------------------


def code(source: str, count: int, *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> rules.Cell:
    metadata = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "id": f"code-{count}",
        "metadata": metadata,
        "source": source,
        "execution_count": count,
        "outputs": list(outputs),
    }


def markdown(source: str) -> rules.Cell:
    return {"cell_type": "markdown", "id": f"text-{abs(hash(source)) % 9999}", "metadata": {}, "source": source}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def picture(**metadata: Any) -> dict[str, Any]:
    data = {"image/png": "AAAA", "text/plain": ALT}
    return {"output_type": "display_data", "data": data, "metadata": metadata}


PARAMETERS = 'profile: str = "quick"  # which profile\nn: int = 2  # rows\ninteractive: bool = False  # widgets'
MARKED = f"{rules.MARKER}\nprint(n)"


def good() -> rules.Notebook:
    """A small notebook without a fault."""
    return {
        "cells": [
            markdown("# Title\n\nWhat it asks."),
            code(PARAMETERS, 1, tags=("parameters",)),
            markdown("Count."),
            code(MARKED, 2, stream("2\n")),
            markdown("Again."),
            code(MARKED, 3, stream("2\n")),
            markdown("Look."),
            code("def double(x):\n    return 2 * x\n\nshow()", 4, picture(**{"image/png": {"alt": ALT}})),
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def faults(notebook: rules.Notebook) -> list[str]:
    return [fault for rule in rules.RULES for fault in rule(notebook)]


def test_a_good_notebook_has_no_fault() -> None:
    assert faults(good()) == []


def source(n: int, text: str) -> Callable[[rules.Notebook], None]:
    """Replace the source of a cell."""
    return lambda notebook: notebook["cells"][n].update(source=text)


def stored(n: int, *results: dict[str, Any]) -> Callable[[rules.Notebook], None]:
    """Replace the outputs of a cell."""
    return lambda notebook: notebook["cells"][n].update(outputs=list(results))


def metadata(key: str) -> Callable[[rules.Notebook], None]:
    """Add an entry to the notebook's metadata."""
    return lambda notebook: notebook["metadata"].update({key: {}})


def tag(n: int, *tags: str) -> Callable[[rules.Notebook], None]:
    """Replace the tags of a cell."""
    return lambda notebook: notebook["cells"][n]["metadata"].update(tags=list(tags))


def parameter(line: str) -> Callable[[rules.Notebook], None]:
    """Add a line to the parameters cell."""
    return source(1, f"{PARAMETERS}\n{line}")


WIDGET = {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}}, "metadata": {}}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
LONG_DEF = "def f(x):\n" + "    x += 1\n" * 4 + "    return x"

BROKEN: dict[str, tuple[Callable[[rules.Notebook], Any], str]] = {
    "invalid": (lambda nb: nb["cells"][0].update(extra=1), "not a valid notebook"),
    "kernel": (lambda nb: nb["metadata"]["kernelspec"].update(name="conda-me"), "kernelspec must be python3"),
    "widget-state": (metadata("widgets"), "metadata.widgets must not be committed"),
    "papermill": (metadata("papermill"), "metadata.papermill must not be committed"),
    "cell-times": (lambda nb: nb["cells"][3]["metadata"].update(execution={}), "cell 3: metadata.execution"),
    "no-title": (source(0, "Title"), "cell 0 must be Markdown that starts with the title"),
    "no-parameters": (tag(1), 'must have the tag "parameters"'),
    "parameters-later": (lambda nb: (tag(1)(nb), tag(3, "parameters")(nb)), 'must have the tag "parameters"'),
    "injected": (tag(3, "injected-parameters"), "an executed copy"),
    "untyped": (parameter("k = 3  # k"), "write 'k = 3  # k' as name: type = value"),
    "uncommented": (parameter("k: int = 3"), "k needs one line and a comment"),
    "derived": (parameter("k: int = 2 * n  # k"), "k must be a literal"),
    "union": (parameter("k: int | None = 2  # k"), "k must be bool, int, float, str or list"),
    "other-profile": (source(1, 'profile: str = "paper"  # p'), 'must declare profile: str = "quick"'),
    "interactive": (source(1, PARAMETERS.replace("False", "True")), "interactive must be False"),
    "empty-cell": (source(7, "\n"), "cell 7 is empty"),
    "long-cell": (source(7, "a = 1\n\n" * 21), "cell 7 has 21 lines, at most 20"),
    "long-def": (source(7, LONG_DEF), "the function f has 6 lines, at most 5"),
    "class": (source(7, "class A:\n    pass"), "the class A belongs in a module"),
    "shell": (source(7, "! ls"), "cell 7 is not plain Python"),
    "magic": (source(7, "%matplotlib inline"), "cell 7 is not plain Python"),
    "little-prose": (lambda nb: nb["cells"].pop(2), "3 Markdown cells for 4 code cells"),
    "savefig": (source(7, "plt.savefig('a.png')"), "cell 7: savefig"),
    "to_csv": (source(7, "frame.to_csv('a.csv')"), "cell 7: to_csv"),
    "chdir": (source(7, "os.chdir('x')"), "cell 7: os.chdir"),
    "sys.path": (source(7, "sys.path.append('x')"), "cell 7: sys.path"),
    "parent-path": (source(7, "open('../data/x')"), "a path that starts at .."),
    "backend": (source(7, "matplotlib.use('agg')"), "matplotlib.use"),
    "machine-path": (source(7, "open('/home/ann/x')"), "the path /home/ann/x"),
    "machine-path-shown": (stored(7, stream("saved in /tmp/x/y.png\n")), "cell 7: the path /tmp/x/y.png"),
    "machine-path-told": (source(2, "See C:\\Users\\ann."), "cell 2: the path C:\\Users\\ann."),
    "order": (lambda nb: nb["cells"][3].update(execution_count=5), "the execution counts are [1, 5, 3, 4]"),
    "not-run": (lambda nb: nb["cells"][7].update(execution_count=None), "the execution counts are"),
    "error": (stored(7, ERROR), "cell 7: stored an error, ValueError"),
    "warning": (stored(7, stream("UserWarning: x", "stderr")), "cell 7: stored a warning"),
    "marker-with-words": (source(3, MARKED.replace("OUTPUT", "OUTPUT please")), "nbval ignores a marker"),
    "marker-tag": (tag(3, "nbval-check-output"), "cell 3: use the comment"),
    "raises": (tag(3, "raises-exception"), "cell 3: use the comment"),
    "marked-without-output": (stored(3), "cell 3: marked, but stores no text"),
    "one-mark": (source(5, "print(n)"), "1 marked cells, at least 2"),
    "no-alt": (stored(7, picture()), "cell 7: a picture without an alt text"),
    "short-alt": (stored(7, picture(**{"image/png": {"alt": "fig4"}})), "cell 7: a picture without an alt text"),
    "widget": (stored(7, WIDGET), "cell 7: an output of type application/vnd.jupyter.widget-view+json"),
    "large": (stored(7, stream("x" * 400_000)), "400 kB"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_notebook_is_seen(name: str) -> None:
    break_it, message = BROKEN[name]
    notebook = copy.deepcopy(good())
    break_it(notebook)
    found = faults(notebook)
    assert any(message in fault for fault in found), found


def test_every_rule_is_tried() -> None:
    blind = set(rules.RULES)
    for break_it, _ in BROKEN.values():
        notebook = good()
        break_it(notebook)
        blind -= {rule for rule in blind if list(rule(notebook))}
    assert not blind


def test_lists_of_lines_are_read_like_texts() -> None:
    notebook = good()
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
    notebook["cells"][3]["outputs"][0]["text"] = ["2\n"]
    assert faults(notebook) == []


# -- nbval --------------------------------------------------------------------------------------------------


def test_nbval_fails_when_a_stored_checked_output_is_edited(tmp_path: Path) -> None:
    """With the settings of `make nbval`: one edited number fails, durations and unmarked cells do not."""
    right = [stream("2 rows in 3.1 s\n")]
    book = good()
    book["cells"][3] = code(f'{rules.MARKER}\nprint(n, "rows in 0.2 s")', 2, *right)
    book["cells"][5] = code("print(n + 1)", 3, stream("edited, but not marked\n"))
    book["cells"][7] = code("1", 4)
    (tmp_path / "right.ipynb").write_text(json.dumps(book))
    book["cells"][3]["outputs"] = [stream("3 rows in 3.1 s\n")]
    (tmp_path / "edited.ipynb").write_text(json.dumps(book))
    assert nbformat.read(tmp_path / "edited.ipynb", as_version=4)

    recipe = (ROOT / "Makefile").read_text().split("NBVAL = ", 1)[1].split("\n\n", 1)[0]
    options = [word for word in re.findall(r"--nbval\S+(?: \d+)?", recipe) if "sanitize" not in word]
    assert "--nbval-lax" in options
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "-c", "/dev/null"]
    command += [word for option in options for word in option.split()]
    command += ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval_sanitize.cfg"), "--rootdir", str(tmp_path)]
    run = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "1 failed, 7 passed" in run.stdout
    assert "edited.ipynb::Cell 1" in run.stdout


# -- committed outputs --------------------------------------------------------------------------------------


def test_the_committed_outputs_are_those_of_the_manifest() -> None:
    quick = profiles.load("quick")
    folder = ROOT / "figures" / "quick"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    recorded = {entry["file"]: entry for entry in manifest["outputs"]}
    promised = {output.file for output in outputs.promised(quick)} | {CLAIMS}
    assert set(recorded) == promised
    assert {path.name for path in folder.iterdir()} == promised | {"manifest.json"}
    for file, entry in recorded.items():
        assert store.sha256(folder / file) == entry["sha256"], f"{file}: run make reproduce and commit both"
        assert (folder / file).stat().st_size <= 300_000
        assert file.endswith(".csv") or len(entry["alt"]) >= rules.MIN_ALT
    assert set(manifest["runs"]) == set(quick.notebooks)


def test_no_figure_of_real_people_is_committed() -> None:
    for profile in map(profiles.load, profiles.names()):
        folder = ROOT / "figures" / profile.name
        pictures = [path.name for path in folder.glob("*") if path.suffix not in (".csv", ".json")]
        assert not (profile.numbers_only and pictures), f"{folder.name}: {pictures}"
