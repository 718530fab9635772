"""The two pages beside the notebooks: their numbers stand in the files they cite, their links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from workbook.cache import store
from workbook.run import quotes

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LINK = re.compile(r"\[[^\]]+\]\(([^) ]+)")
SOURCE = r"\*(?:Symbols?\* .+?; (?:\w+ )?|)(?:Eqs?\. \d|Sections? \d|[Oo]urs).*?"
ENTRY = re.compile(rf"\*\*(.+?)\.\*\* (.+?) {SOURCE} · \[\d\d\]\((\w+\.ipynb)\), \*(.+)\*")
NUMBER = re.compile(r"\d+\.\d+|\d+ %")
NOT_MEASURED = {"30 %", "4.1"}  # an area that was chosen, an exercise


def page(name: str) -> str:
    return (NOTEBOOKS / name).read_text(encoding="utf-8")


QUOTES = quotes.QUOTE.findall(page("which-method.md"))


@pytest.mark.parametrize(("shown", "file", "where"), QUOTES, ids=[f"{shown}: {where}" for shown, _, where in QUOTES])
def test_a_quoted_value_stands_in_its_file(shown: str, file: str, where: str) -> None:
    value = quotes.shown_like(quotes.lookup(NOTEBOOKS / file, where), shown)
    assert value == shown, "run python -m workbook.run.quotes, and read the page again"


def test_every_measured_number_is_a_quote() -> None:
    text = re.sub(r"`[^`]*`", "", quotes.QUOTE.sub("", page("which-method.md")))
    assert len(QUOTES) > 100
    assert set(NUMBER.findall(text)) <= NOT_MEASURED


def table(tmp_path: Path) -> Path:
    (tmp_path / "figures" / "quick").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    store.write_text(tmp_path / "figures" / "quick" / "a.csv", "method,n,drop,word\nram,1,0.25,holds\nram,2,-7.449,\n")
    return tmp_path / "notebooks"


@pytest.mark.parametrize(
    ("old", "where", "new"),
    [
        ("9.9", "drop, method=ram, n=1", "0.2"),
        ("9", "drop, method=ram, n=2", "-7"),
        ("+9.00", "drop, n=1", "+0.25"),
        ("-9.00", "drop, n=2", "-7.45"),
        ("does not hold", "word, n=1", "holds"),
    ],
)
def test_a_stale_quote_is_renewed_with_its_decimals_and_sign(tmp_path: Path, old: str, where: str, new: str) -> None:
    text = 'before [{}](../figures/quick/a.csv "{}") after'
    assert quotes.refreshed(text.format(old, where), table(tmp_path)) == text.format(new, where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("drop, method=ram", "quick/a.csv has 2 rows for 'drop, method=ram', not one"),
        ("drop, method=cam", "quick/a.csv has 0 rows"),
        ("area, method=ram, n=1", "quick/a.csv has no column area"),
        ("drop, kind=ram", "quick/a.csv has no column kind"),
    ],
)
def test_a_quote_that_names_no_single_value_is_refused(tmp_path: Path, where: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        quotes.refreshed(f'[1](../figures/quick/a.csv "{where}")', table(tmp_path))


def test_the_command_rewrites_the_page_only_if_a_value_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = table(tmp_path) / "page.md"
    store.write_text(file, '[1](../figures/quick/a.csv "drop, n=1") [holds](../figures/quick/a.csv "word, n=1")\n')
    monkeypatch.setattr(quotes, "PAGE", file)
    assert quotes.main() == 0
    assert file.read_text().startswith("[0](")
    assert quotes.main() == 0
    assert capsys.readouterr().out == "1 of 2 quoted values changed\n0 of 2 quoted values changed\n"
    store.write_text(file, '[1](../figures/quick/gone.csv "drop, n=1")\n')
    assert quotes.main() == 1


@pytest.mark.parametrize("name", ["glossary.md", "which-method.md"])
def test_the_links_of_a_page_lead_to_files(name: str) -> None:
    links = set(LINK.findall(page(name)))
    assert links
    assert [link for link in links if not (NOTEBOOKS / link).is_file()] == []


def headings(notebook: str) -> set[str]:
    cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return set(re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE))


ENTRIES = [" ".join(block.split()) for block in page("glossary.md").split("\n\n") if block.startswith("**")]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.split(".")[0].strip("*"))
def test_a_glossary_entry_is_brief_and_names_the_paper_and_a_section_of_a_notebook(entry: str) -> None:
    assert (found := ENTRY.fullmatch(entry)), "not: **Term.** text *source* · [NN](notebook), *section*"
    _, text, notebook, section = found.groups()
    assert 1 <= len(re.findall(r"[.?!](?= |$)", text)) <= 4
    assert section in headings(notebook)


def test_the_glossary_has_the_words_of_the_field_once_each() -> None:
    terms = [entry.split(".**")[0].strip("*").lower() for entry in ENTRIES]
    assert len(terms) == len(set(terms)) > 35
    for word in (
        "target",
        "reference",
        "weighting",
        "raw map",
        "control",
        "faithfulness",
        "trapezoid",
        "pointing game",
    ):
        assert word in terms


def test_the_notebooks_lead_to_both_pages() -> None:
    first = json.dumps(json.loads((NOTEBOOKS / "01_setup.ipynb").read_text(encoding="utf-8"))["cells"][0])
    assert "(glossary.md)" in first
    assert "(which-method.md)" in first
