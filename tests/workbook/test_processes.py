"""Training in two processes: each step is that of one process on the same whole batch; and they end in order.

The two are started once for all tests: to import everything takes them longer than all that they do.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor, distributed, nn

from byol_toys import write_imagenet
from workbook import paths
from workbook.byol import BYOL, Views, experiments, train_byol
from workbook.byol.config import PRETEXTS, BYOLConfig
from workbook.byol.network import SimCLR, make_network, make_optimiser, simclr_loss
from workbook.byol.pictures import PictureFolder
from workbook.byol.schedule import rate_at, tau_at
from workbook.byol.views import batches
from workbook.cache.processes import leave
from workbook.reid.config import TrainConfig
from workbook.reid.losses import ReidLoss
from workbook.reid.training import Learner, _step

pytestmark = pytest.mark.filterwarnings("ignore")

# Two processes add up gradients in another order than one. In float32 three steps of BYOL, with batch norms of four
# images, make 1e-5 of this rounding, more or less with the processor; in float64 1e-14, and of SimCLR, whose loss is
# computed in float32 whatever its inputs are, 1e-7. The weights move by up to 0.7.
PRECISION = "64-true"
ROUNDING = 1e-6


class Found(NamedTuple):
    """What the first of the two processes saw; tensors would die with it."""

    steps: dict[str, list]  # of `two_steps`
    trained: dict[str, list[list[float]]]  # pretext -> of `train`
    ended: tuple[bool, bool]  # of `end_with_pending_work`


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in ImageNet's layout, and for each pretext task the cache that the two processes wrote."""
    path = tmp_path_factory.mktemp("imagenet")
    write_imagenet(path)
    return path


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn", precision=PRECISION)
    return fabric.launch(in_a_process, folder)


def in_a_process(fabric: Fabric, folder: Path) -> Found:
    steps = two_steps(fabric)
    trained = {pretext: train(fabric, folder, pretext) for pretext in PRETEXTS}
    return Found(steps, trained, end_with_pending_work(fabric))


# ---- re-identification ----------------------------------------------------------------------------------

REID = TrainConfig(center_weight=0.01, ids_per_batch=3, images_per_id=2)


class WithoutBatchNorm(nn.Module):
    """Batch norm sees each process's part; everything else must not notice how many processes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, 3)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.conv(images).relu().mean((2, 3))
        return pooled, self.classifier(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(images)[0]


def two_steps(fabric: Fabric) -> dict[str, list]:
    """Weights and centers after two steps on one seeded batch."""
    torch.manual_seed(0)
    model, loss = WithoutBatchNorm(), ReidLoss(REID, 3, 4)
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    wrapped.mark_forward_method("heads")
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    for _ in range(2):
        _step(Learner(model, wrapped, optimizer, loss), images, labels, fabric)
    return {name: values.tolist() for name, values in {**model.state_dict(), "centers": loss.centers}.items()}


def test_two_processes_take_the_steps_of_one(found: Found) -> None:
    expected = two_steps(Fabric(accelerator="cpu", devices=1))
    torch.manual_seed(0)
    start = WithoutBatchNorm().state_dict()
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(found.steps[name]), torch.tensor(values), rtol=0, atol=ROUNDING)
        assert name == "centers" or (torch.tensor(values) - start[name]).abs().max() > 1e-3, f"{name} was not trained"


# ---- BYOL and SimCLR ------------------------------------------------------------------------------------

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


def train(fabric: Fabric, folder: Path, pretext: str) -> list[list[float]]:
    """All epochs in two calls, the second from the file of the first.

    Returns:
        For each process: two sums over the parameters and the loss of the last epoch.
    """
    seed_everything(fabric.global_rank, verbose=False)  # no result may depend on it
    paths.CACHE, experiments.PAPER = folder / pretext, replace(CONFIG, pretext=pretext)  # nobody needs the real ones
    experiment = experiments.imagenet(folder, 1, 0)
    train_byol(experiment.pictures, experiment.config, fabric=fabric, stop_after=1)
    checkpoints = train_byol(experiment.pictures, experiment.config, fabric=fabric)
    flat = torch.cat([p.flatten() for p in checkpoints[-1].backbone.parameters()])
    sums = torch.stack([flat.sum(), flat.abs().sum(), torch.tensor(checkpoints[-1].loss)])
    return fabric.all_gather(sums.detach()).tolist()


def halves(pictures: PictureFolder, epoch: int) -> list[list[Tensor]]:
    """What two processes see of an epoch of one batch: for each, view 0 and view 1 of its half."""
    views, seen = Views(pictures, CONFIG), []
    for rank in (0, 1):
        (items,) = batches(epoch, len(pictures), CONFIG, rank, 2)
        seen.append([torch.stack(view).double() for view in zip(*(views[item] for item in items), strict=True)])
    return seen


def loss_of_halves(model: BYOL | SimCLR, parts: list[list[Tensor]]) -> Tensor:
    """Batch norms see their half only; BYOL's loss is a mean of the halves, SimCLR's contrasts all views."""
    if isinstance(model, BYOL):
        return sum(model(*views)[0] for views in parts) / 2
    z0, z1 = (torch.cat([model.projector(model.backbone(views[k])) for views in parts]) for k in (0, 1))
    return simclr_loss(z0, z1)


@pytest.mark.parametrize("pretext", PRETEXTS)
def test_two_processes_take_the_steps_of_two_halves_of_each_batch(
    pretext: str, found: Found, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = found.trained[pretext]
    assert first == second

    monkeypatch.setattr(experiments, "PAPER", CONFIG)
    pictures = experiments.imagenet(folder, 1, 0).pictures
    torch.manual_seed(CONFIG.seed)
    model = make_network(replace(CONFIG, pretext=pretext)).double()
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
    (finished,) = (folder / pretext).glob("*/epoch-0003.pt")
    trained = torch.load(finished, weights_only=True)["backbone"]
    moved = 0
    for (name, expected), begun in zip(model.backbone.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(trained[name], expected.detach(), rtol=0, atol=ROUNDING, msg=name)
        moved += not torch.allclose(begun, expected, rtol=0, atol=1000 * ROUNDING)
    assert moved > 10, "the steps are too small to tell right from wrong"
    assert first[2] == pytest.approx(loss.item(), abs=1e-4)


# ---- the end --------------------------------------------------------------------------------------------


def end_with_pending_work(fabric: Fabric) -> tuple[bool, bool]:
    """Part while sums over the processes are still under way.

    Returns:
        Whether all of them are done, and whether a connection is left.
    """
    sums = [torch.ones(1000) for _ in range(200)]
    pending = [distributed.all_reduce(part, async_op=True) for part in sums]
    leave(fabric)
    done = all(work.is_completed() for work in pending) and all(bool((part == 2).all()) for part in sums)
    return done, distributed.is_initialized()


def test_processes_wait_for_pending_work_and_close_their_connections(found: Found) -> None:
    """Without `leave` every third such run was aborted ("terminate called without an active exception")."""
    assert found.ended == (True, False)


def test_the_others_are_waited_for_before_the_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fabric = Fabric(accelerator="cpu", devices=1)
    monkeypatch.setattr(fabric, "barrier", lambda: order.append("wait"))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: order.append("close"))
    leave(fabric)
    assert order == ["wait", "close"]


def test_a_process_by_itself_has_nobody_to_leave() -> None:
    leave(Fabric(accelerator="cpu", devices=1))
    assert not distributed.is_initialized()
