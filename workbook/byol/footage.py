"""Pictures for the quick profile: people who pass one camera, with masks that the training never sees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbook import paths
from workbook.cache import store
from workbook.pedestrians import synthetic
from workbook.pedestrians.wardrobe import draw_identity

N_PEOPLE = 100
PER_PERSON = 6  # pictures, in other poses, places and light


class Footage(NamedTuple):
    """What one camera saw: images (N, 3, H, W) uint8, masks (N, H, W) bool, True on the person, and who it
    is, (N,) integers from 0. Training looks at the images only."""

    images: Tensor
    masks: Tensor
    people: Tensor


def watch(camera: int, seed: int) -> Footage:
    """Synthetic pedestrians who pass a single camera, 1 to 6: N = 600 pictures, 128 x 64, that follow from the seed.

    One camera and not six: across six scenes the background is what tells pictures apart, a small network
    learns the scene, and the person hardly at all. The pictures are kept in :data:`workbook.paths.CACHE`.
    """
    path = paths.CACHE / f"footage-{store.key('footage', synthetic.VERSION, camera, N_PEOPLE, PER_PERSON, seed)}.npz"
    if not path.exists():
        rng = np.random.default_rng([seed, N_PEOPLE])
        people = [draw_identity(rng) for _ in range(N_PEOPLE)]
        shots = [
            synthetic.render(who, camera, np.random.default_rng([seed, number, index]))
            for number, who in enumerate(people)
            for index in range(PER_PERSON)
        ]
        images = np.stack([shot.image.transpose(2, 0, 1) for shot in shots])
        with store.atomic_path(path) as temporary:
            np.savez_compressed(temporary, images=images, masks=np.stack([shot.labels > 0 for shot in shots]))
    with np.load(path) as arrays:
        images, masks = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["masks"])
    return Footage(images, masks, torch.arange(N_PEOPLE).repeat_interleave(PER_PERSON))
