"""What fam_lib/README.md and data/README.md show runs as written, and gives what their texts say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data as photographs
from torch import Tensor

from fam_lib import Settings, explain
from fam_lib.similarity import pearson
from reid_toys import write_rectangles
from workbook import paths, profiles
from workbook.prepare import settings
from workbook.reid import check, datasets
from workbook.reid.datasets import Count, Counts
from workbook.run import parameters

LIBRARY, DATA = paths.ROOT / "fam_lib" / "README.md", paths.DATA / "README.md"


def blocks(page: Path, language: str) -> dict[str, str]:
    """Heading -> the one block of a language below it."""
    sections = re.split(r"^##+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)[1:]
    found = {}
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        below = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)
        assert len(below) <= 1, f"{page.name}: two blocks below {heading!r}"
        if below:
            found[heading] = below[0]
    return found


BLOCKS = blocks(LIBRARY, "python")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with nothing in it but a photograph of a cat."""
    Image.fromarray(photographs.chelsea()).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "KNOWN", dict(datasets.KNOWN))
    torch.manual_seed(0)
    return tmp_path


def run(heading: str) -> dict[str, Any]:
    """The names that a block leaves behind."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[heading], f"fam_lib/README.md: {heading}", "exec"), names)
    return names


def assert_map(saliency: Tensor, size: tuple[int, int]) -> None:
    """A map of one image: all of [0, 1], nothing else, and not flat."""
    assert saliency.shape == size and saliency.isfinite().all()
    assert saliency.min() == 0 and saliency.max() == 1


def test_every_block_of_the_page_has_a_test() -> None:
    tested = set(re.findall(r'run\("(.+?)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert set(BLOCKS) == tested


@pytest.mark.parametrize("heading", BLOCKS)
def test_a_block_can_be_read_at_a_glance(heading: str) -> None:
    lines = [line for line in BLOCKS[heading].splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(("import ", "from "))]
    assert len(code) <= 16
    assert max(map(len, lines)) <= 120


def test_a_timm_network_is_explained_with_its_real_weights(folder: Path) -> None:
    names = run("A timm network")
    results, feature = names["results"], names["model"].eval()(names["images"]).detach()
    for result in results.values():
        assert_map(result.saliency[0], (160, 160))
        assert result.layer == "bn2"
    earlier = explain(names["model"], names["images"], "grad-fam", "blocks.4")
    assert earlier.layer == "blocks.4" and earlier.cam.shape[1:] > results["grad-fam"].cam.shape[1:]
    torch.testing.assert_close(results["grad-fam"].weights, feature / (25 * feature.norm()))  # 5 x 5 maps, Eq. 9
    uniform, score = results["uniform"].saliency, results["score-fam"].saliency
    assert pearson(score, uniform)[0] > max(0.98, pearson(results["grad-fam"].saliency, uniform)[0])
    assert Image.open(folder / "timm.png").width > 400


def test_a_projection_head_changes_the_map_and_ends_the_closed_form(folder: Path) -> None:
    head = BLOCKS["A torchvision network with a projection head"]
    names = run("A torchvision network with a projection head")
    for name in ("projection", "feature"):
        assert_map(names[name], (224, 224))
    assert (names["projection"] - names["feature"]).abs().max() > 0.1
    torch.testing.assert_close(explain(names["model"], names["images"], "fam").saliency[0], names["feature"])
    before = {}
    exec(head[: head.index("projection =")], before)
    with pytest.raises(ValueError, match="affine"):
        explain(before["model"], before["images"], "fam")
    assert Image.open(folder / "projection.png").width > 300


def test_a_normalised_output_is_explained_before_its_normalisation_or_by_score_fam(folder: Path) -> None:
    names = run("A metric-learning model with L2-normalised output")
    model, images = names["model"], names["images"]
    assert_map(names["grad_fam"], (128, 64))
    assert_map(names["score_fam"], (128, 64))
    with pytest.raises(ValueError, match="L2-normalises"):
        explain(model, images, "grad-fam")
    without = explain(model.trunk, images, "score-fam").saliency[0]
    torch.testing.assert_close(names["score_fam"], without, rtol=0, atol=1e-4)
    for name in ("grad-fam.png", "score-fam.png"):
        assert Image.open(folder / name).size == (64, 128)


def test_a_classifier_is_explained_class_by_class(folder: Path) -> None:
    names = run("A classifier")
    assert "cat" in names["names"][0]
    for saliency in names["maps"]:
        assert_map(saliency, (160, 160))
    predicted = explain(names["model"], names["images"], "grad-cam").saliency[0]
    torch.testing.assert_close(names["maps"][0], predicted)
    assert (names["maps"][0] - names["maps"][2]).abs().max() > 0.01
    assert Image.open(folder / "classes.png").width > 400


def test_a_method_of_ones_own_is_a_row() -> None:
    names = run("Add a method")
    results, images = names["results"], names["images"]
    assert list(results) == ["distance-fam", "positive-fam", "score-fam"]
    for result in results.values():
        assert_map(result.saliency[0], (96, 96))
    torch.testing.assert_close(results["positive-fam"].weights, results["score-fam"].scores.relu())
    distance = results["distance-fam"]
    assert distance.target == 0  # of the image to itself
    torch.testing.assert_close(distance.weights, distance.scores.softmax(1))
    # The weighting has said how it grows with S, so that a part of the channels is enough for a bound.
    half = explain(names["imagenet_lite0"](0), images, names["rows"][1], budget=0.5)
    assert half.scored.sum() == results["positive-fam"].scored.sum().add(1).div(2, rounding_mode="floor")
    assert (half.saliency - results["positive-fam"].saliency).abs().max() <= half.bound + 1e-4


def test_the_options_that_the_page_names_are_those_of_the_settings() -> None:
    page = LIBRARY.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)=[^`]*`", page)) - {"layer", "reference", "weights", "num_classes", "pretrained"}
    options = set(vars(Settings()))
    assert {"classifier", "budget", "tolerance", "precision", "progress"} <= named & options
    assert named - options <= {"gradient", "growth"}  # of a Weighting


def test_a_data_set_of_ones_own_is_a_folder_and_what_is_published_about_it() -> None:
    names = run("Add a data set")
    assert names["findings"].faults == ()
    assert (names["data"].name, names["data"].root.name) == ("shop", "shop-2024")
    other = Counts(Count(37, 3), Count(3, 3), Count(17, 3))
    assert check.check(names["data"], other).faults == ("train has 36 images of 3 identities, published are 37 of 3",)


def test_a_metric_of_ones_own_is_a_function_or_a_rule() -> None:
    run("Add a data set")
    names = run("Add a metric")
    for method, summary in names["legs"].items():
        shares = [float(m[32:].sum() / m.sum()) for m in names["saliencies"](names["maps"], (64, 32))[method]]
        assert summary.mean == pytest.approx(sum(shares) / 3) and summary.n == 3
    table = names["table"]
    assert sorted(table.method.unique()) == ["grad-fam", "uniform"] and set(table.keep) == {"top 5"}
    assert len(table) == 6 and table.area.tolist() == pytest.approx([102 / 2048] * 6)  # 5 % of 64 x 32 pixels
    assert table.cosine.between(-1, 1).all() and table.cosine.nunique() > 1


def test_the_profile_for_a_folder_of_ones_own_leads_from_the_folder_to_table_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks(DATA, "yaml").values()
    monkeypatch.setattr(paths, "PARAMS", folder / "params")
    paths.PARAMS.mkdir()
    (paths.PARAMS / "shop.yaml").write_text(text, encoding="utf-8")
    write_rectangles(folder / "sets" / "shop", n_train_ids=16)

    profile = profiles.load("shop")
    assert "03_reid_evaluation" in profile.notebooks and profile.numbers_only
    for notebook in profile.notebooks:
        given = parameters.values(profile, notebook, {}, "sets")
        assert given["profile"] == "shop" and given["data_root"] == "sets"
    assert parameters.values(profile, "03_reid_evaluation", {}, "sets")["n_queries"] == 0  # few or many
    assert settings("shop").ids_per_batch <= 16
    assert check.main(["--data-root", "sets", profile.dataset]) == 0
    assert "shop: sound" in capsys.readouterr().out
    assert len(datasets.open_dataset(profile.dataset, folder / "sets", folder / "cache").query) == 6


def test_the_data_set_itself_given_as_data_root_is_understood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rectangles(folder / "sets" / "shop")
    assert check.main(["--data-root", "sets/shop", "shop"]) == 1
    assert "give the folder above the data set" in capsys.readouterr().out
    assert check.main(["--data-root", "elsewhere", "shop"]) == 1
    assert "folder above" not in capsys.readouterr().out
