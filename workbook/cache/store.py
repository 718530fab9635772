"""Results on disk: keys that say what a result was made from, and writes that are whole or not there at all.

Heavy results are kept in files named by :func:`key` and written through :func:`atomic_path`. A process that
is killed leaves either the old file or none, and two processes that write the same file both succeed: the
last one stays.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = ".part-"  # how the name of an unfinished file begins
_KEY_LENGTH = 16  # hex digits: 64 bits, collisions are out of the question for thousands of files
_FULL = 2**20  # bytes; a disk with less than this left is called full


def key(*parts: Any) -> str:
    """A short name for a result, made from everything that went into it.

    Args:
        *parts: ``bytes``; a :class:`~pathlib.Path` (the contents count: a file's bytes, or a folder's
            relative names and bytes, not where it lies); a dataclass; or anything that JSON can express.
            Tuples count as lists.

    Returns:
        16 hex digits, the same on every machine.

    Raises:
        TypeError: A part of another type (a set, a tensor, a path inside a dictionary), which has no stable
            form.
        FileNotFoundError: A path that does not exist.
    """
    digest = hashlib.sha256()
    for position, part in enumerate(parts):
        kind, content = _canonical(part, position)
        # The length in front keeps key("ab", "c") and key("a", "bc") apart.
        digest.update(f"{kind}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:_KEY_LENGTH]


def _canonical(part: Any, position: int) -> tuple[str, bytes]:
    """The kind of a part of a key and the bytes that stand for it."""
    if isinstance(part, bytes):
        return "bytes", part
    if isinstance(part, Path):
        return "path", _contents(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        part = {"class": type(part).__name__, **dataclasses.asdict(part)}
    try:
        return "json", json.dumps(part, sort_keys=True, ensure_ascii=True).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"part {position} of the key has no stable form ({error}); "
            "pass bytes, a path of its own, or plain numbers, texts, lists and dictionaries"
        ) from error


def _contents(path: Path) -> bytes:
    """The sha256 digest of a file, or of the sorted names and digests of a folder's files."""
    if path.is_dir():
        files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        return json.dumps([[name, sha256(file)] for name, file in files]).encode()
    return sha256(path).encode()


def sha256(path: Path | str) -> str:
    """The sha256 of a file as 64 hex digits."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path | str, expected: str) -> None:
    """Make sure that a file is the one that was meant.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Its sha256 differs from ``expected``.
    """
    actual = sha256(path)
    if actual != expected.lower():
        raise ValueError(
            f"{path} is not the expected file: its sha256 is {actual}, expected {expected}; delete it and get it again"
        )


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends well and removed when it does not.

    The temporary name ends like the real one, so writers that look at the suffix (``numpy.savez``, Pillow)
    behave. Missing parent folders are made.

    Raises:
        OSError: No space left on the device, whatever the writer made of it; the message names the file.
        RuntimeError: The block ended well without writing the temporary path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PART}{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield temporary
        if not temporary.is_file():
            raise RuntimeError(f"nothing was written for {path}: write to the path that atomic_path yields")
        os.replace(temporary, path)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        if _disk_is_full(path.parent, error):
            message = "no space left on the device; free some and run again, finished results are kept"
            raise OSError(errno.ENOSPC, message, str(path)) from error
        raise
    except BaseException:  # the user's interrupt, too, leaves nothing behind
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path | str, is_there: Callable[[], bool]) -> Iterator[Path]:
    """A temporary folder beside ``path``, renamed to it when the block ends well and removed when it does not.

    Args:
        path: The folder to make; nothing, or an empty folder, stands there.
        is_there: Whether the same folder is there already. Asked when the renaming fails: another process may
            just have finished it, and then its folder stays.

    Raises:
        OSError: The folder could not be renamed, and it is not there.
    """
    path = Path(path)
    scratch = path.with_name(f"{PART}{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield scratch
        try:
            os.replace(scratch, path)
        except OSError:
            if not is_there():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _disk_is_full(folder: Path, error: Exception) -> bool:
    """Whether a write failed for want of space; torch.save and others hide it behind errors of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return shutil.disk_usage(folder).free < _FULL


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, in UTF-8 and with Unix line ends on every platform."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def as_json(content: Any) -> str:
    """The text of a JSON file; the same content gives the same text (keys keep their order)."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path | str, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, as_json(content))


def sweep(folder: Path | str) -> None:
    """Remove what killed processes left unfinished in a folder; call it only where nobody is writing."""
    for leftover in Path(folder).rglob(f"{PART}*"):
        leftover.unlink(missing_ok=True)
