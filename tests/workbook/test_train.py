"""``make train``: every network that a profile explains, and none that others trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbook import profiles
from workbook.run import train as command


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The configurations that the command trains, in their order."""
    configs: list[object] = []
    monkeypatch.setattr(command, "train", lambda data, config, fabric: configs.append(config))
    monkeypatch.setattr(command, "load_data", lambda profile, data_root: SimpleNamespace())
    monkeypatch.setattr(command, "_train_pretexts", lambda profile, data_root, fabric: configs.append("pretexts"))
    return configs


def test_every_network_that_a_profile_lists_is_trained(trained: list) -> None:
    """A profile without notebooks trained nothing, and said nothing."""
    assert command.main(["trainings"]) == 0
    assert [(config.seed, config.epochs) for config in trained] == [(s, 20) for s in range(5)] + [(0, 15)]


def test_the_quick_profile_trains_its_network_and_the_pretext_tasks(trained: list) -> None:
    assert command.main(["quick"]) == 0
    assert [trained[0].epochs, *trained[1:]] == [20, "pretexts"]


def test_a_network_that_others_trained_is_not(trained: list) -> None:
    assert command.main(["cuhk03-pair1"]) == 0
    listed = profiles.load("cuhk03-pair1").networks
    assert len(trained) == 1 + sum("onnx" not in entry for entry in listed.values()) < 1 + len(listed)


def test_an_unknown_profile_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["quik"]) == 1
    assert "no profile 'quik'" in capsys.readouterr().err
