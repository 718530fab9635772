"""What a checkpoint's features are worth, and where its maps look: Figure 6 in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib.explain import explain_all, to_saliency
from fam_lib.faithfulness import paired_difference, summarise
from fam_lib.features import extract as features_of
from fam_lib.localisation import energy_inside, map_area, map_entropy, pointing_game
from workbook.byol.config import BYOLConfig
from workbook.byol.training import Checkpoint
from workbook.byol.views import normalise
from workbook.cache import store
from workbook.cache.digests import state_digest
from workbook.cache.shards import remember
from workbook.tables import interval_columns

CODE_VERSION = 1  # raise it when the maps of :func:`explain_checkpoints` change
BATCH = 128  # images in one forward of :func:`extract`
CHUNK = 64  # images explained at once, and in one file of the cache
Maps = Mapping[str, Mapping[str, Sequence[Tensor]]]  # map ("last", "earlier") -> method -> raw maps of each checkpoint
Measures = Mapping[str, Mapping[str, Sequence[Mapping[str, Tensor]]]]  # the same with :func:`measure` of the maps


def extract(backbone: nn.Module, images: Tensor, config: BYOLConfig) -> Tensor:
    """Features (N, D) float32 of uint8 images (N, 3, H, W), in eval mode."""
    device = next(backbone.parameters()).device
    batches = (normalise(part, config).to(device) for part in images.split(BATCH))
    return torch.cat([features_of(backbone, batch).cpu() for batch in batches])


def nearest_correct(features: Tensor, labels: Tensor, groups: Tensor | None = None) -> Tensor:
    """Is each image's label that of the nearest other image by cosine?

    Args:
        features: (N, D).
        labels: (N,) integers.
        groups: (N,) for instance cameras; images of one group are no neighbours of each other. None: every
            other image may be.

    Returns:
        (N,) bool; its mean is the accuracy.

    Raises:
        ValueError: some image has no neighbour.
    """
    groups = torch.arange(len(features)) if groups is None else groups
    forbidden = groups[:, None] == groups[None, :]
    if forbidden.all(1).any():
        raise ValueError("an image has no neighbour: all others are of its own group")
    unit = F.normalize(features.double(), dim=1)
    nearest = (unit @ unit.T).masked_fill(forbidden, -torch.inf).argmax(1)
    return labels[nearest] == labels


def explain_checkpoints(
    checkpoints: Sequence[Checkpoint],
    images: Tensor,
    config: BYOLConfig,
    methods: Sequence[str],
    layer: str,
    *,
    classes: Tensor | None = None,
    probes: Sequence[nn.Module] | None = None,
    cache: Path | None = None,
) -> dict[str, list[Tensor]]:
    """Raw maps of the online backbone at every checkpoint; all methods share their forwards.

    Args:
        checkpoints: from :func:`~workbook.byol.training.train_byol`.
        images: (N, 3, H, W) uint8.
        config: of the training; its mean and std normalise the images.
        methods: names that need no other image.
        layer: dotted name in the backbone.
        classes: (N,), what class methods explain; None: the predicted class.
        probes: for class methods, a classifier of features for each checkpoint.
        cache: folder for the maps, a file for each checkpoint and chunk of images; None keeps nothing.

    Returns:
        method -> one tensor (N, h, w) for each checkpoint, on the layer's grid.
    """
    series = [
        _explain(checkpoint.backbone, images, config, methods, layer, classes, probe, cache)
        for checkpoint, probe in zip(checkpoints, probes or [None] * len(checkpoints), strict=True)
    ]
    return {method: [maps[method] for maps in series] for method in methods}


def _explain(
    backbone: nn.Module,
    images: Tensor,
    config: BYOLConfig,
    methods: Sequence[str],
    layer: str,
    classes: Tensor | None,
    probe: nn.Module | None,
    cache: Path | None,
) -> dict[str, Tensor]:
    """Raw maps (N, h, w) of one network by method."""
    device = next(backbone.parameters()).device

    def name(chosen: Tensor) -> str:
        return store.key(
            "byol", CODE_VERSION, state_digest(backbone), images[chosen].contiguous().numpy().tobytes(),
            config.mean, config.std, list(methods), layer, None if classes is None else classes[chosen].tolist(),
            state_digest(probe) if probe else None,
        )  # fmt: skip

    def compute(chosen: Tensor) -> dict[str, Tensor]:
        asked = None if classes is None else classes[chosen]
        normalised = normalise(images[chosen], config).to(device)
        found = explain_all(backbone, normalised, methods, layer, classes=asked, classifier=probe)
        return {method: explanation.cam.float().cpu() for method, explanation in found.items()}

    return remember(cache, len(images), CHUNK, name, compute)


def measure(cams: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """What Figure 6 is read for, in percent, for each map.

    Args:
        cams: (N, h, w) raw maps.
        masks: (N, H, W) bool, the foreground.

    Returns:
        energy (share of the saliency that lies on the foreground), pointing (maximum on the foreground), area
        (pixels at 0.5 or more) and entropy (of the energy over the pixels, of its maximum), each (N,); all but
        area are NaN for a map without variation.
    """
    saliency = to_saliency(cams, tuple(masks.shape[1:]))
    values = {
        "energy": energy_inside(saliency, masks),
        "pointing": pointing_game(saliency, masks),
        "area": map_area(saliency),
        "entropy": map_entropy(saliency),
    }
    return {name: 100 * value for name, value in values.items()}


def measure_maps(maps: Maps, masks: Tensor) -> Measures:
    """:func:`measure` of every map: "last" and "earlier" -> method -> the measures at each checkpoint.

    Args:
        maps: "last" and "earlier" -> what :func:`explain_checkpoints` gives for that layer.
        masks: (N, H, W) bool, the foreground.
    """
    return {
        which: {method: [measure(cams, masks) for cams in series] for method, series in methods.items()}
        for which, methods in maps.items()
    }


def checkpoint_table(
    checkpoints: Sequence[Checkpoint],
    measures: Measures,
    layers: Mapping[str, str],
    correct: Sequence[Tensor],
    foreground: float,
    seed: int = 0,
) -> pd.DataFrame:
    """Figure 6 in numbers: a row for each checkpoint, map and method.

    Args:
        checkpoints: C of them, the untrained network first.
        measures: from :func:`measure_maps`.
        layers: "last" and "earlier" -> the layer's name.
        correct: C tensors from :func:`nearest_correct`.
        foreground: percent of the pixels that show it: what a map without preference would score.
        seed: of the bootstrap over images.

    Returns:
        Columns epoch, share (of the schedule), map, layer, method, n, foreground; the means, in percent and with
        their 95 % intervals ``_lo`` and ``_hi``, of the quantities of :func:`measure` and of knn; undefined (flat
        maps, left out of energy, pointing and entropy); loss.
    """
    rows = []
    for i, checkpoint in enumerate(checkpoints):
        for which, methods in measures.items():
            for method, series in methods.items():
                values = series[i]
                row = {"epoch": checkpoint.epoch, "share": checkpoint.epoch / checkpoints[-1].epoch}
                row |= {"map": which, "layer": layers[which], "method": method, "n": len(values["energy"])}
                row["foreground"] = foreground
                for name, value in {**values, "knn": 100 * correct[i].double()}.items():
                    row |= interval_columns(name, summarise(value, seed=seed))
                rows.append(row | {"undefined": int(values["energy"].isnan().sum()), "loss": checkpoint.loss})
    return pd.DataFrame(rows)


def changes_table(
    checkpoints: Sequence[Checkpoint],
    measures: Measures,
    layers: Mapping[str, str],
    correct: Sequence[Tensor],
    seed: int = 0,
) -> pd.DataFrame:
    """What changes between two checkpoints, image by image: what the paper reads from Figure 6 are changes.

    Arguments are those of :func:`checkpoint_table`.

    Returns:
        A row for each map, method and measure (and for the accuracy "knn", which has no map) and each pair of
        consecutive checkpoints, of the first and the last trained one, and of the untrained and the last one:
        columns map, layer, method, measure, from_share, to_share, change in points of percent with its paired
        95 % interval lo, hi, and n, the images for which both values are defined.
    """
    last = len(checkpoints) - 1
    pairs = sorted({*((i, i + 1) for i in range(last)), (min(1, last - 1), last), (0, last)})
    values = {
        (which, layers[which], method): series
        for which, methods in measures.items()
        for method, series in methods.items()
    }
    values["", "", ""] = [{"knn": 100 * hits.double()} for hits in correct]
    rows = []
    for (which, layer, method), series in values.items():
        for name in series[0]:
            for i, j in pairs:
                change = paired_difference(series[j][name], series[i][name], seed=seed)
                row = {"map": which, "layer": layer, "method": method, "measure": name}
                row |= {"from_share": checkpoints[i].epoch / checkpoints[-1].epoch}
                row |= {"to_share": checkpoints[j].epoch / checkpoints[-1].epoch}
                rows.append(row | {"change": change.mean, "lo": change.lo, "hi": change.hi, "n": change.n})
    return pd.DataFrame(rows)
