"""The networks of the two pretext tasks, their losses, and the optimiser.

BYOL's loss is DeepMind's ``2 (c(p0, z1) + c(p1, z0))`` with c the negative cosine. Biases and norm layers are neither
decayed nor, with LARS, adapted. The target's batch norms keep statistics of their own, from its own forwards.

SimCLR (Chen et al., 2020) is the second task, for comparison: the same backbone, views, optimiser and learning rates,
so that the task is all that differs. (SimCLR's own recipe has symmetric views.)
"""

from __future__ import annotations

import copy

import timm
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, get_weight_decay_parameters, update_momentum
from lightly.utils.lars import LARS
from torch import Tensor, nn

from workbook.byol.config import BYOLConfig
from workbook.byol.schedule import peak_rate
from workbook.random_state import private_random_state

TEMPERATURE = 0.5  # of SimCLR's loss: its authors' for small pictures, and lightly's


class BYOL(nn.Module):
    """The online and the target network. ``forward(view0, view1)`` gives the loss and the projections."""

    def __init__(self, config: BYOLConfig) -> None:
        super().__init__()
        self.backbone = make_backbone(config)
        features = self.backbone.num_features
        self.projector = BYOLProjectionHead(features, config.hidden_dim, config.output_dim)
        self.predictor = BYOLPredictionHead(config.output_dim, config.hidden_dim, config.output_dim)
        self.target_backbone = copy.deepcopy(self.backbone)
        self.target_projector = copy.deepcopy(self.projector)
        deactivate_requires_grad(self.target_backbone)
        deactivate_requires_grad(self.target_projector)

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, Tensor]:
        """Views (N, 3, h, w) -> the loss, a scalar, and the online projections of view 0, (N, output_dim)."""
        z0, z1 = self.projector(self.backbone(view0)), self.projector(self.backbone(view1))
        p0, p1 = self.predictor(z0), self.predictor(z1)
        with torch.no_grad():
            t0 = self.target_projector(self.target_backbone(view0))
            t1 = self.target_projector(self.target_backbone(view1))
        return byol_loss(p0, p1, t0, t1), z0.detach()

    def move_target(self, tau: float) -> None:
        """target <- tau target + (1 - tau) online, for the parameters; buffers stay the target's own."""
        update_momentum(self.backbone, self.target_backbone, tau)
        update_momentum(self.projector, self.target_projector, tau)


def byol_loss(p0: Tensor, p1: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
    """2 (c(p0, t1) + c(p1, t0)), c the mean negative cosine; predictions and targets (N, D) -> in [-4, 4]."""
    negative_cosine = NegativeCosineSimilarity()
    return 2 * (negative_cosine(p0.float(), t1.float()) + negative_cosine(p1.float(), t0.float()))


class SimCLR(nn.Module):
    """One network. ``forward(view0, view1)`` gives the loss and the projections, as :class:`BYOL`'s does."""

    def __init__(self, config: BYOLConfig) -> None:
        super().__init__()
        self.backbone = make_backbone(config)
        self.projector = SimCLRProjectionHead(self.backbone.num_features, config.hidden_dim, config.output_dim)

    def forward(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, Tensor]:
        """Views (N, 3, h, w) -> the loss, a scalar, and the projections of view 0, (N, output_dim)."""
        z0, z1 = self.projector(self.backbone(view0)), self.projector(self.backbone(view1))
        return simclr_loss(z0, z1), z0.detach()

    def move_target(self, tau: float) -> None:
        """There is no target: what keeps SimCLR from collapse are the other pictures of the batch."""


def simclr_loss(z0: Tensor, z1: Tensor) -> Tensor:
    """NT-Xent: the mean over all 2N views of -log softmax(cosine / temperature), read at the picture's other view.

    The softmax is over the other 2N - 1 views. With several processes, over those of all of them, and the mean over
    processes is the loss of the whole batch.

    Args:
        z0: (N, D), projections of view 0.
        z1: (N, D), of view 1, in the same order.

    Returns:
        A scalar; log(2N - 1) if no view is nearer to one than to another.
    """
    return NTXentLoss(TEMPERATURE, gather_distributed=True)(z0.float(), z1.float())


def make_network(config: BYOLConfig) -> BYOL | SimCLR:
    """The network that learns the pretext task of ``config``, with heads drawn from torch's generator."""
    return {"byol": BYOL, "simclr": SimCLR}[config.pretext](config)


def make_backbone(config: BYOLConfig) -> nn.Module:
    """The network of ``config`` without a classifier, with random weights drawn from its seed."""
    with private_random_state(config.seed):
        return timm.create_model(config.backbone, pretrained=False, num_classes=0, **dict(config.backbone_options))


def make_optimiser(model: BYOL | SimCLR, config: BYOLConfig) -> torch.optim.Optimizer:
    """LARS, SGD or AdamW over all but the target; biases and norm layers without decay (and adaptation)."""
    learned = [part for part in model.children() if next(part.parameters()).requires_grad]
    decayed, plain = get_weight_decay_parameters(learned)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    rate = peak_rate(config)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    return LARS(groups, lr=rate, momentum=0.9)
