"""The report: every page stands alone, says where its numbers came from, and is refused if something is broken."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from workbook import outputs, paths, profiles
from workbook.cache import store
from workbook.run import check_outputs, site

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ALT = "A single red point, which is all that there is"
LESSON = r"""
# 01 · A lesson

![a point of the profile quick](../figures/quick/point.png)

Let $A^k$ be a map and

$$S_k = \frac{1}{Z} \sum_{ij} A^k_{ij}$$

## What comes next?

Next: [the second](02_next.ipynb), or [back](#01-·-A-lesson).
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workbook of two executed notebooks."""
    places = {"BUILD": "build", "FIGURES": "figures", "PARAMS": "params", "NOTEBOOKS": "notebooks"}
    for name, folder in places.items():
        monkeypatch.setattr(paths, name, tmp_path / folder)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    store.write_text(
        tmp_path / "params" / "quick.yaml",
        "description: Toys & more.\ndataset: synthetic\nnumbers_only: false\nnotebooks: [01_first, 02_next]\n",
    )
    store.write_text(tmp_path / "params" / "outputs.txt", "01_first  a.csv  all  Table 1: toys\n")
    store.write_text(tmp_path / "figures" / "quick" / "a.csv", "k\n1\n")
    (tmp_path / "figures" / "quick" / "point.png").write_bytes(base64.b64decode(PIXEL))
    (tmp_path / "notebooks").mkdir()
    execute("01_first", LESSON)
    execute("02_next", "# 02 · The next")
    assert check_outputs.finish(profiles.load("quick")) == 0
    return tmp_path


def execute(name: str, text: str, alt: str = ALT) -> None:
    """Write an executed notebook with a text and a cell that prints and draws, and the record of its run."""
    outcome = [
        nbformat.v4.new_output("stream", text="one < two\n"),
        nbformat.v4.new_output(
            "display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": alt}} if alt else {}
        ),
    ]
    cells = [
        nbformat.v4.new_markdown_cell(text.strip()),
        nbformat.v4.new_code_cell("print('one < two')", execution_count=1, outputs=outcome),
    ]
    profile = profiles.load("quick")
    (paths.BUILD / "quick" / "run").mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), paths.BUILD / "quick" / "run" / f"{name}.ipynb")
    made = [
        {"file": promise.file, "kind": "table", "paper": promise.paper, "dataset": "synthetic", "alt": "",
         "sha256": store.sha256(outputs.place(profile, promise.file))}
        for promise in outputs.promised(profile, name)
    ]  # fmt: skip
    run = {
        "parameters": {"profile": "quick", "n": 2}, "overrides": {}, "wall_seconds": 1.5, "commit": "0123456789abcdef",
        "dirty": True, "python": "3.11", "packages": {"torch": "2.14.1"},
    }  # fmt: skip
    part = {"notebook": name, "profile": "quick", "device": "cpu (toy)", "outputs": made, "run": run}
    store.write_json(outputs.part_path(profile, name), part)


def page(name: str) -> BeautifulSoup:
    return BeautifulSoup((paths.BUILD / "quick" / "report" / f"{name}.html").read_text(), "html.parser")


def test_pages_stand_alone(root: Path, capsys: pytest.CaptureFixture) -> None:
    assert site.main(["quick"]) == 0
    assert capsys.readouterr().out == "build/quick/report/index.html\n"
    for name in ("index", "01_first", "02_next"):
        soup = page(name)
        assert not soup.select("script, link, iframe")
        assert all(image["src"].startswith("data:image/png;base64,") for image in soup.select("img"))
        assert soup.html["lang"] == "en" and len(soup.select("h1")) == 1


def test_lesson_has_equations_pictures_with_texts_and_folded_code(root: Path) -> None:
    site.main(["quick"])
    soup = page("01_first")
    assert [m.get("display") for m in soup.select("math")] == ["inline", "block"]
    assert soup.select_one("math[display=block] mfrac").get_text() == "1Z"
    assert "$" not in soup.main.get_text()
    assert [image["alt"] for image in soup.select("img")] == ["a point of the profile quick", ALT]
    folded = soup.select_one("details.code")
    assert "print" in folded.get_text() and not folded.has_attr("open")
    assert "one < two" in soup.select_one(".output pre").get_text()


def test_contents_and_links_lead_through_the_site(root: Path) -> None:
    site.main(["quick"])
    soup = page("01_first")
    contents = {a.get_text(): a["href"] for a in soup.select("nav a")}
    assert list(contents) == ["Overview", "01 · A lesson", "What comes next?", "02 · The next"]
    assert contents["02 · The next"] == "02_next.html"
    assert soup.find(id=contents["What comes next?"][1:]).name == "h2"
    assert [a["href"] for a in soup.select("main p a")] == ["02_next.html", "#01-%C2%B7-A-lesson"]


def test_overview_says_what_was_made_and_how(root: Path) -> None:
    site.main(["quick"])
    outputs_table, provenance = page("index").select("table")
    assert [td.get_text() for td in outputs_table.select("td")] == ["Table 1: toys", "a.csv", "01_first", "synthetic"]
    cells = [td.get_text() for td in provenance.select("tr")[1].select("td")]
    assert cells == ["01_first", "cpu (toy)", "1.5", "0123456789 with changes", "profile='quick', n=2"]
    assert "Toys & more. Data: synthetic." in page("index").get_text() and "torch 2.14.1" in page("index").get_text()


def test_overview_gives_the_verdicts(root: Path) -> None:
    ledger = "id,claim,where,verdict\na,Maps < masks.,Sec. 4,does not hold\n"
    store.write_text(paths.FIGURES / "quick" / "claims.csv", ledger)
    site.main(["quick"])
    verdicts = page("index").select("table")[1]
    assert [td.get_text() for td in verdicts.select("td")] == ["Maps < masks.", "Sec. 4", "does not hold"]


def test_outputs_of_no_notebook_are_listed_without_a_link(root: Path) -> None:
    manifest = paths.FIGURES / "quick" / "manifest.json"
    store.write_text(paths.FIGURES / "quick" / "claims.csv", "id,claim,where,verdict\n")
    content = json.loads(manifest.read_text())
    content["outputs"].append({"paper": "all", "file": "claims.csv", "notebook": "make reproduce", "dataset": "toys"})
    store.write_json(manifest, content)
    assert site.main(["quick"]) == 0
    row = page("index").select("table")[0].select("tr")[-1]
    assert row.get_text("|") == "all|claims.csv|make reproduce|toys"
    assert [a["href"] for a in row.select("a")] == ["figures/quick/claims.csv"]


def test_pages_beside_the_notebooks_are_part_of_the_site(root: Path) -> None:
    text = "# The words\n\n## Map\n\n$A^k$, see [the lesson](01_first.ipynb#What-comes-next?) and [plan](plan.txt)."
    store.write_text(root / "notebooks" / "words.md", text)
    store.write_text(root / "notebooks" / "plan.txt", "not on the site")
    execute("02_next", "# 02 · The next\n\n[a map](words.md#Map)")
    assert site.main(["quick"]) == 0
    soup = page("words")
    assert [a["href"] for a in soup.select("main p a")] == ["01_first.html#What-comes-next?"]
    assert "and plan." in soup.main.get_text() and soup.select_one("math")
    assert [a.get_text() for a in soup.select("nav a")][-2:] == ["The words", "Map"]
    assert page("02_next").select_one("main p a")["href"] == "words.html#Map"


def test_links_to_outputs_lead_to_their_copies(root: Path) -> None:
    execute("02_next", '# 02 · The next\n\n[1](../figures/quick/a.csv "k, first row")')
    assert site.main(["quick"]) == 0
    assert page("02_next").select_one("main p a")["href"] == page("index").select_one("td a")["href"]
    assert (paths.BUILD / "quick" / "report" / "figures" / "quick" / "a.csv").read_text() == "k\n1\n"


def test_browser_is_told_to_load_nothing_and_readers_can_skip_the_contents(root: Path) -> None:
    site.main(["quick"])
    soup = page("01_first")
    policy = soup.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert soup.body.find("a")["href"] == "#main" and soup.main["id"] == "main"


@pytest.mark.parametrize(
    ("text", "alt", "message"),
    [
        ("# 02 · Next\n\n[gone](03_gone.ipynb)", ALT, "02_next.html: the link to 03_gone.ipynb leads nowhere"),
        ("# 02 · Next\n\n[gone](#nowhere)", ALT, "02_next.html: the link to #nowhere leads nowhere"),
        ("# 02 · Next\n\n[up](../README.md)", ALT, "the link to ../README.md leads nowhere"),
        ("# 02 · Next", "", "02_next.html: a picture has no alternative text"),
        ("# 02 · Next\n\n![](../figures/quick/point.png)", ALT, "a picture has no alternative text"),
        ("# 02 · Next\n\n![x](../figures/quick/gone.png)", ALT, "gone.png, which is not there"),
        ('# 02 · Next\n\n<img src="https://example.org/a.png" alt="x">', ALT, "a.png is not inside the page"),
        ("# 02 · Next\n\n| a | b |\n|---|---|\n| $|v|$ | c |", ALT, "a table is shown as text"),
    ],
)
def test_broken_pages_are_refused(root: Path, text: str, alt: str, message: str, capsys: pytest.CaptureFixture) -> None:
    execute("02_next", text, alt)
    assert site.main(["quick"]) == 1
    assert message in capsys.readouterr().err


def test_links_to_the_web_are_left_alone(root: Path) -> None:
    execute("02_next", "# 02 · Next\n\n[a paper](https://example.org/paper#page)")
    assert site.main(["quick"]) == 0


def test_only_whole_runs_are_reported(root: Path, capsys: pytest.CaptureFixture) -> None:
    store.write_text(paths.FIGURES / "quick" / "a.csv", "k\n2\n")
    assert site.main(["quick"]) == 1
    assert "a.csv was changed after 01_first wrote it: make reproduce PROFILE=quick" in capsys.readouterr().err
    (paths.BUILD / "quick" / "run" / "01_first.ipynb").unlink()
    assert site.main(["quick"]) == 1
    assert "01_first: it has not been run: make reproduce PROFILE=quick" in capsys.readouterr().err
    assert site.main(["quik"]) == 1
    assert "quik" in capsys.readouterr().err
