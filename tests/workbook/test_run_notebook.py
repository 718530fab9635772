"""A notebook runs whole or not at all, with the parameters meant; make repeats only what it must."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nbformat
import pytest

import toy_project as toys
from workbook import outputs, paths, profiles
from workbook.cache import store
from workbook.run import check_outputs, parameters, refresh_notebooks, run_notebook

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds until something counts as never happening
PLAIN = "from workbook.profiles import load\nprint(load(profile).name, n)"
PROMISES = "01_setup  a.csv  all  Table 1\n02_fam_methods  b.png  all  Fig. 2\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of a toy workbook, for tools that run in this process."""
    folder = tmp_path / "workbook"
    monkeypatch.setattr(paths, "ROOT", folder)
    monkeypatch.setattr(paths, "DATA", folder / "data")
    monkeypatch.setattr(paths, "BUILD", folder / "build")
    monkeypatch.setattr(paths, "FIGURES", folder / "figures")
    monkeypatch.setattr(paths, "PARAMS", folder / "params")
    monkeypatch.setattr(paths, "NOTEBOOKS", folder / "notebooks")
    before = dict(os.environ)
    for name in ("FAM_CACHE", "FAM_FIGURES", "FAM_BUILD"):
        os.environ.pop(name, None)
    yield folder
    os.environ.clear()
    os.environ.update(before)


def executed(folder: Path, name: str = "01_setup") -> Path:
    return folder / "build" / "quick" / "run" / f"{name}.ipynb"


def partial(folder: Path, suffix: str, name: str = "01_setup") -> Path:
    return folder / "build" / "quick" / "wip" / f"{name}{suffix}"


def old_result(folder: Path) -> Path:
    """An executed copy of an earlier run, which a failure must not touch."""
    path = executed(folder)
    path.parent.mkdir(parents=True)
    path.write_text("old")
    return path


# -- runs ---------------------------------------------------------------------------------------------------


def test_a_run_that_ends_well(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A kernel "python3" of the user's, which must not be taken.
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "theirs", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    source = PLAIN + "\nimport os, sys, workbook; print(workbook.__file__, os.getcwd(), sys.executable)"
    parameters_cell = toys.PARAMETERS + '\ndata_root: str = ""  # data\nrate: float = 0.5  # rate'
    book = toys.notebook(source, parameters=parameters_cell)
    toys.make_project(root, {"01_setup": book}, "", "parameters: {n: 3, rate: 2}\n")
    assert run_notebook.main(["01_setup", "--data-root", str(tmp_path), "n=4"]) == 0

    copy = nbformat.read(executed(root), as_version=4)
    stdout = copy.cells[-1].outputs[0].text.split()
    assert stdout[:2] == ["quick", "4"], "the command line beats the profile"
    assert stdout[2:] == [str(root / "workbook" / "__init__.py"), str(root / "notebooks"), sys.executable]
    injected = next(cell.source for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert "rate = 2.0" in injected, "a whole number becomes the declared float"
    assert f'data_root = "{tmp_path}"' in injected
    assert not partial(root, ".ipynb").exists()
    log = partial(root, ".log")
    assert "quick 4" in log.read_text()
    assert executed(root).stat().st_mtime < log.stat().st_mtime, "an edit during the run is newer than the run"

    run = outputs.read_part(profiles.load("quick"), "01_setup")["run"]
    assert run["parameters"] == {"profile": "quick", "n": 4, "rate": 2.0}, "no path of this machine"
    assert run["overrides"] == {"n": "4"}
    assert run["packages"]["torch"].startswith("2.")
    assert run["wall_seconds"] > 0


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (
            'raise ValueError("what is wrong\\nmore")',
            ["01_setup: cell In[3] failed: ValueError: what is wrong"],
        ),
        ("import sys; sys.exit(0)", ["01_setup stopped early, after 2 of 4 code cells"]),
        ("import os; os._exit(3)", ["01_setup: the kernel failed: DeadKernelError: Kernel died"]),
        ("n", ["01_setup ended well, but a.csv was not written"]),
    ],
    ids=["error", "early-exit", "dead-kernel", "forgotten-output"],
)
def test_a_run_that_fails(root: Path, capfd: pytest.CaptureFixture[str], source: str, messages: list[str]) -> None:
    toys.make_project(root, {"01_setup": toys.notebook(source, "n")}, "01_setup a.csv all Table 1\n")
    old = old_result(root)
    assert run_notebook.main(["01_setup"]) == 1
    complaint = capfd.readouterr().err
    for message in [*messages, "build/quick/wip/01_setup.ipynb"]:
        assert message in complaint
    assert "Traceback" not in complaint
    assert old.read_text() == "old"
    assert nbformat.read(partial(root, ".ipynb"), as_version=4).cells, "the partial notebook can be read"
    assert partial(root, ".log").is_file()


