"""Training a Re-ID network by the bag of tricks: identity loss with label smoothing plus batch-hard triplet
loss.

The result depends on the configuration and the training images alone. It is kept in the cache, named by both,
and an interrupted training goes on after its last whole epoch, to the same bits on the same machine.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from tqdm.auto import tqdm

from fam_lib import paths
from fam_lib.reid.batches import identity_batches, random_erasing, random_flip, random_shift
from fam_lib.reid.data import ImageSet, ReidData, load_pixels, normalise
from fam_lib.reid.features import retrieval_scores
from fam_lib.reid.model import Feature, Init, ReidModel
from fam_lib.store import atomic_path, key, sha256

CODE_VERSION = 1  # count up when a change of the code changes what is trained: it is part of every cache key
_PIXELS_IN_MEMORY = 4 * 2**30  # bytes of training images kept decoded
_PAD_HEIGHT = 256  # the image height that TrainConfig.pad refers to

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """What a training is made of; the defaults are the quick profile's, the method is the bag of tricks.

    Attributes:
        backbone: timm name.
        last_stride: 1 doubles the last map, 2 leaves the backbone as it is.
        feature: what the trained model returns, "after_bn" or "before_bn"; the weights do not depend on it.
        init: "imagenet" or "random" start of the backbone.
        size: (H, W) of the images in pixels.
        epochs: passes over the training set.
        ids_per_batch: identities in a batch (P).
        images_per_id: images of each of them (K).
        lr: Adam's learning rate after the warm-up.
        warmup_epochs: epochs in which the rate grows linearly from `warmup_factor * lr` to `lr`.
        warmup_factor: where the warm-up begins.
        schedule: "cosine" falls to 0 at the end, "step" multiplies by `decay` at each milestone.
        milestones: epochs, counted from 1, at which the step schedule falls.
        decay: factor of the step schedule.
        weight_decay: L2 penalty on every parameter, as in the bag of tricks.
        label_smoothing: share of the target spread over all identities.
        triplet_margin: margin of the batch-hard triplet loss, in feature units.
        flip: probability of mirroring an image.
        pad: largest shift of the random crop, in pixels of an image 256 high; scaled with the height.
        erasing: probability of random erasing.
        seed: start of every random draw, 0 or larger.
    """

    backbone: str = "tf_efficientnet_lite0"
    last_stride: int = 1
    feature: Feature = "after_bn"
    init: Init = "imagenet"
    size: tuple[int, int] = (128, 64)
    epochs: int = 20
    ids_per_batch: int = 16
    images_per_id: int = 4
    lr: float = 3e-3
    warmup_epochs: int = 3
    warmup_factor: float = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    triplet_margin: float = 0.3
    flip: float = 0.5
    pad: int = 10
    erasing: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        # Profiles are read from YAML, which knows lists only.
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        _check(self, "size", "two positive integers", len(self.size) == 2 and min(self.size) > 0)
        for name in ("epochs", "ids_per_batch"):
            _check(self, name, "at least 1", getattr(self, name) >= 1)
        _check(self, "images_per_id", "at least 2, a triplet needs a pair", self.images_per_id >= 2)
        _check(self, "lr", "positive", self.lr > 0)
        for name in ("warmup_epochs", "weight_decay", "triplet_margin", "pad", "seed"):
            _check(self, name, "0 or larger", getattr(self, name) >= 0)
        for name in ("warmup_factor", "decay", "label_smoothing", "flip", "erasing"):
            _check(self, name, "in [0, 1]", 0 <= getattr(self, name) <= 1)
        _check(self, "schedule", "'cosine' or 'step'", self.schedule in ("cosine", "step"))
        _check(self, "milestones", "increasing epochs", list(self.milestones) == sorted(set(self.milestones)))


def train(
    data: ReidData,
    config: TrainConfig,
    cache: Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> ReidModel:
    """Train a network on `data.train`, or fetch it from the cache.

    The cache holds `reid/<key>.pt`, the key made of the configuration, the training files' names and contents
    and `CODE_VERSION`. During training `reid/<key>.epoch.pt` beside it holds the last whole epoch; a training
    that was killed goes on from there. A damaged file in the cache is an error that says to delete it.

    Args:
        data: images; only the training split has an influence.
        config: how to train.
        cache: folder; None takes `fam_lib.paths.CACHE`.
        device: where to train. Not part of the key: another device gives the same up to rounding.
        progress: show a bar with the loss on stderr, and after it rank-1 and mAP of the queries.

    Returns:
        The network on `device`, in eval mode. Class k of its classifier is the k-th smallest training
        identity.

    Raises:
        ValueError: a bad configuration for these images, an unreadable image, or a damaged file in the cache.
        FloatingPointError: the loss is no longer a finite number; nothing of that epoch is kept.
    """
    final = (paths.CACHE if cache is None else Path(cache)) / "reid" / f"{cache_key(data, config)}.pt"
    if final.exists():
        model = _new_model(data.train, replace(config, init="random"))
        _restore(final, {"model": model})
        return model.to(device).eval()
    model = _new_model(data.train, config).to(device)
    checkpoint = final.with_suffix(".epoch.pt")
    _fit(model, data.train, config, checkpoint, progress)
    with atomic_path(final) as temporary:
        torch.save({"config": asdict(config), "model": model.state_dict()}, temporary)
    checkpoint.unlink(missing_ok=True)
    if progress:
        rank_1, mean_ap = retrieval_scores(model, data, config.size)
        tqdm.write(f"{data.name}: rank-1 {rank_1:.1%}, mAP {mean_ap:.1%}", file=sys.stderr)
    return model.eval()


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
        The rate. The warm-up over w epochs multiplies by `warmup_factor * (1 - position / w) + position / w`;
        at whole positions, with the step schedule, that is the bag of tricks' own rate. The cosine reaches 0
        at the end, position `epochs + 1`.
    """
    warmup = config.warmup_epochs
    if position < warmup:
        return config.lr * (config.warmup_factor * (1 - position / warmup) + position / warmup)
    if config.schedule == "step":
        return config.lr * config.decay ** sum(position >= milestone for milestone in config.milestones)
    begin, end = max(warmup, 1), config.epochs + 1
    return config.lr * (1 + math.cos(math.pi * (position - begin) / max(end - begin, 1))) / 2


