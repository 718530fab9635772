"""Train the networks of a profile outside a notebook, on several GPUs if there are some.

The networks go to the cache, and a training that was killed goes on from its last epoch. `make reproduce NETWORKS=mine`
explains them; a profile for which no network ships takes them anyway.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial

from lightning_fabric import Fabric

from workbook import paths, profiles
from workbook.cache.processes import leave
from workbook.evidence import networks
from workbook.evidence.networks import ONNX
from workbook.prepare import accelerator, load_data, settings
from workbook.reid.training import train
from workbook.run import parameters

REID = ("01_setup", "02_fam_methods", "03_reid_evaluation", "04_sanity_check")
BYOL = "05_byol_analysis"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m workbook.run.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("profile")
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    parser.add_argument("--accelerator", default=accelerator(), choices=("cpu", "cuda"))
    parser.add_argument("--devices", type=int, default=1, help="processes, each with a GPU of its own if there are any")
    options = parser.parse_args(arguments)
    try:
        profile = profiles.load(options.profile)
        config = settings(options.profile)
        fabric = Fabric(accelerator=options.accelerator, devices=options.devices, precision=config.precision)
        fabric.launch()
        configs = [config] if set(profile.notebooks) & set(REID) else []
        configs += [networks.config(profile, name) for name, entry in profile.networks.items() if ONNX not in entry]
        if configs:
            data = load_data(options.profile, options.data_root)
        for each in configs:
            train(data, each, fabric=fabric)
        if BYOL in profile.notebooks:
            _train_pretexts(profile, options.data_root, fabric)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    leave(fabric)
    return 0


def _train_pretexts(profile: profiles.Profile, data_root: str, fabric: Fabric) -> None:
    """Every self-supervised training that notebook 05 reads."""
    # lightly and timm take seconds to import: not for a Re-ID training
    from workbook.byol.experiments import open_experiment
    from workbook.byol.training import train_byol

    used = {**parameters.defaults(BYOL), **parameters.values(profile, BYOL, {}, data_root)}
    subject = open_experiment(used["experiment"], paths.data_root(data_root), used["n_explained"], used["seed"])
    say = partial(print, file=sys.stderr)
    for seed in range(used["seed"], used["seed"] + used["n_seeds"]):
        for pretext in used["pretexts"]:
            config = replace(subject.config, pretext=pretext, seed=seed)
            say(f"{pretext}, seed {seed}")
            train_byol(subject.pictures, config, fabric=fabric, n_workers=1, n_threads=1, progress=say)


if __name__ == "__main__":
    sys.exit(main())
