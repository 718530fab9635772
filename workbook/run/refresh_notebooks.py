"""Run the committed notebooks with their own defaults and store the new outputs, without the noise of a run.

A notebook is replaced when all of it has run, and only if something in it changed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from workbook import profiles
from workbook.cache import store
from workbook.run.run_notebook import Job, RunError, execute, require_complete

# papermill's times and places, and widgets' state, would change with every run.
NOISE = (
    "metadata.papermill",
    "metadata.widgets",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
)


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``python -m workbook.run.refresh_notebooks [NOTEBOOK ...]``."""
    parser = argparse.ArgumentParser(prog="python -m workbook.run.refresh_notebooks", description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="names without .ipynb; all of them if none is given")
    options = parser.parse_args(arguments)
    try:
        quick = profiles.load("quick")
        for notebook in options.notebooks or quick.notebooks:
            print(f"{notebook}: {'changed' if refresh(Job(quick, notebook)) else 'as before'}", flush=True)
    except (RunError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def refresh(job: Job) -> bool:
    """Run a notebook without parameters, clean the result, and put it in the place of the committed one.

    Returns:
        Whether it changed.
    """
    execute(job, {})  # no parameters, so no injected cell
    require_complete(job)
    clean = [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--keep-id"]
    subprocess.run([*clean, "--extra-keys", " ".join(NOISE), str(job.partial)], check=True)
    if job.partial.read_bytes() == job.source.read_bytes():
        return False
    with store.atomic_path(job.source) as temporary:
        temporary.write_bytes(job.partial.read_bytes())
    return True


if __name__ == "__main__":
    sys.exit(main())
