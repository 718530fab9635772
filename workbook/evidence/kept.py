"""What was measured of each network, kept in `data/evidence/`: the rows from which the tables over networks are made.

To train and measure the networks of a profile takes hours, and their weights do not ship (those trained on real people
must not). The rows are numbers only, a few hundred kilobytes a network. Whoever has them makes every table over
networks in a minute, and a network can be added without those before it being measured again.

``FAM_NETWORKS=mine`` passes over what ships: the networks are then trained and measured here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fam_lib.methods import METHODS
from workbook import paths
from workbook.cache.store import atomic_path, key, sha256, write_json
from workbook.evidence import measure, truth
from workbook.evidence.networks import ONNX, config
from workbook.profiles import Profile
from workbook.reid import evaluation, training
from workbook.reid.data import ReidData
from workbook.reid.queries import fingerprint

FOLDER = paths.DATA / "evidence"
FRAMES = ("cells", "statements", "truth")
DIGITS = "%.7g"  # float32's


class Measured(NamedTuple):
    """What :mod:`workbook.evidence.measure` returns of one network, and what it was made by."""

    cells: pd.DataFrame
    statements: pd.DataFrame
    truth: pd.DataFrame
    about: dict[str, Any]


def names_of(
    profile: Profile, names: Iterable[str], data: ReidData, root: Path, used: Mapping[str, Any]
) -> dict[str, str]:
    """What each network's measurement is made of, as a hash: training or file, images, methods, code and choices."""
    images = [fingerprint(part) for part in (data.query, data.gallery)]
    code = [measure.CODE_VERSION, evaluation.CODE_VERSION, truth.CODE_VERSION]
    shared = [images, sorted(METHODS), measure.KEPT, code, dict(used)]

    def network(name: str) -> str:
        entry = profile.networks[name]
        return sha256(root / entry[ONNX]) if ONNX in entry else training.cache_key(data, config(profile, name))

    return {name: key("evidence", profile.networks[name], network(name), *shared) for name in names}


def folder_of(profile: Profile, name: str, *, published: bool) -> Path:
    """Where a network's rows are: those that ship, or those of this machine."""
    return (FOLDER if published else paths.CACHE / "evidence") / profile.name / name


def write(folder: Path, measured: Measured, made_of: str) -> None:
    """Keep a measurement; `about.json`, written last, says that it is whole."""
    for frame in FRAMES:
        rows: pd.DataFrame = getattr(measured, frame)
        text = rows.to_csv(index=False, lineterminator="\n", float_format=DIGITS)
        with atomic_path(folder / f"{frame}.csv.gz") as temporary:
            # Neither time nor name inside: the same rows give the same bytes.
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    files = {frame: sha256(folder / f"{frame}.csv.gz") for frame in FRAMES}
    write_json(folder / "about.json", {"made_of": made_of, "files": files, **measured.about})


def through(folder: Path, measured: Measured, made_of: str) -> Measured:
    """Keep a measurement, and what is read from there: a first run gives the digits of all that follow."""
    write(folder, measured, made_of)
    found = read(folder, made_of)
    assert found is not None
    return found


def read(folder: Path, made_of: str) -> Measured | None:
    """A measurement that is kept; None where there is none, or it was made of something else.

    Raises:
        ValueError: a file is damaged.
    """
    path = folder / "about.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about.pop("made_of") != made_of:
            return None
        files = about.pop("files")
    except (ValueError, KeyError) as error:
        raise _damaged(path) from error
    frames = []
    for frame in FRAMES:
        file = folder / f"{frame}.csv.gz"
        if not file.is_file() or sha256(file) != files.get(frame):
            raise _damaged(file)
        frames.append(pd.read_csv(file, dtype={"keep": str, "query": str}))
    return Measured(*frames, about)


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is damaged: restore it with git, or delete its folder and measure the network again")
