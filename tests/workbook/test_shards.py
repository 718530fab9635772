"""Tensors in the cache: computed once, read afterwards; a damaged file is named."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbook.cache import shards


def squares(computed: list[list[int]], numbers: Tensor) -> dict:
    computed.append(numbers.tolist())
    return {"inner": {"square": numbers**2}, "half": numbers / 2}


def test_each_shard_is_computed_once_and_all_of_them_are_joined(tmp_path: Path) -> None:
    computed: list[list[int]] = []
    asked = 5, 2, lambda numbers: "-".join(map(str, numbers.tolist())), partial(squares, computed)
    for folder in (tmp_path / "maps", tmp_path / "maps", None):
        found = shards.remember(folder, *asked)
        assert found["inner"]["square"].tolist() == [0, 1, 4, 9, 16]
        assert found["half"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert computed == [[0, 1], [2, 3], [4]] * 2, "without a folder nothing is kept or read"
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["0-1.pt", "2-3.pt", "4.pt"]
    (tmp_path / "maps" / "2-3.pt").unlink()
    shards.remember(tmp_path / "maps", *asked)
    assert computed[6:] == [[2, 3]]


def test_shards_of_one_name_are_computed_once(tmp_path: Path) -> None:
    computed: list[list[int]] = []
    shards.remember(tmp_path, 4, 2, lambda _: "alike", partial(squares, computed))
    assert computed == [[0, 1]]


@pytest.mark.parametrize("content", [b"", b"no torch file", None])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.pt"
    shards.save(path, torch.arange(1000))
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(ValueError, match=r"a\.pt in the cache is damaged: delete it and run again") as raised:
        shards.remember(tmp_path, 1, 1, lambda _: "a", lambda _: pytest.fail("computed over a damaged file"))
    assert "weights_only" not in str(raised.value)
    assert path.exists()
