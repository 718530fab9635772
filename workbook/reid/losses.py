"""The loss of the bag of tricks: smoothed identity loss, batch-hard triplets, center loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from workbook.reid.config import TrainConfig


class ReidLoss(nn.Module):
    """(global features (n, D), logits (n, ids), labels (n,)) -> scalar.

    The sum of

    - cross-entropy with label smoothing on the logits behind the neck;
    - batch-hard triplet loss on the global features before it: max(0, farthest positive - nearest negative +
      margin), Euclidean distances without normalisation, averaged over all anchors;
    - `center_weight` times the center loss, see :func:`center_loss`.

    Attributes:
        centers: (ids, D), one center per identity, standard normal at the start; no rows without a center loss.
    """

    def __init__(self, config: TrainConfig, n_ids: int, n_features: int) -> None:
        super().__init__()
        # The package's defaults normalise the features and average over active anchors only.
        distance = LpDistance(normalize_embeddings=False)
        self.triplet = TripletMarginLoss(margin=config.triplet_margin, distance=distance, reducer=MeanReducer())
        self.hardest = BatchHardMiner(distance=distance)
        self.config = config
        self.register_buffer("centers", torch.randn(n_ids if config.center_weight else 0, n_features))

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        loss = loss + self.triplet(features, labels, self.hardest(features, labels))
        if self.config.center_weight:
            loss = loss + self.config.center_weight * center_loss(features, self.centers, labels)
        return loss

    @torch.no_grad()
    def move_centers(self, features: Tensor, labels: Tensor) -> None:
        """One step of gradient descent on the center loss, which `center_weight` does not slow down."""
        if self.config.center_weight:
            pull = (features - self.centers[labels]) * (2 * self.config.center_lr / len(labels))
            self.centers.index_add_(0, labels, pull)


def center_loss(features: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of each feature to the center of its identity, mean over the batch.

    features (n, D), centers (ids, D), labels (n,) -> scalar.
    """
    return (features - centers[labels]).square().sum(1).mean()
