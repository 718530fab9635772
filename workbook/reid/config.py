"""What a Re-ID training is made of: the bag of tricks, one field for each trick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbook.reid.model import Feature, Init

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class TrainConfig:
    """What a training is made of; the defaults are the quick profile's, the method is the bag of tricks.

    The baseline's own ablation starts from ``warmup_epochs=0, erasing=0, label_smoothing=0, last_stride=2,
    neck=False, center_weight=0`` and switches on one field at a time.

    Attributes:
        backbone: timm name.
        last_stride: 1 doubles the last map, 2 leaves the backbone as it is.
        neck: a batch norm between the feature of the triplet loss and that of the classifier (BNNeck).
        feature: what the trained model returns, "after_bn" or "before_bn"; the weights do not depend on it.
        init: "imagenet" or "random" start of the backbone.
        size: (H, W) of the images in pixels.
        epochs: passes over the training set.
        ids_per_batch: identities in a batch (P).
        images_per_id: images of each of them (K).
        lr: Adam's learning rate after the warm-up.
        warmup_epochs: epochs in which the rate grows linearly from `warmup_factor * lr` to `lr`.
        warmup_factor: where the warm-up begins.
        schedule: "cosine" falls to 0 at the end, "step" multiplies by `decay` at each milestone and is constant
            within an epoch, as the bag of tricks has it.
        milestones: epochs, counted from 1, at which the step schedule falls.
        decay: factor of the step schedule.
        weight_decay: L2 penalty on every parameter, as in the bag of tricks.
        label_smoothing: share of the target spread over all identities.
        triplet_margin: margin of the batch-hard triplet loss, in feature units.
        center_weight: weight of the center loss; 0 leaves it out.
        center_lr: learning rate of the centers, whatever the weight.
        flip: probability of mirroring an image.
        pad: largest shift of the random crop, in pixels of an image 256 high; scaled with the height.
        erasing: probability of random erasing.
        erasing_value: what is written into the rectangle, one number per colour of the normalised image. The
            bag of tricks writes 0.485, 0.456, 0.406, which is no particular colour at this point.
        precision: Fabric's name; the mixed ones keep weights, losses and features in float32.
        seed: start of every random draw, 0 or larger.
    """

    backbone: str = "tf_efficientnet_lite0"
    last_stride: int = 1
    neck: bool = True
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
    center_weight: float = 0.0
    center_lr: float = 0.5
    flip: float = 0.5
    pad: int = 10
    erasing: float = 0.5
    erasing_value: tuple[float, float, float] = (0.0, 0.0, 0.0)
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        # Profiles are read from YAML, which knows lists only.
        for name in ("size", "milestones", "erasing_value"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check("size", "two positive integers", len(self.size) == 2 and min(self.size) > 0)
        for name in ("epochs", "ids_per_batch"):
            self._check(name, "at least 1", getattr(self, name) >= 1)
        self._check("images_per_id", "at least 2, a triplet needs a pair", self.images_per_id >= 2)
        for name in ("lr", "center_lr"):
            self._check(name, "positive", getattr(self, name) > 0)
        for name in ("warmup_epochs", "weight_decay", "triplet_margin", "center_weight", "pad", "seed"):
            self._check(name, "0 or larger", getattr(self, name) >= 0)
        for name in ("warmup_factor", "decay", "label_smoothing", "flip", "erasing"):
            self._check(name, "in [0, 1]", 0 <= getattr(self, name) <= 1)
        self._check("schedule", "'cosine' or 'step'", self.schedule in ("cosine", "step"))
        self._check("milestones", "increasing epochs", list(self.milestones) == sorted(set(self.milestones)))
        self._check("erasing_value", "three numbers", len(self.erasing_value) == 3)
        self._check("precision", f"one of {', '.join(PRECISIONS)}", self.precision in PRECISIONS)

    def _check(self, name: str, wanted: str, ok: bool) -> None:
        if not ok:
            raise ValueError(f"TrainConfig: {name} must be {wanted}, got {getattr(self, name)!r}")
