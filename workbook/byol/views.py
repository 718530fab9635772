"""The two random views of an image, the order of the images, and random numbers that depend on nothing else."""

from __future__ import annotations

import hashlib

import torch
from lightly.transforms import BYOLTransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_pil_image

from workbook.byol.config import BYOLConfig
from workbook.byol.pictures import PictureFolder
from workbook.images import normalise as normalise_colours
from workbook.random_state import private_random_state


def make_views(config: BYOLConfig) -> BYOLTransform:
    """BYOL's two asymmetric views, with the strengths of ``config``."""
    shared = {
        "input_size": config.view_size,
        "cj_strength": config.colour_strength,
        "min_scale": config.min_scale,
        "random_gray_scale": config.grey,
        "sigmas": config.blur_sigmas,
        "normalize": {"mean": list(config.mean), "std": list(config.std)},
    }
    return BYOLTransform(
        BYOLView1Transform(**shared, gaussian_blur=config.blur[0]),
        BYOLView2Transform(**shared, gaussian_blur=config.blur[1], solarization_prob=config.solarise),
    )


class Views(Dataset):
    """Item (epoch, i) is the two views of image i in that epoch: the same whoever computes it, and when."""

    def __init__(self, images: Tensor | PictureFolder, config: BYOLConfig) -> None:
        self.images = images
        self.seed = config.seed
        self.transform = make_views(config)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, i = item
        digest = hashlib.sha256(f"{self.seed}:{epoch}:{i}".encode()).digest()
        with private_random_state(int.from_bytes(digest[:4], "big")):
            view0, view1 = self.transform(to_pil_image(self.images[i]))
        return view0, view1


def batches(
    epoch: int, n_images: int, config: BYOLConfig, rank: int = 0, world: int = 1
) -> list[list[tuple[int, int]]]:
    """The items of one epoch's batches for one process: an order of its own each epoch, the rest dropped."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(n_images, generator=generator).tolist()
    whole = [order[i : i + config.batch_size] for i in range(0, n_images, config.batch_size)]
    return [[(epoch, i) for i in batch[rank::world]] for batch in whole if len(batch) == config.batch_size]


def normalise(images: Tensor, config: BYOLConfig) -> Tensor:
    """uint8 (N, 3, H, W) -> float32, as the backbone of ``config`` wants them."""
    return normalise_colours(images.float() / 255, config.mean, config.std)
