"""make evaluate: the parameters of notebook 03, and one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from torch import nn

import toy_project as toys
from evaluation_toys import SIZE
from workbook import paths
from workbook.cache.context import Context
from workbook.reid import experiment, scale
from workbook.reid.scale import Rates
from workbook.run import evaluate

PARAMETERS = """\
profile: str = "quick"
data_root: str = ""
n_queries: int = 5
n_ablated: int = 2
layers: list[str] = ["backbone.blocks.3"]
n_shown: int = 3
seed: int = 0"""
MODEL = nn.Identity()
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
        return "data", MODEL, SimpleNamespace(size=SIZE)

    def run(*arguments: object) -> None:
        *asked, context = arguments
        calls.append((*asked, context.seed, context.fabric.world_size))
        assert context == Context(fabric=context.fabric, seed=context.seed), "the workbook's cache, with progress"

    for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("workbook.prepare.prepare", prepare)
    monkeypatch.setattr(experiment, "run", run)
    return calls


@pytest.mark.parametrize(("profile", "used"), [("quick", (5, 2, ["backbone.blocks.3"], 0)), ("few", (3, 2, [], 4))])
def test_the_parameters_are_those_that_the_notebook_would_get(
    workbook: Path, asked: list[tuple], capsys: pytest.CaptureFixture, profile: str, used: tuple
) -> None:
    assert evaluate.main([profile, "--data-root", "elsewhere"]) == 0
    assert asked == [(profile, "elsewhere"), (MODEL, "data", SIZE, *used, 1)]
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

    monkeypatch.setattr("workbook.prepare.prepare", missing)
    assert evaluate.main(["few"]) == 1
    assert capsys.readouterr().err == "the data folder elsewhere does not exist\n"
    assert not asked


@pytest.mark.parametrize(
    ("arguments", "devices", "nodes"),
    [([], 4, 3), (["--devices", "2"], 2, 3), (["--devices", "2", "--nodes", "1"], 2, 1)],
)
def test_torchrun_says_how_many_processes_there_are(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], devices: int, nodes: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    options = evaluate._parse(["quick", *arguments])
    assert (options.devices, options.nodes) == (devices, nodes)


def test_an_estimate_is_printed_and_nothing_is_evaluated(
    workbook: Path, asked: list[tuple], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        scale, "measure", lambda *arguments: asked.append(arguments) or Rates(0, 1, {"Market1501": 0, "MSMT17": 0})
    )
    assert evaluate.main(["few", "--estimate"]) == 0
    assert asked == [("few", ""), (MODEL, "data", SIZE)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["dataset", "n_queries", "devices", "seconds"]
    assert lines[3][:4] == ["Market1501", "3368", "64", "56"]  # 14 of 842 shards of four


def test_it_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbook.run.evaluate", "nope"], capture_output=True, text=True, cwd=paths.ROOT
    )
    assert done.returncode == 1 and done.stderr.startswith("no profile 'nope'")


def test_an_estimate_of_several_devices_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["few", "--estimate", "--devices", "2"])
    assert "measures one device" in capsys.readouterr().err
