"""workbook.reid.cuhk03: the official files become Market1501's layout, and damaged ones are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from reid_toys import toy_names, toy_picture, write_cuhk03, write_cuhk03_images, write_cuhk03_split
from workbook.reid import cuhk03
from workbook.reid.data import load_market_layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cuhk03(tmp_path / "cuhk03")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def convert(folder: Path, cache: Path, boxes: cuhk03.Boxes = "labeled") -> Path:
    return cuhk03.convert(folder, boxes, cache, progress=False)


def rewrite_split(folder: Path, **changed: object) -> None:
    write_cuhk03_split(cuhk03.split_file(folder, "labeled"), **changed)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_picture_goes_to_its_split_with_its_identity_and_camera(folder: Path, cache: Path) -> None:
    data = load_market_layout(convert(folder, cache))
    assert (data.name, data.synthetic) == ("cuhk03-labeled", False)
    # People 1, 2, 4, 8 train, one of them with a third picture by camera 1; pictures 1 and 6 of the rest are queries.
    assert data.train.ids.tolist() == [1] * 5 + [2] * 4 + [4] * 4 + [8] * 4
    assert data.train.cams.tolist() == [1, 1, 1, 2, 2] + [1, 1, 2, 2] * 3
    for split in (data.query, data.gallery):
        assert split.ids.tolist() == [3, 3, 5, 5, 6, 6, 7, 7]
        assert split.cams.tolist() == [1, 2] * 4
    assert [path.name for path in data.query.paths[:2]] == ["0003_c1_1_003_1_01.png", "0003_c2_1_003_2_06.png"]
    assert data.train.paths[-1].name == "0008_c2_5_001_2_07.png"


@pytest.mark.parametrize("boxes", ["detected", "labeled"])
def test_pixels_are_those_of_the_boxes_asked_for_and_upright(folder: Path, cache: Path, boxes: cuhk03.Boxes) -> None:
    data = load_market_layout(convert(folder, cache, boxes))
    paths = data.train.paths + data.query.paths + data.gallery.paths
    assert len(paths) == len(toy_names()) == 33
    for path in paths:
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), toy_picture(path.name[8:], boxes))


def test_indices_count_from_one_up_to_the_last_picture(folder: Path) -> None:
    names = list(toy_names())
    rewrite_split(folder, train_idx=[1, len(names)], query_idx=[2], gallery_idx=[3])
    pictures = cuhk03.read_split(cuhk03.split_file(folder, "labeled"))
    assert [f"{picture.source}.png" for picture in pictures] == [names[0], names[-1], names[1], names[2]]


def test_one_index_alone_is_a_table_too(folder: Path) -> None:
    rewrite_split(
        folder, filelist=["1_001_1_01.png"], labels=[7], camId=[1], train_idx=[1], query_idx=[], gallery_idx=[]
    )
    assert cuhk03.read_split(cuhk03.split_file(folder, "labeled")) == [
        cuhk03.Picture("bounding_box_train", 1, pair=1, person=1, view=1, number=1)
    ]


def test_labels_that_count_from_zero_make_no_distractor(folder: Path, cache: Path) -> None:
    expected = load_market_layout(convert(folder, cache)).train.ids
    rewrite_split(folder, labels=np.array(list(toy_names().values())) - 1)
    assert load_market_layout(convert(folder, cache)).train.ids.equal(expected)


def test_a_converted_set_is_used_again(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert(folder, cache)
    monkeypatch.setattr(cuhk03, "read_split", None)  # a second conversion would call it
    assert convert(folder, cache) == first
    assert [path.name for path in cache.iterdir()] == [first.name]


def test_another_split_another_kind_of_boxes_and_other_images_are_other_sets(folder: Path, cache: Path) -> None:
    found = {convert(folder, cache), convert(folder, cache, "detected")}
    rewrite_split(folder, train_idx=[1, 2, 3])
    found.add(convert(folder, cache))
    write_cuhk03_images(cuhk03.images_file(folder), {"1_001_1_01.png": np.zeros((500, 400, 3), np.uint8)})
    found.add(convert(folder, cache))
    assert len(found) == 4


def test_a_converted_set_holds_no_place_of_this_machine_and_can_move(folder: Path, cache: Path) -> None:
    target = convert(folder, cache)
    before = [path.name for path in load_market_layout(target).train.paths]
    moved = shutil.move(target, cache.parent / "elsewhere")
    assert [path.name for path in load_market_layout(moved).train.paths] == before
    card = (moved / "dataset.json").read_text()
    assert cache.parent.name not in card
    assert json.loads(card)["source"]["boxes"] == "labeled"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_stopped_conversion_leaves_nothing(
    folder: Path, cache: Path, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = Image.Image.save, []

    def save_five(image: Image.Image, path: Path) -> None:
        if len(written) == 5:
            raise stop
        save(image, path)
        written.append(path)

    with monkeypatch.context() as patch, pytest.raises(stop):
        patch.setattr(Image.Image, "save", save_five)
        convert(folder, cache)
    assert len(written) == 5
    assert list(cache.iterdir()) == []


def test_what_a_killed_conversion_left_does_not_pass_for_the_set(folder: Path, cache: Path) -> None:
    whole = convert(folder, cache)
    expected = contents(whole)
    whole.rename(cache / f".part-0123456789ab-{whole.name}")
    (cache / f".part-0123456789ab-{whole.name}" / "dataset.json").unlink()
    again = convert(folder, cache)
    assert again == whole
    assert contents(again) == expected


def test_the_first_of_two_conversions_at_once_stays(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cuhk03.write_json

    def overtaken(path: Path, card: dict) -> None:
        monkeypatch.setattr(cuhk03, "write_json", write)
        convert(folder, cache)
        write(path, card)

    monkeypatch.setattr(cuhk03, "write_json", overtaken)
    target = convert(folder, cache)
    assert [path.name for path in cache.iterdir()] == [target.name]
    assert len(load_market_layout(target).train) == 17


@pytest.mark.parametrize("locate", [lambda folder: cuhk03.split_file(folder, "labeled"), cuhk03.images_file])
def test_an_absent_file_is_named(folder: Path, cache: Path, locate: Callable[[Path], Path]) -> None:
    locate(folder).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no such file: .*{locate(folder).name}"):
        convert(folder, cache)


@pytest.mark.parametrize(
    ("locate", "message"),
    [
        (lambda folder: cuhk03.split_file(folder, "labeled"), "labeled.mat is not a readable MATLAB file"),
        (cuhk03.images_file, "cuhk-03.mat is not a readable HDF5 file"),
    ],
)
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"<html>"])
def test_a_truncated_file_and_a_web_page_are_named(
    folder: Path, cache: Path, locate: Callable[[Path], Path], message: str, damage: Callable[[bytes], bytes]
) -> None:
    path = locate(folder)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        convert(folder, cache)
    assert not any(cache.glob("*"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gallery_idx": None}, "has no gallery_idx"),
        ({"query_idx": [4, 34]}, "query_idx asks for picture 34 of 33"),
        ({"train_idx": [0]}, "train_idx asks for picture 0 of 33"),
        ({"labels": [1, 2]}, "33 names in filelist, but 2 labels"),
        ({"camId": [2] * 33}, "1_001_1_01.png is of view 1, but camId says 2"),
        ({"train_idx": [5], "gallery_idx": [5]}, "lists picture 1_001_2_07 twice"),
        ({"filelist": ["person.png"] * 33}, "'person.png' does not name pair, person, view and number"),
        ({"filelist": ["1_001_1_00.png"] * 33}, "'1_001_1_00.png' does not name"),
        ({"filelist": ["1_004_1_01.png"] * 33, "camId": [1] * 33, "train_idx": [1], "query_idx": [], "gallery_idx": []},
         "cuhk-03.mat has no picture 1_004_1_01"),
    ],
)  # fmt: skip
def test_a_split_file_that_does_not_fit_is_refused(
    folder: Path, cache: Path, changed: dict[str, list | None], message: str
) -> None:
    rewrite_split(folder, **changed)
    with pytest.raises(ValueError, match=message):
        convert(folder, cache)


@pytest.mark.parametrize(
    ("stored", "got"),
    [
        (np.empty((0, 0)), "got uint64 and 2$"),
        (np.zeros((20, 9), np.uint8), "got uint8 and 20 x 9"),
        (np.zeros((20, 9, 4), np.uint8), "got uint8 and 20 x 9 x 4"),
        (np.zeros((20, 9, 3)), "got float64 and 20 x 9 x 3"),
    ],
)
def test_an_empty_cell_or_a_wrong_shape_is_named(folder: Path, cache: Path, stored: np.ndarray, got: str) -> None:
    write_cuhk03_images(cuhk03.images_file(folder), {"2_001_1_02.png": stored})
    with pytest.raises(ValueError, match=f"picture 2_001_1_02 must be uint8 and height x width x 3, {got}"):
        convert(folder, cache)
    convert(folder, cache, "detected")  # the other pictures are whole


@pytest.mark.parametrize("content", [{}, {"labeled": np.eye(3)}])
def test_another_hdf5_file_is_no_cuhk03(folder: Path, cache: Path, content: dict[str, np.ndarray]) -> None:
    with h5py.File(cuhk03.images_file(folder), "w") as file:
        file.update(content)
    with pytest.raises(ValueError, match=r"cuhk-03.mat has no cells named 'labeled'"):
        convert(folder, cache)


def test_cells_of_another_shape_are_no_cuhk03(folder: Path, cache: Path) -> None:
    with h5py.File(cuhk03.images_file(folder), "r+") as file:
        cell = file[file["labeled"][0, 1]]
        rows = cell[:9]
        file["nine"] = rows.astype(h5py.ref_dtype)
        references = file["labeled"][()]
        references[0, 1] = file["nine"].ref
        file["labeled"][...] = references
    with pytest.raises(ValueError, match=r"pair 2 of 'labeled' must be people x 10 cells, got 2 x 9"):
        convert(folder, cache)
