"""The Re-ID network of the bag of tricks: backbone, global average pooling, BN neck, identity classifier.

The feature that images are retrieved by is f = BN(GAP(A)), A the last map of the backbone ("after_bn", the
vector that the classifier is fed with), or GAP(A) itself ("before_bn"). It is not L2-normalised: |f| is what
Grad-FAM explains.
"""

from __future__ import annotations

import copy
from typing import Literal

import timm
import torch
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from torch import Tensor, nn

from workbook.weights import LITE0, load_imagenet_lite0

Feature = Literal["after_bn", "before_bn"]
Init = Literal["imagenet", "random"]


class ReidModel(nn.Module):
    """Maps normalised images (N, 3, H, W) to retrieval features (N, D).

    Attributes:
        backbone: timm network without pooling and classifier, (N, 3, H, W) -> (N, D, h, w).
        neck: BatchNorm1d over the pooled feature, its bias frozen at 0; the identity in a network without a neck.
        classifier: linear layer, feature after the neck -> one logit for each training identity; without bias
            behind a neck.
        feature: which vector `forward` returns, "after_bn" or "before_bn".
        mean, std: colour statistics the images must be normalised with, three numbers each.
    """

    def __init__(
        self,
        backbone: str,
        n_ids: int,
        last_stride: int = 1,
        feature: Feature = "after_bn",
        init: Init = "imagenet",
        neck: bool = True,
    ) -> None:
        """Build the network; `init` concerns the backbone alone, neck and classifier are new.

        Args:
            backbone: timm name, such as "tf_efficientnet_lite0" or "resnet50".
            n_ids: number of training identities.
            last_stride: 1 takes the stride out of the last stage, which doubles the size of the map; 2 leaves
                it.
            feature: the vector to retrieve by.
            init: "imagenet" takes ImageNet weights: for EfficientNet-Lite0 from the installed package, for
                other backbones from timm's hub, which needs a network the first time. "random" takes timm's
                own start.
            neck: whether there is a batch norm between pooling and classifier; "after_bn" and "before_bn" are
                the same without.

        Raises:
            ValueError: an argument is outside its range, or there are no ImageNet weights for this backbone.
            FileNotFoundError: the package with the weights of EfficientNet-Lite0 is not installed.
        """
        super().__init__()
        if n_ids < 1:
            raise ValueError(f"n_ids must be at least 1, got {n_ids}")
        _check_one_of("feature", feature, ("after_bn", "before_bn"))
        self.feature: Feature = feature
        self.backbone = build_backbone(backbone, last_stride, init)
        self.mean: tuple[float, ...] = tuple(self.backbone.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(self.backbone.pretrained_cfg["std"])
        self.neck, self.classifier = _head(self.backbone.num_features, n_ids, neck)

    @property
    def layer(self) -> nn.Module:
        """The module whose output is the last map (N, D, h, w): the layer to explain."""
        return self.backbone

    @property
    def head(self) -> nn.Module:
        """What maps the retrieval feature (N, D) to the logits (N, n_ids)."""
        return self.classifier if self.feature == "after_bn" else nn.Sequential(self.neck, self.classifier)

    def returning(self, feature: Feature) -> ReidModel:
        """The same network, parameters shared, with the other feature as its output."""
        _check_one_of("feature", feature, ("after_bn", "before_bn"))
        other = copy.copy(self)
        other.feature = feature
        return other

    def pooled(self, images: Tensor) -> Tensor:
        """The global feature GAP(A), before the neck: (N, 3, H, W) -> (N, D)."""
        return self.backbone(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """The retrieval feature, not L2-normalised: (N, 3, H, W) -> (N, D)."""
        pooled = self.pooled(images)
        return self.neck(pooled) if self.feature == "after_bn" else pooled

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What training needs: the global feature (N, D) before the neck, and the logits (N, n_ids) after
        it."""
        pooled = self.pooled(images)
        return pooled, self.classifier(self.neck(pooled))


def build_backbone(name: str, last_stride: int = 1, init: Init = "imagenet") -> nn.Module:
    """A timm network that maps images (N, 3, H, W) to its last map (N, C, h, w), in training mode.

    Raises:
        ValueError: unknown backbone, `last_stride` or `init`, or no ImageNet weights to be had.
    """
    _check_one_of("last_stride", last_stride, (1, 2))
    _check_one_of("init", init, ("imagenet", "random"))
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name}*")[:5]) or "see timm.list_models()"
        raise ValueError(f"backbone {name!r} is not a timm model; near names: {near}")
    from_hub = init == "imagenet" and name != LITE0
    try:
        backbone = timm.create_model(name, pretrained=from_hub, num_classes=0, global_pool="")
    except Exception as error:
        if not from_hub:
            raise
        raise ValueError(
            f"no ImageNet weights could be loaded for backbone {name!r} ({error}); they come from timm's hub "
            "and need a network the first time; choose init='random' to start without"
        ) from error
    if init == "imagenet" and name == LITE0:
        load_imagenet_lite0(backbone)
    if last_stride == 1:
        remove_last_stride(backbone)
    # Convolutions of this kind run 1.5 times faster on a CPU in this memory layout; the values are the same.
    return backbone.to(memory_format=torch.channels_last)


def remove_last_stride(backbone: nn.Module) -> None:
    """Set the stride of a backbone's last strided block to 1, in place: the map becomes twice as high and
    wide.

    No dilation takes its place, as in the bag of tricks. The weights stay as they are.

    Raises:
        ValueError: the backbone is neither an EfficientNet nor a ResNet of timm, or has an unusual last
            stage.
    """
    probe = torch.zeros(1, 3, 64, 64)
    before = _map_height(backbone, probe)
    block = _last_strided_block(backbone)
    for name, module in list(block.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d):  # the shortcut of the "t" and "d" ResNets
            block.set_submodule(name, nn.Identity())
    if _map_height(backbone, probe) != 2 * before:
        raise ValueError(f"the last stride of this {type(backbone).__name__} could not be removed: use last_stride=2")


def _last_strided_block(backbone: nn.Module) -> nn.Module:
    if isinstance(backbone, ResNet):
        return backbone.layer4[0]
    if isinstance(backbone, EfficientNet):
        blocks = [block for stage in backbone.blocks for block in stage]
        return next(block for block in reversed(blocks) if _is_strided(block))
    raise ValueError(
        "last_stride=1 is known for timm's EfficientNet and ResNet families, not for "
        f"{type(backbone).__name__}: use last_stride=2"
    )


def _is_strided(block: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.stride != (1, 1) for m in block.modules())


@torch.no_grad()
def _map_height(backbone: nn.Module, images: Tensor) -> int:
    """Height of the last map; the running statistics stay untouched."""
    height = backbone.eval()(images).shape[2]
    backbone.train()
    return height


def _head(n_features: int, n_ids: int, with_neck: bool) -> tuple[nn.Module, nn.Linear]:
    if not with_neck:
        return nn.Identity(), nn.Linear(n_features, n_ids)
    neck = nn.BatchNorm1d(n_features)
    neck.bias.requires_grad_(False)  # frozen at 0: the classifier's hyperplanes pass through the origin
    classifier = nn.Linear(n_features, n_ids, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return neck, classifier


def _check_one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
