"""Training of the Re-ID network: the bag of tricks, reproducible, resumable, found again in the cache."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from workbook import paths
from workbook.cache.shards import damaged
from workbook.cache.store import atomic_path, key, sha256
from workbook.images import load_pixels, normalise
from workbook.random_state import private_random_state
from workbook.reid.batches import identity_batches, random_erasing, random_flip, random_shift
from workbook.reid.config import TrainConfig
from workbook.reid.data import ImageSet, ReidData
from workbook.reid.features import retrieval_scores
from workbook.reid.losses import ReidLoss
from workbook.reid.model import ReidModel

CODE_VERSION = 2  # count up when a change of the code changes what is trained: it is part of every cache key
SCORED_EVERY = 10  # epochs between two looks at rank-1 and mAP, where progress is shown
_PIXELS_IN_MEMORY = 4 * 2**30  # bytes of training images kept decoded
_PAD_HEIGHT = 256  # the image height that TrainConfig.pad refers to


@dataclass(frozen=True, eq=False)
class Learner:
    """A network in training.

    Attributes:
        model: the network.
        wrapped: the same as Fabric runs it: on its device, in its precision, in several processes.
        optimizer: Adam on its parameters.
        loss: with the centers, which are trained too.
    """

    model: ReidModel
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    loss: ReidLoss

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "loss": self.loss}


def train(
    data: ReidData,
    config: TrainConfig,
    cache: Path | None = None,
    fabric: Fabric | None = None,
    progress: bool = True,
) -> ReidModel:
    """Train a network on `data.train`, or fetch it from the cache.

    The cache holds `reid/<key>.pt`, the key made of the configuration, the training files' names and contents
    and `CODE_VERSION`. During training `reid/<key>.epoch.pt` beside it holds the last whole epoch; a training
    that was killed goes on from there. A damaged file in the cache is an error that says to delete it.

    Args:
        data: images; only the training split has an influence.
        config: how to train.
        cache: folder; None takes `workbook.paths.CACHE`.
        fabric: devices and processes, for instance ``Fabric("gpu", devices=4)``, already launched; None is one
            process on the CPU. Not part of the key: other devices give the same up to rounding. Several
            processes share each batch of P x K images and mine triplets in the whole of it; batch norm sees
            each process's part.
        progress: show a bar on stderr, with the loss and every `SCORED_EVERY` epochs rank-1 and mAP of the
            queries.

    Returns:
        The network on Fabric's device, in eval mode. Class k of its classifier is the k-th smallest training
        identity.

    Raises:
        ValueError: a bad configuration for these images, an unreadable image, or a damaged file in the cache.
        FloatingPointError: the loss is no longer a finite number; nothing of that epoch is kept.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1, precision=config.precision)
    final = (paths.CACHE if cache is None else Path(cache)) / "reid" / f"{cache_key(data, config)}.pt"
    if final.exists():
        model = _new_model(data.train, replace(config, init="random"))
        _restore(final, {"model": model})
        return model.to(fabric.device).eval()
    learner = _new_learner(data.train, config, fabric)
    checkpoint = final.with_suffix(".epoch.pt")
    _fit(learner, data, config, checkpoint, fabric, progress and fabric.is_global_zero)
    if fabric.is_global_zero:
        with atomic_path(final) as temporary:
            torch.save({"config": asdict(config), "model": learner.model.state_dict()}, temporary)
        checkpoint.unlink(missing_ok=True)
    fabric.barrier()
    return learner.model.eval()


def cache_key(data: ReidData, config: TrainConfig) -> str:
    """The name of a training: a hash of its configuration, its images and the version of the code."""
    images = [[path.name, sha256(path)] for path in data.train.paths]
    return key("reid", CODE_VERSION, asdict(replace(config, feature="after_bn")), images)


def learning_rate(config: TrainConfig, position: float) -> float:
    """The learning rate at a position in the training.

    Args:
        config: schedule.
        position: epochs counted from 1, with the share of the epoch behind the point: 3.5 is half through the
            third.

    Returns:
        The rate. The warm-up over w epochs multiplies by `warmup_factor * (1 - position / w) + position / w`.
        The step schedule, its warm-up included, changes between epochs only, as the bag of tricks has it. The
        cosine reaches 0 at the end, position `epochs + 1`.
    """
    warmup = config.warmup_epochs
    position = math.floor(position) if config.schedule == "step" else position
    if position < warmup:
        return config.lr * (config.warmup_factor * (1 - position / warmup) + position / warmup)
    if config.schedule == "step":
        return config.lr * config.decay ** sum(position >= milestone for milestone in config.milestones)
    begin, end = max(warmup, 1), config.epochs + 1
    return config.lr * (1 + math.cos(math.pi * (position - begin) / max(end - begin, 1))) / 2


def augment(pixels: Tensor, config: TrainConfig, mean: tuple, std: tuple, generator: Generator) -> Tensor:
    """Vary training images: flip, pad and crop, normalise, erase.

    Args:
        pixels: (N, 3, H, W) uint8.
        config: probabilities and the padding.
        mean, std: three numbers each, for images in [0, 1].
        generator: source of every draw, on the CPU.

    Returns:
        (N, 3, H, W) float32 on the device of `pixels`.
    """
    pixels = random_flip(pixels, config.flip, generator)
    pixels = random_shift(pixels, round(config.pad * config.size[0] / _PAD_HEIGHT), generator)
    images = normalise(pixels.float() / 255, mean, std)
    return random_erasing(images, config.erasing, generator, config.erasing_value)


