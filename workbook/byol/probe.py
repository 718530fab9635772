"""What an explanation by classes needs that FAM does not: labels, and a classifier trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib.faithfulness import paired_difference, summarise
from fam_lib.similarity import spearman
from workbook.byol.analysis import measure
from workbook.byol.training import Checkpoint
from workbook.tables import interval_columns

STEPS = 200  # of L-BFGS; on a few hundred features it ends long before
DECAY = 1e-2  # on the weights for standardised features; the bias has none


def linear_probe(features: Tensor, labels: Tensor) -> nn.Linear:
    """Multinomial logistic regression on frozen features, solved to its optimum.

    The features are standardised, dimension by dimension, and what was learned is expressed for features as they
    are: mean cross-entropy + :data:`DECAY` / 2 |W|^2, W for standardised features.

    Args:
        features: (n, D).
        labels: (n,) integers 0..K-1.

    Returns:
        Features (N, D) -> logits (N, K), float32, in eval mode and without gradients.
    """
    mean, std = features.double().mean(0), features.double().std(0).clamp_min(1e-6)
    x = (features.double() - mean) / std
    weight = torch.zeros(int(labels.max()) + 1, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, labels) + DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    probe = nn.Linear(features.shape[1], len(weight)).requires_grad_(False)
    weight, bias = weight.detach() / std, bias.detach()
    probe.weight.copy_(weight)
    probe.bias.copy_(bias - weight @ mean)
    return probe.eval()


def probe_table(
    checkpoints: Sequence[Checkpoint],
    maps: Mapping[str, Sequence[Tensor]],
    masks: Tensor,
    right: Sequence[Tensor],
    n_labels: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Grad-CAM on a linear probe beside the maps that need no label.

    Args:
        checkpoints: C of them.
        maps: method -> C tensors (N, h, w), with "grad-cam" among them.
        masks: (N, H, W) bool, the foreground.
        right: C tensors (N,) bool: does the probe name the image's class?
        n_labels: labels that the probe was trained on.
        seed: of the bootstrap over images.

    Returns:
        A row for each checkpoint and method: epoch, share, method, n, n_labels, accuracy of the probe in percent,
        energy on the foreground in percent, excess (points of energy over Grad-CAM, paired) and spearman (rank
        correlation of the raw map with Grad-CAM's), each with a 95 % interval ``_lo``, ``_hi``.
    """
    rows = []
    for i, checkpoint in enumerate(checkpoints):
        energy = {method: measure(cams[i], masks)["energy"] for method, cams in maps.items()}
        for method, cams in maps.items():
            row = {"epoch": checkpoint.epoch, "share": checkpoint.epoch / checkpoints[-1].epoch, "method": method}
            row |= {"n": len(masks), "n_labels": n_labels}
            for name, summary in {
                "accuracy": summarise(100 * right[i].double(), seed=seed),
                "energy": summarise(energy[method], seed=seed),
                "excess": paired_difference(energy[method], energy["grad-cam"], seed=seed),
                "spearman": summarise(spearman(cams[i], maps["grad-cam"][i]), seed=seed),
            }.items():
                row |= interval_columns(name, summary)
            rows.append(row)
    return pd.DataFrame(rows)
