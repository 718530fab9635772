"""The options of :func:`fam_lib.explain` and :func:`fam_lib.explain_all`, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fam_lib.masking import gaussian_blur

Progress = Callable[[Iterable], Iterable]
Precision = torch.dtype | Literal["tf32"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How methods are run.

    Attributes:
        classifier: module that maps the model's features to logits: class targets are read behind it, so that the
            CAM family and the others can explain one feature network. In eval mode meanwhile, like the model.
        branch: index of the map, where the layer returns a list of tensors.
        batch_size: masked images in one forward; None chooses by :func:`default_batch_size`.
        precision: of the masked forwards, torch.bfloat16, float16, or on a GPU "tf32"; None: the model's own, with
            float32 as IEEE has it. Scores stay float32.
        baseline: images (N, 3, H, W) -> B of the same shape; the default is the 51 x 51 blur of Section 4.1.
        budget: share in (0, 1] of the live channels that the masked-score methods score, those of largest energy;
            another gets the score of the nearest mask, and the result has a certified ``bound``.
        tolerance: in (0, 1): channels are scored a tenth of the budget at a time, and an image takes no more once
            the ``bound`` of every masked-score method of the call is at most this; where the budget runs out first,
            ``bound`` is larger.
        seed: of the random controls.
        progress: wraps an iterable and shows how far it has come, for instance ``tqdm.tqdm``.

    Raises:
        ValueError: a value is out of its range.
    """

    classifier: nn.Module | None = None
    branch: int | None = None
    batch_size: int | None = None
    precision: Precision | None = None
    baseline: Callable[[Tensor], Tensor] = gaussian_blur
    budget: float = 1.0
    tolerance: float | None = None
    seed: int = 0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.precision not in (None, torch.float32, torch.float16, torch.bfloat16, "tf32"):
            raise ValueError(f"precision must be torch.float32, float16, bfloat16 or 'tf32', got {self.precision!r}")
        if not 0 < self.budget <= 1:
            raise ValueError(f"budget must be a share of the channels in (0, 1], got {self.budget!r}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be a difference of saliency in (0, 1), got {self.tolerance!r}")

    @property
    def certifies(self) -> bool:
        """Some channels may be left out, and the maps get a bound."""
        return self.budget < 1 or self.tolerance is not None


def settings_from(options: Mapping[str, Any]) -> Settings:
    """The settings that a caller's keywords stand for.

    Raises:
        TypeError: an option that does not exist; the message names near ones.
        ValueError: a value is out of its range.
    """
    known = [field.name for field in fields(Settings)]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=3) or known
            raise TypeError(f"unknown option {name!r}; did you mean one of {near}?")
    return Settings(**options)


def default_batch_size(images: Tensor, precision: Precision | None = None) -> int:
    """Masked images in one forward: few enough to stay in a CPU's cache, many to fill a GPU.

    On two cores 20 to 28 images of 128 x 64 were fastest, and 6 to 12 of 256 x 128; in half precision twice as many.
    """
    if images.device.type != "cpu":
        return 256
    pixels = 3 * 2**16 * (2 if precision in (torch.float16, torch.bfloat16) else 1)
    return max(1, pixels // images[0, 0].numel())
