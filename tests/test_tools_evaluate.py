"""make evaluate: the parameters of notebook 03, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import fam_lib.reid
import toy_project as toys
from evaluation_toys import SIZE
from fam_lib import paths
from fam_lib.reid import experiment
from tools import evaluate

PARAMETERS = """\
profile: str = "quick"
data_root: str = ""
n_queries: int = 5
n_ablated: int = 2
layers: list[str] = ["backbone.blocks.3"]
n_shown: int = 3
seed: int = 0"""
PROFILE = "description: toys\ndataset: synthetic\nnumbers_only: false\nnotebooks: [03_reid_evaluation]\n"


@pytest.fixture
def workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two profiles of a toy notebook 03: as it is, and with three queries and no other layer."""
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(paths, name.upper(), tmp_path / name)
    nbformat.write(toys.notebook(parameters=PARAMETERS), tmp_path / "notebooks" / "03_reid_evaluation.ipynb")
    (tmp_path / "params" / "quick.yaml").write_text(PROFILE)
    (tmp_path / "params" / "few.yaml").write_text(PROFILE + "parameters: {n_queries: 3, layers: [], seed: 4}\n")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the experiment and the preparation were called with; the data and the network are toys."""
    calls: list[tuple] = []

    def prepare(*arguments: str) -> tuple:
        calls.append(arguments)
        return "data", "model", SimpleNamespace(size=SIZE)

    monkeypatch.setattr(fam_lib.reid, "prepare", prepare)
    monkeypatch.setattr(experiment, "run", lambda *arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(("profile", "used"), [("quick", (5, 2, ["backbone.blocks.3"], 0)), ("few", (3, 2, [], 4))])
def test_the_parameters_are_those_that_the_notebook_would_get(
    workbook: Path, asked: list[tuple], capsys: pytest.CaptureFixture, profile: str, used: tuple
) -> None:
    assert evaluate.main([profile, "--data-root", "elsewhere"]) == 0
    assert asked == [(profile, "elsewhere"), ("model", "data", SIZE, *used)]
    assert f"make reproduce PROFILE={profile} reads the results" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("profile", "more", "message"),
    [
        ("fwe", "", "no profile 'fwe'; known profiles: few, quick"),
        (
            "bad",
            "parameters: {n_querys: 3}\n",
            "no notebook declares the parameter 'n_querys'; did you mean 'n_queries'?",
        ),
        ("bad", "parameters: {n_queries: many}\n", "declares n_queries: int, but it is set to 'many'"),
    ],
)
def test_a_bad_profile_is_one_line_and_nothing_runs(
    workbook: Path, asked: list[tuple], capsys: pytest.CaptureFixture, profile: str, more: str, message: str
) -> None:
    (workbook / "params" / "bad.yaml").write_text(PROFILE + more) if more else None
    assert evaluate.main([profile]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not asked


def test_data_that_are_not_there_are_one_line(
    workbook: Path, asked: list[tuple], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(*_: str) -> None:
        raise FileNotFoundError("the data folder elsewhere does not exist")

    monkeypatch.setattr(fam_lib.reid, "prepare", missing)
    assert evaluate.main(["few"]) == 1
    assert capsys.readouterr().err == "the data folder elsewhere does not exist\n"
    assert not asked
