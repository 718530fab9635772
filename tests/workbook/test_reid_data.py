"""workbook.reid.data and datasets: names, splits, junk, distractors; images as tensors; sets by their names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_toys import write_cuhk03, write_image, write_rectangles
from workbook.images import load_images, load_pixels, normalise
from workbook.reid.data import ImageSet, load_market_layout
from workbook.reid.datasets import KNOWN, counts, open_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_rectangles(tmp_path / "toy", n_train_ids=2, n_test_ids=2, per_camera=2)


def rename(folder: Path, old: str, new: str) -> Path:
    return (folder / old).rename(folder / new)


def test_both_official_forms_of_names_are_read(root: Path) -> None:
    rename(root / "bounding_box_train", "0001_c1_00.png", "0001_c1s3_000451_03.png")
    train = load_market_layout(root).train
    assert train.ids.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert train.cams.tolist() == [1, 1, 2, 2, 1, 1, 2, 2]
    assert train.ids.dtype == train.cams.dtype == torch.int64


def test_files_are_sorted_by_identity_as_a_number_then_by_name(root: Path) -> None:
    folder = root / "bounding_box_train"
    write_image(folder / "10_c1_01.png")
    write_image(folder / "9_c1_01.jpg")
    train = load_market_layout(root).train
    assert train.ids.tolist() == [1] * 4 + [2] * 4 + [9, 10]
    assert [path.name for path in train.paths[:2]] == ["0001_c1_00.png", "0001_c1_01.png"]
    assert [path.name for path in train.paths[-2:]] == ["9_c1_01.jpg", "10_c1_01.png"]


def test_the_order_is_not_that_of_the_file_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_market_layout(root).train.paths
    listing = Path.iterdir
    for order in (sorted, lambda paths: sorted(paths, reverse=True), lambda paths: sorted(paths, key=hash)):
        monkeypatch.setattr(Path, "iterdir", lambda folder, order=order: iter(order(listing(folder))))
        assert load_market_layout(root).train.paths == expected


def test_a_camera_may_have_several_digits(root: Path) -> None:
    write_image(root / "bounding_box_train" / "0001_c12s1_000001_00.png")
    assert 12 in load_market_layout(root).train.cams.tolist()


def test_junk_is_dropped_and_distractors_stay_in_the_gallery(root: Path) -> None:
    before = load_market_layout(root).gallery.ids.tolist()
    write_image(root / "bounding_box_test" / "-1_c1s1_000401_03.jpg")
    write_image(root / "bounding_box_test" / "0000_c1s1_000151_01.jpg")
    assert load_market_layout(root).gallery.ids.tolist() == [0, *before]


def test_other_files_are_ignored(root: Path) -> None:
    (root / "query" / "Thumbs.db").write_bytes(b"x")
    (root / "query" / "._0003_c1_00.png").write_bytes(b"x")
    assert len(load_market_layout(root).query) == 4


def test_the_official_archive_has_one_more_folder(root: Path) -> None:
    inner = root.rename(root.with_name("Market-1501-v15.09.15"))
    data = load_market_layout(inner.parent)
    assert data.root == inner
    assert data.name == inner.parent.name
    assert len(data.train) == 8


def test_dataset_card_gives_name_and_origin(root: Path) -> None:
    data = load_market_layout(root)
    assert (data.name, data.synthetic) == ("toy", False)
    (root / "dataset.json").write_text(json.dumps({"name": "rendered", "synthetic": True, "seed": 1}))
    data = load_market_layout(root)
    assert (data.name, data.synthetic) == ("rendered", True)
    assert load_market_layout(root, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "one JSON object"),
        ('{"synthetic": "yes"}', "synthetic must be a bool"),
    ],
)
def test_a_bad_dataset_card_is_refused(root: Path, text: str, message: str) -> None:
    (root / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=f"dataset.json.*{message}"):
        load_market_layout(root)


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_market_layout(tmp_path / "nowhere")


def test_an_absent_split_is_named_with_what_was_found(root: Path) -> None:
    (root / "query").rename(root / "queries")
    with pytest.raises(FileNotFoundError, match="no folder query:.*found:.*queries"):
        load_market_layout(root)


def test_an_empty_split_is_refused(root: Path) -> None:
    for path in (root / "query").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(ValueError, match="query holds no image"):
        load_market_layout(root)


def test_a_split_of_junk_alone_is_refused(root: Path) -> None:
    for path in list((root / "query").iterdir()):
        path.rename(path.with_name("-1" + path.name[4:]))
    with pytest.raises(ValueError, match="of a known person"):
        load_market_layout(root)


@pytest.mark.parametrize(
    "name", ["person.png", "0001.png", "c1_0001.png", "0001_c.png", "-2_c1_00.png", "0001_cx_1.png"]
)
def test_a_misnamed_image_is_named(root: Path, name: str) -> None:
    write_image(root / "bounding_box_test" / name)
    with pytest.raises(ValueError, match=f"{name} is not named by identity and camera"):
        load_market_layout(root)


def test_misnamed_images_are_counted(root: Path) -> None:
    for name in ("b.png", "a.png"):
        write_image(root / "query" / name)
    with pytest.raises(ValueError, match=r"query.a\.png is not named by .* 2 of 6 in this folder"):
        load_market_layout(root)


@pytest.mark.parametrize("split", ["query", "bounding_box_train"])
def test_distractors_belong_in_the_gallery(root: Path, split: str) -> None:
    write_image(root / split / "0000_c1_00.png")
    with pytest.raises(ValueError, match="0000_c1_00.png has identity 0"):
        load_market_layout(root)


def test_images_are_rgb_in_unit_range(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 32), (255, 0, 51)).save(path)
    images = load_images([path], (32, 16))
    assert images.shape == (1, 3, 32, 16)
    assert images.dtype == torch.float32
    assert torch.allclose(images[0, :, 5, 5], torch.tensor([1.0, 0.0, 0.2]))


def test_resizing_is_bilinear_and_size_is_height_width(tmp_path: Path) -> None:
    path = tmp_path / "ramp.png"
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, 4:] = 200
    Image.fromarray(pixels).save(path)
    images = load_pixels([path], (4, 16))
    assert images.shape == (1, 3, 4, 16)
    # Twice as wide: the step between pixels 3 and 4 becomes a quarter and three quarters of the way.
    assert images[0, 0, 0, 6:10].tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path)
    assert load_images([path], (4, 4)).eq(1).all()


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        path = write_image(tmp_path / f"0001_c1_00.{suffix}")
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=f"0001_c1_00.{suffix} cannot be read"):
            load_images([path], (32, 16))


def test_an_absent_image_and_a_text_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone.png does not exist"):
        load_images([tmp_path / "gone.png"], (32, 16))
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text.png cannot be read"):
        load_images([tmp_path / "text.png"], (32, 16))


@pytest.mark.parametrize("size", [(0, 16), (32,), (32.0, 16)])
def test_a_bad_size_is_refused(tmp_path: Path, size: tuple) -> None:
    with pytest.raises(ValueError, match="size must be"):
        load_images([], size)


def test_normalise_by_hand() -> None:
    images = torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    result = normalise(images, (0.5, 0.5, 0.25), (0.5, 0.25, 0.5))
    assert result.shape == (2, 3, 4, 5)
    assert result[1, :, 2, 2].tolist() == [0.0, 2.0, -0.5]
    with pytest.raises(ValueError, match="one mean and std for each channel"):
        normalise(images[0], (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_subset_by_positions_and_by_mask(root: Path) -> None:
    train = load_market_layout(root).train
    chosen = train.subset([5, 0])
    assert chosen.paths == (train.paths[5], train.paths[0])
    assert chosen.ids.tolist() == [2, 1]
    assert train.subset(train.cams == 2).cams.tolist() == [2] * 4
    assert len(train.subset([])) == 0
    with pytest.raises(IndexError):
        train.subset([8])
    with pytest.raises(IndexError, match="mask must have 8 entries"):
        train.subset(torch.tensor([True]))


def test_labels_must_fit_the_paths() -> None:
    with pytest.raises(ValueError, match="cams must be int64"):
        ImageSet((Path("a"),), torch.tensor([1]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"ids must be int64 of shape \(1,\)"):
        ImageSet((Path("a"),), torch.tensor([1, 2]), torch.tensor([1]))


# --- Data sets by their names ---------------------------------------------------------------------


def test_a_known_set_has_the_name_it_was_asked_for(tmp_path: Path) -> None:
    write_rectangles(tmp_path / "cuhk03-np" / "labeled")
    write_rectangles(tmp_path / "market1501" / "Market-1501-v15.09.15")
    for name in ("cuhk03-np-labeled", "market1501"):
        data = open_dataset(name, tmp_path, tmp_path / "cache")
        assert (data.name, len(data.train), data.synthetic) == (name, 24, False)


def test_another_name_is_that_of_a_folder(root: Path) -> None:
    data = open_dataset("toy", root.parent, root.parent / "cache")
    assert (data.name, data.root, len(data.query)) == ("toy", root, 4)


@pytest.mark.parametrize("boxes", ["detected", "labeled"])
def test_the_official_files_of_cuhk03_are_converted_into_the_cache(tmp_path: Path, boxes: str) -> None:
    write_cuhk03(tmp_path / "data" / "cuhk03")
    data = open_dataset(f"cuhk03-{boxes}", tmp_path / "data", tmp_path / "cache", progress=False)
    assert data.name == f"cuhk03-{boxes}"
    assert data.root.parent == tmp_path / "cache"
    assert counts(data) == ((17, 4), (8, 4), (8, 4))
    assert sorted(path.name for path in (tmp_path / "data" / "cuhk03").iterdir()) == [
        "cuhk03_new_protocol_config_detected.mat",
        "cuhk03_new_protocol_config_labeled.mat",
        "cuhk03_release",
    ]


def test_distractors_count_as_images_and_not_as_an_identity(root: Path) -> None:
    write_image(root / "bounding_box_test" / "0000_c1s1_000151_01.jpg")
    write_image(root / "bounding_box_test" / "-1_c1s1_000151_01.jpg")
    assert counts(load_market_layout(root)) == ((8, 2), (4, 2), (5, 2))


@pytest.mark.parametrize(
    ("name", "there", "lacking"),
    [
        ("market1501", "", "market1501"),
        ("cuhk03-np-detected", "", "cuhk03-np/detected"),
        ("cuhk03-labeled", "", "cuhk03"),
        ("cuhk03-labeled", "new_protocol_config_detected", "cuhk03/cuhk03_new_protocol_config_labeled.mat"),
        ("cuhk03-labeled", "new_protocol_config_labeled", "cuhk03/cuhk03_release/cuhk-03.mat"),
    ],
)
def test_what_a_set_lacks_is_named_with_where_to_read_on(tmp_path: Path, name: str, there: str, lacking: str) -> None:
    if there:
        (tmp_path / "cuhk03").mkdir()
        (tmp_path / "cuhk03" / f"cuhk03_{there}.mat").touch()
    expected = f"the data set {name!r} needs {tmp_path / lacking}, which is not there; data/README.md"
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        open_dataset(name, tmp_path, tmp_path / "cache")


def test_a_mistyped_name_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no known data set; did you mean 'market1501'\?"):
        open_dataset("makret1501", tmp_path, tmp_path / "cache")


def test_published_counts_add_up_to_the_papers_number_of_images() -> None:
    # "14,096 images" of CUHK03 are the labelled boxes; Market1501 is 32,668 without queries, with 3,819 junk images.
    assert sum(count.images for count in KNOWN["cuhk03-labeled"].counts) == 14_096
    assert sum(count.images for count in KNOWN["cuhk03-detected"].counts) == 14_097
    market = KNOWN["market1501"].counts
    assert market.train.images + market.gallery.images + 3_819 == 32_668
    assert {known.paper for known in KNOWN.values()} == {"Market1501", "CUHK03", None}
