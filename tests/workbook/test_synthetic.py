"""The synthetic pedestrians: the truth they come with is true, and the same seed gives the same bytes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from workbook.cache import store
from workbook.pedestrians import body, picture, scenery, synthetic, wardrobe
from workbook.pedestrians.body import LABEL, Figure, Pose, View
from workbook.pedestrians.canvas import Canvas, apart, box, capsule, ellipse, light_up
from workbook.pedestrians.picture import Rendering
from workbook.pedestrians.scenery import CAMERAS
from workbook.pedestrians.wardrobe import COLOURS, NONE, PARTS, Identity
from workbook.reid.data import load_market_layout

SMALL = dict(
    size=(32, 16),
    n_train_ids=3,
    n_test_ids=4,
    train_per_camera=1,
    test_per_camera=2,
    query_cameras=2,
    n_distractors=7,
    n_junk=5,
)
FRONT, BACK, RIGHT, LEFT = Pose(0.0), Pose(np.pi), Pose(np.pi / 2), Pose(-np.pi / 2)

WALKER = Identity(
    skin="tan",
    hair="bob",
    hair_colour="black",
    hat="cap",
    hat_colour="red",
    top="t-shirt",
    top_colour="navy",
    pattern="plain",
    second=NONE,
    bottom="shorts",
    bottom_colour="beige",
    shoes="boots",
    shoes_colour="brown",
    bag="handbag",
    bag_colour="teal",
    umbrella="mustard",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "small"
    synthetic.write_dataset(root, seed=5, **SMALL)
    return root


def take(who: Identity, camera: int = 1, seed: int = 0, **options) -> Rendering:
    return synthetic.render(who, camera, np.random.default_rng(seed), **({"clean": True} | options))


def grown(mask: np.ndarray, pixels: int = 1) -> np.ndarray:
    """The mask and what lies within so many pixels of it."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


def seen_parts(*pictures: Rendering) -> set[str]:
    return {PARTS[label - 1] for p in pictures for label in np.unique(p.labels) if label}


# --- The files -----------------------------------------------------------------------------------


def test_counts_ids_and_cameras_of_each_split(dataset: Path) -> None:
    data = load_market_layout(dataset)

    assert (data.name, data.synthetic) == ("synthetic", True)
    assert (len(data.train), len(data.query), len(data.gallery)) == (3 * 6, 4 * 2, 4 * 6 * 2 - 4 * 2 + 7)
    assert data.train.ids.unique().tolist() == [1, 2, 3]
    assert data.query.ids.unique().tolist() == [4, 5, 6, 7]
    assert Counter(data.gallery.ids.tolist()) == {0: 7, 4: 10, 5: 10, 6: 10, 7: 10}
    assert len(list((dataset / "bounding_box_test").glob("-1_c*.png"))) == 5
    for split in (data.train, data.gallery.subset(data.gallery.ids > 0)):
        for number in split.ids.unique():
            assert split.cams[split.ids == number].unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert data.gallery.cams[data.gallery.ids == 0].tolist() == [1, 1, 2, 3, 4, 5, 6]


