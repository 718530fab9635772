"""Training batches of the bag of tricks: which images stand together, and how they are varied.

Every draw comes from one generator, so an epoch is determined by the generator's seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

ERASING_AREA = (0.02, 0.4)
ERASING_ASPECT = (0.3, 1 / 0.3)
_ERASING_TRIES = 100


def identity_batches(labels: Tensor, ids_per_batch: int, images_per_id: int, generator: Generator) -> list[Tensor]:
    """Arrange one epoch in batches of P identities with K images each.

    Each identity's images are shuffled and cut into groups of K, the rest dropped; an identity with fewer
    than K images gives one group drawn with replacement. Batches take one group of each of P identities that
    still have one, drawn at random, until fewer than P are left.

    Args:
        labels: (N,) int64 identity of each image.
        ids_per_batch: P.
        images_per_id: K.
        generator: source of every draw.

    Returns:
        The batches, each (P * K,) int64 positions in `labels`, images of one identity side by side.

    Raises:
        ValueError: there are fewer than P identities.
    """
    identities = labels.unique()
    if len(identities) < ids_per_batch:
        raise ValueError(
            f"ids_per_batch is {ids_per_batch}, but there are only {len(identities)} training identities: choose fewer"
        )
    waiting = [_groups((labels == i).nonzero().flatten(), images_per_id, generator) for i in identities]
    batches = []
    while len(waiting := [groups for groups in waiting if groups]) >= ids_per_batch:
        drawn = torch.randperm(len(waiting), generator=generator)[:ids_per_batch].tolist()
        batches.append(torch.cat([waiting[position].pop() for position in drawn]))
    return batches


def _groups(images: Tensor, size: int, generator: Generator) -> list[Tensor]:
    """One identity's images, shuffled, in groups of `size`."""
    if len(images) < size:
        return [images[torch.randint(len(images), (size,), generator=generator)]]
    shuffled = images[torch.randperm(len(images), generator=generator)]
    return list(shuffled[: len(images) // size * size].split(size))


def random_flip(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with this probability."""
    mirrored = torch.rand(len(images), generator=generator) < probability
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def random_shift(images: Tensor, pad: int, generator: Generator) -> Tensor:
    """Pad each image (N, C, H, W) with `pad` black pixels all round and crop it back at a random place."""
    if pad == 0:
        return images
    height, width = images.shape[2:]
    padded = F.pad(images, (pad, pad, pad, pad))
    corners = torch.randint(2 * pad + 1, (len(images), 2), generator=generator).tolist()
    crops = zip(padded, corners, strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in crops])


def random_erasing(
    images: Tensor, probability: float, generator: Generator, value: Sequence[float] = (0.0, 0.0, 0.0)
) -> Tensor:
    """Fill a random rectangle of each image with one colour with this probability.

    Applied to normalised images, 0 is the colour the network was normalised by.

    Args:
        images: (N, C, H, W).
        probability: share of images with a rectangle.
        generator: source of every draw.
        value: C numbers, what is written.

    Returns:
        (N, C, H, W), a new tensor.
    """
    images, colour = images.clone(), images.new_tensor(value).view(-1, 1, 1)
    chosen = torch.rand(len(images), generator=generator) < probability
    for position in chosen.nonzero().flatten().tolist():
        top, left, height, width = erasing_box(images.shape[2], images.shape[3], generator)
        images[position, :, top : top + height, left : left + width] = colour
    return images


def erasing_box(image_height: int, image_width: int, generator: Generator) -> tuple[int, int, int, int]:
    """Draw the rectangle of random erasing: (top, left, height, width) in pixels.

    The area is U(0.02, 0.4) of the image and the aspect height / width U(0.3, 1/0.3), both redrawn, up to 100
    times, until the rectangle is smaller than the image; its place is uniform. (0, 0, 0, 0) if none fits.
    """
    share = torch.empty(_ERASING_TRIES).uniform_(*ERASING_AREA, generator=generator)
    aspect = torch.empty(_ERASING_TRIES).uniform_(*ERASING_ASPECT, generator=generator)
    place = torch.rand(2, generator=generator).tolist()
    area = share * image_height * image_width
    for height, width in zip((area * aspect).sqrt().tolist(), (area / aspect).sqrt().tolist(), strict=True):
        height, width = round(height), round(width)
        if 0 < height < image_height and 0 < width < image_width:
            top = math.floor(place[0] * (image_height - height + 1))
            left = math.floor(place[1] * (image_width - width + 1))
            return top, left, height, width
    return 0, 0, 0, 0
