"""What a checkpoint's features are worth, and where its maps look: Figure 6 in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib.byol.config import BYOLConfig
from fam_lib.byol.training import Checkpoint
from fam_lib.byol.views import normalise
from fam_lib.capture import evaluating
from fam_lib.explain import Explainer
from fam_lib.faithfulness import summarise
from fam_lib.localisation import energy_inside, map_area, pointing_game


@torch.no_grad()
def extract(backbone: nn.Module, images: Tensor, config: BYOLConfig, batch_size: int = 128) -> Tensor:
    """Features (N, D) float32 of uint8 images (N, 3, H, W), in eval mode."""
    device = next(backbone.parameters()).device
    with evaluating(backbone):
        parts = [backbone(normalise(part, config).to(device)).float().cpu() for part in images.split(batch_size)]
    return torch.cat(parts)


def knn_correct(features: Tensor, labels: Tensor, k: int = 5, groups: Tensor | None = None) -> Tensor:
    """Is each image's label that of most of its k nearest other images by cosine?

    Args:
        features: (N, D).
        labels: (N,) integers from 0.
        k: neighbours that vote; a tie goes to the smallest label.
        groups: (N,) for instance cameras; images of one group are no neighbours of each other. None: every
            other image may be.

    Returns:
        (N,) bool; its mean is the accuracy.

    Raises:
        ValueError: fewer than k neighbours for some image.
    """
    n = len(features)
    groups = torch.arange(n) if groups is None else groups
    forbidden = groups[:, None] == groups[None, :]
    fewest = int((~forbidden).sum(1).min())
    if fewest < k:
        raise ValueError(f"k={k} neighbours were asked for, but an image has only {fewest}")
    unit = F.normalize(features.double(), dim=1)
    nearest = (unit @ unit.T).masked_fill(forbidden, -torch.inf).topk(k, dim=1).indices
    votes = F.one_hot(labels[nearest], int(labels.max()) + 1).sum(1)
    return votes.argmax(1) == labels


def explain_checkpoints(
    checkpoints: Sequence[Checkpoint],
    images: Tensor,
    config: BYOLConfig,
    methods: Sequence[str],
    layer: str | None = None,
    batch_size: int | None = None,
) -> dict[str, list[Tensor]]:
    """Saliency maps of the online backbone at every checkpoint.

    Args:
        checkpoints: from :func:`~fam_lib.byol.train_byol`.
        images: (N, 3, H, W) uint8.
        config: of the training; its mean and std normalise the images.
        methods: names that need no reference.
        layer: dotted name in the backbone; None: the last one with a spatial output.
        batch_size: masked images in one forward.

    Returns:
        method -> one tensor (N, H, W) for each checkpoint.
    """
    shown = normalise(images, config)
    return {
        method: [Explainer(c.backbone, method, layer, batch_size=batch_size)(shown).saliency for c in checkpoints]
        for method in methods
    }


def checkpoint_table(
    checkpoints: Sequence[Checkpoint],
    maps: Mapping[str, Sequence[Tensor]],
    masks: Tensor,
    correct: Sequence[Tensor],
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Figure 6 in numbers: a row for each checkpoint and method.

    Args:
        checkpoints: C of them.
        maps: method -> C tensors (N, H, W), from :func:`explain_checkpoints`.
        masks: (N, H, W) bool, the foreground.
        correct: C tensors from :func:`knn_correct`.
        n_boot: bootstrap resamples over images.
        seed: of the bootstrap.

    Returns:
        Columns epoch, share (of the schedule), method, n; the means, in percent and with their 95 % intervals
        ``_lo`` and ``_hi``, of energy (share of the saliency that lies on the foreground), pointing (maximum on
        the foreground), area (pixels at 0.5 or more) and knn; undefined (flat maps, left out of energy and
        pointing); loss.
    """
    rows = []
    for i, checkpoint in enumerate(checkpoints):
        for method, saliency in maps.items():
            energy = energy_inside(saliency[i], masks)
            row = {
                "epoch": checkpoint.epoch,
                "share": checkpoint.epoch / checkpoints[-1].epoch,
                "method": method,
                "n": len(masks),
            }
            for name, values in (
                ("energy", energy),
                ("pointing", pointing_game(saliency[i], masks)),
                ("area", map_area(saliency[i])),
                ("knn", correct[i].double()),
            ):
                summary = summarise(100 * values, n_boot=n_boot, seed=seed)
                row |= {name: summary.mean, f"{name}_lo": summary.lo, f"{name}_hi": summary.hi}
            rows.append(row | {"undefined": int(energy.isnan().sum()), "loss": checkpoint.loss})
    return pd.DataFrame(rows)
