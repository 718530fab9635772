"""Files of the cache: read, or computed and written, by several processes too; one that cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tqdm.auto import tqdm

from workbook.cache.store import atomic_path


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


def remember_each(
    files: Sequence[Path], compute: Callable[[int], Any], what: str, fabric: Fabric | None, progress: bool
) -> list[Any]:
    """:func:`remember` for every one of some files, which several processes share; see :func:`make_missing`.

    Args:
        files: named as in :func:`remember`.
        compute: gives what belongs in the file of this number.
        what: for the progress bar.
        fabric: the processes; None is this one alone.
        progress: show the bar.
    """

    def make(number: int) -> None:
        if not files[number].exists():  # else someone was faster
            save(files[number], compute(number))

    make_missing([[path] for path in files], make, what, fabric, progress)
    return [load(path) for path in files]


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


def make_missing(
    files: Sequence[Sequence[Path]], make: Callable[[int], None], what: str, fabric: Fabric | None, progress: bool
) -> None:
    """Have the processes make all shards of which a file is missing, and wait until all of them are there.

    Args:
        files: of each shard.
        make: makes what is missing of one shard, given by its number.
        what: for the progress bar of the first process, which shows its own share.
        fabric: the processes; None is this one alone.
        progress: show the bar.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    # One process says what is missing: the others might look when a part of it is there already.
    missing = fabric.broadcast(_missing(files))
    share = missing[fabric.global_rank :: fabric.world_size]
    what += f", 1 of {fabric.world_size} processes" if fabric.world_size > 1 else ""
    for shard in tqdm(share, what, unit="shard", disable=not (progress and share and fabric.is_global_zero)):
        make(shard)
    fabric.barrier()
    # Where a shared folder shows a new file late, or another machine ranks the gallery differently.
    for shard in _missing(files):
        make(shard)


def _missing(files: Sequence[Sequence[Path]]) -> list[int]:
    """Numbers of the shards of which a file is not there."""
    return [shard for shard, paths_of_shard in enumerate(files) if not all(path.exists() for path in paths_of_shard)]
