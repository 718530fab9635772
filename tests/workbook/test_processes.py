"""Processes that share a run end in order."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from torch import distributed

from workbook.cache.processes import leave


def end_with_pending_work(fabric: Fabric) -> tuple[bool, bool]:
    """Part while sums over the processes are still under way.

    Returns:
        Whether all of them are done, and whether a connection is left.
    """
    sums = [torch.ones(1000) for _ in range(200)]
    pending = [distributed.all_reduce(part, async_op=True) for part in sums]
    leave(fabric)
    done = all(work.is_completed() for work in pending) and all(bool((part == 2).all()) for part in sums)
    return done, distributed.is_initialized()


@pytest.mark.filterwarnings("ignore")
def test_processes_wait_for_pending_work_and_close_their_connections() -> None:
    """Without `leave` every third such run was aborted ("terminate called without an active exception")."""
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    assert fabric.launch(end_with_pending_work) == (True, False)


def test_the_others_are_waited_for_before_the_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fabric = Fabric(accelerator="cpu", devices=1)
    monkeypatch.setattr(fabric, "barrier", lambda: order.append("wait"))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: order.append("close"))
    leave(fabric)
    assert order == ["wait", "close"]


def test_a_process_by_itself_has_nobody_to_leave() -> None:
    leave(Fabric(accelerator="cpu", devices=1))
    assert not distributed.is_initialized()
