"""What a network is, in one word: part of the keys of all that is computed with it."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def state_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers, names and dtypes included: equal if bit-identical."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
