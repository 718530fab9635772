"""``python -m workbook.byol EXPERIMENT``: train BYOL or SimCLR, on GPUs if there are any; notebook 05 reads the result.

It goes on where it stopped. The paper's experiment on eight GPUs:

    python -m workbook.byol imagenet --devices 8 --workers 8
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from workbook import paths
from workbook.byol.config import PRETEXTS
from workbook.byol.experiments import EXPERIMENTS, open_experiment
from workbook.byol.training import train_byol
from workbook.cache.processes import leave


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m workbook.byol", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    parser.add_argument("--pretext", choices=PRETEXTS, default="byol", help="what is learned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=1, help="processes, each with a GPU of its own if there are any")
    parser.add_argument("--workers", type=int, default=1, help="processes that make views, for each device")
    options = parser.parse_args(arguments)
    experiment = open_experiment(options.experiment, paths.data_root(options.data_root), 1, options.seed)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    precision = experiment.config.precision if kind == "cuda" else "32-true"
    fabric = Fabric(accelerator=kind, devices=options.devices, precision=precision)
    fabric.launch()
    train_byol(
        experiment.pictures,
        replace(experiment.config, pretext=options.pretext),
        fabric=fabric,
        n_workers=options.workers,
        progress=print,
        judge=experiment.accuracy,
    )
    leave(fabric)


if __name__ == "__main__":
    main()
