"""What leaves a notebook: the bytes, the text for readers who cannot see, and the record."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbook import outputs, paths, report
from workbook.report import Report

ALT = "Two lines that cross in the middle of the axes"


@pytest.fixture
def workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workbook with two profiles, of which one shows real people."""
    for name, folder in (("FIGURES", "figures"), ("BUILD", "build"), ("PARAMS", "params")):
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    paths.PARAMS.mkdir()
    body = "description: d\ndataset: {}\nnumbers_only: {}\nnotebooks: [02_fam]\n"
    (paths.PARAMS / "quick.yaml").write_text(body.format("synthetic", "false"))
    (paths.PARAMS / "real.yaml").write_text(body.format("people", "true"))
    (paths.PARAMS / "outputs.txt").write_text("02_fam fig1.png all Fig. 1\n02_fam table1.csv all Table 1\n")
    return tmp_path


def lines() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1])
    ax.plot([1, 0])
    return fig


def noise(inches: float) -> plt.Figure:
    """A figure that compresses badly, like photographs."""
    fig = plt.figure(figsize=(inches, inches))
    fig.figimage(np.random.default_rng(0).random((2000, 2000, 3)))
    return fig


def part(profile: str = "quick") -> dict[str, Any]:
    return json.loads((paths.BUILD / profile / "manifest" / "02_fam.json").read_text())


