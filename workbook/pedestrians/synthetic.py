"""Synthetic pedestrians: a person re-identification data set made by code, with the truth about every pixel.

The set is written in the layout of Market1501, so one loader reads it and real sets alike. Beside every
picture lies a label map of the parts of the person (`PARTS`), and `identities.json` says for every id which
parts tell it from its nearest neighbours. Everything follows from the seed, and each picture only from the
seed, its person, its camera and its index: a set with more pictures of the same people contains the smaller.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from workbook.cache.store import as_json, atomic_folder
from workbook.pedestrians import wardrobe
from workbook.pedestrians.body import LABEL
from workbook.pedestrians.picture import render
from workbook.pedestrians.scenery import CAMERAS
from workbook.pedestrians.wardrobe import PARTS, Identity
from workbook.reid.data import DISTRACTOR_ID, GALLERY_FOLDER, JUNK_ID, QUERY_FOLDER, TRAIN_FOLDER

__all__ = [
    "PARTS",
    "VERSION",
    "load_masks",
    "regions",
    "render",
    "write_dataset",
]

VERSION = 1
"""Raised whenever the same seed would give other pictures."""

_SPLITS = (TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER)
_MASKS, _IDENTITIES, _CARD = "masks", "identities.json", "dataset.json"


# --- The data set ---------------------------------------------------------------------------------


class _Shot(NamedTuple):
    """One picture to take."""

    split: str
    id: int
    camera: int
    index: int

    @property
    def stem(self) -> str:
        """File name without suffix, as in Market1501: identity, camera, sequence, frame, box."""
        identity = f"{self.id:04d}" if self.id >= 0 else str(self.id)
        return f"{identity}_c{self.camera}s1_{self.index:06d}_00"


def write_dataset(
    root: Path | str,
    seed: int = 0,
    size: tuple[int, int] = (128, 64),
    n_train_ids: int = 60,
    n_test_ids: int = 40,
    train_per_camera: int = 2,
    test_per_camera: int = 2,
    query_cameras: int = 3,
    n_distractors: int = 60,
    n_junk: int = 20,
    progress: bool = False,
) -> None:
    """Write a data set, or leave it alone if it is there already with the same settings.

    The set appears under its name only when it is complete. With the defaults it holds 720 training images,
    120 queries and 440 gallery images, 60 of them distractors and 20 junk.

    Args:
        root: folder to make, in the layout of Market1501, with `masks`, `identities.json`, `dataset.json`.
        seed: decides on everything; >= 0.
        size: (height, width) of the pictures, at least (32, 16).
        n_train_ids, n_test_ids: people to train on (ids from 1) and to test with (the ids that follow).
        train_per_camera, test_per_camera: pictures of each person by each camera.
        query_cameras: by how many of the cameras one of a test person's pictures is a query; the other
            pictures are in the gallery.
        n_distractors: gallery pictures of other people (id 0).
        n_junk: gallery pictures that are badly cut (id -1).
        progress: show a progress bar.

    Raises:
        ValueError: a setting is out of range.
        FileExistsError: something else is under this name, such as a set with other settings; it is never
            replaced.
    """
    root = Path(root)
    settings = {
        "seed": seed,
        "size": list(size),
        "n_train_ids": n_train_ids,
        "n_test_ids": n_test_ids,
        "train_per_camera": train_per_camera,
        "test_per_camera": test_per_camera,
        "query_cameras": query_cameras,
        "n_distractors": n_distractors,
        "n_junk": n_junk,
    }
    _check_settings(settings)
    shots = list(_plan(settings))
    card = _card(settings, shots)
    if _is_there(root, card):
        return
    with atomic_folder(root, lambda: _is_there(root, card)) as scratch:
        _write_pictures(scratch, settings, tqdm(shots, "synthetic pedestrians", disable=not progress))
        _write_json(scratch / _CARD, card)


def _check_settings(settings: dict) -> None:
    size = settings["size"]
    whole = [value for name, value in settings.items() if name != "size"] + size
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in whole):
        raise ValueError(f"every setting must be a whole number, got {settings}")
    if len(size) != 2 or size[0] < 32 or not 16 <= size[1] <= 2 * size[0]:
        raise ValueError(
            f"size must be (height, width), at least (32, 16) and at most twice as wide as high, got {size}"
        )
    for name, value in settings.items():
        least = 0 if name in ("seed", "n_distractors", "n_junk") else 1
        if name != "size" and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if settings["query_cameras"] > len(CAMERAS) - (settings["test_per_camera"] == 1):
        raise ValueError(
            f"query_cameras={settings['query_cameras']} is too many for {len(CAMERAS)} cameras: with "
            f"test_per_camera={settings['test_per_camera']} some query has no gallery image by another one"
        )


def _plan(settings: dict) -> Iterator[_Shot]:
    """Every picture of the set."""
    cameras = range(1, len(CAMERAS) + 1)
    last_train = settings["n_train_ids"]
    for number in range(1, last_train + 1):
        for camera in cameras:
            for index in range(settings["train_per_camera"]):
                yield _Shot(TRAIN_FOLDER, number, camera, index)
    for number in range(last_train + 1, last_train + settings["n_test_ids"] + 1):
        order = np.random.default_rng([settings["seed"], 6, number]).permutation(cameras)
        asked = set(order[: settings["query_cameras"]].tolist())
        for camera in cameras:
            for index in range(settings["test_per_camera"]):
                split = QUERY_FOLDER if index == 0 and camera in asked else GALLERY_FOLDER
                yield _Shot(split, number, camera, index)
    for number, count in ((DISTRACTOR_ID, settings["n_distractors"]), (JUNK_ID, settings["n_junk"])):
        for i in range(count):
            yield _Shot(GALLERY_FOLDER, number, 1 + i % len(CAMERAS), i // len(CAMERAS))


def _write_pictures(root: Path, settings: dict, shots: Iterable[_Shot]) -> None:
    seed, size = settings["seed"], tuple(settings["size"])
    people = wardrobe.draw_people(settings["n_train_ids"] + settings["n_test_ids"], seed)
    for split in _SPLITS:
        (root / split).mkdir(parents=True)
        (root / _MASKS / split).mkdir(parents=True)
    for shot in shots:
        rng = np.random.default_rng([seed, 5, shot.id + 1, shot.camera, shot.index])
        # Distractors and junk are strangers: like no one who has an id.
        who = people[shot.id - 1] if shot.id > 0 else wardrobe.draw_other_than(people, rng)
        picture = render(who, shot.camera, rng, size, cut=shot.id == JUNK_ID, seed=seed)
        Image.fromarray(picture.image).save(root / shot.split / f"{shot.stem}.png")
        Image.fromarray(picture.labels).save(root / _MASKS / shot.split / f"{shot.stem}.png")
    _write_json(root / _IDENTITIES, _identities(people, settings["n_train_ids"]))


def _identities(people: Sequence[Identity], n_train: int) -> dict:
    """What `identities.json` holds; neighbours are looked for among the ids of the same split."""
    numbered = dict(enumerate(people, start=1))
    content = {}
    for split in ("train", "test"):
        group = {n: who for n, who in numbered.items() if (n <= n_train) == (split == "train")}
        for number, found in wardrobe.distinguish(group).items():
            content[str(number)] = {
                "split": split,
                "attributes": asdict(numbered[number]),
                "distinctive": found.distinctive,
                "neighbours": {str(n): parts for n, parts in found.neighbours.items()},
            }
    return {"parts": PARTS, "identities": content}


def _card(settings: dict, shots: Sequence[_Shot]) -> dict:
    """What `dataset.json` says about a set; `name` and `synthetic` are for the loader."""
    counts = Counter(shot.split for shot in shots)
    return {
        "name": "synthetic",
        "synthetic": True,
        "version": VERSION,
        "settings": settings,
        "images": {split: counts[split] for split in _SPLITS},
    }


def _is_there(root: Path, card: dict) -> bool:
    """Whether the set with this card is at `root`, complete; False if nothing is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = f"move {root} away, or choose another folder"
    if not (root / _CARD).is_file():
        raise FileExistsError(f"{root} exists and holds no synthetic data set; {advice}")
    found = json.loads((root / _CARD).read_text(encoding="utf-8"))
    if found != card:
        raise FileExistsError(f"{root} holds another set: {found}, asked for: {card}; {advice}")
    for split, count in card["images"].items():
        for folder in (root / split, root / _MASKS / split):
            images = len(list(folder.glob("*.png")))
            if images != count:
                raise FileExistsError(f"{folder} holds {images} of {count} images; {advice}")
    return True


