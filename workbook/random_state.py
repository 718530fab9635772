"""Random numbers that depend on a seed and on nothing that was drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

CPU = torch.device("cpu")


@contextmanager
def private_random_state(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """The global generators start from the seed inside, and are afterwards as they were.

    Args:
        seed: of the generators of Python, NumPy and torch.
        device: a GPU on which is drawn too; other GPUs are then seeded with it, and not restored.
    """
    python, numpy_state, on_gpu = random.getstate(), np.random.get_state(), device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        try:
            # lightly's blur and solarisation draw from NumPy, torchvision's transforms from torch's CPU generator,
            # dropout from its device's. torch.manual_seed reaches all GPUs, and only `device` is restored.
            (torch.manual_seed if on_gpu else torch.default_generator.manual_seed)(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
