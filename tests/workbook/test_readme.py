"""The READMEs keep their word: links, make targets and profiles are there, and every number stands in its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from workbook import paths, profiles
from workbook.claims import ONE_NETWORK

README = paths.ROOT / "README.md"
PAGES = {page: paths.ROOT / page for page in ("README.md", "fam_lib/README.md", "data/README.md")}
SYNTHETIC, REAL = paths.ROOT / "figures" / "quick", paths.ROOT / "figures" / "cuhk03-pair1"
TRAININGS = paths.ROOT / "figures" / "trainings"
RETRAINED = paths.ROOT / "figures" / "retrained"
NETWORKS = (SYNTHETIC, RETRAINED, REAL)
TEXT = README.read_text(encoding="utf-8")
WORDS = " ".join(TEXT.split())


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def anchor(heading: str) -> str:
    """A heading as the target of a link, by GitHub's rule for those that we have."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, f"{page} links to {target}, which it does not have"
        elif not target.startswith("https://"):
            assert (PAGES[page].parent / target).exists(), f"{page} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_and_profile_exists(page: str) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", (paths.ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set(re.findall(r"(?:^ *|`)make ([a-z][a-z-]*)", text, flags=re.M))
    assert named, f"{page} names no target"
    assert named <= known
    shown = {"shop"} if "params/shop.yaml" in text else set()  # the one that data/README.md lets the reader write
    assert set(re.findall(r"PROFILE=([\w-]+)", text)) <= {*profiles.names(), *shown}


@pytest.mark.parametrize("house", ["fam_lib", "workbook"])
def test_modules_of_the_tables_are_those_of_the_two_houses(house: str) -> None:
    table = next(part for part in TEXT.split("\n\n") if part.startswith(f"| {house} | subject |"))
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    modules = {
        path.stem
        for path in (paths.ROOT / house).iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.name != "__init__.py"
    }
    assert named == modules


def test_the_table_of_lessons_is_that_of_the_notebooks() -> None:
    links = [re.search(r"\((.+)\)", row[0])[1] for row in rows("An afternoon: the five lessons")]
    assert [Path(link).stem for link in links] == list(profiles.load("quick").notebooks)
    for link, (_, question, _) in zip(links, rows("An afternoon: the five lessons"), strict=True):
        assert question in (paths.ROOT / link).read_text(encoding="utf-8").split("\\n")[0]


# ---- results ------------------------------------------------------------------------------------------


Source = Callable[[pd.DataFrame], list[float]]  # finds the numbers of a row in a table


def table(folder: Path, file: str) -> pd.DataFrame:
    return pd.read_csv(folder / file.strip("`"))


def entries(*columns: str, **where: object) -> Source:
    """The columns of the one row with these entries."""

    def pick(frame: pd.DataFrame) -> list[float]:
        for column, value in where.items():
            frame = frame[frame[column] == value]
        assert len(frame) == 1, where
        return frame.iloc[0][list(columns)].tolist()

    return pick


def each(column: str, key: str, *values: object, **where: object) -> Source:
    """One column for several entries of another one."""
    return lambda frame: [entries(column, **where, **{key: value})(frame)[0] for value in values]


METRICS = ("as_drop", "ap_drop", "ap_increase")
CORRELATION = "score-cam: correlation between maps of the three best classes"
LAST = {"scheme": "cascade", "layer": "backbone.conv_stem"}
# Row of the README -> where its numbers stand in the file that it names.
SOURCES = {
    "Table 2, Score-FAM: AS drop, AP drop, AP increase": entries(*METRICS, method="score-fam"),
    "Table 2, Grad-FAM": entries(*METRICS, method="grad-fam"),
    "Table 2, RAM": entries(*METRICS, method="ram"),
    "control: a map of noise": entries(*METRICS, method="random-map"),
    "Table 2 at 30 % area, AP drop: Score-FAM, RAM, noise": each(
        "ap_drop", "method", "score-fam", "ram", "random-map", area=30
    ),
    "Fig. 1 b: correlation of Score-CAM's maps for three identities": entries("value", statement=CORRELATION),
    "Fig. 1 c: the same of RAM for three gallery images": entries(
        "value", statement="ram: correlation between maps of the three best gallery images"
    ),
    "control: correlation of Score-FAM with the mean activation": entries(
        "value", statement="score-fam: correlation with the uniform control"
    ),
    "Table 2, Score-FAM of a quarter of the channels: AS drop, AP drop": entries("as_drop", "ap_drop", share=25),
    "Table 1: seconds an image, Grad-FAM and Score-FAM": each(
        "seconds", "method", "grad-fam", "score-fam", library="fam_lib"
    ),
    "Fig. 5: rank correlation when all layers are random, Grad-FAM and Score-FAM": each(
        "spearman", "method", "grad-fam", "score-fam", **LAST
    ),
    "control: the same of the mean activation, which must fail and passes": entries(
        "spearman", method="uniform", **LAST
    ),
    "Fig. 5, beyond: the same at an earlier layer when all *behind* it is random, Score-FAM and Grad-FAM": each(
        "spearman", "method", "score-fam", "grad-fam", explained="backbone.blocks.4", step=2, swapped="both"
    ),
    "Fig. 6: Grad-FAM's energy on the person, untrained and at 40 % of BYOL's training": each(
        "energy", "share", 0, 0.4, method="grad-fam", map="last"
    ),
    "Fig. 6: percent of the pixels in Grad-FAM's bright region, at 40 and 100 % of the training": each(
        "area", "share", 0.4, 1, method="grad-fam", map="last"
    ),
    "control: the same of the mean activation": each("area", "share", 0.4, 1, method="uniform", map="last"),
    "Sec. 4.1, the network explained: rank-1, mAP": entries("rank_1", "mean_ap", network="trained"),
}
RESULTS = {row[0]: row for row in rows("Results")}


def test_every_row_of_the_results_is_checked() -> None:
    assert set(RESULTS) == set(SOURCES)


@pytest.mark.parametrize("item", SOURCES)
def test_the_numbers_stand_in_the_file_that_the_row_names(item: str) -> None:
    _, notebook, file, synthetic, real, _, _ = RESULTS[item]
    assert list(paths.NOTEBOOKS.glob(f"{notebook}_*.ipynb"))
    assert synthetic, "every row has a number of the quick profile"
    for folder, shown in ((SYNTHETIC, synthetic), (REAL, real)):
        if shown:
            assert_rounded(shown, SOURCES[item](table(folder, file)))


def assert_rounded(shown: str, values: list[float]) -> None:
    """The numbers are the values, rounded to the digits that are shown."""
    numbers = shown.split(", ")
    digits = [len(number.partition(".")[2]) for number in numbers]
    assert numbers == [f"{value:.{d}f}" for value, d in zip(values, digits, strict=True)]


def test_a_number_that_is_off_by_one_digit_is_found() -> None:
    with pytest.raises(AssertionError):
        assert_rounded("31.2, 22.0", [31.11, 21.97])


@pytest.mark.parametrize(
    ("item", "method"),
    [("Table 2, Score-FAM: AS drop, AP drop, AP increase", "score-fam"), ("Table 2, Grad-FAM", "grad-fam")],
)
def test_the_paper_s_numbers_are_those_of_market1501(item: str, method: str) -> None:
    paper = entries(*(f"paper_{metric}" for metric in METRICS), method=method)(table(SYNTHETIC, "table2_reid.csv"))
    assert_rounded(RESULTS[item][5], paper)


@pytest.mark.parametrize("item", [item for item, row in RESULTS.items() if row[6]])
def test_verdicts_are_those_of_the_ledgers(item: str) -> None:
    name, synthetic, real = re.fullmatch(r"`([\w-]+)`: ([\w ]+) / ([\w ]+)", RESULTS[item][6]).groups()
    for folder, verdict in ((SYNTHETIC, synthetic), (REAL, real)):
        ledger = table(folder, "claims.csv").set_index("id").verdict
        assert ledger[name].removesuffix(ONE_NETWORK) == verdict, f"{name} in {folder.name}"


@pytest.mark.parametrize("folder", NETWORKS, ids=lambda folder: folder.name)
def test_the_five_statements_are_true_of_every_network(folder: Path) -> None:
    whole = table(folder, "table2_reid.csv").set_index("method").loc["all-ones"]
    assert whole.as_drop == whole.ap_drop == 0
    areas = table(folder, "table_equal_area.csv")
    noise = areas[areas.method == "random-map"].sort_values("area")
    assert noise.as_drop.is_monotonic_decreasing and noise.ap_drop.is_monotonic_decreasing
    ledger = table(folder, "claims.csv").set_index("id")
    for claim in ("lead-as-drop", "lead-ap-drop", "lead-ap-increase"):
        assert "Established at 0 of 4 equal areas" in ledger.evidence[claim]
    alike = table(folder, "table_maps.csv").set_index("statement").value
    assert alike["score-fam: correlation with the uniform control"] > 0.99
    assert alike["score-cam: correlation between maps of the three best classes"] > 0.985
    if folder != RETRAINED:  # it runs no notebook 04
        assert ledger.verdict["control-sanity"].startswith("does not hold")


def test_the_statements_are_true_of_every_training() -> None:
    each_area = table(TRAININGS, "table_networks_area.csv").query("feature == 'after neck'")
    for _, noise in each_area[each_area.method == "random-map"].sort_values("area").groupby("network"):
        assert noise.as_drop.is_monotonic_decreasing and noise.ap_drop.is_monotonic_decreasing
    each_network = table(TRAININGS, "table_networks.csv").query("feature == 'after neck'")
    whole = each_network[each_network.method == "all-ones"]
    assert len(whole) == 6 and (whole.as_drop == 0).all() and (whole.ap_drop == 0).all()
    area = table(TRAININGS, "table_area.csv").query(
        "feature == 'after neck' and methods == 'all' and level == 'all cells'"
    )
    said = dict(zip(area.metric, area.linear, strict=True))
    assert each_network.method.nunique() == 18 and (area.n == 6 * 18).all()
    assert f"{said['as_drop']:.0f} % of the variance of AS drop and {said['ap_drop']:.0f} % of that of AP drop" in WORDS
    ledger = table(TRAININGS, "claims.csv").set_index("id")
    for claim in ("lead-as-drop", "lead-ap-drop", "lead-ap-increase"):
        assert "Established at 0 of 4 equal areas" in ledger.evidence[claim]
    maps = table(TRAININGS, "table_networks_maps.csv").query("feature == 'after neck' and network != 'all networks'")
    values = maps.groupby("statement").value.agg(["min", "max"]).round(2)
    assert values.loc["score-fam: correlation with the uniform control"].between(0.99, 1).all()
    assert values.loc[CORRELATION].between(0.99, 1).all()
    low, high = values.loc[CORRELATION.replace("score-cam", "score-cam-logit")]
    assert f"{low:.2f} to {high:.2f} over the trainings" in WORDS


def test_the_spread_of_score_fam_is_that_of_the_trainings() -> None:
    pooled = table(TRAININGS, "table_pooled.csv").query("feature == 'after neck' and keep == 'eq14'")
    row = pooled.query("method == 'score-fam' and metric == 'as_drop'").iloc[0]
    rows = table(TRAININGS, "table_networks.csv").query("feature == 'after neck' and method == 'score-fam'")
    rows = rows.sort_values("as_drop")
    text = (
        f"[{row.value:.1f}, interval {row.lo:.1f} to {row.hi:.1f}](figures/trainings/table_pooled.csv), from "
        f"{rows.as_drop.iloc[0]:.1f} on one to {rows.as_drop.iloc[-1]:.1f} on another, whose maps keep "
        f"{rows.retained_area.iloc[0]:.0f} and {rows.retained_area.iloc[-1]:.0f} % of the pixels; on cuhk03 it is "
    )
    real = table(REAL, "table2_reid.csv").set_index("method").loc["score-fam"]
    assert text + f"{real.as_drop:.1f} ({real.retained_area:.0f} %)" in WORDS


@pytest.mark.parametrize(
    ("folder", "text"), [(SYNTHETIC, "{} queries drawn by code"), (REAL, "{} queries, of which one has no match")]
)
def test_the_number_of_queries_is_that_of_table_2(folder: Path, text: str) -> None:
    assert text.format(table(folder, "table2_reid.csv").n_queries.iloc[0]) in " ".join(TEXT.split())
