"""Where and how a run computes, in one object that its functions hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from workbook import paths


@dataclass(frozen=True)
class Context:
    """What all parts of one run have in common.

    Attributes:
        cache: folder of what is kept, the same for all processes; None is :data:`workbook.paths.CACHE`.
        fabric: processes that share what is missing, through the cache; all of them make the same calls and get the
            same results. None is this process alone.
        progress: show progress bars with the time left on stderr.
        seed: of the draw of queries and of the random controls; the only field that changes a result.
    """

    cache: Path | None = None
    fabric: Fabric | None = None
    progress: bool = True
    seed: int = 0

    def folder(self, name: str) -> Path:
        """Where results of one kind are kept."""
        return (self.cache or paths.CACHE) / name


ALONE = Context()
