"""From the name of a profile to its data set and its trained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from workbook import networks, paths, profiles
from workbook.pedestrians import synthetic
from workbook.random_state import private_random_state
from workbook.reid.config import TrainConfig
from workbook.reid.data import ReidData, load_market_layout
from workbook.reid.datasets import open_dataset
from workbook.reid.model import ReidModel
from workbook.reid.training import cache_key, train


def accelerator() -> str:
    """What to compute on, in Fabric's words: "cuda" where torch sees a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def settings(profile: str) -> TrainConfig:
    """How the network of a profile is trained.

    Raises:
        FileNotFoundError: no such profile.
        ValueError: the profile's training has an unknown or a bad entry.
    """
    try:
        return TrainConfig(**profiles.load(profile).training)
    except TypeError as error:
        raise ValueError(f"params/{profile}.yaml: training: {error}") from error


def load_data(profile: str, data_root: str = "", progress: bool = True) -> ReidData:
    """The Re-ID data of a profile; the synthetic set is drawn first if it is not in the cache.

    Raises:
        FileNotFoundError: no such profile, or its data are not there.
        ValueError: the profile or the data are not sound.
    """
    chosen = profiles.load(profile)
    if chosen.dataset == profiles.SYNTHETIC:
        root: Path = paths.CACHE / f"synthetic-{synthetic.VERSION}"
        synthetic.write_dataset(root, progress=progress)
        return load_market_layout(root)
    return open_dataset(chosen.dataset, paths.data_root(data_root), paths.CACHE, progress)


def prepare(profile: str, data_root: str = "", progress: bool = True) -> tuple[ReidData, ReidModel, TrainConfig]:
    """The Re-ID data of a profile, the network trained on them, and how it was trained.

    The network is the one that ships with the workbook, if one of this training does, and trained otherwise; the
    cache keeps what was trained, so every notebook that asks gets the same. See :mod:`workbook.networks`.

    Args:
        profile: name of a file in ``params/``.
        data_root: folder that holds real data sets; empty means ``data/`` of the workbook.
        progress: show a progress bar while training.

    Returns:
        The data, the network in eval mode on the :func:`accelerator`, and its configuration.

    Raises:
        FileNotFoundError: no such profile, or its data are not there.
        ValueError: the profile, the data or a cached file is not sound; the message names it.
    """
    config = settings(profile)
    data = load_data(profile, data_root, progress)
    return data, trained_or_shipped(data, config, progress), config


def trained_or_shipped(data: ReidData, config: TrainConfig, progress: bool = True) -> ReidModel:
    """The network that ships for this training, or the reader's own, in eval mode; its weights have half precision."""
    # One of several processes keeps to its own GPU.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else 1
    fabric = Fabric(accelerator=accelerator(), devices=devices, precision=config.precision)
    if file := networks.shipped(f"reid-{cache_key(data, config)}"):
        states, _ = networks.read(file)
        with private_random_state(config.seed):  # what is drawn here is overwritten
            model = untrained(data, replace(config, init="random"))
        model.load_state_dict(states["reid"])
        return model.to(fabric.device)
    return networks.rounded(train(data, config, fabric=fabric, progress=progress))


def untrained(data: ReidData, config: TrainConfig) -> ReidModel:
    """The network of a configuration before its training on these data: backbone as initialised, plain neck."""
    n_ids = len(data.train.ids.unique())
    return ReidModel(config.backbone, n_ids, config.last_stride, config.feature, config.init, config.neck).eval()
