"""Pictures for the quick profile: people who pass one camera, with masks that the training never sees."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fam_lib import paths, store, synthetic
from fam_lib.pedestrians.wardrobe import Identity, draw_identity


class Footage(NamedTuple):
    """What one camera saw: images (N, 3, H, W) uint8, masks (N, H, W) bool, True on the person, and who it
    is, (N,) integers from 0. Training looks at the images only."""

    images: Tensor
    masks: Tensor
    people: Tensor


def watch(
    camera: int = 1, n_people: int = 100, per_person: int = 6, seed: int = 0, cache: Path | None = None
) -> Footage:
    """Synthetic pedestrians who pass a single camera, N = n_people * per_person pictures, 128 x 64.

    One camera and not six: across six scenes the background is what tells pictures apart, a small network
    learns the scene, and the person hardly at all.

    Args:
        camera: 1 to 6.
        n_people: different people.
        per_person: pictures of each, in other poses, places and light.
        seed: decides on everything.
        cache: folder in which the pictures are kept; None: :data:`fam_lib.paths.CACHE`.
    """
    name = store.key("footage", synthetic.VERSION, camera, n_people, per_person, seed)
    path = (paths.CACHE if cache is None else Path(cache)) / f"footage-{name}.npz"
    if not path.exists():
        shots = [
            synthetic.render(who, camera, np.random.default_rng([seed, number, index]))
            for number, who in enumerate(_draw_people(n_people, seed))
            for index in range(per_person)
        ]
        images = np.stack([shot.image.transpose(2, 0, 1) for shot in shots])
        with store.atomic_path(path) as temporary:
            np.savez_compressed(temporary, images=images, masks=np.stack([shot.labels > 0 for shot in shots]))
    with np.load(path) as arrays:
        images, masks = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["masks"])
    return Footage(images, masks, torch.arange(n_people).repeat_interleave(per_person))


def _draw_people(n_people: int, seed: int) -> list[Identity]:
    rng = np.random.default_rng([seed, n_people])
    return [draw_identity(rng) for _ in range(n_people)]
