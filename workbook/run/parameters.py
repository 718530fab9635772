"""The parameters of a notebook: what it declares, and the values that a profile and a command line give it.

papermill only warns about a name that no notebook knows, and passes ``lr: 1e-4`` as text. Both end a run of
hours with wrong numbers, so both are refused here, before anything runs.
"""

from __future__ import annotations

import ast
import math
from typing import Any

import yaml
from papermill import inspect_notebook

from workbook import paths
from workbook.profiles import Profile, hint

# Given by the run itself, never by a profile's file.
GIVEN = ("profile", "data_root")


def declared(notebook: str) -> dict[str, str]:
    """The parameters that a notebook declares and their types, for example ``{"n_queries": "int"}``.

    Raises:
        FileNotFoundError: No such notebook.
        ValueError: It declares no ``profile``, or a parameter without a type.
    """
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    if not path.is_file():
        known = sorted(p.stem for p in paths.NOTEBOOKS.glob("[0-9]*.ipynb"))
        raise FileNotFoundError(f"no notebook {notebook!r}{hint(notebook, dict.fromkeys(known))}")
    found = {name: entry["inferred_type_name"] for name, entry in inspect_notebook(path).items()}
    if found.get("profile") != "str":
        raise ValueError(f'{notebook}: the cell tagged "parameters" must declare profile: str = "quick"')
    for name, annotation in found.items():
        if annotation == "None":
            raise ValueError(f"{notebook}: the parameter {name!r} has no type; write it as name: int = 3  # what it is")
    return found


def values(profile: Profile, notebook: str, overrides: dict[str, str], data_root: str = "") -> dict[str, Any]:
    """The values to pass to one notebook: the profile's name, its parameters, and what the command line says.

    Args:
        profile: Its parameters go to each of its notebooks that declares them.
        notebook: The notebook to run.
        overrides: Texts from the command line, read as the declared type.
        data_root: The folder that holds the data sets, or empty.

    Raises:
        ValueError: A name that none of the profile's notebooks declares, or a value of another type.
    """
    types = {name: declared(name) for name in dict.fromkeys((*profile.notebooks, notebook))}
    known = {parameter: None for declarations in types.values() for parameter in declarations}
    for place, given in (
        (f"params/{profile.name}.yaml", profile.parameters),
        ("the command line", overrides),
    ):
        for name in given:
            if name not in known:
                raise ValueError(f"{place}: no notebook declares the parameter {name!r}{hint(name, known)}")
            if name in GIVEN:
                raise ValueError(f"{place}: the parameter {name!r} is set by the run itself (PROFILE=, DATA_ROOT=)")
    wanted = {**profile.parameters, **{name: read(text, types, name) for name, text in overrides.items()}}
    for name, value in wanted.items():
        for each, declarations in types.items():
            if name in declarations and not match_type(value, declarations[name]):
                raise ValueError(f"{each} declares {name}: {declarations[name]}, but it is set to {value!r}")
    wanted |= {"profile": profile.name, **({"data_root": data_root} if data_root else {})}
    return {name: cast(value, types[notebook][name]) for name, value in wanted.items() if name in types[notebook]}


def read(text: str, types: dict[str, dict[str, str]], name: str) -> Any:
    """A value from the command line as its declared type; texts stay as they are."""
    annotation = next(declarations[name] for declarations in types.values() if name in declarations)
    if annotation == "str":
        return text
    if annotation == "float":  # YAML would read 1e-4 as text
        try:
            return float(text)
        except ValueError:
            return text
    return yaml.safe_load(text)


def match_type(value: Any, annotation: str) -> bool:
    """Whether a value has its declared type: bool, int, float, str or list[...]; papermill reads no other."""
    annotation = annotation.strip()
    if annotation.startswith("list[") and annotation.endswith("]"):
        return isinstance(value, list) and all(match_type(item, annotation[5:-1]) for item in value)
    if annotation == "float":  # a whole number is a fine float; infinity and NaN are no settings
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    simple = {"bool": bool, "str": str}
    if annotation not in simple:
        raise ValueError(f"parameters may be bool, int, float, str or list[...], not {annotation!r}")
    return isinstance(value, simple[annotation])


def cast(value: Any, annotation: str) -> Any:
    """A whole number given for a float as a float, so that the notebook sees the type that it declares."""
    return float(value) if annotation == "float" else value


def defaults(notebook: str) -> dict[str, Any]:
    """The values that a notebook declares for itself."""
    found = inspect_notebook(paths.NOTEBOOKS / f"{notebook}.ipynb")
    return {name: literal(entry["default"]) for name, entry in found.items()}


def literal(text: str) -> Any:
    """A Python literal from a parameters cell, or its text where it is none (which the notebook rules
    refuse)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
