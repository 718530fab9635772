"""Run one notebook of a profile with papermill: whole, or not at all.

The executed notebook is written in ``build/<profile>/wip/`` and moved to ``build/<profile>/run/`` when every
cell has run and every promised output is there. After a failure the partial notebook and its log stay in
``wip/``.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import psutil

from workbook import outputs, paths, profiles
from workbook.cache import store
from workbook.profiles import Profile, short

INTERRUPTED = "{}: interrupted; the same command continues"
GRACE = 15.0  # seconds that a stopped run has to shut its kernel down
STOPS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what make and kill send
# Their versions decide what the numbers and the bytes of a figure are.
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "numpy",
    "pandas",
    "pillow",
    "scikit-image",
    "matplotlib",
)


@dataclass(frozen=True)
class Job:
    """One run of one notebook and where its files go."""

    profile: Profile
    notebook: str

    @property
    def source(self) -> Path:
        """The committed notebook."""
        return paths.NOTEBOOKS / f"{self.notebook}.ipynb"

    @property
    def partial(self) -> Path:
        """The executed copy while it is being made, and after a failure."""
        return paths.BUILD / self.profile.name / "wip" / f"{self.notebook}.ipynb"

    @property
    def log(self) -> Path:
        """What the cells and the kernel print."""
        return self.partial.with_suffix(".log")

    @property
    def target(self) -> Path:
        """The executed copy of a run that ended well."""
        return paths.BUILD / self.profile.name / "run" / f"{self.notebook}.ipynb"


class RunError(Exception):
    """Something that one line explains to the user."""


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``python -m workbook.run.run_notebook NOTEBOOK --profile NAME [--data-root FOLDER] [name=value
    ...]``."""
    parser = argparse.ArgumentParser(
        prog="python -m workbook.run.run_notebook", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("notebook", help="name without .ipynb, for example 03_reid_evaluation")
    parser.add_argument("--profile", default="quick", help="one of params/*.yaml")
    parser.add_argument("--data-root", default="", help="the folder that holds the data sets")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="parameters, instead of the profile's")
    options = parser.parse_intermixed_args(arguments)
    for number in STOPS:
        signal.signal(number, partial(_stop, options.notebook))  # so that the kernel is shut down, too
    try:
        overrides = dict(_split(text) for text in options.overrides)
        run(options.notebook, options.profile, overrides, options.data_root)
    except (RunError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # nbclient, stopped between making its poll for the kernel and waiting for it, has Python say so at the end.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        print(INTERRUPTED.format(options.notebook), file=sys.stderr)
        return 130
    return 0


def _stop(notebook: str, number: int, frame: FrameType | None) -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)  # once is enough: the kernel is being shut down
    # Its end is what was asked for: asyncio, the kernel's client and papermill would each report it as an error.
    logging.disable(logging.CRITICAL)
    # The signal may arrive in a callback that swallows what is raised here; the run would then go on for ever.
    last_resort = threading.Timer(GRACE, _end, (notebook,))
    last_resort.daemon = True
    last_resort.start()
    raise KeyboardInterrupt


def _end(notebook: str) -> None:
    """Kill the kernel and end the process, whatever it is doing."""
    for child in psutil.Process().children(recursive=True):
        child.kill()
    print(INTERRUPTED.format(notebook), file=sys.stderr, flush=True)
    os._exit(130)


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is no name=value")
    return name, value


def run(notebook: str, profile_name: str, overrides: dict[str, str], data_root: str = "") -> None:
    """Run a notebook of a profile and move the executed copy to its place.

    Raises:
        RunError: A cell failed, the notebook ended early, or a promised output is missing.
        FileNotFoundError: No such profile, notebook or data set.
        ValueError: Unknown or mistyped parameters.
    """
    from workbook.run import parameters  # papermill takes a second to import: not for --help and a mistyped profile

    profile = profiles.load(profile_name)
    job = Job(profile, notebook)
    root = str(Path(data_root).expanduser().resolve()) if data_root else ""  # papermill starts in notebooks/
    if profile.dataset != profiles.SYNTHETIC:
        from workbook.reid import datasets  # torch takes seconds to import: only where it is needed

        datasets.require(profile.dataset, paths.data_root(root))
    given = parameters.values(profile, notebook, overrides, root)
    used = {**parameters.defaults(notebook), **given}

    with alone(job):
        start = time.time()
        print(f"{notebook} ({profile.name}): started; log: {short(job.log)}", flush=True)
        outputs.part_path(profile, notebook).unlink(missing_ok=True)
        execute(job, given)
        require_complete(job)
        wrong = outputs.problems(profile, notebook)
        if wrong:
            raise RunError(f"{notebook} ended well, but {'; '.join(wrong)}; executed copy: {short(job.partial)}")
        record(job, used, overrides, time.time() - start)
        # What was edited while the notebook ran is newer than the run, and make must see it so.
        os.utime(job.partial, (start, start))
        job.target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(job.partial, job.target)
        print(f"{notebook} ({profile.name}): done in {time.time() - start:.0f} s", flush=True)


