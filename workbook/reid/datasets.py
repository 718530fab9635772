"""The Re-ID data sets that we know by name: where they lie, how large they are, and how to open one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from workbook.profiles import hint
from workbook.reid import cuhk03
from workbook.reid.data import DISTRACTOR_ID, ImageSet, ReidData, load_market_layout


class Count(NamedTuple):
    """How large a split is.

    Attributes:
        images: junk left out, distractors counted.
        ids: identities, distractors left out.
    """

    images: int
    ids: int


class Counts(NamedTuple):
    """How large the three splits of a data set are."""

    train: Count
    query: Count
    gallery: Count


@dataclass(frozen=True)
class KnownDataset:
    """What is published about a data set.

    Attributes:
        description: one sentence for readers.
        folder: where it lies under the data root.
        counts: the published sizes.
        paper: the column of the paper's Table 2 that was measured on it; None if there is none.
        boxes: for CUHK03's official files, which boxes to take; None for a set in Market1501's layout.
    """

    description: str
    folder: str
    counts: Counts
    paper: Literal["Market1501", "CUHK03"] | None = None
    boxes: cuhk03.Boxes | None = None


_DETECTED = Counts(Count(7365, 767), Count(1400, 700), Count(5332, 700))
_LABELED = Counts(Count(7368, 767), Count(1400, 700), Count(5328, 700))

KNOWN: dict[str, KnownDataset] = {
    "market1501": KnownDataset(
        "Market1501: six cameras in front of a supermarket, boxes of a detector.",
        "market1501",
        Counts(Count(12936, 751), Count(3368, 750), Count(15913, 750)),
        paper="Market1501",
    ),
    "cuhk03-detected": KnownDataset(
        "CUHK03, 767/700 protocol, boxes of a detector, from the official .mat files.",
        "cuhk03",
        _DETECTED,
        paper="CUHK03",
        boxes="detected",
    ),
    "cuhk03-labeled": KnownDataset(
        "CUHK03, 767/700 protocol, boxes drawn by hand, from the official .mat files.",
        "cuhk03",
        _LABELED,
        paper="CUHK03",
        boxes="labeled",
    ),
    "cuhk03-np-detected": KnownDataset(
        "CUHK03-NP: CUHK03, 767/700 protocol, boxes of a detector, packed in Market1501's layout.",
        "cuhk03-np/detected",
        _DETECTED,
        paper="CUHK03",
    ),
    "cuhk03-np-labeled": KnownDataset(
        "CUHK03-NP: CUHK03, 767/700 protocol, boxes drawn by hand, packed in Market1501's layout.",
        "cuhk03-np/labeled",
        _LABELED,
        paper="CUHK03",
    ),
    "cuhk03-pair1": KnownDataset(
        "The first camera pair of CUHK03, boxes drawn by hand, with a split of our own: not the official protocol.",
        "cuhk03-pair1",
        Counts(Count(6264, 643), Count(400, 200), Count(1513, 200)),
    ),
}


def open_dataset(name: str, root: Path, cache: Path, progress: bool = True) -> ReidData:
    """Open a data set by its name; CUHK03's official files are converted on first use.

    Args:
        name: one of `KNOWN`, or a folder under ``root`` in Market1501's layout.
        root: the folder that holds the data sets.
        cache: where converted sets are kept.
        progress: show a progress bar while converting.

    Returns:
        The data; a known set has the name it was asked for.

    Raises:
        FileNotFoundError: the set, or a part of it, is not there.
        ValueError: the set is damaged; the message names the file.
    """
    require(name, root)
    if name not in KNOWN:
        return load_market_layout(root / name)
    known = KNOWN[name]
    folder = root / known.folder
    if known.boxes is not None:
        folder = cuhk03.convert(folder, known.boxes, cache, progress)
    return load_market_layout(folder, name)


def require(name: str, root: Path) -> None:
    """Make sure that a data set can be opened, without opening it.

    Raises:
        FileNotFoundError: the set, or a part of it, is not there; the message says what to do.
    """
    if (absent := missing(name, root)) is not None:
        unknown = "" if name in KNOWN else f" (it is no known data set{hint(name, KNOWN)})"
        raise FileNotFoundError(
            f"the data set {name!r} needs {absent}, which is not there{unknown}; data/README.md says how to get "
            "each set and where to put it; name the folder above it with DATA_ROOT= if it lies elsewhere"
        )


def missing(name: str, root: Path) -> Path | None:
    """The first file or folder without which the data set cannot be opened; None if all are there."""
    known = KNOWN.get(name)
    folder = root / (known.folder if known else name)
    needed = [folder]
    if known and known.boxes is not None:
        needed += [cuhk03.split_file(folder, known.boxes), cuhk03.images_file(folder)]
    return next((path for path in needed if not path.exists()), None)


def counts(data: ReidData) -> Counts:
    """How large a data set is, to compare with the published sizes."""
    return Counts(*(_count(split) for split in (data.train, data.query, data.gallery)))


def _count(split: ImageSet) -> Count:
    return Count(len(split), len(split.ids[split.ids != DISTRACTOR_ID].unique()))