@pytest.mark.parametrize("number", run_notebook.STOPS)
def test_stopping_the_run_stops_the_kernel_and_leaves_the_old_result(tmp_path: Path, number: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    forever = f"import os, threading\nopen({str(pipe)!r}, 'w').write(str(os.getpid()))\nthreading.Event().wait()"
    folder = toys.make_project(tmp_path / "workbook", {"01_setup": toys.notebook(forever)}, "")
    old = old_result(folder)
    command = [sys.executable, "-m", "workbook.run.run_notebook", "01_setup"]
    with (
        open(pipe, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as told,
        subprocess.Popen(command, cwd=folder, env=toys.environment(folder), stderr=subprocess.PIPE, text=True) as run,
    ):
        assert select.select([told], [], [], PATIENCE)[0], "the cell does not run"
        kernel = int(told.read())
        run.send_signal(number)
        _, complaint = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    assert complaint == "01_setup: interrupted; the same command continues\n"
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert old.read_text() == "old"


def test_a_stopped_run_reports_no_dead_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Under load the kernel's client notices its end before it is told to stop waiting for it.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(run_notebook.threading, "Timer", Mock())
    try:
        with pytest.raises(KeyboardInterrupt):
            run_notebook._stop("01_setup", signal.SIGTERM, None)
        for name in ("papermill", "traitlets", "asyncio"):
            logging.getLogger(name).error("Kernel died while waiting for execute reply.")
        assert not caplog.records
    finally:
        logging.disable(logging.NOTSET)


def test_a_run_that_swallows_the_stop_ends_all_the_same() -> None:
    """It happened to a run under load: raised in a callback of the event loop, the interrupt was lost."""
    script = """
        import functools, os, signal, subprocess, sys, threading
        from workbook.run import run_notebook

        run_notebook.GRACE = 0.1
        signal.signal(signal.SIGTERM, functools.partial(run_notebook._stop, "01_setup"))
        subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        while True:
            try:
                os.kill(os.getpid(), signal.SIGTERM)  # from outside it could arrive before "try"
                threading.Event().wait()
            except KeyboardInterrupt:
                pass
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)  # a child left would hold the pipes
    assert run.returncode == 130
    assert run.stderr == "01_setup: interrupted; the same command continues\n"


def test_two_runs_of_one_notebook_wait_for_each_other(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toys.make_project(root, {"01_setup": toys.notebook(PLAIN)}, "")
    job = run_notebook.Job(profiles.load("quick"), "01_setup")
    with run_notebook.alone(job), job.partial.with_suffix(".lock").open("w") as other:
        fcntl = run_notebook.fcntl
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    asked: list[int] = []

    def busy(file: Any, operation: int) -> None:
        asked.append(operation)
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", busy)
    with run_notebook.alone(job):
        assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert "another process is running it; waiting" in capsys.readouterr().out


def test_refresh_stores_outputs_without_noise_and_repeats_to_the_byte(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = root / "notebooks" / "01_setup.ipynb"
    toys.make_project(root, {"01_setup": toys.notebook("n + 40  # comment")}, "")
    assert refresh_notebooks.main(["01_setup"]) == 0
    first = path.read_bytes()
    book = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in book.cells[1:]] == [1, 2]
    assert book.cells[2].outputs[0].data["text/plain"] == "42"
    assert [cell.id for cell in book.cells] == ["cell-0", "cell-1", "cell-2"]
    assert book.cells[1].metadata == {"tags": ["parameters"]}
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert "version" not in book.metadata.language_info
    time = path.stat().st_mtime_ns
    assert refresh_notebooks.main([]) == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, time), "make must not see an unchanged notebook"
    assert capfd.readouterr().out.splitlines()[-1] == "01_setup: as before"


# -- parameters ---------------------------------------------------------------------------------------------


def two_notebooks(folder: Path, given: str = "") -> None:
    """Two notebooks; ``k`` is declared by the second alone."""
    second = toys.PARAMETERS + "\nk: float = 1.0  # k\nname: str =   # name\nsizes: list[int] = [1]  # s"
    books = {"01_setup": toys.notebook("n"), "02_fam_methods": toys.notebook("n", parameters=second)}
    toys.make_project(folder, books, "", f"parameters: {{{given}}}\n")


def values(notebook: str, **overrides: str) -> dict[str, Any]:
    return parameters.values(profiles.load("quick"), notebook, overrides)


def test_a_notebook_gets_the_values_that_it_declares(root: Path) -> None:
    two_notebooks(root, "n: 5, k: 2.5, name: ann, sizes: [3, 4]")
    assert values("01_setup") == {"profile": "quick", "n": 5}
    second = {"profile": "quick", "n": 5, "k": 2.5, "name": "ann", "sizes": [3, 4]}
    assert values("02_fam_methods") == second
    overridden = values("02_fam_methods", k="1e-4", name="1", sizes="[7]")
    assert overridden == second | {"k": 1e-4, "name": "1", "sizes": [7]}
    assert parameters.defaults("02_fam_methods") == {
        "profile": "quick", "n": 2, "k": 1.0, "name": "", "sizes": [1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nn: 3", "params/quick.yaml: no notebook declares the parameter 'nn'; did you mean 'n'?"),
        ("n: 1.5", "01_setup declares n: int, but it is set to 1.5"),
        ("n: true", "01_setup declares n: int, but it is set to True"),
        ("n: '3'", "01_setup declares n: int, but it is set to '3'"),
        ("k: high", "02_fam_methods declares k: float, but it is set to 'high'"),
        ("k: .inf", "02_fam_methods declares k: float, but it is set to inf"),
        ("name: 3", "02_fam_methods declares name: str, but it is set to 3"),
        ("sizes: [1, 2.5]", "02_fam_methods declares sizes: list[int], but it is set to [1, 2.5]"),
        ("profile: paper", "params/quick.yaml: the parameter 'profile' is set by the run itself"),
    ],
)
@pytest.mark.parametrize("notebook", ["01_setup", "02_fam_methods"])
def test_a_wrong_value_in_a_profile_is_refused_whichever_notebook_runs(
    root: Path, notebook: str, given: str, message: str
) -> None:
    two_notebooks(root, given)
    with pytest.raises(ValueError) as caught:
        values(notebook)
    assert message in str(caught.value)


def test_wrong_overrides_are_refused_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_notebooks(root)
    for override, message in [
        ("m=3", "the command line: no notebook declares the parameter 'm'"),
        ("n=many", "01_setup declares n: int, but it is set to 'many'"),
        ("k=high", "02_fam_methods declares k: float, but it is set to 'high'"),
        ("n", "'n' is no name=value"),
    ]:
        assert run_notebook.main(["01_setup", override]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_other_mistakes_are_refused_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_notebooks(root)
    nbformat.write(toys.notebook("1", parameters="n = 3"), root / "notebooks" / "03_untyped.ipynb")
    untyped = 'profile: str = "quick"\nn = 3'
    nbformat.write(toys.notebook("1", parameters=untyped), root / "notebooks" / "04_untyped.ipynb")
    real = "description: d\ndataset: people\nnumbers_only: true\nnotebooks: [01_setup]\n"
    (root / "params" / "real.yaml").write_text(real)
    for arguments, message in [
        (["01_setpu"], "no notebook '01_setpu'; did you mean '01_setup'?"),
        (["03_untyped"], 'must declare profile: str = "quick"'),
        (["04_untyped"], "the parameter 'n' has no type"),
        (["01_setup", "--profile", "quikc"], "no profile 'quikc'; known profiles: quick, real"),
        (["01_setup", "--profile", "real"], "the data set 'people' needs"),
        (["01_setup", "--profile", "real", "--data-root", "/nowhere"], "needs /nowhere/people, which is not there"),
    ]:
        assert run_notebook.main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (root / "build").exists(), "refused before anything is written"


@pytest.mark.parametrize("name", profiles.names())
def test_the_committed_profiles_set_what_the_committed_notebooks_declare(name: str) -> None:
    profile = profiles.load(name)
    for notebook in profile.notebooks:
        given = parameters.values(profile, notebook, {})
        assert given["profile"] == name
        if name == "quick":
            defaults = parameters.defaults(notebook)
            assert given == {key: defaults[key] for key in given}, "the defaults are the quick profile"


# -- outputs ------------------------------------------------------------------------------------------------


def finished(folder: Path, **run: Any) -> Path:
    """A workbook whose two notebooks seem to have run; returns the folder of their outputs."""
    toys.make_project(folder, {"01_setup": toys.notebook("n"), "02_fam_methods": toys.notebook("n")}, PROMISES)
    profile = profiles.load("quick")
    for output in outputs.table():
        store.write_text(outputs.place(profile, output.file), f"content of {output.file}\n")
        entry = {
            "file": output.file,
            "kind": "?",
            "paper": "old words",
            "dataset": "synthetic",
            "alt": "what",
        }
        entry["sha256"] = store.sha256(outputs.place(profile, output.file))
        part = {"device": "cpu", "outputs": [entry], "run": {"overrides": {}, "wall_seconds": 1.5} | run}
        store.write_json(outputs.part_path(profile, output.notebook), part)
        store.write_text(executed(folder, output.notebook), "{}")
    return folder / "figures" / "quick"


def test_the_manifest_says_where_every_file_came_from(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = finished(root)
    (figures / f"{store.PART}123-b.png").write_text("what a killed process left")
    (figures / "old.png").write_text("from a former version")
    assert check_outputs.main(["quick"]) == 0
    said = capsys.readouterr()
    assert "2 outputs in figures/quick" in said.out
    assert said.err == "note: figures/quick/old.png is no output of this profile; delete it if it is a leftover\n"
    assert sorted(path.name for path in figures.iterdir()) == ["a.csv", "b.png", "manifest.json", "old.png"]
    manifest = json.loads((figures / "manifest.json").read_text())
    assert [(entry["file"], entry["notebook"], entry["paper"]) for entry in manifest["outputs"]] == [
        ("a.csv", "01_setup", "Table 1"),
        ("b.png", "02_fam_methods", "Fig. 2"),
    ]
    assert manifest["outputs"][0]["sha256"] == store.sha256(figures / "a.csv")
    assert manifest["runs"]["02_fam_methods"] == {"device": "cpu", "overrides": {}, "wall_seconds": 1.5}
    before = (figures / "manifest.json").stat().st_mtime_ns
    assert check_outputs.main(["quick"]) == 0
    assert (figures / "manifest.json").stat().st_mtime_ns == before, "a call that changes nothing writes nothing"


def forget_part(folder: Path) -> None:
    outputs.part_path(profiles.load("quick"), "01_setup").unlink()


def drop_run(folder: Path) -> None:
    """What a notebook leaves that was run by hand, or that was killed at its end."""
    path = outputs.part_path(profiles.load("quick"), "01_setup")
    store.write_json(path, {name: value for name, value in json.loads(path.read_text()).items() if name != "run"})


def promise_more(folder: Path) -> None:
    with (folder / "params" / "outputs.txt").open("a") as file:
        file.write("01_setup  c.csv  all  Table 3\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "figures" / "quick" / "a.csv").unlink(), "figures/quick/a.csv is missing"),
        (
            lambda folder: (folder / "figures" / "quick" / "a.csv").write_text("x"),
            "was changed after 01_setup wrote",
        ),
        (forget_part, "its outputs were not written by make"),
        (drop_run, "its outputs were not written by make"),
        (promise_more, "c.csv was not written"),
    ],
    ids=["deleted", "edited", "no-record", "by-hand", "newly-promised"],
)
def test_outputs_that_are_not_as_recorded_are_reported_and_their_notebook_runs_again(
    root: Path, capsys: pytest.CaptureFixture[str], damage: Any, message: str
) -> None:
    figures = finished(root)
    damage(root)
    assert check_outputs.main(["quick"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("01_setup: ") and message in error
    assert not (figures / "manifest.json").exists(), "no certificate for what is wrong"
    assert check_outputs.main(["quick", "--stale"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("01_setup runs again: ") and message in error
    assert not executed(root).exists()
    assert executed(root, "02_fam_methods").exists()
    assert (root / "build" / "quick" / "notebooks").read_text() == "01_setup\n02_fam_methods\n"


def test_a_run_with_other_parameters_is_not_the_profile_s(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(root, overrides={"n": "4"})
    assert check_outputs.main(["quick", "--stale"]) == 0
    assert "01_setup runs again: it was run with n=4" in capsys.readouterr().err
    assert not executed(root).exists()


def test_a_profile_that_lists_an_absent_notebook_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(root)
    (root / "notebooks" / "02_fam_methods.ipynb").unlink()
    assert check_outputs.main(["quick", "--stale"]) == 1
    assert "lists '02_fam_methods', which is not in notebooks/" in capsys.readouterr().err


# -- make ---------------------------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of everything that a run makes."""
    files = [path for sub in ("figures", "build/quick/run") for path in (folder / sub).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def started(run: subprocess.CompletedProcess[str]) -> set[str]:
    """The notebooks that a call of make ran."""
    assert run.returncode == 0, run.stdout + run.stderr
    return {line.split()[0] for line in run.stdout.splitlines() if ": started" in line}


def test_make_reproduce_runs_what_it_must_and_no_more(tmp_path: Path) -> None:
    books = {
        "01_setup": toys.table_notebook("01_setup", "a"),
        "02_fam_methods": toys.figure_notebook("02_fam_methods", "b"),
    }
    folder = toys.make_project(tmp_path / "work book", books, PROMISES)  # a blank in the path
    assert started(toys.make(folder, "-j2", "reproduce")) == set(books)
    first = snapshot(folder)
    assert (folder / "figures/quick/a.csv").read_text() == "k,half\n0,0\n1,0.5\n"

    assert started(toys.make(folder, "reproduce")) == set()
    assert snapshot(folder) == first, "a second call does nothing"

    (folder / "notebooks" / "01_setup.ipynb").touch()
    (folder / "figures/quick/a.csv").write_text("edited")
    assert started(toys.make(folder, "reproduce")) == {"01_setup"}
    second = snapshot(folder)
    changed = {name for name in first if second[name] != first[name]}
    manifest = "figures/quick/manifest.json"  # differs by the seconds of the run, if they differ
    assert changed - {manifest} == {"build/quick/run/01_setup.ipynb", "figures/quick/a.csv"}
    assert second["figures/quick/a.csv"][0] == first["figures/quick/a.csv"][0]


def plan(folder: Path, *touched: str) -> set[str]:
    """The notebooks that make would run after some files were changed, all others being done."""
    for number, path in enumerate((folder / "notebooks").glob("*.ipynb")):
        done = executed(folder, path.stem)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text("")
        os.utime(done, (2_000_000_000 + number,) * 2)
    for name in touched:
        os.utime(folder / name, (2_100_000_000,) * 2)
    run = toys.make(folder, "--dry-run", "executed")
    assert run.returncode == 0, run.stderr
    for name in touched:
        os.utime(folder / name, (1_000_000_000,) * 2)
    words = [line.split() for line in run.stdout.splitlines() if "workbook.run.run_notebook" in line]
    return {line[line.index("workbook.run.run_notebook") + 1] for line in words}


def test_what_make_depends_on(tmp_path: Path) -> None:
    names = ["01_setup", "02_fam_methods", "03_reid_evaluation", "04_sanity_check", "05_byol_analysis"]
    folder = toys.make_project(tmp_path / "workbook", {name: toys.notebook("1") for name in names}, "")
    (folder / "build" / "quick").mkdir(parents=True)
    (folder / "build" / "quick" / "notebooks").write_text("\n".join(names))
    assert plan(folder) == set()
    assert plan(folder, "notebooks/01_setup.ipynb") == {"01_setup"}, "03 and 04 need 01, but not a new 01"
    assert plan(folder, "params/quick.yaml") == set(names)
    assert plan(folder, "workbook/cache/store.py") == set(names)
    assert plan(folder, "params/outputs.txt", "Makefile") == set()
    executed(folder).unlink()
    order = toys.make(folder, "--dry-run", "executed", "-j4").stdout
    assert order.count("workbook.run.run_notebook") == 1


def test_make_refuses_an_old_python_in_one_line(tmp_path: Path) -> None:
    folder = toys.make_project(tmp_path / "workbook", {}, "")
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).write_text("")
    old = folder / "python3.10"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.10.1 && exit 0\nexit 1\n')
    old.chmod(0o755)
    run = toys.call(folder, "make", f"PYTHON={old}", "setup")
    assert run.returncode != 0
    assert f"Python 3.11 or later is needed, but {old} is Python 3.10.1; name another one" in run.stderr
    assert not (folder / ".venv").exists()


def test_make_alone_lists_the_targets() -> None:
    listed = toys.call(toys.ROOT, "make").stdout
    for target in ("reproduce", "test", "lab", "bench", "refresh", "lock", "clean"):
        assert f"make {target} " in listed


def test_the_redirection_puts_everything_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "log").open("w") as log:
        with contextlib.suppress(ValueError), run_notebook.redirected(log) as terminal:
            os.write(2, b"from the kernel\n")
            print("to the user", file=terminal)
            raise ValueError
        os.write(2, b"after\n")
    assert (tmp_path / "log").read_text() == "from the kernel\n"
    assert capfd.readouterr().err == "to the user\nafter\n"


def test_only_the_notebook_that_runs_alone_lets_its_threads_spin(tmp_path: Path) -> None:
    """Target-specific variables of make reach prerequisites too: those that run side by side must not get it."""
    names = ("01_setup", "02_fam_methods", "03_reid_evaluation", "04_sanity_check", "05_byol_analysis")
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "notebooks").write_text("\n".join(names) + "\n")
    command = ["make", "-n", "-B", "-C", str(ROOT), "executed", f"FAM_BUILD={tmp_path}", "PY=python"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    runs = {name: line for line in said.splitlines() for name in names if f"workbook.run.run_notebook {name}" in line}
    assert set(runs) == set(names)
    assert [name for name, line in runs.items() if "-u OMP_WAIT_POLICY" in line] == ["02_fam_methods"]