def _write_json(path: Path, content: dict) -> None:
    path.write_text(as_json(content), encoding="utf-8", newline="\n")


# --- Reading the truth ----------------------------------------------------------------------------


def load_masks(paths: Sequence[Path | str]) -> Tensor:
    """Label maps of pictures of a synthetic set.

    Args:
        paths: pictures, such as `ImageSet.paths`.

    Returns:
        (N, H, W) uint8: 0 where there is no person, otherwise 1 + the index in `PARTS`. The person is
        `labels > 0`.

    Raises:
        FileNotFoundError: a picture has no label map, so it is of no synthetic set.
        ValueError: no path, or pictures of different sizes.
    """
    if not paths:
        raise ValueError("paths must name at least one picture")
    masks = [_load_mask(Path(path)) for path in paths]
    if len({mask.shape for mask in masks}) > 1:
        raise ValueError("the pictures have different sizes; load them size by size")
    return torch.from_numpy(np.stack(masks))


def _load_mask(picture: Path) -> np.ndarray:
    path = picture.parent.parent / _MASKS / picture.parent.name / f"{picture.stem}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{picture} has no label map {path}: only synthetic data sets have them")
    with Image.open(path) as image:
        return np.array(image)


def regions(root: Path | str, paths: Sequence[Path | str], ids: Sequence[int]) -> dict[str, Tensor]:
    """Where a map that explains an identity should lie.

    Args:
        root: folder of the data set.
        paths: N pictures of it.
        ids: the id that each of them shows.

    Returns:
        "person" and "distinguishing parts" (those that tell the id from its nearest neighbours) -> (N, H, W) bool.
        A region may be empty, where an occluder hides it.

    Raises:
        FileNotFoundError: not a synthetic set.
        ValueError: an id is none of the set's people, such as that of the distractors.
    """
    labels, distinctive = load_masks(paths), _distinctive_parts(Path(root) / _IDENTITIES)
    if strangers := sorted({int(i) for i in ids} - distinctive.keys()):
        raise ValueError(f"ids {strangers} are not in {Path(root) / _IDENTITIES}: distractors have no look-alikes")
    numbers = [labels.new_tensor([LABEL[part] for part in distinctive[int(i)]]) for i in ids]
    parts = torch.stack([torch.isin(one, some) for one, some in zip(labels, numbers, strict=True)])
    return {"person": labels > 0, "distinguishing parts": parts}


def _distinctive_parts(path: Path) -> dict[int, list[str]]:
    """Id -> the parts that tell it from its nearest neighbours."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: only synthetic data sets have one")
    content = json.loads(path.read_text(encoding="utf-8"))["identities"]
    return {int(number): entry["distinctive"] for number, entry in content.items()}
