"""From the name of a profile to its data set and its trained network."""

from __future__ import annotations

from pathlib import Path

import torch

from fam_lib import paths, profiles, synthetic
from fam_lib.reid.data import ReidData, load_market_layout
from fam_lib.reid.model import ReidModel
from fam_lib.reid.train import TrainConfig, train


def prepare(
    profile: str, data_root: str = "", device: str | torch.device = "cpu", progress: bool = True
) -> tuple[ReidData, ReidModel, TrainConfig]:
    """The Re-ID data of a profile, the network trained on them, and how it was trained.

    Both come from the cache where an earlier run left them: every notebook that asks gets the same network.

    Args:
        profile: name of a file in ``params/``.
        data_root: folder that holds real data sets; empty means ``data/`` of the workbook.
        device: where to train and to put the network.
        progress: show a progress bar while training.

    Returns:
        The data, the network in eval mode on the device, and its configuration.

    Raises:
        FileNotFoundError: no such profile, or its data are not there.
        ValueError: the profile, the data or a cached file is not sound; the message names it.
    """
    settings = profiles.load(profile)
    config = TrainConfig(**settings.training)
    if settings.dataset == profiles.SYNTHETIC:
        root: Path = paths.CACHE / f"synthetic-{synthetic.VERSION}"
        synthetic.write_dataset(root, progress=progress)
    else:
        root = profiles.dataset_folder(settings, data_root)
    data = load_market_layout(root)
    model = train(data, config, device=device, progress=progress)
    return data, model.to(device).eval(), config


def untrained(data: ReidData, config: TrainConfig) -> ReidModel:
    """The network of a configuration before its training on these data: backbone as initialised, plain neck."""
    n_ids = len(data.train.ids.unique())
    return ReidModel(config.backbone, n_ids, config.last_stride, config.feature, config.init).eval()
