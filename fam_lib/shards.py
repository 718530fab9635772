"""Tensors in the cache: read, or computed and written; a file that cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fam_lib.store import atomic_path


def remember(path: Path | None, compute: Callable[[], Any]) -> Any:
    """The result in a file of the cache, computed and written first if it is not there.

    Args:
        path: the file, named by everything that goes into the result; None computes without a cache.
        compute: gives tensors, or dictionaries and lists of tensors and numbers.

    Raises:
        ValueError: the file cannot be read.
    """
    if path is None:
        return compute()
    if not path.exists():
        save(path, compute())
    return load(path)


def save(path: Path, result: Any) -> None:
    """Write a result atomically."""
    # Through an open file: given a path, torch writes its name, here a random one, into the archive.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(result, file)


def load(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read what :func:`save` wrote.

    Raises:
        ValueError: the file cannot be read; the message names it.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise damaged(path) from error


def damaged(path: Path) -> ValueError:
    """The error of a file in the cache that is not what it should be.

    Torch's own message, chained below it, would have the reader switch weights_only off.
    """
    return ValueError(f"{path} in the cache is damaged: delete it and run again")
