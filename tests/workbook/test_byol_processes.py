"""BYOL and SimCLR in two processes on a folder of ImageNet's layout: each step is that of two halves of one batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor

from byol_toys import write_imagenet
from workbook import paths
from workbook.byol import BYOL, Views, experiments, train_byol
from workbook.byol.config import PRETEXTS, BYOLConfig
from workbook.byol.network import SimCLR, make_network, make_optimiser, rate_at, simclr_loss, tau_at
from workbook.byol.pictures import PictureFolder
from workbook.byol.views import batches
from workbook.cache.processes import leave

CONFIG = BYOLConfig(
    backbone="test_resnet",
    epochs=3,
    batch_size=8,
    view_size=(32, 32),
    hidden_dim=8,
    output_dim=4,
    optimiser="sgd",
    learning_rate=2.0,
    warmup_epochs=0,
)


def train(fabric: Fabric, root: Path, cache: Path, pretext: str) -> list[list[float]]:
    """All epochs in two calls, the second from the file of the first; tensors would die with their process.

    Returns:
        For each process: two sums over the parameters and the loss of the last epoch.
    """
    seed_everything(fabric.global_rank, verbose=False)  # no result may depend on it
    paths.CACHE, experiments.PAPER = cache, replace(CONFIG, pretext=pretext)  # this process does nothing else
    experiment = experiments.imagenet(root, 1, 0)
    train_byol(experiment.pictures, experiment.config, fabric=fabric, stop_after=1)
    checkpoints = train_byol(experiment.pictures, experiment.config, fabric=fabric)
    flat = torch.cat([p.flatten() for p in checkpoints[-1].backbone.parameters()])
    found = torch.stack([flat.sum(), flat.abs().sum(), torch.tensor(checkpoints[-1].loss)])
    gathered = fabric.all_gather(found.detach()).tolist()
    leave(fabric)
    return gathered


def halves(pictures: PictureFolder, epoch: int) -> list[list[Tensor]]:
    """What two processes see of an epoch of one batch: for each, view 0 and view 1 of its half."""
    views, found = Views(pictures, CONFIG), []
    for rank in (0, 1):
        (items,) = batches(epoch, len(pictures), CONFIG, rank, 2)
        found.append([torch.stack(view) for view in zip(*(views[item] for item in items), strict=True)])
    return found


def loss_of_halves(model: BYOL | SimCLR, parts: list[list[Tensor]]) -> Tensor:
    """Batch norms see their half only; BYOL's loss is a mean of the halves, SimCLR's contrasts all views."""
    if isinstance(model, BYOL):
        return sum(model(*views)[0] for views in parts) / 2
    z0, z1 = (torch.cat([model.projector(model.backbone(views[k])) for views in parts]) for k in (0, 1))
    return simclr_loss(z0, z1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pretext", PRETEXTS)
def test_two_processes_take_the_steps_of_two_halves_of_each_batch(
    pretext: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_imagenet(tmp_path)
    cache = tmp_path / "cache"
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    first, second = fabric.launch(train, tmp_path, cache, pretext)
    assert first == second

    monkeypatch.setattr(experiments, "PAPER", CONFIG)
    pictures = experiments.imagenet(tmp_path, 1, 0).pictures
    torch.manual_seed(CONFIG.seed)
    model = make_network(replace(CONFIG, pretext=pretext))
    optimiser = make_optimiser(model, CONFIG)
    start = copy.deepcopy(model.backbone)
    for epoch in range(CONFIG.epochs):
        loss = loss_of_halves(model, halves(pictures, epoch))
        for group in optimiser.param_groups:
            group["lr"] = rate_at(epoch, 1, CONFIG)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.move_target(tau_at(epoch, 1, CONFIG))
    finished = next(iter(cache.iterdir())) / "epoch-0003.pt"
    trained = torch.load(finished, weights_only=True)["backbone"]
    moved = 0
    for (name, expected), begun in zip(model.backbone.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(trained[name], expected.detach(), rtol=1e-4, atol=1e-5, msg=name)
        moved += not torch.allclose(begun, expected, atol=1e-3)
    assert moved > 10, "the steps are too small to tell right from wrong"
    assert first[2] == pytest.approx(loss.item(), abs=1e-3)
