"""Peak memory of a call beyond the model and the image it is given."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def peak_memory(make: Callable[..., Callable[[], object]], *arguments: object) -> float:
    """Peak memory in MB of ``make(*arguments)()`` beyond what there is before the call.

    On a GPU this is what torch's allocator hands out. On a CPU it is resident memory, the working memory of the
    forwards and the kernels that are loaded for them included, in a fresh process: in an old one the call would
    use again what earlier calls have left.

    Args:
        make: a function of a module that returns the call; what it needs itself does not count.
        arguments: models, tensors and other things that can be pickled.

    Raises:
        OSError: the call runs on a CPU and the system is not Linux, which alone tells the peak of a time span.
    """
    if torch.cuda.is_available():
        return peak_beyond_now(make(*arguments))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_in_this_process, make, arguments).result()


def _in_this_process(make: Callable[..., Callable[[], object]], arguments: tuple) -> float:
    # Tensors arrive in shared memory, and would count when they are first read.
    run = make(*copy.deepcopy(arguments))
    return peak_beyond_now(run)


def peak_beyond_now(run: Callable[[], object]) -> float:
    """Peak memory in MB while `run` runs, beyond what this process, or torch on its GPU, holds now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if not (PROCESS / "clear_refs").exists():
        raise OSError("peak memory on a CPU is read from Linux's /proc: leave out --memory on this system")
    (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # resets VmHWM, see proc(5)
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    status = (PROCESS / "status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6
