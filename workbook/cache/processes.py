"""How processes that share a run part from one another; Lightning Fabric starts them."""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import distributed


def leave(fabric: Fabric) -> None:
    """Wait for the other processes and close the connections to them; the last thing that a shared run does.

    A process that ends while Gloo's threads still hold a tensor can be aborted after its work is done, and the
    others with it (PyTorch issue 190489). With NCCL, Fabric closes the connections by itself.
    """
    fabric.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
