"""Train the Re-ID network of a profile outside a notebook, on several GPUs if there are some.

The notebooks then find the network in the cache.
"""

from __future__ import annotations

import argparse
import sys

from lightning_fabric import Fabric

from workbook.cache.processes import leave
from workbook.prepare import accelerator, load_data, settings
from workbook.reid.training import train


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m workbook.run.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("profile")
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    parser.add_argument("--accelerator", default=accelerator(), choices=("cpu", "cuda"))
    parser.add_argument("--devices", type=int, default=1, help="processes, each with a GPU of its own if there are any")
    options = parser.parse_args(arguments)
    config = settings(options.profile)
    fabric = Fabric(accelerator=options.accelerator, devices=options.devices, precision=config.precision)
    fabric.launch()
    train(load_data(options.profile, options.data_root), config, fabric=fabric)
    leave(fabric)
    return 0


if __name__ == "__main__":
    sys.exit(main())
