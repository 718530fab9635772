"""The networks that explanations are timed on, and how to explain only some channels of a layer."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

from fam_lib.randomize import estimate_statistics
from workbook import paths
from workbook.images import load_images, normalise
from workbook.photographs import load_photographs
from workbook.prepare import accelerator, load_data, settings, untrained
from workbook.reid.model import remove_last_stride
from workbook.reid.training import cache_key, train
from workbook.weights import imagenet_lite0

HEIGHT, WIDTH = 256, 128  # of the ResNets' image, as in the paper's Table 1


class Subject(NamedTuple):
    """What is timed: a network in eval mode, the layer to explain, and an image (1, 3, H, W) on its device."""

    model: nn.Module
    layer: nn.Module
    image: Tensor


class Narrowed(nn.Module):
    """A layer whose first channels are a module of their own, ``first``, so that a library can explain them alone.

    The network computes what it did: the cost of a forward is that of the whole network for every library.
    """

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer, self.channels, self.first = layer, channels, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        activations = self.layer(images)
        first, rest = self.first(activations[:, : self.channels]), activations[:, self.channels :]
        # What a library puts in place of `first` may have more rows than there are images.
        return torch.cat([first, rest.expand(len(first), -1, -1, -1)], 1)


def narrow(subject: Subject, channels: int) -> Subject:
    """The same network and image, with only the first channels of the layer to explain."""
    names = [name for name, module in subject.model.named_modules() if module is subject.layer]
    model = copy.deepcopy(subject.model)
    narrowed = Narrowed(model.get_submodule(names[0]), channels)
    model.set_submodule(names[0], narrowed)
    return Subject(model.eval(), narrowed.first, subject.image)


def random_resnet(name: str) -> Subject:
    """A timm ResNet with random weights, the last stride taken out as in the bag of tricks; 256 x 128 pixels."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0, global_pool="", zero_init_last=False)
    remove_last_stride(backbone)
    model = nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    margin = (HEIGHT - WIDTH) // 2
    images = load_photographs(size=HEIGHT)[..., margin : margin + WIDTH] * 2 - 1
    # Without, activations shrink or grow from layer to layer, and half of what is computed is zeros.
    estimate_statistics(model, [name for name, _ in model.named_modules()], images)
    return Subject(model.eval(), backbone, images[:1])


def reid_of_quick() -> Subject:
    """The Re-ID network of the quick profile and its first query; ImageNet's weights if it is not trained yet."""
    data, config = load_data("quick"), settings("quick")
    if (paths.CACHE / "reid" / f"{cache_key(data, config)}.pt").exists():
        model = train(data, config)
    else:
        print(
            "The network of the quick profile is not trained yet (`make reproduce` does it): "
            "timing it with the ImageNet weights it starts from, which leave other channels dead.",
            file=sys.stderr,
        )
        model = untrained(data, config)
    image = load_images(data.query.paths[:1], config.size)
    return Subject(model, model.layer, normalise(image, model.mean, model.std))


def imagenet() -> Subject:
    """EfficientNet-Lite0 with ImageNet's weights on a photograph of 128 x 128 pixels."""
    model = imagenet_lite0(0)
    return Subject(model, model.bn2, load_photographs(["cat"], 128) * 2 - 1)


NETWORKS: dict[str, Callable[[], Subject]] = {
    "default": reid_of_quick,
    "imagenet": imagenet,
    "resnet18": lambda: random_resnet("resnet18"),
    "resnet50": lambda: random_resnet("resnet50"),
}


def load(name: str) -> Subject:
    """A network of :data:`NETWORKS` with its image, on the accelerator where there is one."""
    model, layer, image = NETWORKS[name]()
    device = torch.device(accelerator())
    return Subject(model.to(device), layer, image.to(device))
