"""workbook.reid.check: sound sets pass, and each kind of damage is found and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reid_toys import write_cuhk03, write_image, write_rectangles
from workbook import paths
from workbook.reid import cuhk03
from workbook.reid.check import check, main
from workbook.reid.data import load_market_layout
from workbook.reid.datasets import Count, Counts

SIZES = Counts(Count(96, 16), Count(6, 3), Count(12, 3))
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound set of 16 training and 3 test identities, enough for a batch, under the name of a known one."""
    return write_rectangles(tmp_path / "cuhk03-pair1", n_train_ids=16)


def copy(root: Path, source: str, target: str) -> None:
    shutil.copy(root / source, root / target)


def faults(root: Path, published: Counts | None = None) -> tuple[str, ...]:
    return check(load_market_layout(root), published).faults


def notes(root: Path) -> tuple[str, ...]:
    found = check(load_market_layout(root))
    assert found.faults == ()
    return found.notes


def test_nothing_is_found_in_a_sound_set(root: Path) -> None:
    assert faults(root, SIZES) == ()
    assert notes(root) == ()


def test_other_counts_than_published_are_told_by_split(root: Path) -> None:
    (root / GALLERY / "0017_c1_01.png").unlink()
    published = SIZES._replace(query=Count(3368, 750))
    assert faults(root, published) == (
        "query has 6 images of 3 identities, published are 3,368 of 750",
        "gallery has 11 images of 3 identities, published are 12 of 3",
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0, 100, -100])
def test_truncated_images_of_every_split_are_named(root: Path, suffix: str, keep: int) -> None:
    damaged = [f"{folder}/{name}.{suffix}" for folder, name in ((TRAIN, "0001_c1_09"), (QUERY, "0017_c2_09"))]
    for position, name in enumerate(damaged):
        content = write_image(root / name, seed=position).read_bytes()
        (root / name).write_bytes(content[:keep])
    assert faults(root) == (f"truncated or no image, restore from the data set: {', '.join(damaged)}",)


def test_a_long_list_of_files_is_cut_short(root: Path) -> None:
    for path in (root / GALLERY).iterdir():
        path.write_text("text")
    (fault,) = faults(root)
    assert fault.count(GALLERY) == 5
    assert fault.endswith(" and 7 more")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (f"{TRAIN}/0001_c1_00.png", f"{TRAIN}/0002_c1_09.png"),  # another identity
        (f"{GALLERY}/0017_c1_01.png", f"{GALLERY}/0017_c2_09.png"),  # another camera
        (f"{TRAIN}/0001_c1_00.png", f"{GALLERY}/0000_c1_09.png"),  # in training and among the distractors
        (f"{QUERY}/0017_c1_00.png", f"{GALLERY}/0018_c1_09.png"),
    ],
)
def test_one_image_under_two_labels_is_a_fault(root: Path, source: str, target: str) -> None:
    copy(root, source, target)
    assert faults(root) == (f"one image under two identities or cameras, or in training and test: {source} = {target}",)


def test_one_image_under_many_labels_is_told_by_its_first_two(root: Path) -> None:
    copies = [f"{TRAIN}/{person:04d}_c1_09.png" for person in range(2, 17)]
    for target in copies:
        copy(root, f"{TRAIN}/0001_c1_00.png", target)
    (fault,) = faults(root)
    assert fault.endswith(f": {TRAIN}/0001_c1_00.png = {copies[0]}")


def test_one_person_in_training_and_test_is_a_fault_by_its_images_and_its_number(root: Path) -> None:
    copy(root, f"{TRAIN}/0001_c1_00.png", f"{GALLERY}/0001_c1_00.png")
    assert faults(root) == (
        "one image under two identities or cameras, or in training and test: "
        f"{TRAIN}/0001_c1_00.png = {GALLERY}/0001_c1_00.png",
        "identities in both training and test: 1",
    )


