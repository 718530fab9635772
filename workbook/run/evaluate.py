r"""Run the heavy part of notebook 03 outside a notebook: train, explain every query, measure every map.

``python -m workbook.run.evaluate PROFILE`` uses the parameters that the notebook would get, shows what is left to do,
and can be killed at any moment: what is done stays in ``data/cache``, where the notebook finds it.

Several processes share the work, one for each GPU if there are any, and write to one cache (``FAM_CACHE`` names a
folder that all machines see):

    python -m workbook.run.evaluate PROFILE --devices 8
    torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m workbook.run.evaluate PROFILE

On a CPU the processes share the cores, and the last bits of a map depend on the threads of a process: give
OMP_NUM_THREADS to get the same bytes from any number of processes.

When a process dies the others end too, and the same command goes on. The first process trains the network if it is
not there yet; ``python -m workbook.run.train PROFILE --devices 8`` trains it on all devices.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import timedelta
from typing import Any

from workbook import profiles
from workbook.run import parameters

NOTEBOOK = "03_reid_evaluation"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    options = _parse(arguments)
    start = time.time()
    try:
        profile = profiles.load(options.profile)
        given = parameters.values(profile, NOTEBOOK, {}, options.data_root)
        used = {**parameters.defaults(NOTEBOOK), **given}

        # torch takes seconds to import: not for a mistyped profile
        from workbook.cache.context import Context
        from workbook.cache.processes import leave
        from workbook.reid import experiment, scale

        fabric, data, model, config = _prepare(options)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    model = model.to(fabric.device)
    if options.estimate:
        table = scale.estimate(scale.measure(model, data, config.size))
        print(table.round(2).to_string(index=False))
        return 0
    asked = (used[name] for name in ("n_queries", "n_ablated", "layers"))
    experiment.run(model, data, config.size, *asked, Context(fabric=fabric, seed=used["seed"]))
    leave(fabric)
    if fabric.is_global_zero:
        print(f"done in {time.time() - start:.0f} s: make reproduce PROFILE={options.profile} reads the results")
    return 0


def _prepare(options: argparse.Namespace) -> tuple[Any, ...]:
    """The processes; data, network and configuration, which the first of them prepares and the others find."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    from workbook.prepare import accelerator, prepare

    # Shares are not equally long; by default a process that has waited for half an hour would end the run.
    strategy = DDPStrategy(timeout=timedelta(days=30)) if options.devices * options.nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator(), devices=options.devices, num_nodes=options.nodes, strategy=strategy)
    fabric.launch()
    with fabric.rank_zero_first():
        try:
            return fabric, *prepare(options.profile, options.data_root)
        except (FileNotFoundError, ValueError) as error:
            problem = error  # raised within the block, it would leave the others waiting
    raise problem


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workbook.run.evaluate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("profile")
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    # torchrun tells its processes how many they are.
    devices, nodes = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
    parser.add_argument("--devices", type=int, default=devices, help="processes, each with a GPU of its own if any")
    parser.add_argument("--nodes", type=int, default=nodes, help="machines; start it on each, or use torchrun")
    parser.add_argument("--estimate", action="store_true", help="only say how long large query sets would take")
    options = parser.parse_args(arguments)
    if options.estimate and options.devices * options.nodes > 1:
        parser.error("--estimate measures one device: leave out --devices and --nodes")
    return options


if __name__ == "__main__":
    sys.exit(main())
