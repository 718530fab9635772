"""Check the outputs of a profile, join the notebooks' records into its manifest, and write the claims ledger.

``python -m workbook.run.check_outputs PROFILE --stale`` comes before make looks at the clock: it removes the
executed copy of every notebook whose outputs were deleted or edited, so that make runs it again, and writes
the names of the profile's notebooks to ``build/PROFILE/notebooks`` for make.
``python -m workbook.run.check_outputs PROFILE`` comes last: every promised output must be recorded, there, and
unchanged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from workbook import outputs, paths, profiles
from workbook.cache import store
from workbook.profiles import Profile, short

CLAIMS = "claims.csv"  # made from the tables of all notebooks, so by none of them


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m workbook.run.check_outputs", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("profile")
    parser.add_argument("--stale", action="store_true", help="before the runs: forget those whose outputs are gone")
    options = parser.parse_args(arguments)
    try:
        profile = profiles.load(options.profile)
        for notebook in profile.notebooks:
            if not (paths.NOTEBOOKS / f"{notebook}.ipynb").is_file():
                raise FileNotFoundError(f"params/{profile.name}.yaml lists {notebook!r}, which is not in notebooks/")
        if options.stale:
            forget_stale(profile)
            store.write_text(paths.BUILD / profile.name / "notebooks", "\n".join(profile.notebooks) + "\n")
            return 0
        return finish(profile)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def forget_stale(profile: Profile) -> None:
    """Remove the executed copies of the notebooks whose outputs are not those that make produced."""
    for notebook in profile.notebooks:
        executed = paths.BUILD / profile.name / "run" / f"{notebook}.ipynb"
        if executed.is_file() and (wrong := all_problems(profile, notebook)):
            print(f"{notebook} runs again: {'; '.join(wrong)}", file=sys.stderr)
            executed.unlink()


def all_problems(profile: Profile, notebook: str) -> list[str]:
    """What is wrong with a notebook's outputs or with the run that made them."""
    run = outputs.read_part(profile, notebook).get("run")
    if run is None:
        return ["its outputs were not written by make"]
    given = [f"{name}={value}" for name, value in run["overrides"].items()]
    return ([f"it was run with {', '.join(given)}"] if given else []) + outputs.problems(profile, notebook)


def finish(profile: Profile) -> int:
    """Report what is wrong, or write the manifest and say what was made."""
    folder = paths.FIGURES / profile.name
    wrong = {part: all_problems(profile, part) for part in profile.parts}
    for part, problems in wrong.items():
        for problem in problems:
            print(f"{part}: {problem}", file=sys.stderr)
    if any(wrong.values()):
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    store.sweep(folder)
    content = manifest(profile)
    if claims := claims_entry(folder):
        content["outputs"].append(claims)
    write_if_new(folder / "manifest.json", store.as_json(content))
    known = {entry["file"] for entry in content["outputs"]} | {"manifest.json"}
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            print(
                f"note: {short(path)} is no output of this profile; delete it if it is a leftover",
                file=sys.stderr,
            )
    print(f"{len(content['outputs'])} outputs in {short(folder)}, each as its notebook wrote it")
    if line := how_far(profile):
        print(line)
    return 0


def how_far(profile: Profile) -> str:
    """How far the tables are from the published ones; empty where there is nothing to compare."""
    if not (paths.DATA / "published" / profile.name).is_dir():
        return ""
    from workbook import agreement, networks  # these take seconds to import: not for the first call

    if networks.choice() == networks.MINE:
        return ""
    ours = agreement.read_tables(paths.FIGURES / profile.name)
    return agreement.summary(ours, agreement.published_tables(profile.name))


def manifest(profile: Profile) -> dict[str, Any]:
    """Where every output came from: the files first, then how each notebook was run."""
    parts = {name: outputs.read_part(profile, name) for name in profile.parts}
    recorded = {entry["file"]: entry for part in parts.values() for entry in part.get("outputs", [])}
    files = [
        {**recorded[output.file], "paper": output.paper, "notebook": output.notebook}
        for output in outputs.promised(profile)
        if not outputs.stays_here(profile, output.file)
    ]
    return {
        "profile": profile.name,
        "description": profile.description,
        "dataset": profile.dataset,
        "outputs": files,
        "training": profile.training,
        **({"networks": profile.networks} if profile.networks else {}),
        "runs": {notebook: {"device": part.get("device"), **part["run"]} for notebook, part in parts.items()},
    }


def claims_entry(folder: Path) -> dict[str, Any] | None:
    """Write the claims ledger of all tables in the folder and describe it for the manifest.

    The claims are about the data set of Table 2 (over networks, where there are several), in a profile of notebook 05
    alone about that of Figure 6; None where neither was made.
    """
    about = next(
        (name for name in ("table_pooled", "table2_reid", "table_byol") if (folder / f"{name}.csv").is_file()), None
    )
    if about is None:
        return None
    from workbook import claims  # torch takes seconds to import: not for the first call

    tables = claims.read_tables(folder)
    dataset = str(tables[about].dataset.iloc[0])
    path = folder / CLAIMS
    ledger = claims.ledger(tables, dataset)
    write_if_new(path, ledger.to_csv(index=False, lineterminator="\n"))
    return {
        "file": CLAIMS,
        "kind": "table",
        "paper": "every empirical claim, with our verdict",
        "dataset": dataset,
        "alt": "The claims ledger, made from the tables above",
        "sha256": store.sha256(path),
        "notebook": "make reproduce",
    }


def write_if_new(path: Path, text: str) -> None:
    """Write a file unless it holds this very text: a call that does nothing leaves no trace."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        store.write_text(path, text)


if __name__ == "__main__":
    sys.exit(main())
