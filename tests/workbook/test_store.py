"""Keys name results by what went into them; writes are whole or leave no trace."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_project
from workbook.cache import store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1


@dataclasses.dataclass(frozen=True)
class OtherConfig:
    lr: float = 0.1


def test_key_is_the_sha256_of_what_the_docstring_says() -> None:
    expected = hashlib.sha256(b'json:8:{"a": 1}' + b"bytes:2:xy").hexdigest()[:16]
    assert store.key({"a": 1}, b"xy") == expected


@given(JSON, JSON)
def test_different_content_has_different_keys(a: Any, b: Any) -> None:
    same = repr(a) == repr(b)
    assert (store.key(a) == store.key(b)) == (same or store.as_json(sort(a)) == store.as_json(sort(b)))


def sort(value: Any) -> Any:
    """A value with its dictionaries in one order: order is no content."""
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return [sort(inner) for inner in value] if isinstance(value, list) else value


def test_borders_types_and_classes_count() -> None:
    keys = [
        store.key("ab", "c"),
        store.key("a", "bc"),
        store.key("abc"),
        store.key(["ab", "c"]),
        store.key(b"ab", b"c"),
        store.key(1),
        store.key(1.0),
        store.key(True),
        store.key("1"),
        store.key(Config()),
        store.key(Config(0.2)),
        store.key(OtherConfig()),
        store.key({"lr": 0.1}),
        store.key(),
    ]
    assert len(set(keys)) == len(keys)
    assert store.key({"a": 1, "b": 2}) == store.key({"b": 2, "a": 1})
    assert store.key((1, 2)) == store.key([1, 2])


def test_a_path_counts_by_content_not_by_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "a.bin").write_bytes(b"1")
        (tmp_path / folder / "sub" / "b.bin").write_bytes(b"2")
    one, two = tmp_path / "one", tmp_path / "two"
    assert store.key(one / "a.bin") == store.key(two / "a.bin") != store.key(one / "sub" / "b.bin")
    assert store.key(one) == store.key(two)
    (two / "sub" / "b.bin").rename(two / "sub" / "c.bin")
    assert store.key(one) != store.key(two), "a renamed file is another data set"


@pytest.mark.parametrize("part", [{1, 2}, object(), {"path": Path("x")}, Config])
def test_a_part_without_stable_form_is_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="part 1 of the key has no stable form"):
        store.key("fine", part)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*weights\.pt"):
        store.key(tmp_path / "weights.pt")


def test_check_sha256_accepts_the_file_and_refuses_another(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1
    assert store.sha256(path) == abc
    store.check_sha256(path, abc.upper())
    path.write_bytes(b"abd")
    with pytest.raises(ValueError, match=rf"weights\.bin is not the expected file.*expected {abc}"):
        store.check_sha256(path, abc)


def test_a_write_appears_whole_and_under_its_own_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.npz"
    with store.atomic_path(target) as temporary:
        assert temporary.parent == target.parent, "another folder may be another disk, where a rename is a copy"
        assert temporary.suffix == ".npz"
        temporary.write_bytes(b"half")
        assert not target.exists()
        temporary.write_bytes(b"whole")
    assert [path.name for path in target.parent.iterdir()] == ["scores.npz"]
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(type(error)), store.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_clear_error_whatever_the_writer_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.pt"
    with (
        pytest.raises(OSError, match="no space left on the device; free some") as caught,
        store.atomic_path(target),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(target))

    usage = store.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="no space left") as caught, store.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("PytorchStreamWriter failed writing file")  # what torch.save makes of it
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(tmp_path.iterdir()) == []


def test_forgetting_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nothing was written"), store.atomic_path(tmp_path / "x.csv"):
        pass


def test_writers_of_the_same_file_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "shard.bin"
    everyone = threading.Barrier(8)

    def write(content: bytes) -> None:
        with store.atomic_path(target) as temporary:
            everyone.wait()  # all of them are inside the block at once
            temporary.write_bytes(content)

    threads = [threading.Thread(target=write, args=(bytes([i]) * 100_000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(target.read_bytes())) == 1
    assert len(target.read_bytes()) == 100_000
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_writer_leaves_the_old_file_and_a_leftover_that_sweep_removes(tmp_path: Path) -> None:
    project = toy_project.make_project(tmp_path / "project", {}, "")
    target = tmp_path / "out" / "table.csv"
    target.parent.mkdir()
    target.write_text("old")
    script = f"""
import os
from workbook.cache import store
with store.atomic_path({str(target)!r}) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    killed = toy_project.call(project, sys.executable, "-c", script)
    assert killed.returncode == 9
    assert target.read_text() == "old"
    assert len(list(target.parent.iterdir())) == 2
    store.sweep(tmp_path)
    assert list(target.parent.iterdir()) == [target]


def test_text_files_have_unix_line_ends_and_json_is_stable(tmp_path: Path) -> None:
    store.write_text(tmp_path / "t.txt", "a\nµ\n")
    assert (tmp_path / "t.txt").read_bytes() == "a\nµ\n".encode()
    store.write_json(tmp_path / "t.json", {"b": 1, "a": [1.5, "é"]})
    assert (tmp_path / "t.json").read_text(encoding="utf-8") == '{\n "b": 1,\n "a": [\n  1.5,\n  "é"\n ]\n}\n'


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt), store.atomic_folder(target, target.is_dir) as scratch:
        scratch.mkdir()
        (scratch / "half").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with store.atomic_folder(target, target.is_dir) as scratch:
        scratch.mkdir()
        (scratch / "whole").write_text("whole")
        assert not target.exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["set", "set/whole"]


@pytest.mark.parametrize("same", [True, False])
def test_of_two_processes_that_make_a_folder_the_first_one_stays(tmp_path: Path, same: bool) -> None:
    target = tmp_path / "set"

    def make() -> None:
        with store.atomic_folder(target, lambda: same) as scratch:
            scratch.mkdir()
            (scratch / "of").write_text("second")
            target.mkdir()
            (target / "of").write_text("first")

    if same:
        make()
    else:
        with pytest.raises(OSError):
            make()
    assert (target / "of").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]