def _fit(
    learner: Learner, data: ReidData, config: TrainConfig, checkpoint: Path, fabric: Fabric, progress: bool
) -> None:
    """Train to the last epoch, from the checkpoint if there is one."""
    done = _restore(checkpoint, learner.parts())["epoch"] if checkpoint.exists() else 0
    pixels = _pixel_reader(data.train, config.size)
    labels = class_labels(data.train)
    with tqdm(total=config.epochs, initial=done, desc="training", unit="epoch", disable=not progress) as bar:
        for epoch in range(done + 1, config.epochs + 1):
            loss = train_epoch(learner, pixels, labels, config, fabric, epoch)
            if fabric.is_global_zero:
                with atomic_path(checkpoint) as temporary:
                    torch.save({"epoch": epoch, **learner.state()}, temporary)
            fabric.barrier()
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")
            if progress and (epoch % SCORED_EVERY == 0 or epoch == config.epochs):
                rank_1, mean_ap = retrieval_scores(learner.model, data, config.size)
                tqdm.write(f"{data.name}, epoch {epoch}: rank-1 {rank_1:.1%}, mAP {mean_ap:.1%}", file=sys.stderr)


def train_epoch(
    learner: Learner,
    pixels: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: TrainConfig,
    fabric: Fabric,
    epoch: int,
) -> float:
    """Train for one epoch, determined by the learner's state, the seed and the epoch.

    Args:
        learner: trained in place; the learning rate is set here.
        pixels: gives the images at some positions, (n,) -> (n, 3, H, W) uint8.
        labels: (N,) class of each training image, 0 .. n_ids - 1.
        config: how to train.
        fabric: devices and processes.
        epoch: counted from 1.

    Returns:
        The mean loss over the batches.

    Raises:
        FloatingPointError: the loss is infinite or no number.
    """
    seed = _epoch_seed(config.seed, epoch)
    generator = Generator().manual_seed(seed)
    batches = identity_batches(labels, config.ids_per_batch, config.images_per_id, generator)
    losses = []
    learner.model.train()
    with private_random_state(seed, fabric.device):
        for step, batch in enumerate(batches):
            for group in learner.optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch + step / len(batches))
            # Every process varies the whole batch, so that the draws do not depend on how many there are.
            images = augment(pixels(batch).to(fabric.device), config, learner.model.mean, learner.model.std, generator)
            losses.append(_step(learner, images, labels[batch].to(fabric.device), fabric))
    mean_loss = torch.stack(losses).mean().item()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"the loss became {mean_loss} in epoch {epoch}: choose a smaller lr than {config.lr}")
    return mean_loss


def _step(learner: Learner, images: Tensor, labels: Tensor, fabric: Fabric) -> Tensor:
    """One step on one batch, of which each process computes the features of its part -> the loss."""
    part = images.tensor_split(fabric.world_size)[fabric.global_rank]
    features, logits = (_of_all(x.float(), fabric) for x in learner.wrapped.heads(part))
    loss = learner.loss(features, logits, labels)
    learner.optimizer.zero_grad()
    fabric.backward(loss)
    learner.optimizer.step()
    learner.loss.move_centers(features, labels)
    return loss.detach()


def _of_all(x: Tensor, fabric: Fabric) -> Tensor:
    """The rows of all processes in their order, with gradients into each."""
    return x if fabric.world_size == 1 else fabric.all_gather(x, sync_grads=True).flatten(0, 1)


def class_labels(image_set: ImageSet) -> Tensor:
    """(N,) class of each image: the place of its identity among the set's identities in increasing order."""
    return image_set.ids.unique(return_inverse=True)[1]


def _new_learner(images: ImageSet, config: TrainConfig, fabric: Fabric) -> Learner:
    """The network before training. The random state of the process is left alone."""
    if config.ids_per_batch * config.images_per_id % fabric.world_size:
        raise ValueError(
            f"a batch of {config.ids_per_batch} x {config.images_per_id} images cannot be shared evenly by "
            f"{fabric.world_size} processes: change ids_per_batch or the number of devices"
        )
    model = _new_model(images, config)
    with private_random_state(_epoch_seed(config.seed, 0)):
        loss = ReidLoss(config, model.classifier.out_features, model.classifier.in_features).to(fabric.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.lr, weight_decay=config.weight_decay)
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("heads")
    return Learner(model, wrapped, optimizer, loss)


def _new_model(images: ImageSet, config: TrainConfig) -> ReidModel:
    """The network before training; the random state of the process is left alone."""
    n_ids = len(images.ids.unique())
    with private_random_state(_epoch_seed(config.seed, 0)):
        return ReidModel(config.backbone, n_ids, config.last_stride, config.feature, config.init, config.neck)


def _epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch, unrelated to those of other epochs and seeds."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _pixel_reader(images: ImageSet, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Positions (n,) -> pixels (n, 3, H, W) uint8, from memory if all images fit, else from disk each
    time."""
    if len(images) * 3 * math.prod(size) <= _PIXELS_IN_MEMORY:
        return load_pixels(images.paths, size).__getitem__
    return lambda positions: load_pixels(images.subset(positions).paths, size)


def _restore(path: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """Load a file of the cache into the named parts; returns all that it holds."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise damaged(path) from error
    return stored
