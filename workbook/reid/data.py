"""Person re-identification data in the folder layout of Market1501.

Three folders, ``bounding_box_train``, ``query`` and ``bounding_box_test`` (the gallery), hold one file per
image, named by identity and camera: ``0002_c1s1_000451_03.jpg``, or ``0644_c1_02.jpg``. Identity -1 is junk,
dropped when the folder is read; identity 0 marks distractors, people without a query, which stay in the
gallery. The synthetic set is written in this layout and CUHK03 is converted to it (`workbook.reid.cuhk03`), so
this is the only loader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fam_lib.retrieval import JUNK_ID

TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER = "bounding_box_train", "query", "bounding_box_test"
OFFICIAL_FOLDER = "Market-1501-v15.09.15"
IMAGE_SUFFIXES = (".jpg", ".png")
DISTRACTOR_ID = 0
_NAME = re.compile(r"(?P<id>-?\d+)_c(?P<camera>\d+)(?:s\d+)?_.")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split, with what their file names say.

    Attributes:
        paths: N image files, sorted by identity, then by name.
        ids: (N,) int64 identities as written in the names.
        cams: (N,) int64 cameras as written in the names, so usually counted from 1.
    """

    paths: tuple[Path, ...]
    ids: Tensor
    cams: Tensor

    def __post_init__(self) -> None:
        for name, values in (("ids", self.ids), ("cams", self.cams)):
            if values.dtype != torch.int64 or values.shape != (len(self.paths),):
                raise ValueError(
                    f"{name} must be int64 of shape ({len(self.paths)},), one for each path; "
                    f"got {values.dtype} of shape {tuple(values.shape)}"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """The images at these positions, in this order; a boolean mask (N,) keeps those that are True.

        Raises:
            IndexError: a position is outside the set.
        """
        chosen = torch.as_tensor(indices)
        if chosen.dtype == torch.bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask must have {len(self)} entries, got shape {tuple(chosen.shape)}")
            chosen = chosen.nonzero().flatten()
        chosen = chosen.to(torch.int64)
        return ImageSet(tuple(self.paths[i] for i in chosen.tolist()), self.ids[chosen], self.cams[chosen])


@dataclass(frozen=True, eq=False)
class ReidData:
    """A Re-ID data set: images to train on, queries, and the gallery they are looked for in.

    Attributes:
        name: short name, printed with every result.
        root: the folder that holds the three split folders.
        train: training images; their identities appear in no query.
        query: query images.
        gallery: gallery images, distractors (identity 0) included.
        synthetic: the images were rendered by code and show no real person.
    """

    name: str
    root: Path
    train: ImageSet
    query: ImageSet
    gallery: ImageSet
    synthetic: bool

    @property
    def label(self) -> str:
        """The name for tables and titles, which says so where the data are synthetic."""
        if not self.synthetic:
            return self.name
        return "synthetic pedestrians" if self.name == "synthetic" else f"{self.name} (synthetic)"


def load_market_layout(root: Path | str, name: str | None = None) -> ReidData:
    """Read a data set in the layout of Market1501; only names are read here, no image is opened.

    Args:
        root: the folder of the three split folders, or the folder above it if that is called
            ``Market-1501-v15.09.15``, as in the official archive.
        name: short name of the set; None takes the one in ``root/dataset.json``, else the folder's name.

    Returns:
        The three splits. ``synthetic`` is what ``root/dataset.json`` says, False without such a file.

    Raises:
        FileNotFoundError: ``root`` or one of its three folders does not exist.
        ValueError: a split is empty, an image is not named by identity and camera, a distractor is where only
            known people belong, or ``dataset.json`` cannot be read.
    """
    folder = _split_root(Path(root))
    card = _dataset_card(folder / "dataset.json")
    return ReidData(
        name=name or card.get("name") or Path(root).resolve().name,
        root=folder,
        train=_read_split(folder / TRAIN_FOLDER, distractors=False),
        query=_read_split(folder / QUERY_FOLDER, distractors=False),
        gallery=_read_split(folder / GALLERY_FOLDER, distractors=True),
        synthetic=card.get("synthetic", False),
    )


def _split_root(root: Path) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {root} does not exist")
    if not (root / TRAIN_FOLDER).is_dir() and (root / OFFICIAL_FOLDER).is_dir():
        root = root / OFFICIAL_FOLDER
    for name in (TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER):
        if not (root / name).is_dir():
            found = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "none"
            raise FileNotFoundError(
                f"{root} has no folder {name}: the layout of Market1501 needs {TRAIN_FOLDER}, {QUERY_FOLDER} "
                f"and {GALLERY_FOLDER}; folders found: {found} (data/README.md shows the layout)"
            )
    return root


def _read_split(folder: Path, distractors: bool) -> ImageSet:
    """The images of one folder without the junk; `distractors` says whether identity 0 may occur."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
    labels = [identity_and_camera(path.name) for path in files]
    misnamed = [path for path, label in zip(files, labels, strict=True) if label is None]
    if misnamed:
        raise ValueError(
            f"{misnamed[0]} is not named by identity and camera, as in 0002_c1s1_000451_03.jpg or 0644_c1_02.jpg; "
            f"rename or move away such files, {len(misnamed)} of {len(files)} in this folder"
        )
    named = ((*label, path) for label, path in zip(labels, files, strict=True))
    kept = sorted((identity, path, camera) for identity, camera, path in named if identity != JUNK_ID)
    if not kept:
        raise ValueError(f"{folder} holds no image ({' or '.join(IMAGE_SUFFIXES)}) of a known person")
    if not distractors and kept[0][0] == DISTRACTOR_ID:
        raise ValueError(
            f"{kept[0][1]} has identity 0, which marks distractors and belongs in {GALLERY_FOLDER}; "
            "number the identities from 1"
        )
    return ImageSet(
        tuple(path for _, path, _ in kept),
        torch.tensor([identity for identity, _, _ in kept]),
        torch.tensor([camera for _, _, camera in kept]),
    )


def identity_and_camera(name: str) -> tuple[int, int] | None:
    """What a file's name says, None where it says neither."""
    match = _NAME.match(name)
    if match is None or int(match["id"]) < JUNK_ID:
        return None
    return int(match["id"]), int(match["camera"])


def _dataset_card(path: Path) -> dict:
    """What dataset.json says: optional `name` (text) and `synthetic` (true or false), among other things."""
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(card, dict):
        raise ValueError(f"{path} must hold one JSON object, got a {type(card).__name__}")
    for key, kind in (("name", str), ("synthetic", bool)):
        if not isinstance(card.get(key, kind()), kind):
            raise ValueError(f"{path}: {key} must be a {kind.__name__}, got {card[key]!r}")
    return card