def test_every_query_has_true_matches_by_its_own_and_by_other_cameras(dataset: Path) -> None:
    data = load_market_layout(dataset)
    pairs = list(zip(data.query.ids.tolist(), data.query.cams.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs), "one query for a person and a camera"
    for number, camera in pairs:
        cameras = data.gallery.cams[data.gallery.ids == number]
        assert (cameras == camera).sum() == 1
        assert (cameras != camera).sum() == 9


def test_the_default_set_has_the_promised_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = Rendering(*(np.zeros(s, np.uint8) for s in ((8, 4, 3), (8, 4), (8, 4, 3))))
    monkeypatch.setattr(synthetic, "render", lambda *args, **kwargs: blank)
    synthetic.write_dataset(tmp_path / "set")
    data = load_market_layout(tmp_path / "set")
    assert (len(data.train), len(data.query), len(data.gallery)) == (720, 120, 360 + 60)
    assert len(list((tmp_path / "set/bounding_box_test").glob("-1_*"))) == 20


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(dataset: Path, tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path / "again", seed=5, **SMALL)
    assert store.key(tmp_path / "again") == store.key(dataset)

    synthetic.write_dataset(tmp_path / "other", seed=6, **SMALL)
    names = [p.relative_to(dataset) for p in dataset.rglob("*_c*.png")]
    same = [n for n in names if "masks" not in n.parts and equal_files(dataset / n, tmp_path / "other" / n)]
    assert same == []


def test_pictures_do_not_depend_on_how_many_others_there_are(dataset: Path, tmp_path: Path) -> None:
    more = SMALL | {"train_per_camera": 2, "n_test_ids": 5, "n_distractors": 8, "n_junk": 6}
    synthetic.write_dataset(tmp_path / "more", seed=5, **more)
    for path in dataset.rglob("*.png"):
        assert equal_files(path, tmp_path / "more" / path.relative_to(dataset)), path.name


def equal_files(a: Path, b: Path) -> bool:
    return b.exists() and store.sha256(a) == store.sha256(b)


def test_a_finished_set_is_left_alone(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "render", lambda *args, **kwargs: pytest.fail("rendered again"))
    synthetic.write_dataset(dataset, seed=5, **SMALL)


def test_other_settings_are_refused_and_nothing_is_changed(dataset: Path) -> None:
    before = store.key(dataset)
    with pytest.raises(FileExistsError, match="another set.*choose another folder"):
        synthetic.write_dataset(dataset, seed=6, **SMALL)
    assert store.key(dataset) == before


def test_an_incomplete_set_is_refused(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(dataset, copy)
    next((copy / "query").glob("*.png")).unlink()
    with pytest.raises(FileExistsError, match="query holds 7 of 8 images"):
        synthetic.write_dataset(copy, seed=5, **SMALL)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="holds no synthetic data set"):
        synthetic.write_dataset(tmp_path, seed=5, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = []

    def stop_at_the_third(*args, **kwargs):
        pictures.append(1)
        if len(pictures) == 3:
            raise KeyboardInterrupt
        return picture.render(*args, **kwargs)

    monkeypatch.setattr(synthetic, "render", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write_dataset(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 0.5}, "whole number"),
        ({"n_train_ids": 0}, "n_train_ids must be at least 1"),
        ({"n_junk": -1}, "n_junk must be at least 0"),
        ({"size": (16, 16)}, "size must be"),
        ({"size": (64,)}, "size must be"),
        ({"query_cameras": 7}, "query_cameras=7 is too many"),
        ({"query_cameras": 6, "test_per_camera": 1}, "no gallery image"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path: Path, setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic.write_dataset(tmp_path / "set", **(SMALL | setting))
    assert list(tmp_path.iterdir()) == []


# --- Reading the truth ---------------------------------------------------------------------------


def test_masks_belong_to_the_pictures(dataset: Path) -> None:
    data = load_market_layout(dataset)
    labels = synthetic.load_masks(data.query.paths)
    assert (labels.dtype, tuple(labels.shape)) == (torch.uint8, (8, 32, 16))
    assert labels.max() <= len(PARTS)
    share = (labels > 0).float().mean(dim=(1, 2))
    assert ((share > 0.08) & (share < 0.75)).all()
    first = np.array(Image.open(dataset / "masks/query" / data.query.paths[0].name))
    assert np.array_equal(labels[0].numpy(), first)


def test_masks_of_real_images_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="only synthetic"):
        synthetic.load_masks([tmp_path / "query" / "0001_c1_01.jpg"])


def test_masks_of_nothing_or_of_several_sizes_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        synthetic.load_masks([])
    (tmp_path / "masks/query").mkdir(parents=True)
    Image.new("L", (3, 3)).save(tmp_path / "masks/query/0001_c1_01.png")
    one = next((dataset / "query").glob("*.png"))
    with pytest.raises(ValueError, match="different sizes"):
        synthetic.load_masks([one, tmp_path / "query" / "0001_c1_01.png"])


def identities(dataset: Path) -> dict[str, dict]:
    return json.loads((dataset / "identities.json").read_text(encoding="utf-8"))["identities"]


def test_the_identities_are_what_was_drawn(dataset: Path) -> None:
    people = {str(number): who for number, who in enumerate(wardrobe.draw_people(7, seed=5), start=1)}
    found = identities(dataset)
    assert {number: Identity(**entry["attributes"]) for number, entry in found.items()} == people
    assert [entry["split"] for entry in found.values()] == ["train"] * 3 + ["test"] * 4
    for number, entry in found.items():
        group = [n for n in found if found[n]["split"] == entry["split"] and n != number]
        differing = {n: list(wardrobe.differing_parts(people[number], people[n])) for n in group}
        least = min(map(len, differing.values()))
        assert entry["neighbours"] == {n: parts for n, parts in differing.items() if len(parts) == least}
        assert set(entry["distinctive"]) == set().union(*entry["neighbours"].values())


def test_regions_are_the_person_and_what_tells_it_from_its_look_alikes(dataset: Path) -> None:
    queries = load_market_layout(dataset).query
    regions = synthetic.regions(dataset, queries.paths, queries.ids.tolist())
    assert list(regions) == ["person", "distinguishing parts"]
    table = identities(dataset)
    for path, number, person, parts in zip(queries.paths, queries.ids.tolist(), *regions.values(), strict=True):
        labels = np.array(Image.open(dataset / "masks/query" / path.name))
        assert np.array_equal(person.numpy(), labels > 0)
        assert np.array_equal(
            parts.numpy(), np.isin(labels, [LABEL[part] for part in table[str(number)]["distinctive"]])
        )
    assert regions["person"].dtype == regions["distinguishing parts"].dtype == torch.bool
    person, parts = regions.values()
    assert torch.equal(parts & person, parts) and 0 < parts.sum() < person.sum()


def test_regions_of_a_stranger_or_of_a_real_set_are_refused(dataset: Path, tmp_path: Path) -> None:
    queries = load_market_layout(dataset).query
    with pytest.raises(ValueError, match=r"ids \[0, 99\] are not in .*identities\.json.*distractors"):
        synthetic.regions(dataset, queries.paths[:3], [99, 0, int(queries.ids[0])])
    with pytest.raises(FileNotFoundError, match="only synthetic data sets have one"):
        synthetic.regions(tmp_path, queries.paths[:1], [1])


# --- Who differs from whom -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"shoes_colour": "black"}, ("shoes",)),
        ({"bag": "backpack"}, ("bag",)),
        ({"hair_colour": "blond", "hat_colour": "navy"}, ("hair", "hat")),
        ({"top_colour": "red"}, ("torso", "arms")),
        ({"pattern": "logo", "second": "white"}, ("torso",)),
        ({"pattern": "stripes", "second": "white"}, ("torso", "arms")),
        ({"skin": "pale"}, ("head", "arms", "legs")),
        ({"umbrella": NONE}, ("umbrella",)),
        ({"height": 1.02, "build": 0.95, "side": -1}, ()),
    ],
)
def test_parts_that_differ_are_those_in_which_the_attribute_is_seen(changes: dict, parts: tuple) -> None:
    other = replace(WALKER, **changes)
    assert wardrobe.differing_parts(WALKER, other) == parts
    assert wardrobe.differing_parts(other, WALKER) == parts


