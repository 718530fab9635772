"""Small networks of the kinds in use. They give features; with `classes`, logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import EfficientNet, MobileNetV2, VisionTransformer
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation


def head(width: int, classes: int) -> nn.Module:
    return nn.Linear(width, classes) if classes else nn.Identity()


class Residual(nn.Module):
    """A ResNet of torchvision's blocks; the last stage keeps its stride of 1, and the map is 1/8 of the image."""

    def __init__(self, block: type[BasicBlock | Bottleneck], widths: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, widths[0], 3, 2)
        self.stages, given = nn.Sequential(), widths[0]
        for width, stride in zip(widths, (1, 2, 2, 1), strict=True):
            out = width * block.expansion
            shortcut = Conv2dNormActivation(given, out, 1, stride, activation_layer=None)
            self.stages.append(nn.Sequential(block(given, width, stride, shortcut), block(out, width)))
            given = out
        self.head = head(given, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)).mean((2, 3)))


def resnet(classes: int = 0) -> nn.Module:
    return Residual(BasicBlock, (6, 8, 12, 24), classes)


def bottlenecks(classes: int = 0) -> nn.Module:
    return Residual(Bottleneck, (4, 6, 8, 12), classes)


def mobilenet(classes: int = 0) -> nn.Module:
    """Inverted residuals, and a wide convolution behind them."""
    blocks = [[1, 8, 1, 1], [4, 16, 2, 2], [4, 24, 1, 2], [4, 48, 1, 1]]
    model = MobileNetV2(width_mult=0.5, inverted_residual_setting=blocks, round_nearest=4)
    model.classifier = head(model.last_channel, classes)
    return model


def efficientnet(classes: int = 0) -> nn.Module:
    """Channel attention, SiLU and stochastic depth."""
    blocks = [MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 8, 12, 2, 1.0, 1.0)]
    model = EfficientNet(blocks, dropout=0.2, last_channel=32)
    model.classifier = head(32, classes)
    return model


class Branches(nn.Module):
    """A stage of HRNet: maps of four resolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(Conv2dNormActivation(width, width, 3, 2) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for down in self.down:
            maps.append(down(maps[-1]))
        return maps


class HighResolution(nn.Module):
    """As HRNet: a stage returns a list of maps, which are brought to one size and joined."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv2dNormActivation(3, 6, 3, 2), Conv2dNormActivation(6, 6, 3, 2))
        self.stage = Branches(6)
        self.final_layer = Conv2dNormActivation(24, 16, 1)
        self.head = head(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        first, *others = self.stage(self.stem(images))
        joined = [first, *(nn.functional.interpolate(x, first.shape[-2:]) for x in others)]
        return self.head(self.final_layer(torch.cat(joined, 1)).mean((2, 3)))


class Vgg(nn.Module):
    """Convolutions, max pooling, adaptive pooling, fully connected layers."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(nn.Linear(108, 16), nn.ReLU(inplace=True), nn.Linear(16, classes or 16))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class Attention(nn.Module):
    """As timm has it: queries and keys (N, heads, T, d) pass modules, which normalise them or do nothing."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm, self.proj = nn.Identity(), nn.Identity(), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Vit(nn.Module):
    """A class token and one token for each 16 x 16 pixels; the feature is that of the class token."""

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, width, 16, 16), nn.Parameter(torch.zeros(1, 1, width))
        self.attn, self.norm = Attention(width, heads), nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.norm(self.attn(torch.cat([self.token.expand(len(images), -1, -1), tokens], 1)))[:, 0]


class SequenceFirst(nn.Module):
    """A transformer in PyTorch's default layout, (T, N, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(self.patches(images).flatten(2).permute(2, 0, 1)).mean(0)


class ChannelsLast(nn.Module):
    """As timm's Swin: maps (N, h, w, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 48, 32, 32), nn.LayerNorm(48)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.patches(images).permute(0, 2, 3, 1)).mean((1, 2))


def torchvision_vit() -> nn.Module:
    return VisionTransformer(64, 16, 1, 2, 8, 8)
