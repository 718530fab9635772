"""Re-ID data sets of a few kilobytes: coloured rectangles in Market1501's layout, and CUHK03's official files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from PIL import Image

SIZE = (32, 16)


def write_image(path: Path, colour: tuple[int, int, int] = (200, 30, 30), seed: int = 0) -> Path:
    """A figure of one colour on grey noise, 32 x 16 pixels."""
    pixels = np.random.default_rng(seed).integers(90, 160, (*SIZE, 3), dtype=np.uint8)
    pixels[8:28, 4:12] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_rectangles(root: Path, n_train_ids: int = 4, n_test_ids: int = 3, per_camera: int = 3) -> Path:
    """A data set of two cameras: each person is one colour, the first image of a camera is the query."""
    colours = np.random.default_rng(7).integers(0, 256, (n_train_ids + n_test_ids, 3))
    for person, colour in enumerate(colours.tolist(), start=1):
        for camera in (1, 2):
            for index in range(per_camera):
                name = f"{person:04d}_c{camera}_{index:02d}.png"
                if person <= n_train_ids:
                    folder = "bounding_box_train"
                else:
                    folder = "query" if index == 0 else "bounding_box_test"
                write_image(root / folder / name, tuple(colour), seed=100 * person + 10 * camera + index)
    return root


PEOPLE = (3, 2, 1, 1, 1)  # in each of CUHK03's five pairs of cameras
TRAIN_PEOPLE, QUERY_NUMBERS = (1, 2, 4, 8), (1, 6)


def toy_names() -> dict[str, int]:
    """The official names of the toy's pictures and their identities: two by each camera, three of person 1."""
    people = [(pair, person) for pair, size in enumerate(PEOPLE, start=1) for person in range(1, size + 1)]
    return {
        f"{pair}_{person:03d}_{1 if number < 6 else 2}_{number:02d}.png": identity
        for identity, (pair, person) in enumerate(people, start=1)
        for number in ((1, 2, 3, 6, 7) if identity == 1 else (1, 2, 6, 7))
    }


def toy_picture(name: str, boxes: str = "labeled") -> np.ndarray:
    """The (H, W, 3) pixels of one picture of the toy: noise that no other has, of a size of its own."""
    pair, person, _, number = (int(part) for part in name.removesuffix(".png").split("_"))
    seed = [pair, person, number, boxes == "labeled"]
    return np.random.default_rng(seed).integers(0, 256, (20 + number, 8 + pair, 3), dtype=np.uint8)


def write_cuhk03(folder: Path) -> Path:
    """CUHK03's official files in small: people 1, 2, 4 and 8 for training; of the others pictures 1 and 6 are queries.

    Training has 17 pictures, there are 8 queries and 8 gallery images.
    """
    write_cuhk03_images(folder / "cuhk03_release" / "cuhk-03.mat")
    for boxes in ("detected", "labeled"):
        write_cuhk03_split(folder / f"cuhk03_new_protocol_config_{boxes}.mat")
    return folder


def write_cuhk03_images(path: Path, changed: dict[str, np.ndarray] | None = None) -> None:
    """Write cuhk-03.mat as MATLAB does: cells are references to what is stored under #refs#, transposed.

    Args:
        path: the file.
        changed: what to store instead of the "labeled" pictures of these names.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for boxes in ("detected", "labeled"):
            stored = {name: toy_picture(name, boxes) for name in toy_names()}
            stored |= changed or {} if boxes == "labeled" else {}
            pairs = [_people_cell(file, pair, size, stored) for pair, size in enumerate(PEOPLE, start=1)]
            _cell(file, np.array([pairs], dtype=h5py.ref_dtype), name=boxes)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def _people_cell(file: h5py.File, pair: int, size: int, stored: dict[str, np.ndarray]) -> h5py.Reference:
    """The M x 10 cell of one pair of cameras, so (10, M) in the file."""
    cell = np.empty((10, size), dtype=h5py.ref_dtype)
    for number, person in np.ndindex(cell.shape):
        name = f"{pair}_{person + 1:03d}_{1 if number < 5 else 2}_{number + 1:02d}.png"
        cell[number, person] = _array(file, stored.get(name, np.empty((0, 0))))
    return _cell(file, cell).ref


def _cell(file: h5py.File, references: np.ndarray, name: str | None = None) -> h5py.Dataset:
    dataset = file.create_dataset(name or _new_name(file), data=references, dtype=h5py.ref_dtype)
    dataset.attrs["MATLAB_class"] = np.bytes_("cell")
    return dataset


def _array(file: h5py.File, values: np.ndarray) -> h5py.Reference:
    """A numeric array; an empty one is stored as its dimensions and marked."""
    empty = values.size == 0
    stored = np.array(values.shape, dtype=np.uint64) if empty else values.T
    dataset = file.create_dataset(_new_name(file), data=stored)
    dataset.attrs["MATLAB_class"] = np.bytes_("double" if empty else values.dtype.name)
    if empty:
        dataset.attrs["MATLAB_empty"] = np.int32(1)
    return dataset.ref


def _new_name(file: h5py.File) -> str:
    return f"#refs#/{len(file.require_group('#refs#'))}"


def write_cuhk03_split(path: Path, **changed: Any) -> None:
    """Write a split file as published: column vectors of unsigned 16-bit numbers that count from 1.

    Args:
        path: the file.
        changed: tables to write instead of the toy's own; None leaves one out.
    """
    names = toy_names()
    ids, numbers = np.array(list(names.values())), np.array([int(name[8:10]) for name in names])
    training, queries = np.isin(ids, TRAIN_PEOPLE), np.isin(numbers, QUERY_NUMBERS)
    tables = {
        "filelist": list(names),
        "labels": ids,
        "camId": [int(name[6]) for name in names],
        "train_idx": np.flatnonzero(training) + 1,
        "query_idx": np.flatnonzero(~training & queries) + 1,
        "gallery_idx": np.flatnonzero(~training & ~queries) + 1,
    }
    tables |= changed
    kinds = {"filelist": object}
    columns = {
        name: np.array(values, dtype=kinds.get(name, np.uint16)).reshape(-1, 1)
        for name, values in tables.items()
        if values is not None
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, columns)
