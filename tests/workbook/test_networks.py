"""Networks that ship: what is explained is exactly what is stored, and only the training that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from byol_toys import TINY
from workbook import networks, prepare
from workbook.byol.checkpoints import checkpoints, read_checkpoints, write_checkpoints
from workbook.byol.network import make_backbone
from workbook.byol.training import Checkpoint, training_name
from workbook.cache.digests import state_digest
from workbook.cache.store import sha256
from workbook.reid.training import cache_key


def toy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_rounded_network_is_the_one_that_is_read_back(tmp_path: Path) -> None:
    network = networks.rounded(toy())
    networks.write(tmp_path / "toy.safetensors", {"toy": toy()}, {"recipe": "by hand"})
    states, card = networks.read(tmp_path / "toy.safetensors")
    again = toy()
    again.load_state_dict(states["toy"])
    assert state_digest(again) == state_digest(network)
    assert all(value.dtype in (torch.float32, torch.int64) for value in states["toy"].values())
    assert card == {"recipe": "by hand"}


def test_half_precision_is_rounded_to_nearest() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1 + 2**-11 + 2**-13)  # the neighbours are 1 and 1 + 2^-10
    assert networks.rounded(network).weight.item() == 1 + 2**-10


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    network.bias.data.fill_(1e6)
    with pytest.raises(ValueError, match="bias holds a value that half precision cannot"):
        networks.write(tmp_path / "toy.safetensors", {"toy": network}, {})
    assert not list(tmp_path.iterdir())


def test_every_file_is_the_one_that_the_code_knows() -> None:
    assert len(networks.FILES) == 3
    for training in networks.FILES:
        assert networks.shipped(training) is not None


def test_mine_passes_over_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    training = next(iter(networks.FILES))
    monkeypatch.setenv("FAM_NETWORKS", "mine")
    assert networks.shipped(training) is None
    monkeypatch.setenv("FAM_NETWORKS", "yours")
    with pytest.raises(ValueError, match="NETWORKS.*'shipped' or 'mine', not 'yours'"):
        networks.shipped(training)


def test_another_file_of_that_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks.write(tmp_path / "toy.safetensors", {"toy": toy()}, {})
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    monkeypatch.setattr(networks, "FILES", {"reid-0": ("toy.safetensors", "0" * 64)})
    with pytest.raises(ValueError, match="toy.safetensors is not the expected file"):
        networks.shipped("reid-0")


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="toy.safetensors is not a file of safetensors"):
        networks.read(path)


def test_the_quick_profile_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of recipe, images or code version gives another key: then a new network must ship."""
    monkeypatch.setattr(prepare, "train", lambda *_, **__: pytest.fail("a training began"))
    data, model, config = prepare.prepare("quick", progress=False)
    assert f"reid-{cache_key(data, config)}" in networks.FILES
    assert not model.training
    state = networks.read(networks.FOLDER / "reid-synthetic.safetensors")[0]["reid"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_checkpoints_that_ship_are_those_that_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = tuple({"epoch": e, "loss": -float(e), "spread": 0.5, "rate": 0.1, "tau": 0.9} for e in (1, 2))
    made = [Checkpoint(0, make_backbone(TINY), float("nan"), float("nan"), ())]
    made += [Checkpoint(2, make_backbone(TINY), -2.0, 0.5, history)]
    write_checkpoints(tmp_path / "toy.safetensors", made, {})
    first, last = read_checkpoints(tmp_path / "toy.safetensors", TINY)
    assert (first.epoch, first.history) == (0, ())
    assert (last.epoch, last.loss, last.spread, last.history) == (2, -2.0, 0.5, history)
    assert state_digest(last.backbone) == state_digest(networks.rounded(made[1].backbone))

    images = torch.zeros(TINY.batch_size, 3, 32, 32, dtype=torch.uint8)
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    entry = ("toy.safetensors", sha256(tmp_path / "toy.safetensors"))
    monkeypatch.setattr(networks, "FILES", {training_name(images, TINY): entry})
    assert [one.epoch for one in checkpoints(images, TINY)] == [0, 2]
