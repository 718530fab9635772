"""Profiles: which data, which notebooks and which settings one run of the workbook uses.

A profile is a file ``params/<name>.yaml``. The notebooks' own defaults are the ``quick`` profile; the other
profiles say only what they change.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from workbook import paths

SYNTHETIC = "synthetic"  # the data set that is made by code and therefore always there
EVIDENCE = "evidence"  # the part of a profile's outputs that no notebook makes, but workbook.run.evidence

# YAML reads 1e-4 as text and 1.0e-4 as a number; the text would fail, or worse, not fail, far from here.
_NUMBER_AS_TEXT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class Profile:
    """One way to run the workbook.

    Attributes:
        name: The file's name without ``.yaml``; results go to ``figures/<name>/``.
        description: One sentence for readers.
        dataset: ``"synthetic"``, or the name of a data folder under the data root.
        numbers_only: The data show real people, so no picture made from them may leave this machine.
        notebooks: Names, without ``.ipynb``, of the notebooks that this profile runs; none if it has networks instead.
        parameters: Values that differ from the notebooks' defaults.
        training: Settings of the Re-ID training (fields of ``workbook.reid.TrainConfig``).
        networks: Name -> fields that override `training`, of each network that :mod:`workbook.run.evidence` explains;
            or ``onnx`` (a file below the data root, of a network that others trained) and ``size``.
        evidence: Values of that job that differ from the parameters of notebook 03 (``n_queries``, ``seed``).
    """

    name: str
    description: str
    dataset: str
    numbers_only: bool
    notebooks: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """What makes this profile's outputs: its notebooks, and the job over its networks if it has some."""
        return (*self.notebooks, *((EVIDENCE,) if self.networks else ()))


def names() -> list[str]:
    """The names of the known profiles, sorted."""
    return sorted(path.stem for path in paths.PARAMS.glob("*.yaml"))


def load(name: str) -> Profile:
    """Read and check ``params/<name>.yaml``.

    Raises:
        FileNotFoundError: No such profile; the message lists the known ones.
        ValueError: The file is no mapping, lacks an entry, or has an unknown or mistyped one.
    """
    path = paths.PARAMS / f"{name}.yaml"
    if not name or Path(name).name != name or not path.is_file():
        raise FileNotFoundError(f"no profile {name!r}; known profiles: {', '.join(names()) or 'none'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{short(path)} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{short(path)} must be a mapping of names to values")
    return _profile(name, content, short(path))


def _profile(name: str, content: dict[str, Any], place: str) -> Profile:
    """A checked profile from the content of its file."""
    types = {f.name: f.type for f in fields(Profile) if f.name != "name"}
    for key in content:
        if key not in types:
            raise ValueError(f"{place}: unknown entry {key!r}{hint(str(key), types)}")
    for key in ("description", "dataset", "numbers_only", "notebooks"):
        if key not in content:
            raise ValueError(f"{place}: the entry {key!r} is missing")
    _refuse_numbers_as_text(content, place)
    expected = {"description": str, "dataset": str, "numbers_only": bool, "notebooks": list}
    expected |= dict.fromkeys(("parameters", "training", "networks", "evidence"), dict)
    for key, value in content.items():
        if not isinstance(value, expected[key]):
            raise ValueError(f"{place}: {key!r} must be a {expected[key].__name__}, not {value!r}")
    listed = content["notebooks"] or content.get("networks")
    if not listed or not all(isinstance(notebook, str) for notebook in content["notebooks"]):
        raise ValueError(f"{place}: 'notebooks' must list at least one notebook's name, unless there are networks")
    for key in ("parameters", "training", "networks", "evidence"):
        if not all(isinstance(entry, str) for entry in content.get(key, {})):
            raise ValueError(f"{place}: the names in {key!r} must be texts")
    for network, entry in content.get("networks", {}).items():
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise ValueError(f"{place}: 'networks': {network!r} must be a dict of names to values, not {entry!r}")
        if "onnx" in entry and set(entry) != {"onnx", "size"}:
            raise ValueError(f"{place}: 'networks': {network!r} names a file: it needs 'onnx' and 'size' and no more")
    return Profile(name=name, **{**content, "notebooks": tuple(content["notebooks"])})


def _refuse_numbers_as_text(value: Any, place: str) -> None:
    """Refuse texts that were meant as numbers, anywhere in a profile."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_numbers_as_text(inner, f"{place}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _refuse_numbers_as_text(inner, place)
    elif isinstance(value, str) and _NUMBER_AS_TEXT.fullmatch(value.strip()):
        mantissa, exponent = re.split("[eE]", value.strip())
        mantissa += "" if "." in mantissa else ".0"
        sign = "" if exponent[0] in "+-" else "+"
        raise ValueError(f"{place}: YAML reads {value} as text; write {mantissa}e{sign}{exponent}")


def hint(name: str, known: Mapping[str, Any]) -> str:
    """What to do about an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def short(path: Path) -> str:
    """A path as a reader of the workbook would write it."""
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else str(path)