def reid_loss(config: TrainConfig) -> Loss:
    """The training loss: (global features (n, D), logits (n, ids), labels (n,)) -> scalar.

    Cross-entropy with label smoothing on the logits behind the neck, plus the batch-hard triplet loss on the
    global features before it: max(0, farthest positive - nearest negative + margin), Euclidean distances
    without normalisation, averaged over all anchors.
    """
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    # The package's defaults normalise the features and average over active anchors only.
    distance = LpDistance(normalize_embeddings=False)
    triplet = TripletMarginLoss(margin=config.triplet_margin, distance=distance, reducer=MeanReducer())
    hardest = BatchHardMiner(distance=distance)

    def loss(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        identity = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        return identity + triplet(features, labels, hardest(features, labels))

    return loss


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
    return random_erasing(normalise(pixels.float() / 255, mean, std), config.erasing, generator)


def _fit(model: ReidModel, images: ImageSet, config: TrainConfig, checkpoint: Path, progress: bool) -> None:
    """Train to the last epoch, from the checkpoint if there is one."""
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=config.lr, weight_decay=config.weight_decay
    )
    done = 0
    if checkpoint.exists():
        done = _restore(checkpoint, {"model": model, "optimizer": optimizer})["epoch"]
    pixels = _pixel_reader(images, config.size)
    labels = class_labels(images)
    with tqdm(total=config.epochs, initial=done, desc="training", unit="epoch", disable=not progress) as bar:
        for epoch in range(done + 1, config.epochs + 1):
            loss = train_epoch(model, optimizer, pixels, labels, config, epoch)
            with atomic_path(checkpoint) as temporary:
                state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, temporary)
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")


def train_epoch(
    model: ReidModel,
    optimizer: torch.optim.Optimizer,
    pixels: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: TrainConfig,
    epoch: int,
) -> float:
    """Train for one epoch, determined by the weights, the optimiser's state, the seed and the epoch.

    Args:
        model: network, trained in place.
        optimizer: its optimiser; the learning rate is set here.
        pixels: gives the images at some positions, (n,) -> (n, 3, H, W) uint8.
        labels: (N,) class of each training image, 0 .. n_ids - 1.
        config: how to train.
        epoch: counted from 1.

    Returns:
        The mean loss over the batches.

    Raises:
        FloatingPointError: the loss is infinite or no number.
    """
    device = next(model.parameters()).device
    seed = _epoch_seed(config.seed, epoch)
    generator = Generator().manual_seed(seed)
    compute_loss = reid_loss(config)
    batches = identity_batches(labels, config.ids_per_batch, config.images_per_id, generator)
    losses = []
    model.train()
    with _seeded(seed, device):
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch + step / len(batches))
            images = augment(pixels(batch).to(device), config, model.mean, model.std, generator)
            loss = compute_loss(*model.heads(images), labels[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    mean_loss = torch.stack(losses).mean().item()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"the loss became {mean_loss} in epoch {epoch}: choose a smaller lr than {config.lr}")
    return mean_loss


def class_labels(image_set: ImageSet) -> Tensor:
    """(N,) class of each image: the place of its identity among the set's identities in increasing order."""
    return image_set.ids.unique(return_inverse=True)[1]


def _new_model(images: ImageSet, config: TrainConfig) -> ReidModel:
    """The network before training; the random state of the process is left alone."""
    n_ids = len(images.ids.unique())
    with _seeded(_epoch_seed(config.seed, 0), torch.device("cpu")):
        return ReidModel(config.backbone, n_ids, config.last_stride, config.feature, config.init)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators (dropout, fresh weights) for a block; their states are restored after
    it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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
    """Load a file of the cache into the named model and optimiser; returns all that it holds."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, pickle.UnpicklingError) as error:
        # Torch's own message, chained below this one, would have the reader switch weights_only off.
        raise ValueError(f"{path} in the cache is damaged: delete it and run again") from error
    return stored


def _check(config: TrainConfig, name: str, wanted: str, ok: bool) -> None:
    if not ok:
        raise ValueError(f"TrainConfig: {name} must be {wanted}, got {getattr(config, name)!r}")
