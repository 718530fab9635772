"""Files of the cache: read, or computed and written, by several processes too; one that cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm

from workbook.cache.context import Context
from workbook.cache.store import atomic_path

QUIET = Context(progress=False)


def remember(
    folder: Path | None,
    total: int,
    size: int,
    name: Callable[[Tensor], str],
    compute: Callable[[Tensor], Any],
    what: str = "",
    context: Context = QUIET,
) -> Any:
    """A result for each of many items: computed shard by shard, a file each, or read where the file is there.

    Args:
        folder: of the files; None keeps nothing.
        total: number of items, for instance images.
        size: items of a shard; the last may have fewer.
        name: positions (n,) of a shard's items -> its file's name without suffix, made from all that goes into it.
        compute: positions (n,) -> tensors (n, ...), in dictionaries of any depth.
        what: for the progress bar.
        context: who shares the work.

    Returns:
        What `compute` gives, of all items.

    Raises:
        ValueError: a file cannot be read.
    """
    shards = torch.arange(total).split(size)
    if folder is None:
        return _joined([compute(shard) for shard in shards])
    files = [folder / f"{name(shard)}.pt" for shard in shards]

    def make(number: int) -> None:
        if not files[number].exists():  # else someone was faster
            save(files[number], compute(shards[number]))

    make_missing([[path] for path in files], make, what, context)
    return _joined([load(path) for path in files])


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors one after the other; dictionaries name by name."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


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


def make_missing(files: Sequence[Sequence[Path]], make: Callable[[int], None], what: str, context: Context) -> None:
    """Have the processes make all shards of which a file is missing, and wait until all of them are there.

    Args:
        files: of each shard.
        make: makes what is missing of one shard, given by its number.
        what: for the progress bar of the first process, which shows its own share.
        context: which processes, and whether they show the bar.
    """
    fabric = context.fabric or Fabric(accelerator="cpu", devices=1)
    # One process says what is missing: the others might look when a part of it is there already.
    missing = fabric.broadcast(_missing(files))
    share = missing[fabric.global_rank :: fabric.world_size]
    what += f", 1 of {fabric.world_size} processes" if fabric.world_size > 1 else ""
    for shard in tqdm(share, what, unit="shard", disable=not (context.progress and share and fabric.is_global_zero)):
        make(shard)
    fabric.barrier()
    # Where a shared folder shows a new file late, or another machine ranks the gallery differently.
    for shard in _missing(files):
        make(shard)


def _missing(files: Sequence[Sequence[Path]]) -> list[int]:
    """Numbers of the shards of which a file is not there."""
    return [shard for shard, paths_of_shard in enumerate(files) if not all(path.exists() for path in paths_of_shard)]
