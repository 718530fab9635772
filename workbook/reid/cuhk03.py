"""CUHK03 with the 767/700 protocol, from its official files to the layout of Market1501.

``cuhk-03.mat`` holds every picture in two kinds of boxes, found by a detector and drawn by hand. A split file for
each kind (Zhong et al., CVPR 2017) says which pictures are for training, queries and gallery. They are converted
once, so that one loader reads this set like every other. Its two views are the cameras 1 and 2; the five pairs of
cameras share these numbers, as in the split files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import scipy.io
from PIL import Image
from tqdm.auto import tqdm

from workbook.cache.store import atomic_folder, key, sha256, write_json
from workbook.reid.data import GALLERY_FOLDER, QUERY_FOLDER, TRAIN_FOLDER

Boxes = Literal["detected", "labeled"]

SPLIT_SHA256: dict[Boxes, str] = {
    "detected": "ef438e7775fce6d08ef6dff84d2235bd4bed63850dbbf7025f3251e45c7fa721",
    "labeled": "15627d0913d59ac61220cf311dbca8b936499265da86c0c036d3b8162a180b9c",
}
"""The split files as published, with the code of the paper's reference [32]."""

_VERSION = 1  # count up when the same files would be converted to others: it is part of the folder's name
_SPLITS = {TRAIN_FOLDER: "train_idx", QUERY_FOLDER: "query_idx", GALLERY_FOLDER: "gallery_idx"}
_TABLES = ("filelist", "labels", "camId", *_SPLITS.values())
_NAME = re.compile(r"([1-9])_(?!000)(\d{3})_([12])_(0[1-9]|10)\.png")
_IMAGES_PER_PERSON = 10  # at most five by each camera


class Picture(NamedTuple):
    """A picture as the split file names it, and where it goes.

    Attributes:
        split: folder of Market1501's layout.
        identity: counted from 1.
        pair: pair of cameras, counted from 1, as are the next three.
        person: within the pair.
        view: camera, 1 or 2.
        number: of the picture, 1 to 10.
    """

    split: str
    identity: int
    pair: int
    person: int
    view: int
    number: int

    @property
    def source(self) -> str:
        """The official name without suffix: pair, person, view, number."""
        return f"{self.pair}_{self.person:03d}_{self.view}_{self.number:02d}"

    @property
    def file(self) -> str:
        """Where the picture is written, relative to the data set's folder."""
        return f"{self.split}/{self.identity:04d}_c{self.view}_{self.source}.png"


def split_file(folder: Path, boxes: Boxes) -> Path:
    """The split file of one kind of boxes in the folder ``cuhk03``."""
    return folder / f"cuhk03_new_protocol_config_{boxes}.mat"


def images_file(folder: Path) -> Path:
    """The official file of all pictures in the folder ``cuhk03``."""
    return folder / "cuhk03_release" / "cuhk-03.mat"


def convert(folder: Path, boxes: Boxes, cache: Path, progress: bool = True) -> Path:
    """CUHK03 in Market1501's layout, PNG files of the original size, made once and kept in the cache.

    The folder's name follows from the contents of the split file and the size of ``cuhk-03.mat``. It appears only
    when it is complete.

    Args:
        folder: the official files, ``cuhk03_new_protocol_config_{boxes}.mat`` and ``cuhk03_release/cuhk-03.mat``.
        boxes: "detected" or "labeled".
        cache: where to keep the converted set.
        progress: show a progress bar.

    Returns:
        The folder of the converted set, under ``cache``.

    Raises:
        FileNotFoundError: one of the two files does not exist.
        ValueError: one of them cannot be read, or they do not fit together; the message names file and picture.
    """
    split, images = split_file(folder, boxes), images_file(folder)
    if not images.is_file():
        raise FileNotFoundError(f"no such file: {images}; data/README.md says how to get it")
    name = f"cuhk03-{boxes}"
    source = {"boxes": boxes, "split_sha256": sha256(split), "images_bytes": images.stat().st_size}
    target = cache / f"{name}-{key(_VERSION, source)}"
    if target.is_dir():
        return target
    pictures = read_split(split)
    with atomic_folder(target, target.is_dir) as scratch:
        _write_pictures(scratch, images, boxes, tqdm(pictures, f"converting {name}", disable=not progress))
        write_json(scratch / "dataset.json", {"name": name, "synthetic": False, "source": source})
    return target


