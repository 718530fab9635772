"""Make the files of ``data/networks/`` from the trainings of the quick profile, training what is not in the cache.

For maintainers, after a change of a recipe: it prints the entries of ``workbook.networks.FILES``. What ships is
published, so renew the figures in the same commit.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, replace
from typing import Any

import torch

from workbook import networks, paths
from workbook.byol.checkpoints import trained, write_checkpoints
from workbook.byol.config import PRETEXTS
from workbook.byol.experiments import open_experiment
from workbook.byol.training import training_name
from workbook.cache.store import sha256
from workbook.prepare import load_data, settings
from workbook.reid.features import retrieval_scores
from workbook.reid.training import cache_key, train

SYNTHETIC = "pedestrians drawn by code (workbook.pedestrians), none of them real"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    argparse.ArgumentParser(prog="python -m workbook.run.ship", description=(__doc__ or "").splitlines()[0]).parse_args(
        arguments
    )
    for training, name in [_reid(), *map(_pretext, PRETEXTS)]:
        print(f'    "{training}": ("{name}", "{sha256(networks.FOLDER / name)}"),')
    return 0


def _reid() -> tuple[str, str]:
    """Write the Re-ID network -> its training's name, and the file's."""
    name, data, config = "reid-synthetic.safetensors", load_data("quick"), settings("quick")
    model = networks.rounded(train(data, config))
    rank_1, mean_ap = retrieval_scores(model, data, config.size)
    quality = f"rank-1 {rank_1:.1%}, mAP {mean_ap:.1%} on {data.name}"
    networks.write(networks.FOLDER / name, {"reid": model}, _card(asdict(config), quality))
    return f"reid-{cache_key(data, config)}", name


def _pretext(pretext: str) -> tuple[str, str]:
    """Write the checkpoints of a pretext task -> its training's name, and the file's."""
    name, subject = f"{pretext}-synthetic.safetensors", open_experiment("synthetic", paths.data_root(), 1)
    config = replace(subject.config, pretext=pretext)
    found = trained(subject.pictures, config, n_workers=1, n_threads=1)
    quality = ", ".join(f"epoch {c.epoch}: k-NN {subject.accuracy(c.backbone):.1%}" for c in found)
    write_checkpoints(networks.FOLDER / name, found, _card(asdict(config), quality))
    return training_name(subject.pictures, config), name


def _card(recipe: dict[str, Any], quality: str) -> dict[str, str]:
    return {
        "recipe": json.dumps(recipe),
        "data": SYNTHETIC,
        "quality": quality,
        "processor": _processor(),
        "torch": torch.__version__,
        "licence": "MIT, as the workbook; the Re-ID backbone began with Apache-2.0 weights of EfficientNet-Lite0",
    }


def _processor() -> str:
    """What kind of processor this is, in the words that torch chooses its code by."""
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    sys.exit(main())
