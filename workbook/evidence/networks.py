"""The networks of a profile: each is trained, or found in the cache, or read from a file that others made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbook import networks as shipping
from workbook import paths, profiles
from workbook.evidence import foreign
from workbook.prepare import accelerator, trained_or_shipped
from workbook.profiles import Profile
from workbook.reid.config import TrainConfig
from workbook.reid.data import ReidData
from workbook.reid.training import cache_key

ONNX = "onnx"  # the entry of a network that others trained


@dataclass(frozen=True, eq=False)
class Network:
    """A network to explain.

    Attributes:
        name: in the profile.
        recipe: what it was made by, the seed apart; networks that differ in the seed alone share it.
        model: in eval mode: a :class:`workbook.reid.model.ReidModel`, or what looks like one with `head` None.
        size: (H, W) of its input.
        features: which of its features are explained, of "after_bn" and "before_bn".
        affine: what follows the pooling is affine, which RAM needs.
    """

    name: str
    recipe: str
    model: Any
    size: tuple[int, int]
    features: tuple[str, ...] = ("after_bn", "before_bn")
    affine: bool = True


def names(profile: Profile, only: Iterable[str] = ()) -> list[str]:
    """The names of a profile's networks, in its order; of `only` these if there are any.

    Raises:
        ValueError: the profile has no networks, or none of that name.
    """
    if not profile.networks:
        raise ValueError(f"params/{profile.name}.yaml lists no networks")
    for name in only:
        if name not in profile.networks:
            raise ValueError(f"profile {profile.name!r} has no network {name!r}{profiles.hint(name, profile.networks)}")
    return [name for name in profile.networks if not only or name in only]


def config(profile: Profile, name: str) -> TrainConfig:
    """How a network of a profile is trained.

    Raises:
        ValueError: an unknown or a bad entry.
    """
    entry = {**profile.training, **profile.networks[name]}
    known = dict.fromkeys(f.name for f in fields(TrainConfig))
    for key in entry:
        if key not in known:
            place = f"params/{profile.name}.yaml: networks: {name}"
            raise ValueError(f"{place}: unknown entry {key!r}{profiles.hint(key, known)}")
    return TrainConfig(**entry)


def check(profile: Profile, name: str, root: Path) -> None:
    """Look for mistakes in the entry of a network before anything is computed.

    Raises:
        FileNotFoundError: a network that others trained, or what reads it, is not there.
        ValueError: an unknown or a bad entry.
    """
    entry = profile.networks[name]
    if ONNX in entry:
        foreign.require(root / entry[ONNX])
    else:
        config(profile, name)


def is_there(profile: Profile, name: str, data: ReidData) -> bool:
    """Whether a network can be opened without training."""
    if ONNX in profile.networks[name]:
        return True
    training = cache_key(data, config(profile, name))
    return bool(shipping.shipped(f"reid-{training}")) or (paths.CACHE / "reid" / f"{training}.pt").is_file()


def recipe(profile: Profile, name: str) -> str:
    """What tells a network's recipe from that of the profile, without its seed: "as the profile" or for instance
    "epochs 15, lr 0.005"."""
    different = {key: value for key, value in profile.networks[name].items() if key != "seed"}
    texts = (f"{key} {'x'.join(map(str, v)) if isinstance(v, list) else v}" for key, v in different.items())
    return ", ".join(texts) or "the profile's"


def open_network(profile: Profile, name: str, data: ReidData, root: Path, progress: bool = True) -> Network:
    """A network of a profile: trained if it is not in the cache, in weights of half precision, widened.

    Args:
        profile: with networks.
        name: one of them.
        data: what it is trained on.
        root: folder of real data, below which a network that others trained lies.
        progress: show a bar while training.

    Raises:
        FileNotFoundError: the file of a network is not there, or what reads it is not installed.
        ValueError: a bad entry.
    """
    entry = profile.networks[name]
    if ONNX in entry:
        model = foreign.load_onnx(root / entry[ONNX]).to(accelerator())
        return Network(name, "others trained it", model, tuple(entry["size"]), ("after_bn",), affine=False)
    chosen = config(profile, name)
    return Network(name, recipe(profile, name), trained_or_shipped(data, chosen, progress), chosen.size)