def read_split(path: Path) -> list[Picture]:
    """The pictures of a split file: training, then queries, then gallery, each in the file's order.

    Identities are the file's labels in ascending order, numbered from 1.

    Raises:
        ValueError: the file cannot be read or is no split file; a picture stands twice, is not named by pair,
            person, view and number, or was taken by another camera than its view.
    """
    tables = _read_tables(path)
    names = [str(name) for name in tables["filelist"]]
    labels, cameras = (_integers(tables[name]) for name in ("labels", "camId"))
    if not len(names) == len(labels) == len(cameras):
        raise ValueError(
            f"{path} has {len(names)} names in filelist, but {len(labels)} labels and {len(cameras)} entries of camId"
        )
    identities = np.unique(labels, return_inverse=True)[1] + 1
    pictures = []
    for split, table in _SPLITS.items():
        for index in _integers(tables[table]):  # from 1, as MATLAB counts
            if not 1 <= index <= len(names):
                raise ValueError(f"{path}: {table} asks for picture {index} of {len(names)}")
            name, view = names[index - 1], int(cameras[index - 1])
            pictures.append(_picture(split, int(identities[index - 1]), name, view, path))
    seen = set()
    for picture in pictures:
        if picture.source in seen:
            raise ValueError(f"{path} lists picture {picture.source} twice")
        seen.add(picture.source)
    return pictures


def _read_tables(path: Path) -> dict[str, np.ndarray]:
    """The six tables of a split file, each with one dimension."""
    try:
        tables = scipy.io.loadmat(path, squeeze_me=True, variable_names=_TABLES)
    except FileNotFoundError:
        raise
    except Exception as error:  # SciPy has no common class for what it raises on damaged files
        raise ValueError(f"{path} is not a readable MATLAB file: {error}; get it again") from error
    if lacking := [name for name in _TABLES if name not in tables]:
        raise ValueError(f"{path} has no {', '.join(lacking)}: it is no split file of the 767/700 protocol")
    return {name: np.atleast_1d(tables[name]) for name in _TABLES}


def _integers(table: np.ndarray) -> np.ndarray:
    """The file's unsigned 16-bit numbers as int64: 0 - 1 would be 65535."""
    return table.astype(np.int64)


def _picture(split: str, identity: int, name: str, camera: int, path: Path) -> Picture:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{path}: {name!r} does not name pair, person, view and number, as in 1_012_1_03.png")
    picture = Picture(split, identity, *(int(number) for number in match.groups()))
    if camera != picture.view:
        raise ValueError(f"{path}: {name} is of view {picture.view}, but camId says {camera}")
    return picture


def _write_pictures(root: Path, images: Path, boxes: Boxes, pictures: tqdm[Picture]) -> None:
    for split in _SPLITS:
        (root / split).mkdir(parents=True)
    with _open(images) as file:
        cells = _cells(file, boxes, images)
        for picture in pictures:
            Image.fromarray(_pixels(file, cells, picture, images)).save(root / picture.file)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not a readable HDF5 file: {error}; get it again") from error


def _cells(file: h5py.File, boxes: Boxes, path: Path) -> list[np.ndarray]:
    """For each pair of cameras the references to its pictures (10, M), M people: MATLAB's cells, transposed."""
    try:
        cells = [file[reference][()] for reference in file[boxes][()].flat]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has no cells named {boxes!r}: it is not cuhk-03.mat") from error
    for pair, cell in enumerate(cells, start=1):
        if cell.dtype != object or cell.ndim != 2 or cell.shape[0] != _IMAGES_PER_PERSON:
            raise ValueError(
                f"{path}: pair {pair} of {boxes!r} must be people x {_IMAGES_PER_PERSON} cells, "
                f"got {' x '.join(map(str, reversed(cell.shape)))}"
            )
    return cells


def _pixels(file: h5py.File, cells: list[np.ndarray], picture: Picture, path: Path) -> np.ndarray:
    """One picture as (H, W, 3) uint8; MATLAB stores it column by column, so HDF5 shows (3, W, H)."""
    try:
        stored = file[cells[picture.pair - 1][picture.number - 1, picture.person - 1]][()]
    except IndexError as error:
        raise ValueError(f"{path} has no picture {picture.source}, which the split file asks for") from error
    if stored.ndim != 3 or stored.shape[0] != 3 or stored.dtype != np.uint8:  # an empty cell holds two zeros
        raise ValueError(
            f"{path}: picture {picture.source} must be uint8 and height x width x 3, "
            f"got {stored.dtype} and {' x '.join(map(str, reversed(stored.shape)))}"
        )
    return stored.T