def test_a_figure_is_saved_recorded_and_closed(workbook: Path) -> None:
    fig = lines()
    Report("02_fam", "quick", device="cpu").figure(fig, "fig1", alt=f"  {ALT}\n  again ")
    path = workbook / "figures" / "quick" / "fig1.png"
    with Image.open(path) as picture:
        assert picture.size == (330, 220), "3 x 2 inches at 110 dots per inch"
        assert picture.info == {}, "no version, no date"
    assert not plt.fignum_exists(fig.number)
    assert part()["device"].startswith("cpu (")
    assert part()["outputs"] == [
        {
            "file": "fig1.png",
            "kind": "figure",
            "paper": "Fig. 1",
            "dataset": "synthetic",
            "alt": f"{ALT} again",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    ]


def test_the_bytes_depend_on_the_figure_only(workbook: Path) -> None:
    path = workbook / "figures" / "quick" / "fig1.png"
    Report("02_fam", "quick").figure(lines(), "fig1", alt=ALT)
    first = path.read_bytes()
    fig = lines()
    settings = {
        "savefig.dpi": 50,
        "savefig.bbox": "tight",
        "savefig.facecolor": "red",
        "text.antialiased": False,
    }
    with mpl.rc_context(settings):  # what a reader's matplotlibrc may say
        Report("02_fam", "quick").figure(fig, "fig1", alt=ALT)
    assert path.read_bytes() == first


@pytest.mark.parametrize("alt", ["", "fig1"])
def test_a_figure_needs_a_text_for_readers_who_cannot_see_it(workbook: Path, alt: str) -> None:
    with pytest.raises(ValueError, match="the alt text of fig1 has . characters; say in at least 30"):
        Report("02_fam", "quick").figure(lines(), "fig1", alt=alt)
    with pytest.raises(ValueError, match="alt text"):
        Report("02_fam", "quick").show(lines(), alt=alt)
    assert not (workbook / "figures").exists()


def test_a_name_that_is_not_promised_is_a_typo(workbook: Path) -> None:
    rep = Report("02_fam", "quick")
    with pytest.raises(ValueError, match=r"does not promise 'fig2\.png' .*did you mean 'fig1\.png'"):
        rep.figure(lines(), "fig2", alt=ALT)
    with pytest.raises(ValueError, match=r"does not promise 'fig1\.csv'"):
        rep.table(pd.DataFrame({"a": [1]}), "fig1")
    with pytest.raises(ValueError, match="does not run '02_fma'; did you mean '02_fam'"):
        Report("02_fma", "quick")
    with pytest.raises(FileNotFoundError, match="known profiles: quick, real"):
        Report("02_fam", "quikc")


@pytest.mark.parametrize(("inches", "mode", "size"), [(2.5, "RGB", 275), (3.2, "RGB", 288), (4, "P", 440)])
def test_a_large_figure_loses_pixels_before_colours(workbook: Path, inches: float, mode: str, size: int) -> None:
    path = workbook / "figures" / "quick" / "fig1.png"
    Report("02_fam", "quick").figure(noise(inches), "fig1", alt=ALT)
    assert path.stat().st_size <= 300_000
    with Image.open(path) as picture:
        assert (picture.mode, picture.size) == (mode, (size, size))


def test_a_figure_that_no_quality_makes_small_is_refused(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook / "figures" / "quick" / "fig1.png"
    Report("02_fam", "quick").figure(lines(), "fig1", alt=ALT)
    kept = path.read_bytes()
    monkeypatch.setattr(report, "FILE_LIMIT", 20_000)
    with pytest.raises(ValueError, match=r"figure 'fig1' takes \d\d kB .* the limit is 20 kB"):
        Report("02_fam", "quick").figure(noise(2.5), "fig1", alt=ALT)
    assert path.read_bytes() == kept


def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Pretend that a notebook is running; returns the list that displayed bundles will be added to."""
    import IPython.core.getipython
    import IPython.display

    plt.close(plt.figure())  # pyplot looks for a shell once, and must not find this one

    class Shell:
        kernel = object()

    seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    def display(bundle: dict[str, str], *, raw: bool, metadata: dict[str, Any]) -> None:
        assert raw
        seen.append((bundle, metadata))

    monkeypatch.setattr(IPython.core.getipython, "get_ipython", Shell)
    monkeypatch.setattr(IPython.display, "display", display)
    return seen


def test_a_notebook_shows_the_figure_with_its_alt_text_and_stays_small(
    workbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = shown(monkeypatch)
    rep = Report("02_fam", "quick")
    rep.figure(lines(), "fig1", alt=ALT)
    saved = (workbook / "figures" / "quick" / "fig1.png").read_bytes()
    assert base64.b64decode(seen[0][0]["image/png"]) == saved
    assert seen[0][1] == {"image/png": {"alt": ALT}}
    rep.figure(noise(2), "fig1", alt=ALT)
    assert list(seen[1][0]) == ["image/jpeg", "text/plain"]
    assert seen[1][1] == {"image/jpeg": {"alt": ALT}}
    with Image.open(io.BytesIO(base64.b64decode(seen[1][0]["image/jpeg"]))) as picture:
        assert picture.size == (180, 180)


def test_show_leaves_no_file(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = shown(monkeypatch)
    fig = lines()
    Report("02_fam", "quick").show(fig, alt=ALT)
    assert len(seen) == 1 and part()["outputs"] == []
    assert not plt.fignum_exists(fig.number)
    assert not (workbook / "figures").exists()


def test_outside_a_notebook_nothing_is_shown(workbook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report("02_fam", "quick").figure(lines(), "fig1", alt=ALT)
    assert capsys.readouterr() == ("", "")


def test_a_table_is_written_by_the_documented_rules(workbook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(
        {
            "method": ["ram", "score-fam", "a, b"],
            "n": [8, 3368, 15913],
            "drop": [16.62499, float("nan"), -0.0],
            "share": [np.float32(0.1), 0.123456, 1.0],
            "big": [12345.6, 999.96, 1e-7],
            "best": [True, False, None],
        }
    )
    Report("02_fam", "quick").table(frame, "table1", show=["method", "n"], caption="c")
    written = (workbook / "figures" / "quick" / "table1.csv").read_bytes().decode()
    assert written == (
        "method,n,drop,share,big,best\n"
        "ram,8,16.62,0.1,12346,True\n"
        "score-fam,3368,,0.1235,1000,False\n"
        '"a, b",15913,0,1,1e-07,\n'
    )
    assert capsys.readouterr().out.split() == [
        "method",
        "n",
        "ram",
        "8",
        "score-fam",
        "3368",
        "a,",
        "b",
        "15913",
    ]
    assert part()["outputs"][0]["kind"] == "table"
    assert part()["outputs"][0]["alt"] == "c"


def test_a_table_may_print_everything_or_nothing(workbook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": [1.0], "b": [float("inf")]})
    Report("02_fam", "quick").table(frame, "table1")
    assert capsys.readouterr().out.split() == ["a", "b", "1", "inf"]
    Report("02_fam", "quick").table(frame, "table1", show=[])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("frame", "show", "message"),
    [
        (pd.DataFrame({"a": []}), None, "is empty"),
        (pd.DataFrame({"a": [1, 2]}, index=["x", "y"]), None, "an index with content"),
        (pd.DataFrame({"a": [1, 2]}).iloc[[1, 0]], None, "an index with content"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), None, "two columns 'a'"),
        (pd.DataFrame({"a": [1]}), ["b"], "no column 'b'; its columns: a"),
    ],
)
def test_a_table_that_would_lose_something_is_refused(
    workbook: Path, frame: pd.DataFrame, show: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Report("02_fam", "quick").table(frame, "table1", show=show)
    assert not (workbook / "figures").exists()


def test_pictures_of_real_people_do_not_reach_the_figures(workbook: Path) -> None:
    rep = Report("02_fam", "real")
    rep.figure(lines(), "fig1", alt=ALT)
    rep.table(pd.DataFrame({"a": [1]}), "table1", show=[])
    rep.finish()
    assert [path.name for path in (workbook / "figures").rglob("*.*")] == ["table1.csv"]
    assert (workbook / "build" / "real" / "figures" / "fig1.png").is_file()
    assert {entry["dataset"] for entry in part("real")["outputs"]} == {"people"}


def test_a_second_write_replaces_the_first_and_a_new_report_starts_anew(workbook: Path) -> None:
    rep = Report("02_fam", "quick", dataset="photographs")
    rep.figure(lines(), "fig1", alt=ALT)
    rep.figure(lines(), "fig1", alt=ALT, dataset="both")
    assert len(part()["outputs"]) == 1
    assert part()["outputs"][0]["dataset"] == "both"
    profile = rep.profile
    assert outputs.problems(profile, "02_fam") == ["table1.csv was not written"]
    Report("02_fam", "quick")
    assert part()["outputs"] == [], "an unfinished run must not look like the finished one before it"


def test_finish_names_what_is_missing(workbook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rep = Report("02_fam", "quick")
    rep.table(pd.DataFrame({"a": [1]}), "table1", show=[])
    with pytest.raises(RuntimeError, match=r"02_fam promises fig1\.png but did not write it"):
        rep.finish()
    rep.figure(lines(), "fig1", alt=ALT)
    rep.finish()
    assert capsys.readouterr().out == "fig1.png  Fig. 1\ntable1.csv  Table 1\n"


def test_problems_sees_deleted_and_edited_outputs(workbook: Path) -> None:
    rep = Report("02_fam", "quick")
    rep.table(pd.DataFrame({"a": [1]}), "table1", show=[])
    rep.figure(lines(), "fig1", alt=ALT)
    assert outputs.problems(rep.profile, "02_fam") == []
    (workbook / "figures" / "quick" / "fig1.png").unlink()
    (workbook / "figures" / "quick" / "table1.csv").write_text("a\n2\n")
    assert outputs.problems(rep.profile, "02_fam") == [
        "figures/quick/fig1.png is missing",
        "figures/quick/table1.csv was changed after 02_fam wrote it",
    ]


def test_a_damaged_record_counts_as_none(workbook: Path) -> None:
    rep = Report("02_fam", "quick")
    outputs.part_path(rep.profile, "02_fam").write_text("{")
    assert outputs.read_part(rep.profile, "02_fam") == {}
