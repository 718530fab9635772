"""What was measured of a network, kept and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import evaluation_toys as toys
from workbook import networks as shipping
from workbook import paths, profiles
from workbook.evidence import kept, networks, tables
from workbook.evidence.kept import Measured
from workbook.evidence.networks import Network
from workbook.reid.data import ReidData
from workbook.run import evidence

ROWS = Measured(
    pd.DataFrame(
        {"keep": ["eq14", "10"], "query": ["0001.png"] * 2, "as_drop": [1 / 3, float("nan")], "person": [1, 1]}
    ),
    pd.DataFrame({"statement": ["s"], "query": ["0001.png"], "value": [-2e-9]}),
    pd.DataFrame({"method": ["uniform"], "n": [16], "specific": [0.25]}),
    {"recipe": "the profile's", "after neck": [90.0, 81.25]},
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return toys.blocks(tmp_path_factory.mktemp("blocks"))


def test_what_is_kept_is_read_again_to_seven_digits_and_gives_the_same_bytes(tmp_path: Path) -> None:
    found = kept.through(tmp_path / "a", ROWS, "made")
    assert found.cells.as_drop[0] == 0.3333333 and pd.isna(found.cells.as_drop[1])
    assert list(found.cells["keep"]) == ["eq14", "10"] and found.statements["value"][0] == -2e-9
    assert found.about == ROWS.about
    again = kept.through(tmp_path / "b", found, "made")
    pd.testing.assert_frame_equal(found.cells, again.cells)
    assert all((tmp_path / "a" / f.name).read_bytes() == f.read_bytes() for f in (tmp_path / "b").iterdir())


def test_rows_made_of_something_else_are_passed_over(tmp_path: Path) -> None:
    assert kept.read(tmp_path, "made") is None
    kept.write(tmp_path, ROWS, "made")
    assert kept.read(tmp_path, "of another network") is None


@pytest.mark.parametrize("file", ["cells.csv.gz", "statements.csv.gz", "truth.csv.gz", "about.json"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    kept.write(tmp_path, ROWS, "made")
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{file} is damaged: restore it with git"):
        kept.read(tmp_path, "made")


def test_the_name_says_what_was_measured(data: ReidData, tmp_path: Path) -> None:
    profile = profiles.load("trainings")

    def name(network: str, profile: profiles.Profile = profile, n: int = 5, seed: int = 0) -> str:
        used = {"n_queries": n, "seed": seed}
        return kept.names_of(profile, [network], data, tmp_path, used)[network]

    fewer = replace(profile, networks={**profile.networks, "seed-0": {"seed": 0, "epochs": 3}})
    names = [name("seed-0"), name("seed-1"), name("seed-0", n=6), name("seed-0", seed=1), name("seed-0", fewer)]
    assert len(set(names)) == 5 and name("seed-0") == names[0]


def test_a_network_that_was_measured_is_not_opened_again(
    data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("FIGURES", "BUILD", "CACHE"):
        monkeypatch.setattr(paths, place, tmp_path / place.lower())
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "evidence")
    monkeypatch.setattr("workbook.prepare.load_data", lambda *_: data)
    monkeypatch.setattr(evidence, "settings", lambda profile: {"n_queries": 5, "seed": 0})
    opened = []

    def open_network(profile: profiles.Profile, name: str, *_: object) -> Network:
        opened.append(name)
        return Network(name, "toy", toys.tiny_model(0), toys.SIZE, ("after_bn",))

    monkeypatch.setattr(networks, "open_network", open_network)
    run = ["trainings", "--only", "seed-1"]
    table = paths.FIGURES / "trainings" / "table_networks.csv"
    assert evidence.main([*run, "--keep"]) == 0 and opened == ["seed-1"]
    first = table.read_bytes()
    assert evidence.main(run) == 0 and opened == ["seed-1"]
    assert "seed-1: as it was measured before" in capsys.readouterr().err and table.read_bytes() == first
    monkeypatch.setenv("FAM_NETWORKS", shipping.MINE)
    assert evidence.main(run) == 0 and opened == ["seed-1"] * 2
    assert table.read_bytes() == first


def test_the_committed_rows_give_the_committed_tables() -> None:
    profile, frames, about = profiles.load("trainings"), [], {}
    for name in profile.networks:
        folder = kept.folder_of(profile, name, published=True)
        found = kept.read(folder, json.loads((folder / "about.json").read_text(encoding="utf-8"))["made_of"])
        frames.append(found)
        about[name] = found.about
    cells, statements, truth = (pd.concat([frame[i] for frame in frames], ignore_index=True) for i in range(3))
    dataset = "synthetic pedestrians"
    made = {
        "table_networks": tables.networks_table(dataset, cells, about),
        "table_networks_maps": tables.maps_table(dataset, statements),
        "table_networks_truth": tables.truth_networks_table(dataset, truth),
        "table_pooled": tables.pooled_table(dataset, cells),
    }
    for name, table in made.items():
        committed = pd.read_csv(paths.ROOT / "figures" / "trainings" / f"{name}.csv", dtype={"keep": str})
        table = table.astype({"keep": str}) if "keep" in table else table
        pd.testing.assert_frame_equal(committed, table[committed.columns], check_dtype=False, rtol=1e-3, atol=1e-6)
