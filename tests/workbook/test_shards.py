"""Tensors in the cache: computed once, read afterwards; a damaged file is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workbook.cache import shards


def test_a_result_is_computed_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "maps" / "a.pt", []

    def compute() -> dict:
        calls.append(1)
        return {"raw": torch.tensor([1.5, 2.5]), "n": 3}

    for _ in range(2):
        found = shards.remember(path, compute)
        assert found["raw"].tolist() == [1.5, 2.5] and found["n"] == 3
    assert len(calls) == 1
    assert shards.remember(None, compute)["n"] == 3 and len(calls) == 2
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"no torch file", None])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.pt"
    shards.save(path, torch.arange(1000))
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(ValueError, match=r"a\.pt in the cache is damaged: delete it and run again") as raised:
        shards.remember(path, lambda: pytest.fail("computed over a damaged file"))
    assert "weights_only" not in str(raised.value)
    assert path.exists()
