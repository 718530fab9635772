"""Profiles and promised outputs: the committed ones are right, wrong ones are refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from workbook import outputs, paths, profiles
from workbook.profiles import Profile
from workbook.reid.config import TrainConfig

GOOD = "description: d\ndataset: synthetic\nnumbers_only: false\nnotebooks: [01_a, 02_b]\n"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for profiles, under a root of its own."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    paths.PARAMS.mkdir()
    return paths.PARAMS


def test_the_committed_profiles() -> None:
    known = {name: profiles.load(name) for name in profiles.names()}
    assert {"quick", "trainings", "cuhk03-pair1", "paper", "paper-cuhk03"} <= set(known)
    quick = known["quick"]
    assert quick.dataset == profiles.SYNTHETIC and not quick.numbers_only
    assert quick.notebooks == known["paper"].notebooks and len(quick.notebooks) == 5
    for profile in known.values():
        assert profile.numbers_only or profile.dataset == profiles.SYNTHETIC, f"{profile.name}: real people"


@pytest.mark.parametrize("name", profiles.names())
def test_training_settings_are_those_of_the_training(name: str) -> None:
    training = profiles.load(name).training
    config = TrainConfig(**training)
    for field, value in training.items():
        assert type(getattr(config, field)) is (tuple if isinstance(value, list) else type(value)), field


def test_the_paper_profile_is_the_bag_of_tricks() -> None:
    config = TrainConfig(**profiles.load("paper").training)
    expected = {
        "backbone": "resnet50.tv_in1k", "last_stride": 1, "neck": True, "feature": "after_bn", "size": (256, 128),
        "epochs": 120, "ids_per_batch": 16, "images_per_id": 4, "lr": 3.5e-4, "warmup_epochs": 10,
        "warmup_factor": 0.01, "schedule": "step", "milestones": (40, 70), "decay": 0.1, "weight_decay": 5e-4,
        "label_smoothing": 0.1, "triplet_margin": 0.3, "center_weight": 5e-4, "center_lr": 0.5, "flip": 0.5, "pad": 10,
        "erasing": 0.5, "erasing_value": (0.485, 0.456, 0.406),
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected


def test_every_entry_is_read(params: Path) -> None:
    more = "parameters: {n: 3, rate: 1.0e-4}\ntraining: {size: [8, 4]}\n"
    more += "networks: {a: {seed: 1}, b: {onnx: n/b.onnx, size: [8, 4]}}\nevidence: {n_queries: 7}\n"
    (params / "p.yaml").write_text(GOOD + more)
    expected = Profile(
        "p", "d", "synthetic", False, ("01_a", "02_b"), {"n": 3, "rate": 1e-4}, {"size": [8, 4]},
        {"a": {"seed": 1}, "b": {"onnx": "n/b.onnx", "size": [8, 4]}}, {"n_queries": 7},
    )  # fmt: skip
    assert profiles.load("p") == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.load("p").dataset = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["quikc", "", "../params/p", "p.yaml"])
def test_an_unknown_profile_lists_the_known_ones(params: Path, name: str) -> None:
    (params / "p.yaml").write_text(GOOD)
    (params / "q.yaml").write_text(GOOD)
    with pytest.raises(FileNotFoundError, match="known profiles: p, q"):
        profiles.load(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "trainig: {}\n", "unknown entry 'trainig'; did you mean 'training'?"),
        (GOOD.replace("dataset: synthetic\n", ""), "the entry 'dataset' is missing"),
        (GOOD.replace("false", "'no'"), "'numbers_only' must be a bool, not 'no'"),
        (GOOD.replace("[01_a, 02_b]", "01_a"), "'notebooks' must be a list"),
        (GOOD.replace("[01_a, 02_b]", "[]"), "at least one notebook"),
        (GOOD.replace("[01_a, 02_b]", "[1]"), "at least one notebook's name"),
        (GOOD + "parameters: [1]\n", "'parameters' must be a dict"),
        (GOOD + "training: {1: 2}\n", "the names in 'training' must be texts"),
        (GOOD + "networks: [a]\n", "'networks' must be a dict"),
        (GOOD + "networks: {1: {seed: 2}}\n", "the names in 'networks' must be texts"),
        (GOOD + "networks: {a: 1}\n", "'networks': 'a' must be a dict of names to values, not 1"),
        (GOOD + "networks: {a: {1: 2}}\n", "'networks': 'a' must be a dict of names to values"),
        (GOOD + "networks: {a: {onnx: f}}\n", "'a' names a file: it needs 'onnx' and 'size' and no more"),
        (GOOD + "networks: {a: {lr: 1e-4}}\n", "networks: a: lr: YAML reads 1e-4 as text"),
        (GOOD + "evidence: [n]\n", "'evidence' must be a dict"),
        (GOOD + "training: {lr: 1e-4}\n", "training: lr: YAML reads 1e-4 as text; write 1.0e-4"),
        (GOOD + "training: {lr: 3.5e4}\n", "write 3.5e+4"),
        (GOOD + "parameters: {rates: [1e-4]}\n", "write 1.0e-4"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_and_entry(params: Path, text: str, message: str) -> None:
    (params / "p.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        profiles.load("p")
    assert str(caught.value).startswith("params/p.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_with_networks_needs_no_notebook(params: Path) -> None:
    (params / "p.yaml").write_text(GOOD.replace("[01_a, 02_b]", "[]") + "networks: {a: {seed: 1}}\n")
    (params / "q.yaml").write_text(GOOD)
    assert profiles.load("p").notebooks == () and profiles.load("p").parts == ("evidence",)
    assert profiles.load("q").parts == ("01_a", "02_b")
    (params / "outputs.txt").write_text("01_a a.csv all Table 1\nevidence e.csv all Table 2\n")
    assert [output.file for output in outputs.promised(profiles.load("p"))] == ["e.csv"]
    assert [output.file for output in outputs.promised(profiles.load("q"))] == ["a.csv"]


def profile(dataset: str, name: str = "p", numbers_only: bool = False) -> Profile:
    return Profile(name, "d", dataset, numbers_only, ("01_a",))


def test_every_figure_and_table_of_the_paper_is_promised() -> None:
    promised = {output.file for output in outputs.promised(profiles.load("quick"))}
    paper = """fig1_motivation.png fig2_pipeline.png fig3_explanation_maps.png fig4_methods.png
        fig5_sanity_grad_fam.png fig5_sanity_score_fam.png fig6_byol.png table1_time.csv table2_reid.csv"""
    assert promised >= set(paper.split())
    makers = {*profiles.load("quick").notebooks, profiles.EVIDENCE}
    assert {output.notebook for output in outputs.table()} <= makers
    assert {name for output in outputs.table() for name in output.profiles} <= set(profiles.names())


def test_outputs_are_promised_per_profile(params: Path) -> None:
    (params / "outputs.txt").write_text(
        "# notebook file profiles paper\n\n"
        "01_a  a.csv  all   Table 1: time\n"
        "01_a  b.png  p,q   Fig. 1\n"
        "02_b  c.png  all   Fig. 2\n"
    )
    assert [output.file for output in outputs.promised(profile("x", "p"))] == ["a.csv", "b.png"]
    assert [output.file for output in outputs.promised(profile("x", "r"))] == ["a.csv"]
    assert outputs.table()[0] == outputs.Output("01_a", "a.csv", (), "Table 1: time")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("01_a a.csv all", "line 1: expected notebook, file, profiles and item of the paper"),
        ("01_a a.pdf all Fig. 1", "not 'a.pdf'"),
        ("01_a sub/a.png all Fig. 1", "not 'sub/a.png'"),
        ("01_a a.png all Fig. 1\n02_b a.png all Fig. 2", "line 2: a.png is promised twice"),
    ],
)
def test_a_wrong_line_is_refused(params: Path, line: str, message: str) -> None:
    (params / "outputs.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match="outputs.txt") as caught:
        outputs.table()
    assert message in str(caught.value)


def test_pictures_of_real_people_stay_in_build() -> None:
    real = profile("set", "p", numbers_only=True)
    assert outputs.place(real, "fig.png") == paths.BUILD / "p" / "figures" / "fig.png"
    assert outputs.place(real, "table.csv") == paths.FIGURES / "p" / "table.csv"
    assert outputs.place(profile("synthetic"), "fig.png") == paths.FIGURES / "p" / "fig.png"