def test_covered_legs_do_not_show_the_skin() -> None:
    covered = replace(WALKER, bottom="trousers")
    assert wardrobe.differing_parts(covered, replace(covered, skin="dark")) == ("head", "arms")


def test_distinctive_parts_of_three_people() -> None:
    people = {
        4: WALKER,
        7: replace(WALKER, bag="backpack", shoes_colour="white"),
        9: replace(WALKER, hair="bald", hair_colour=NONE, top_colour="red", bag="suitcase", shoes="sneakers"),
    }
    found = wardrobe.distinguish(people)
    assert found[4] == ({7: ("shoes", "bag")}, ("shoes", "bag"))
    assert found[7] == ({4: ("shoes", "bag")}, ("shoes", "bag"))
    everything = ("hair", "torso", "arms", "shoes", "bag")
    assert found[9] == ({4: everything, 7: everything}, everything), "a tie names both"


def test_a_tie_joins_the_parts_of_all_neighbours() -> None:
    people = {1: WALKER, 2: replace(WALKER, hat_colour="navy"), 3: replace(WALKER, bag_colour="red")}
    assert wardrobe.distinguish(people)[1] == ({2: ("hat",), 3: ("bag",)}, ("hat", "bag"))
    assert wardrobe.distinguish({1: WALKER}) == {1: ({}, ())}


