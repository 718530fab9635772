"""Pictures from disk: street photographs with masks of people, and folders too large for memory."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from workbook.cache import store

SUFFIXES = (".jpg", ".jpeg", ".png")
MARGIN = 8 / 7  # the shorter side before the centre is cut out: 256 for 224, as is usual on ImageNet


class StreetPhotos(NamedTuple):
    """Photographs (N, 3, H, W) uint8 in the order of their names; of M of them, numbered by ``masked`` (M,), a
    mask (M, H, W) bool of the person."""

    images: Tensor
    masks: Tensor
    masked: Tensor


@dataclass(frozen=True)
class PictureFolder:
    """Pictures that are read when they are needed, for sets that do not fit in memory.

    Item i is picture i as it is, (3, h, w) uint8: BYOL's views are cut out of the whole picture.

    Attributes:
        root: of the set.
        names: of the files, relative to ``root``.
        size: (H, W) of :meth:`resized`.
    """

    root: Path
    names: tuple[str, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Tensor:
        return pil_to_tensor(_read(self.root / self.names[i]))

    def resized(self, indices: Sequence[int]) -> Tensor:
        """Pictures (n, 3, H, W) uint8: the shorter side brought to 8/7 of the size, then the centre cut out."""
        return torch.stack([pil_to_tensor(_centre(_read(self.root / self.names[i]), self.size)) for i in indices])

    def digest(self) -> str:
        """Stands for the files' names and sizes in bytes; reading them all would take hours."""
        return store.key([[name, os.path.getsize(self.root / name)] for name in self.names])


def read_street_photos(folder: Path, size: tuple[int, int]) -> StreetPhotos:
    """Read ``photos/`` and ``masks/``, in which a mask has the name of its photograph.

    Args:
        folder: holds the two folders.
        size: (H, W) to which all are resized, whatever their shape; a pixel of a mask is true where most of it was.

    Raises:
        FileNotFoundError: a folder is missing or empty, or a mask has no photograph.
        ValueError: a file is no readable image, a mask differs in size from its photograph, or shows nobody.
    """
    photos, masks = (_by_stem(folder / name) for name in ("photos", "masks"))
    if orphans := sorted(set(masks) - set(photos)):
        raise FileNotFoundError(f"{masks[orphans[0]]} is the mask of no photograph in {folder / 'photos'}: remove it")
    images = torch.stack([_resized(_read(path), size) for path in photos.values()])
    shapes = [_read_mask(mask, photos[stem], size) for stem, mask in masks.items()]
    order = {stem: i for i, stem in enumerate(photos)}
    return StreetPhotos(images, torch.stack(shapes), torch.tensor([order[stem] for stem in masks]))


def open_classes(folder: Path, size: tuple[int, int]) -> tuple[PictureFolder, Tensor]:
    """The pictures of ``folder/<class>/*`` and their classes (N,), numbered by the sorted names of the folders.

    Raises:
        FileNotFoundError: the folder is missing, or holds no class with a picture.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: it must hold one folder of pictures for each class")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = [
        (f"{name}/{file}", label)
        for label, name in enumerate(classes)
        for file in sorted(os.listdir(folder / name))
        if file.lower().endswith(SUFFIXES)
    ]
    if not found:
        raise FileNotFoundError(f"{folder} holds no folder with pictures ({', '.join(SUFFIXES)})")
    names, labels = zip(*found, strict=True)
    return PictureFolder(folder, names, size), torch.tensor(labels)


def box_masks(pictures: PictureFolder, indices: Sequence[int], annotations: Path) -> Tensor:
    """Where the labelled objects are, from ImageNet's bounding boxes: masks (n, H, W) bool of the resized pictures.

    Args:
        pictures: file ``n01440764/ILSVRC2012_val_00000293.JPEG`` has its boxes in
            ``<annotations>/ILSVRC2012_val_00000293.xml``.
        indices: of the pictures.
        annotations: ImageNet's folder ``Annotations/CLS-LOC/val``.

    Raises:
        FileNotFoundError: a picture has no file of boxes.
    """
    return torch.stack([_boxes(pictures.root / pictures.names[i], annotations, pictures.size) for i in indices])


def _boxes(picture: Path, annotations: Path, size: tuple[int, int]) -> Tensor:
    path = annotations / f"{picture.stem}.xml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: ImageNet's boxes of {picture.name} belong there")
    with Image.open(picture) as image:
        mask = Image.new("L", image.size)
    for box in ET.parse(path).getroot().iter("bndbox"):
        corners = [int(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax")]
        ImageDraw.Draw(mask).rectangle(corners, fill=255)
    return pil_to_tensor(_centre(mask, size))[0] > 127


def _by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by name without suffix, sorted."""
    found = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}
    if not found:
        raise FileNotFoundError(
            f"no images ({', '.join(SUFFIXES)}) in {folder}: data/README.md says what belongs there; name the folder "
            "above it with DATA_ROOT= if it lies elsewhere"
        )
    return found


def _read(path: Path, mode: str = "RGB") -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except OSError as error:
        raise ValueError(f"{path} is no readable image ({error}): get it again or remove it") from error


def _read_mask(path: Path, photo: Path, size: tuple[int, int]) -> Tensor:
    mask = _read(path, "L")
    with Image.open(photo) as image:
        if image.size != mask.size:
            raise ValueError(f"{path} is {mask.size}, but its photograph {photo.name} is {image.size} (width, height)")
    # Masks may be stored as 0 and 1 or as 0 and 255.
    binary = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
    inside = pil_to_tensor(binary.resize(size[::-1], Image.Resampling.BOX))[0] > 127
    if not inside.any():
        raise ValueError(f"{path} marks nobody: remove it, or mark the person with values above 0")
    return inside


def _resized(image: Image.Image, size: tuple[int, int]) -> Tensor:
    return pil_to_tensor(image.resize(size[::-1], Image.Resampling.BILINEAR))


def _centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return center_crop(resize(image, round(MARGIN * max(size))), list(size))