@contextmanager
def alone(job: Job) -> Iterator[None]:
    """Wait until no other process runs this notebook; one may be left of a make that was killed."""
    job.partial.parent.mkdir(parents=True, exist_ok=True)
    with job.partial.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{job.notebook}: another process is running it; waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # the system frees the lock however this process ends


def execute(job: Job, values: dict[str, Any]) -> None:
    """Run all cells with papermill; the kernel's own output goes to the log.

    Raises:
        RunError: A cell failed, the kernel died or did not start.
    """
    import papermill

    job.partial.parent.mkdir(parents=True, exist_ok=True)
    job.partial.unlink(missing_ok=True)
    isolate()
    with job.log.open("w", encoding="utf-8") as log, redirected(log) as terminal:
        try:
            papermill.execute_notebook(
                job.source,
                job.partial,
                parameters=values,
                kernel_name="python3",
                cwd=paths.NOTEBOOKS,
                progress_bar=terminal.isatty() and "jobserver" not in os.environ.get("MAKEFLAGS", ""),
                stdout_file=log,
                stderr_file=log,
            )
        except papermill.PapermillExecutionError as error:
            log.write("\n".join(error.traceback) + "\n")
            last = f"cell In[{error.exec_count}] failed: {error.ename}: {_first_line(error.evalue)}"
        except (RuntimeError, KeyError) as error:  # a dead kernel, or none
            last = f"the kernel failed: {type(error).__name__}: {_first_line(str(error))}"
        else:
            return
    raise RunError(f"{job.notebook}: {last}\n  partial notebook: {short(job.partial)}\n  log: {short(job.log)}")


def isolate() -> None:
    """Make runs alike on every machine: this environment's kernel, this folder's library, no user start-up
    files."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # not a kernel "python3" that the user has installed elsewhere
    os.environ["IPYTHONDIR"] = str(paths.BUILD / "ipython")
    os.environ["PYTHONPATH"] = str(paths.ROOT)
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a warning of the debugger that nobody asked for


@contextmanager
def redirected(log: TextIO) -> Iterator[TextIO]:
    """Send what this process and its children write to the log; yield a way to the real terminal.

    The redirection is made at the level of file descriptors, because a kernel inherits those.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    python_stderr = sys.stderr
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as terminal:
        sys.stderr = terminal  # papermill's progress bar goes here
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stderr = python_stderr
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def require_complete(job: Job) -> None:
    """Refuse a notebook that stopped before its last cell: papermill calls ``sys.exit(0)`` a success."""
    cells = json.loads(job.partial.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    done = [cell for cell in code if cell["metadata"].get("papermill", {}).get("status") == "completed"]
    if len(done) < len(code) or any(cell["execution_count"] is None for cell in code):
        raise RunError(
            f"{job.notebook} stopped early, after {len(done)} of {len(code)} code cells\n"
            f"  partial notebook: {short(job.partial)}"
        )


def record(job: Job, used: dict[str, Any], overrides: dict[str, str], seconds: float) -> None:
    """Add how the notebook was run to its part of the manifest: from here on its outputs count as made."""
    part = outputs.read_part(job.profile, job.notebook)
    if not part and outputs.promised(job.profile, job.notebook):
        raise RunError(f"{job.notebook} wrote no report")
    # A path of this machine is no part of the result.
    parameters = {name: value for name, value in used.items() if name != "data_root"}
    part["run"] = how_it_ran(parameters, overrides, seconds)
    store.write_json(outputs.part_path(job.profile, job.notebook), part)


def how_it_ran(parameters: dict[str, Any], overrides: dict[str, str], seconds: float) -> dict[str, Any]:
    """What the manifest says of a run: its parameters, time, commit and versions."""
    return {
        "parameters": parameters,
        "overrides": overrides,
        "wall_seconds": round(seconds, 1),
        **commit(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit() -> dict[str, Any]:
    """The git commit of the workbook, and whether files other than the products differ from it."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run(
            [*git, "status", "--porcelain", "--", ".", ":(exclude)figures"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # a downloaded archive has no history
        return {"commit": None, "dirty": None}
    return {"commit": head.stdout.strip(), "dirty": bool(state.stdout.strip())}


if __name__ == "__main__":
    sys.exit(main())
