"""Training with checkpoints: atomic, resumable, found again by the hash of images and settings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightly.utils.debug import std_of_l2_normalized
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fam_lib.randomize import estimate_statistics
from workbook import paths
from workbook.byol.config import BYOLConfig
from workbook.byol.network import BYOL, SimCLR, make_backbone, make_network, make_optimiser
from workbook.byol.pictures import PictureFolder
from workbook.byol.schedule import rate_at, tau_at
from workbook.byol.views import Views, batches, normalise
from workbook.cache import shards, store
from workbook.random_state import private_random_state

SHARES = (0.4, 0.7, 1.0)  # of the schedule: the paper's epochs 80, 140 and 200 of 200
CALIBRATION_IMAGES = 256  # for the batch norms of the untrained network
COLLAPSED = 0.1  # spread of the projections, 1 where they are isotropic, below which we speak of collapse


@dataclass(frozen=True)
class Checkpoint:
    """The online backbone at one moment of the training.

    Attributes:
        epoch: epochs done; 0 is the untrained network the training began with.
        backbone: (N, 3, H, W) normalised images -> (N, D) features, in eval mode.
        loss: mean loss of the last epoch; BYOL's lies in [-4, 4], -4 is perfect agreement; NaN at epoch 0.
        spread: see :func:`spread`, on projections of training views in the last epoch; NaN at epoch 0.
        history: a row for each epoch so far: epoch, loss, spread, rate, tau.
    """

    epoch: int
    backbone: nn.Module
    loss: float
    spread: float
    history: tuple[dict[str, float], ...]


def milestones(epochs: int) -> tuple[int, ...]:
    """Epochs at which a checkpoint is kept: 80, 140 and 200 of 200."""
    return tuple(sorted({max(1, round(share * epochs)) for share in SHARES}))


def train_byol(
    images: Tensor | PictureFolder,
    config: BYOLConfig,
    *,
    fabric: Fabric | None = None,
    n_workers: int = 0,
    progress: Callable[[str], None] | None = None,
    judge: Callable[[nn.Module], float] | None = None,
    n_threads: int | None = None,
    stop_after: int | None = None,
) -> list[Checkpoint]:
    """Train the pretext task of ``config``, or read what an earlier call trained; an interrupted training goes on.

    Checkpoints are kept in a folder of :data:`workbook.paths.CACHE` named by the pretext task and the hash of images
    and config.

    Args:
        images: (N, 3, H, W) uint8 or a folder of pictures, N at least ``config.batch_size``.
        config: see :class:`BYOLConfig`.
        fabric: devices and processes, for instance ``Fabric("gpu", devices=4)``, already launched; None is
            one process on the CPU.
        n_workers: processes that make views; the result does not depend on it.
        progress: called once an epoch with a line of text, for instance ``print``.
        judge: gives the k-NN accuracy of a backbone in [0, 1], for the line of a milestone.
        n_threads: of torch while training; None leaves its own number. With a small network and few cores, one
            thread is faster than two that wait for each other, and leaves a core for the views.
        stop_after: leave once this many epochs are done in all; a later call goes on from there.

    Returns:
        The untrained network, then one checkpoint for each of :func:`milestones` that was reached.

    Raises:
        ValueError: images of the wrong kind, or fewer than a batch.
        FloatingPointError: the loss is not finite.
    """
    _check_images(images, config)
    folder = paths.CACHE / training_name(images, config)
    wanted = milestones(config.epochs)
    if not all(_milestone(folder, epoch).exists() for epoch in wanted):
        fabric = fabric or Fabric(accelerator="cpu", devices=1, precision=config.precision)
        last = config.epochs if stop_after is None else min(stop_after, config.epochs)
        with _threads(n_threads):
            _train(images, config, folder, fabric, n_workers, _teller(config, progress, judge), last)
    reached = [_load(folder, epoch, config) for epoch in wanted if _milestone(folder, epoch).exists()]
    return [untrained(images, config), *reached]


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n or before)
        yield
    finally:
        torch.set_num_threads(before)


def _teller(
    config: BYOLConfig, progress: Callable[[str], None] | None, judge: Callable[[nn.Module], float] | None
) -> Callable[[dict[str, float], nn.Module], None]:
    """What is said after an epoch, given its row of the history and the backbone."""

    def tell(row: dict[str, float], backbone: nn.Module) -> None:
        if progress is not None:
            judged = judge is not None and row["epoch"] in milestones(config.epochs)
            progress(describe(row, config) + (f"  k-NN accuracy {judge(backbone):.1%}" if judged else ""))

    return tell


def untrained(images: Tensor | PictureFolder, config: BYOLConfig) -> Checkpoint:
    """Epoch 0: the weights the training began with, batch norms calibrated on images from the whole set.

    A batch norm that has seen no image does not normalise at all; comparing a trained network with that would
    credit the training with what one forward pass does.
    """
    backbone = make_backbone(config)
    some = range(0, len(images), max(1, len(images) // CALIBRATION_IMAGES))[:CALIBRATION_IMAGES]
    pictures = images[list(some)] if isinstance(images, Tensor) else images.resized(some)
    estimate_statistics(backbone, [name for name, _ in backbone.named_modules()], normalise(pictures, config))
    return Checkpoint(0, backbone.eval(), float("nan"), float("nan"), ())


def _train(
    images: Tensor | PictureFolder,
    config: BYOLConfig,
    folder: Path,
    fabric: Fabric,
    n_workers: int,
    tell: Callable[[dict[str, float], nn.Module], None],
    last: int,
) -> None:
    """Train from the newest state in ``folder``, or from the start, until ``last`` epochs are done."""
    with private_random_state(config.seed):
        model = make_network(config).to(memory_format=torch.channels_last)
    if fabric.world_size > 1 and fabric.device.type == "cuda":  # as DeepMind has it; torch has none for CPUs
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    online = make_optimiser(model, config)
    wrapped, optimiser = fabric.setup(model, online)
    history = _resume(folder, model, online, fabric.device)
    views = _loader(images, config, range(len(history), last), fabric, n_workers)
    steps_per_epoch = len(images) // config.batch_size
    for epoch in range(len(history), last):
        row = _train_epoch(wrapped, model, optimiser, views, epoch, steps_per_epoch, config, fabric)
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(
                f"the loss is {row['loss']} in epoch {epoch + 1}: lower learning_rate or raise warmup_epochs"
            )
        history.append(row)
        if fabric.is_global_zero:
            _save(folder, model, online, history, config)
            tell(row, model.backbone)
        fabric.barrier()


def _loader(
    images: Tensor | PictureFolder, config: BYOLConfig, epochs: range, fabric: Fabric, n_workers: int
) -> Iterator:
    """All batches of the epochs in a row, so that workers start once and never wait for an epoch to end."""
    items = (
        batch
        for epoch in epochs
        for batch in batches(epoch, len(images), config, fabric.global_rank, fabric.world_size)
    )
    loader = DataLoader(Views(images, config), batch_sampler=items, num_workers=n_workers, generator=torch.Generator())
    return iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))


def _train_epoch(
    wrapped: nn.Module,
    model: BYOL | SimCLR,
    optimiser: torch.optim.Optimizer,
    views: Iterator,
    epoch: int,
    steps: int,
    config: BYOLConfig,
    fabric: Fabric,
) -> dict[str, float]:
    """One epoch. Returns its mean loss and spread, and the learning rate and tau of its last step."""
    wrapped.train()
    losses, spreads = [], []
    for step in range(epoch * steps, (epoch + 1) * steps):
        rate, tau = rate_at(step, steps, config), tau_at(step, steps, config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, z = wrapped(*(view.contiguous(memory_format=torch.channels_last) for view in next(views)))
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        model.move_target(tau)
        losses.append(loss.detach())
        spreads.append(spread(z))
    means = fabric.all_reduce(torch.stack([torch.stack(losses).mean(), torch.stack(spreads).mean()]), reduce_op="mean")
    return {"epoch": epoch + 1, "loss": means[0].item(), "spread": means[1].item(), "rate": rate, "tau": tau}


def spread(features: Tensor) -> Tensor:
    """How far the directions of features (N, D) spread: 1 where they are isotropic, 0 where they collapsed.

    The mean over dimensions of the standard deviation of L2-normalised features, times sqrt(D).
    """
    return std_of_l2_normalized(features.float()) * features.shape[1] ** 0.5


def describe(row: dict[str, float], config: BYOLConfig) -> str:
    """One line about an epoch; it says so where the representation has collapsed."""
    tau = f"  tau {row['tau']:.4f}" if config.pretext == "byol" else ""
    warning = "  COLLAPSED: all images get nearly one projection" if row["spread"] < COLLAPSED else ""
    return (
        f"epoch {row['epoch']:.0f}/{config.epochs}  loss {row['loss']:+.3f}  spread {row['spread']:.2f}{tau}{warning}"
    )


# ---- what is kept on disk -----------------------------------------------------------------------------


def training_name(images: Tensor | PictureFolder, config: BYOLConfig) -> str:
    """``<pretext>-<hash>``, the hash of everything else, and so the same as when BYOL was the only task."""
    settings = {"class": "BYOLConfig", **asdict(config)}
    return f"{settings.pop('pretext')}-{store.key(settings, _digest(images))}"


def _milestone(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.pt"


def _save(
    folder: Path,
    model: BYOL | SimCLR,
    optimiser: torch.optim.Optimizer,
    history: list[dict[str, float]],
    config: BYOLConfig,
) -> None:
    """Write the backbone at a milestone, and the state from which to go on, which the last epoch removes."""
    epoch = len(history)
    if epoch in milestones(config.epochs):
        shards.save(_milestone(folder, epoch), {"backbone": model.backbone.state_dict(), "history": history})
    state = folder / "state.pt"
    if epoch == config.epochs:
        state.unlink(missing_ok=True)
        return
    shards.save(state, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "history": history})


def _resume(
    folder: Path, model: BYOL | SimCLR, optimiser: torch.optim.Optimizer, device: torch.device
) -> list[dict[str, float]]:
    """Load the newest state, if there is one, and return the history up to it."""
    path = folder / "state.pt"
    if not path.exists():
        return []
    state = shards.load(path, device)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["history"]


def _load(folder: Path, epoch: int, config: BYOLConfig) -> Checkpoint:
    saved = shards.load(_milestone(folder, epoch))
    backbone = make_backbone(config)
    backbone.load_state_dict(saved["backbone"])
    last = saved["history"][-1]
    return Checkpoint(epoch, backbone.eval(), last["loss"], last["spread"], tuple(saved["history"]))


def _check_images(images: Tensor | PictureFolder, config: BYOLConfig) -> None:
    if isinstance(images, Tensor) and (images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3):
        raise ValueError(f"images must be uint8 (N, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if len(images) < config.batch_size:
        raise ValueError(f"{len(images)} images are fewer than batch_size={config.batch_size}")


def _digest(images: Tensor | PictureFolder) -> str:
    if isinstance(images, PictureFolder):
        return images.digest()
    shape = str(tuple(images.shape)).encode()
    return hashlib.sha256(shape + images.contiguous().numpy().tobytes()).hexdigest()