def test_copies_that_agree_and_distractors_are_no_fault(root: Path) -> None:
    copy(root, f"{GALLERY}/0017_c1_01.png", f"{GALLERY}/0017_c1_09.png")
    copy(root, f"{QUERY}/0017_c1_00.png", f"{GALLERY}/0017_c1_10.png")  # dropped by the same-camera rule
    write_image(root / GALLERY / "0000_c1_00.png", seed=1)
    assert check(load_market_layout(root)) == check(load_market_layout(root), Counts(SIZES[0], SIZES[1], Count(15, 3)))
    assert notes(root) == ()


def test_a_query_without_an_image_from_another_camera_is_noted(root: Path) -> None:
    for path in (root / GALLERY).glob("0018_c1_*"):
        path.unlink()
    assert notes(root) == (
        "1 of 6 queries have no image of the person from another camera and are left out of every mean: "
        f"{QUERY}/0018_c2_00.png",
    )


def test_an_identity_with_one_camera_is_noted(root: Path) -> None:
    for path in (root / TRAIN).glob("0003_c2_*"):
        path.unlink()
    assert notes(root) == ("training identities seen by one camera only: 3",)


def test_too_few_identities_for_a_batch_are_noted(tmp_path: Path) -> None:
    root = write_rectangles(tmp_path / "few", n_train_ids=15)
    assert notes(root) == ("15 training identities: set ids_per_batch, 16 by default, to no more than that",)


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


def test_sets_that_are_not_there_are_no_fault_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data-root", str(tmp_path)]) == 0
    assert f"market1501: not there, {tmp_path / 'market1501'} is missing" in capsys.readouterr().out
    assert main(["market1501", "--data-root", str(tmp_path)]) == 1


def test_the_report_of_a_set_of_ones_own(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root.rename(root.with_name("mine"))
    write_image(root.with_name("mine") / GALLERY / "0000_c1_00.png", seed=1)
    assert main(["mine", "--data-root", str(root.parent)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mine: sound",
        "  train        96 images of 16 identities",
        "  query         6 images of 3 identities",
        "  gallery      13 images of 3 identities and 1 distractors",
        "Where to get each set and where to put it: data/README.md",
    ]


def test_a_known_set_is_held_against_its_published_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data-root", str(root.parent)]) == 1
    report = capsys.readouterr().out
    assert "cuhk03-pair1: NOT SOUND" in report
    assert "fault: train has 96 images of 16 identities, published are 6,264 of 643" in report


def test_a_misnamed_image_and_an_absent_split_are_faults(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_image(root / QUERY / "person.png")
    assert main(["cuhk03-pair1", "--data-root", str(root.parent)]) == 1
    assert "fault: " + str(path) + " is not named by identity and camera" in capsys.readouterr().out
    shutil.rmtree(root / QUERY)
    assert main(["cuhk03-pair1", "--data-root", str(root.parent)]) == 1
    assert f"{root} has no folder query" in capsys.readouterr().out


def test_cuhk03_is_converted_and_another_split_file_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cuhk03(tmp_path / "cuhk03")
    note = "note: cuhk03_new_protocol_config_labeled.mat is not the published split file"
    assert main(["cuhk03-labeled", "--data-root", str(tmp_path)]) == 1
    report = capsys.readouterr().out
    assert "train has 17 images of 4 identities, published are 7,368 of 767" in report
    assert report.count("fault:") == 3
    assert note in report
    monkeypatch.setitem(cuhk03.SPLIT_SHA256, "labeled", cuhk03.sha256(cuhk03.split_file(folder, "labeled")))
    main(["cuhk03-labeled", "--data-root", str(tmp_path)])
    assert note not in capsys.readouterr().out


def test_a_damaged_file_of_cuhk03_is_a_fault_and_one_alone_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cuhk03(tmp_path / "cuhk03")
    cuhk03.split_file(folder, "detected").unlink()
    cuhk03.images_file(folder).write_bytes(b"<html>")
    assert main(["--data-root", str(tmp_path)]) == 1
    report = capsys.readouterr().out
    assert "cuhk03-detected: not there" in report
    assert "cuhk03-labeled: NOT SOUND\n  fault: " in report
    assert "cuhk-03.mat is not a readable HDF5 file" in report
