"""The experiments: what BYOL trains on, which pictures are explained, and how its features are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workbook.byol.analysis import extract, nearest_correct
from workbook.byol.config import PAPER, QUICK, STREET, STREET_HRNET, BYOLConfig
from workbook.byol.footage import watch
from workbook.byol.pictures import PictureFolder, box_masks, open_classes, read_street_photos

RESNET_LAYERS = {"last": "layer4", "earlier": "layer2"}  # strides 16 and 8
HRNET_LAYERS = {"last": "final_layer", "earlier": "incre_modules.0"}  # strides 32 and 4
N_QUIZ = 5000  # validation pictures of ImageNet whose nearest neighbours are looked up


class Quiz(NamedTuple):
    """Who finds whom? Pictures (Q, 3, h, w) uint8, labels (Q,), and groups (Q,) inside which nobody is looked
    for, see :func:`~workbook.byol.analysis.nearest_correct`."""

    images: Tensor
    labels: Tensor
    groups: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Experiment:
    """One BYOL training and what it is judged by.

    Attributes:
        data: for tables, for instance "synthetic, camera 1".
        note: for figures.
        config: of the training.
        layers: "last" and "earlier" -> the layer explained.
        pictures: what is trained on.
        images: (N, 3, H, W) uint8, explained.
        masks: (N, H, W) bool, the foreground.
        quiz: judges the features; is never seen by the training.
        places: (N,), which pictures of the quiz the explained ones are; None if the labels of the quiz are no
            classes, so that no classifier can be trained on them.
    """

    data: str
    note: str
    config: BYOLConfig
    layers: dict[str, str]
    pictures: Tensor | PictureFolder
    images: Tensor
    masks: Tensor
    quiz: Quiz
    places: Tensor | None = None

    def correct(self, backbone: nn.Module) -> Tensor:
        """Does the nearest neighbour of each picture of the quiz have its label? (Q,) bool."""
        return nearest_correct(extract(backbone, self.quiz.images, self.config), self.quiz.labels, self.quiz.groups)

    def accuracy(self, backbone: nn.Module) -> float:
        """Share of the quiz that is answered right."""
        return self.correct(backbone).double().mean().item()


def synthetic(root: Path, n_explained: int, seed: int, camera: int = 1) -> Experiment:
    """Drawn people who pass one camera; the quiz: does the nearest picture show the same person?"""
    footage = watch(camera, seed)
    places = _evenly(len(footage.images), n_explained)
    return Experiment(
        f"synthetic, camera {camera}",
        f"synthetic pedestrians before camera {camera}, small ResNet",
        replace(QUICK, seed=seed),
        RESNET_LAYERS,
        footage.images,
        footage.images[places],
        footage.masks[places],
        Quiz(footage.images, footage.people),
        places,
    )


def street_photos(root: Path, n_explained: int, seed: int) -> Experiment:
    """Photographs of people in the street and a small network, for a CPU; see :func:`_street`."""
    return _street(root, n_explained, replace(STREET, seed=seed), RESNET_LAYERS, (144, 96), "small ResNet")


def street_photos_hrnet(root: Path, n_explained: int, seed: int) -> Experiment:
    """The same photographs, twice as large, and the paper's network, for a GPU; see :func:`_street`."""
    return _street(root, n_explained, replace(STREET_HRNET, seed=seed), HRNET_LAYERS, (288, 192), "HRNet-W30")


def _street(
    root: Path, n_explained: int, config: BYOLConfig, layers: dict[str, str], size: tuple[int, int], network: str
) -> Experiment:
    """Trained on all photographs; explained are some with a mask. Nobody labelled them, so the quiz is to find
    the lower half of a photograph by its upper half and the other way round, among the halves of all with a mask.
    """
    photos = read_street_photos(root / "street-photos", size)
    some = _evenly(len(photos.masked), n_explained)
    halves = photos.images[photos.masked].chunk(2, dim=2)
    which = torch.arange(len(photos.masked))
    return Experiment(
        "street-photos",
        f"street photographs, {network}",
        config,
        layers,
        photos.images,
        photos.images[photos.masked[some]],
        photos.masks[some],
        Quiz(torch.cat(halves), which.repeat(2), torch.arange(2).repeat_interleave(len(which))),
    )


def imagenet(root: Path, n_explained: int, seed: int) -> Experiment:
    """The paper's experiment. ``imagenet/`` holds ``train/<class>/``, ``val/<class>/`` and ImageNet's boxes,
    ``Annotations/CLS-LOC/val/``; explained are pictures of ``val``, their foreground is inside a box."""
    folder = root / "imagenet"
    train, _ = open_classes(folder / "train", PAPER.view_size)
    val, classes = open_classes(folder / "val", PAPER.view_size)
    asked = _evenly(len(val), N_QUIZ)
    quiz = Quiz(val.resized(asked.tolist()), classes[asked])
    places = _evenly(len(asked), n_explained)
    masks = box_masks(val, asked[places].tolist(), folder / "Annotations" / "CLS-LOC" / "val")
    return Experiment(
        "ImageNet, validation",
        f"ImageNet, {PAPER.backbone}",
        replace(PAPER, seed=seed),
        HRNET_LAYERS,
        train,
        quiz.images[places],
        masks,
        quiz,
        places,
    )


EXPERIMENTS: dict[str, Callable[[Path, int, int], Experiment]] = {
    "synthetic": synthetic,
    "street-photos": street_photos,
    "street-photos-hrnet": street_photos_hrnet,
    "imagenet": imagenet,
}


def open_experiment(name: str, root: Path, n_explained: int, seed: int = 0) -> Experiment:
    """One of :data:`EXPERIMENTS`.

    Args:
        name: of the experiment.
        root: folder of the data sets.
        n_explained: pictures to explain, evenly from all that have a mask; fewer if there are fewer.
        seed: of the weights and views, and of the synthetic people.

    Raises:
        ValueError: no such experiment, or a picture or mask is not sound.
        FileNotFoundError: its pictures are not there.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name](Path(root), n_explained, seed)


def _evenly(n: int, wanted: int) -> Tensor:
    """``wanted`` of the numbers 0..n-1 at equal distances, or all."""
    return torch.arange(n)[:: max(1, n // wanted)][:wanted]
