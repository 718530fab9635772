"""Whether the Re-ID data sets are there and sound: ``python -m workbook.reid.check [--data-root D] [NAME ...]``.

A fault makes results wrong or stops a run: an image that cannot be read, one image under two identities, a person
to train on who is also a query, other numbers of images than published. A note is something to know, such as a
query without an answer in another camera.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from workbook import paths
from workbook.cache.store import sha256
from workbook.images import UNREADABLE
from workbook.profiles import short
from workbook.reid import cuhk03
from workbook.reid.config import TrainConfig
from workbook.reid.data import DISTRACTOR_ID, TRAIN_FOLDER, ReidData
from workbook.reid.datasets import KNOWN, Counts, counts, missing, open_dataset

_EXAMPLES = 5  # names that a finding lists before it only counts


@dataclass(frozen=True)
class Findings:
    """What is wrong with a data set, and what is worth knowing; each entry is one sentence for readers."""

    faults: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """One image: its split ("train", "query" or "gallery"), file, identity and camera."""

    split: str
    path: Path
    id: int
    camera: int


def check(data: ReidData, published: Counts | None = None, progress: bool = False) -> Findings:
    """Read every image of a data set once and look for what would spoil results.

    Args:
        data: the set.
        published: its published sizes, where there are any.
        progress: show a progress bar.

    Returns:
        Faults and notes; files are named relative to ``data.root``.
    """
    entries = [
        _Entry(split, path, identity, camera)
        for split in Counts._fields
        for path, identity, camera in zip(
            getattr(data, split).paths,
            getattr(data, split).ids.tolist(),
            getattr(data, split).cams.tolist(),
            strict=True,
        )
    ]
    digests = _read_all([entry.path for entry in entries], data.name, progress)
    faults = [
        *_other_counts(counts(data), published),
        *_unreadable(entries, digests, data.root),
        *_contradictions(entries, digests, data.root),
        *_shared_identities(entries),
    ]
    notes = [*_unanswered_queries(entries, data.root), *_one_camera_identities(entries), *_too_few_identities(data)]
    return Findings(tuple(faults), tuple(notes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the named data sets, or all known ones, and print a report.

    Returns:
        The exit status: 0 if every set that is there is sound, 1 if one is not, or one was named and is not there.
    """
    parser = argparse.ArgumentParser(prog="python -m workbook.reid.check", description="Check the Re-ID data sets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(KNOWN)}, or a folder's name")
    parser.add_argument("--data-root", default="", help="folder that holds the data sets (default: data/)")
    options = parser.parse_args(arguments)
    root = paths.data_root(options.data_root)
    sound = True
    for name in options.names or KNOWN:
        if (absent := missing(name, root)) is not None:
            advice = "; give the folder above the data set" if (root / TRAIN_FOLDER).is_dir() else ""
            print(f"{name}: not there, {short(absent)} is missing{advice}")
            sound &= not options.names
        else:
            sound &= _report(name, root)
    print("Where to get each set and where to put it: data/README.md")
    return 0 if sound else 1


def _report(name: str, root: Path) -> bool:
    """Print the findings about a data set that is there; True if it is sound."""
    known = KNOWN.get(name)
    try:
        data = open_dataset(name, root, paths.CACHE)
    except (OSError, ValueError) as error:
        sizes, findings = [], Findings((str(error),), ())
    else:
        sizes, findings = _sizes(data), check(data, known.counts if known else None, progress=True)
    notes = [*(_other_split_file(known.boxes, root / known.folder) if known and known.boxes else ()), *findings.notes]
    print(f"{name}: {'NOT SOUND' if findings.faults else 'sound'}")
    for line in (*sizes, *(f"fault: {fault}" for fault in findings.faults), *(f"note: {note}" for note in notes)):
        print(f"  {line}")
    return not findings.faults


def _sizes(data: ReidData) -> list[str]:
    lines = [
        f"{split:<8}{size.images:>7,} images of {size.ids:,} identities"
        for split, size in counts(data)._asdict().items()
    ]
    if distractors := int((data.gallery.ids == DISTRACTOR_ID).sum()):
        lines[-1] += f" and {distractors:,} distractors"
    return lines