def test_any_two_people_differ_in_two_parts_and_many_are_look_alikes() -> None:
    people = wardrobe.draw_people(60, seed=0)
    differences = {(i, j): wardrobe.differing_parts(people[i], people[j]) for i, j in combinations(range(60), 2)}
    assert min(map(len, differences.values())) == 2
    alike = [i for i in range(1, 60, 2) if len(differences[i - 1, i]) == 2]
    assert 10 <= len(alike) <= 26, "60 % of 30 pairs"
    for i in alike:
        same = ("height", "build", "waist", "side", "skin")
        assert all(getattr(people[i], name) == getattr(people[i - 1], name) for name in same)
    assert all(map(wardrobe.wearable, people))


def test_garments_and_colours_are_shared() -> None:
    people = wardrobe.draw_people(40, seed=1)
    torsos = Counter(who.top_colour for who in people)
    assert sum(count for count in torsos.values() if count > 1) > 30


def test_people_begin_with_fewer_people_and_follow_the_seed() -> None:
    assert wardrobe.draw_people(9, seed=3)[:5] == wardrobe.draw_people(5, seed=3)
    assert wardrobe.draw_people(5, seed=3) != wardrobe.draw_people(5, seed=4)


@pytest.mark.parametrize("palette", [wardrobe.COLOURS, wardrobe.SKINS, wardrobe.HAIR_COLOURS])
def test_colours_of_different_names_look_different(palette: dict) -> None:
    for a, b in combinations(palette.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 30


@pytest.mark.parametrize(
    "hidden",
    [
        {"top": "coat", "bottom": "skirt"},
        {"hair": "bun"},
        {"bottom": "wide", "shoes": "boots"},
    ],
)
def test_what_would_be_hidden_is_not_worn(hidden: dict) -> None:
    assert wardrobe.wearable(WALKER)
    assert not wardrobe.wearable(replace(WALKER, **hidden))


# --- Pictures and masks --------------------------------------------------------------------------


def always(changes: dict) -> set[str]:
    """The parts that a person with these changes must show from some side."""
    who = replace(WALKER, **changes)
    absent = {"hair": who.hair == "bald", "hat": who.hat == NONE, "bag": who.bag == NONE}
    absent["umbrella"] = who.umbrella == NONE
    return {part for part in PARTS if not absent.get(part, False)}


@pytest.mark.parametrize(
    "changes",
    [{"bag": bag} for bag in dict.fromkeys(wardrobe.BAGS)]
    + [{"hat": hat} for hat in dict.fromkeys(wardrobe.HATS)]
    + [{"hair": hair, "hat": NONE} for hair in dict.fromkeys(wardrobe.HAIRS)]
    + [{"top": top, "second": "white"} for top in wardrobe.TOPS]
    + [{"bottom": bottom, "shoes": "shoes"} for bottom in (*dict.fromkeys(wardrobe.BOTTOMS), "bare", "tights")]
    + [{"pattern": pattern, "second": "white"} for pattern in ("stripes", "dots", "checks", "pinstripes", "logo")]
    + [{"shoes": shoes} for shoes in dict.fromkeys(wardrobe.SHOES)]
    + [{"umbrella": NONE}],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_each_part_is_seen_exactly_when_the_attributes_say_so(changes: dict) -> None:
    who = replace(WALKER, **changes)
    views = [take(who, pose=pose) for pose in (FRONT, BACK, RIGHT, LEFT)]
    assert seen_parts(*views) == always(changes)


@pytest.mark.parametrize("camera", range(1, 7))
def test_a_clean_picture_is_the_backdrop_outside_the_mask_and_a_person_inside(camera: int) -> None:
    for seed in range(3):
        shot = take(wardrobe.draw_people(3, seed=2)[seed], camera, seed)
        person = shot.labels > 0
        differs = (shot.image != shot.backdrop).any(axis=2)
        assert not (differs & ~grown(person)).any(), "at most the smoothed edge reaches beyond the mask"
        assert differs[person].mean() > 0.98, "a cloth may have a colour of the scene by chance"
        assert 0.1 < person.mean() < 0.7


@pytest.mark.parametrize(
    "changes",
    [
        {"shoes_colour": "white"},
        {"bag_colour": "red"},
        {"hair_colour": "blond"},
        {"hat_colour": "white"},
        {"bottom_colour": "olive"},
        {"top_colour": "pink"},
        {"skin": "dark"},
        {"umbrella": "red"},
        {"hat_colour": "green", "shoes_colour": "mustard"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_pictures_of_two_people_differ_only_in_the_parts_that_differ(changes: dict) -> None:
    other = replace(WALKER, **changes)
    labels = [LABEL[part] for part in wardrobe.differing_parts(WALKER, other)]
    for pose in (FRONT, BACK, RIGHT):
        a, b = take(WALKER, pose=pose), take(other, pose=pose)
        differs = (a.image != b.image).any(axis=2)
        region = np.isin(a.labels, labels)
        assert np.array_equal(a.labels, b.labels), "the same shapes in other colours"
        # A sliver thinner than a pixel may fall between the points at which labels are read.
        assert (differs & ~grown(region)).sum() <= 4
        assert differs[region].mean() > 0.25, "bare arms and legs keep their colour under other garments"


def test_cameras_show_other_places_and_the_same_person() -> None:
    who = replace(WALKER, top_colour="red", umbrella=NONE)
    shots = [take(who, camera, pose=FRONT) for camera in range(1, 7)]
    for a, b in combinations(shots, 2):
        assert np.abs(a.backdrop.astype(int) - b.backdrop).mean() > 12
    assert all(seen_parts(shot) == seen_parts(shots[0]) for shot in shots)
    for shot in shots:
        red, green, blue = shot.image[shot.labels == LABEL["torso"]].mean(axis=0)
        assert red > 1.5 * green and red > 1.5 * blue, "a red shirt is red in every light"


def test_pictures_by_one_camera_differ_in_pose_crop_and_light() -> None:
    shots = [take(WALKER, seed=seed) for seed in range(4)]
    for a, b in combinations(shots, 2):
        assert (a.labels != b.labels).mean() > 0.05
        assert not np.array_equal(a.backdrop, b.backdrop)


@pytest.mark.parametrize("camera", range(1, 7))
def test_what_stands_in_front_hides_the_person_and_is_background(camera: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = 0
    for seed in range(8):
        monkeypatch.setattr(picture, "_OCCLUDED", 0.0)
        free = take(WALKER, camera, seed, clean=False)
        monkeypatch.setattr(picture, "_OCCLUDED", 1.1)
        behind = take(WALKER, camera, seed, clean=False)
        assert ((behind.labels == free.labels) | (behind.labels == 0)).all()
        changed = (behind.labels == 0) & (free.labels > 0)
        assert changed.sum() < 0.7 * (free.labels > 0).sum()
        hidden += changed.sum()
    assert hidden > 0


def test_noise_blur_and_shadow_leave_the_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "_OCCLUDED", 0.0)
    noisy, clean = take(WALKER, 5, clean=False), take(WALKER, 5)
    assert np.array_equal(noisy.labels, clean.labels)
    assert not np.array_equal(noisy.image, clean.image)


def test_junk_is_cut_by_the_border() -> None:
    for seed in range(6):
        labels = take(WALKER, 1, seed, cut=True).labels > 0
        border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        assert border.any()


def test_pictures_have_the_size_asked_for() -> None:
    shot = take(WALKER, size=(96, 40))
    assert (shot.image.shape, shot.labels.shape, shot.backdrop.shape) == ((96, 40, 3), (96, 40), (96, 40, 3))


@pytest.mark.parametrize("camera", [0, 7, "1"])
def test_there_are_six_cameras(camera: object) -> None:
    with pytest.raises(ValueError, match="camera must be a whole number from 1 to 6"):
        synthetic.render(WALKER, camera, np.random.default_rng(0))


# --- Drawing -------------------------------------------------------------------------------------


def test_the_topmost_shape_counts() -> None:
    canvas = Canvas((8, 4))
    below = canvas.fill(3, (10, 20, 30), box(0, 0, 5, 3))
    above = canvas.fill(5, (90, 80, 70), box(4, 0, 7, 3))
    assert (below, above, canvas.labels) == (1, 2, [0, 3, 5])
    assert np.asarray(canvas.shapes)[1].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]

    canvas.detail((1, 1, 1), box(3, 0, 6, 3), below)
    assert np.asarray(canvas.image)[1, :, 0].tolist() == [10, 10, 10, 1, 90, 90, 90, 90]
    assert np.asarray(canvas.shapes)[1].tolist() == [1, 1, 1, 1, 2, 2, 2, 2], "a detail is no shape"

    canvas.fill(7, (5, 5, 5), box(0, 0, 7, 3), inside=canvas.where(below))
    assert np.asarray(canvas.shapes)[1].tolist() == [3, 3, 3, 3, 2, 2, 2, 2]


def test_what_covers_a_canvas_is_background() -> None:
    person, passer_by = Canvas((4, 1)), Canvas((4, 1))
    person.fill(2, (9, 9, 9), box(0, 0, 3, 0))
    passer_by.fill(4, (5, 5, 5), box(2, 0, 3, 0))
    person.cover(passer_by)
    labels = np.asarray(person.labels)[np.asarray(person.shapes)]
    assert labels.tolist() == [[2, 2, 0, 0]]
    assert np.asarray(person.image)[0, :, 0].tolist() == [9, 9, 5, 5]


def test_a_shape_beyond_the_border_draws_nothing() -> None:
    canvas = Canvas((4, 4))
    canvas.fill(1, (9, 9, 9), box(10, 10, 12, 12))
    canvas.fill(1, (9, 9, 9), np.zeros((0, 2)))
    assert canvas.shapes.getbbox() is None


def test_a_window_may_reach_beyond_the_canvas() -> None:
    canvas = Canvas((4, 4))
    canvas.fill(6, (9, 9, 9), box(0, 0, 3, 3))
    part = canvas.window(2, -1, (4, 3))
    assert np.asarray(part.shapes).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert part.labels == [0, 6]


def test_outlines_have_the_right_extent() -> None:
    round_ = ellipse((10, 20), 4, 2)
    assert np.allclose([round_.min(axis=0), round_.max(axis=0)], [(6, 18), (14, 22)])
    limb = capsule(np.array([0.0, 0.0]), np.array([0.0, 10.0]), 3, 2)
    assert np.allclose([limb.min(axis=0), limb.max(axis=0)], [(-3, -3), (3, 12)])


def test_light_falls_on_the_side_of_the_light() -> None:
    shapes = np.zeros((128, 64), np.uint8)
    shapes[32:96, 16:48] = 1
    colours = np.full((128, 64, 3), 100, np.uint8)
    folds = np.zeros((128, 64), np.float32)
    from_left = light_up(colours, shapes, (-1.0, 0.0), 1.0, folds)[64, :, 0].astype(int)
    assert from_left[16] > from_left[32] > from_left[47]
    assert from_left[32] == 100, "the middle of a flat shape keeps its colour"
    assert np.array_equal(light_up(colours, shapes, (-1.0, 0.0), 0.0, folds), colours)
    from_right = light_up(colours, shapes, (1.0, 0.0), 1.0, folds)[64, :, 0]
    assert from_right[16:48].tolist() == from_left[16:48][::-1].tolist()


def test_folds_brighten_and_darken_by_a_tenth() -> None:
    colours, shapes = np.full((4, 4, 3), 100, np.uint8), np.ones((4, 4), np.uint8)
    for fold, value in ((1, 111), (-1, 89)):
        shaded = light_up(colours, shapes, (0, -1), 1.0, np.full((4, 4), fold, np.float32))
        assert (shaded == value).all()


def figure(pose: Pose, pitch: float = 0.0) -> Figure:
    return Figure(Canvas((200, 200)), replace(WALKER, umbrella=NONE), pose, View(100, (100, 180), pitch))


def test_points_are_projected_as_seen_by_a_distant_camera() -> None:
    assert np.allclose(figure(FRONT).project(np.array([0.1, 0.5, 0.3])), (110, 130))
    assert np.allclose(figure(BACK).project(np.array([0.1, 0.5, 0.3])), (90, 130))
    assert np.allclose(figure(RIGHT).project(np.array([0.1, 0.5, 0.3])), (130, 130))
    lower = figure(FRONT, pitch=np.pi / 6).project(np.array([0.0, 0.5, 0.3]))
    assert np.allclose(lower, (100, 180 - 100 * (0.5 * np.cos(np.pi / 6) - 0.3 * 0.5)))


@pytest.mark.parametrize("phase", np.linspace(0, 6, 7))
def test_a_walking_person_stands_on_the_lower_foot(phase: float) -> None:
    joints, lift = body.skeleton(WALKER, Pose(0.0, phase, 0.4))
    assert min(joints["left ankle"][1], joints["right ankle"][1]) == pytest.approx(0.042)
    assert -0.06 < lift <= 0.005
    for side in ("left", "right"):
        thigh = joints[f"{side} knee"] - joints[f"{side} hip"]
        assert np.linalg.norm(thigh) == pytest.approx(0.235, rel=1e-3)


def test_a_trunk_is_as_wide_as_its_ellipses() -> None:
    rows = np.array([(0.8, 0.10, 0.05, 0.0), (0.5, 0.10, 0.05, 0.0)])
    plain = replace(WALKER, build=1.0, waist=1.0)
    for pose, width in ((FRONT, 20), (RIGHT, 10), (Pose(np.pi / 4), 200 * np.hypot(0.10, 0.05) / np.sqrt(2))):
        outline = body.silhouette(figure(pose), body.stack(rows, plain))
        assert np.ptp(outline[:, 0]) == pytest.approx(width)
        assert np.ptp(outline[:, 1]) == pytest.approx(30)


def test_a_band_on_the_chest_is_seen_from_the_front_only() -> None:
    garment = body.stack(np.array([(0.8, 0.10, 0.10, 0.0), (0.5, 0.10, 0.10, 0.0)]), replace(WALKER, build=1.0))
    chest = body.band(figure(FRONT), garment, -np.pi / 6, np.pi / 6, 0.8, 0.5)
    assert np.ptp(chest[:, 0]) == pytest.approx(2 * 10 * np.sin(np.pi / 6))
    assert len(body.band(figure(BACK), garment, -np.pi / 6, np.pi / 6, 0.8, 0.5)) == 0
    half = body.band(figure(RIGHT), garment, -np.pi / 6, np.pi / 6, 0.8, 0.5)
    assert np.ptp(half[:, 0]) == pytest.approx(10 * (1 - np.cos(np.pi / 6)))


def test_scenes_follow_seed_and_camera() -> None:
    scene = scenery.scene(1, 32, 0)
    assert (scene.shape, scene.dtype) == ((32, 3 * 32, 3), np.float32)
    assert 0 <= scene.min() < scene.max() <= 1
    assert not np.array_equal(scene, scenery.scene(1, 32, 1))
    assert len({camera.scene for camera in CAMERAS}) == 6


def test_every_thing_in_front_is_known_and_used() -> None:
    used = {kind for camera in CAMERAS for kind in camera.occluders}
    assert used == {*scenery.OCCLUDERS, scenery.PASSER_BY}


def test_the_card_names_version_and_settings(dataset: Path) -> None:
    card = json.loads((dataset / "dataset.json").read_text())
    assert card["version"] == synthetic.VERSION
    assert card["settings"] == {"seed": 5} | SMALL | {"size": [32, 16]}


def test_shades_of_every_colour_can_be_seen() -> None:
    for name, colour in COLOURS.items():
        other = apart(colour, 0.35)
        assert np.abs(np.subtract(colour, other)).max() > 20, name