def _other_split_file(boxes: cuhk03.Boxes, folder: Path) -> list[str]:
    path = cuhk03.split_file(folder, boxes)
    if sha256(path) == cuhk03.SPLIT_SHA256[boxes]:
        return []
    return [f"{path.name} is not the published split file (another sha256): do not compare with published results"]


def _read_all(files: list[Path], name: str, progress: bool) -> list[str | None]:
    """`_digest` of every file; Ctrl-C stops at once."""
    with ThreadPool() as pool:
        return list(tqdm(pool.imap(_digest, files), f"reading {name}", len(files), unit="image", disable=not progress))


def _digest(path: Path) -> str | None:
    """The sha256 of an image file, None if it cannot be decoded to its end."""
    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.load()
    except UNREADABLE:
        return None
    return hashlib.sha256(content).hexdigest()


def _other_counts(found: Counts, published: Counts | None) -> list[str]:
    if published is None:
        return []
    return [
        f"{split} has {ours.images:,} images of {ours.ids:,} identities, "
        f"published are {theirs.images:,} of {theirs.ids:,}"
        for split, ours, theirs in zip(Counts._fields, found, published, strict=True)
        if ours != theirs
    ]


def _unreadable(entries: list[_Entry], digests: list[str | None], root: Path) -> list[str]:
    broken = [_name(entry, root) for entry, digest in zip(entries, digests, strict=True) if digest is None]
    return [f"truncated or no image, restore from the data set: {_some(broken)}"] if broken else []


def _contradictions(entries: list[_Entry], digests: list[str | None], root: Path) -> list[str]:
    """Files with the same bytes that cannot both be right: by identity, by camera, or in training and test."""
    first: dict[str, _Entry] = {}
    wrong = {}
    for entry, digest in zip(entries, digests, strict=True):
        if digest is not None and _meaning(entry) != _meaning(first.setdefault(digest, entry)):
            wrong.setdefault(digest, f"{_name(first[digest], root)} = {_name(entry, root)}")
    if not wrong:
        return []
    return [f"one image under two identities or cameras, or in training and test: {_some(list(wrong.values()))}"]


def _meaning(entry: _Entry) -> tuple[int, int, bool]:
    return entry.id, entry.camera, entry.split == "train"


def _shared_identities(entries: list[_Entry]) -> list[str]:
    trained = {entry.id for entry in entries if entry.split == "train"}
    shared = sorted(trained & {entry.id for entry in entries if entry.split != "train"})
    return [f"identities in both training and test: {_some(shared)}"] if shared else []


def _unanswered_queries(entries: list[_Entry], root: Path) -> list[str]:
    cameras = _cameras(entry for entry in entries if entry.split == "gallery")
    queries = [entry for entry in entries if entry.split == "query"]
    without = [_name(entry, root) for entry in queries if not cameras[entry.id] - {entry.camera}]
    if not without:
        return []
    return [
        f"{len(without)} of {len(queries)} queries have no image of the person from another camera "
        f"and are left out of every mean: {_some(without)}"
    ]


def _one_camera_identities(entries: list[_Entry]) -> list[str]:
    cameras = _cameras(entry for entry in entries if entry.split == "train")
    alone = sorted(identity for identity, seen in cameras.items() if len(seen) == 1)
    return [f"training identities seen by one camera only: {_some(alone)}"] if alone else []


def _too_few_identities(data: ReidData) -> list[str]:
    found, needed = counts(data).train.ids, TrainConfig.ids_per_batch
    if found >= needed:
        return []
    return [f"{found} training identities: set ids_per_batch, {needed} by default, to no more than that"]


def _cameras(entries: Iterable[_Entry]) -> dict[int, set[int]]:
    """The cameras that saw each identity."""
    seen: dict[int, set[int]] = defaultdict(set)
    for entry in entries:
        seen[entry.id].add(entry.camera)
    return seen


def _name(entry: _Entry, root: Path) -> str:
    return entry.path.relative_to(root).as_posix()


def _some(items: Sequence[object]) -> str:
    """The first few items, and how many there are if these are not all."""
    rest = len(items) - _EXAMPLES
    return ", ".join(map(str, items[:_EXAMPLES])) + (f" and {rest:,} more" if rest > 0 else "")


if __name__ == "__main__":
    sys.exit(main())
