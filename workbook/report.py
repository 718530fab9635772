"""The one way by which figures and tables leave a notebook.

A :class:`Report` writes each output whole or not at all, checks its name against the promised ones, refuses a
figure without a text for readers who cannot see it, shows it in the notebook, and records its sha256. The
bytes depend on the content only: no date, no version, no matplotlibrc of the reader's.
"""

from __future__ import annotations

import base64
import io
import math
import numbers
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from workbook import outputs, profiles
from workbook.cache import store

DPI = 110  # a page-wide figure has about the width of a README column
FILE_LIMIT = 300_000  # bytes of a committed figure
INLINE_LIMIT = 40_000  # bytes of a picture in a notebook: with all its pictures it must stay under 400 kB
ALT_LENGTH = 30  # characters; a shorter text cannot say what is shown and what is found
# (dots per inch, palette of 256 colours): the first that fits the limit is taken. Fewer pixels come before fewer
# colours, because a palette puts a grain into smooth maps.
_LADDER = ((DPI, False), (90, False), (DPI, True), (90, True), (72, True))
INLINE_DPI = 90  # of those that are shown as JPEG
_JPEG_QUALITY = 58


class Report:
    """The outputs of one run of one notebook.

    Args:
        notebook: The notebook's name without ``.ipynb``, as in ``params/outputs.txt``; or "evidence".
        profile: The profile's name.
        device: What computed, for example ``"cpu"`` or ``"cuda"``; goes to the manifest.
        dataset: The data behind the outputs, if other than the profile's.

    Raises:
        FileNotFoundError: No such profile.
        ValueError: A notebook that the profile does not run.
    """

    def __init__(self, notebook: str, profile: str, *, device: Any = "cpu", dataset: str | None = None) -> None:
        self.profile = profiles.load(profile)
        if notebook not in self.profile.parts:
            hint = profiles.hint(notebook, self.profile.parts)
            raise ValueError(f"profile {profile!r} does not run {notebook!r}{hint}")
        self.notebook = notebook
        self.dataset = dataset or self.profile.dataset
        self._promised = {output.file: output for output in outputs.promised(self.profile, notebook)}
        self._part: dict[str, Any] = {
            "notebook": notebook,
            "profile": profile,
            "device": _describe(str(device)),
            "outputs": [],
        }
        self._save()  # from here on the record of an earlier run no longer counts

    def figure(self, fig: Figure, name: str, *, alt: str, dataset: str | None = None) -> None:
        """Save a figure as ``<name>.png``, show it in the notebook, and close it.

        Args:
            fig: The figure, drawn at the size at which it is to be read.
            name: A promised output, without the suffix.
            alt: What is shown and what is found, in at least 30 characters.
            dataset: The data behind this figure, if other than the report's.

        Raises:
            ValueError: A name that is not promised, a short alt text, or a figure that no quality brings
                under 300 kB.
        """
        output = self._output(f"{name}.png")
        alt = _checked_alt(alt, name)
        content = _file(fig)
        if len(content) > FILE_LIMIT:
            raise ValueError(
                f"figure {name!r} takes {len(content) // 1000} kB even with 256 colours at low resolution; "
                f"the limit is {FILE_LIMIT // 1000} kB: make it smaller or show fewer pictures"
            )
        path = outputs.place(self.profile, output.file)
        with store.atomic_path(path) as temporary:
            temporary.write_bytes(content)
        self._record(output, "figure", path, alt, dataset)
        _display(fig, alt)
        plt.close(fig)

    def show(self, fig: Figure, *, alt: str) -> None:
        """Show a figure that is no output of the workbook, with its alt text, and close it."""
        _display(fig, _checked_alt(alt, "this figure"))
        plt.close(fig)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        *,
        show: Sequence[str] | None = None,
        caption: str = "",
    ) -> None:
        """Save a table as ``<name>.csv`` and print it.

        Numbers have four significant digits, and never fewer digits than the whole part has (12345.6 becomes
        12346); whole numbers stay whole; missing values are empty. The order of rows and columns is the
        frame's.

        Args:
            frame: The table. Its index must be the plain 0..n-1, because only columns are written.
            name: A promised output, without the suffix.
            show: The columns to print: all if None, none if empty.
            caption: What the table says, for the manifest.

        Raises:
            ValueError: A name that is not promised, no rows, an index with content, or a column named twice.
        """
        output = self._output(f"{name}.csv")
        text = _as_text(frame, name)
        unknown = set(show or ()) - set(text.columns)
        if unknown:
            raise ValueError(f"table {name!r} has no column {min(unknown)!r}; its columns: {', '.join(text.columns)}")
        path = outputs.place(self.profile, output.file)
        store.write_text(path, text.to_csv(index=False, lineterminator="\n"))
        self._record(output, "table", path, caption)
        columns = list(text.columns if show is None else show)
        if columns:
            print(text[columns].to_string(index=False))

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables written so far, read back, so that what is concluded from them is what the files say.

        Returns:
            Name without suffix -> table; columns named ``keep`` (a rule such as "eq14" or "10") stay text.
        """
        files = [entry["file"] for entry in self._part["outputs"] if entry["kind"] == "table"]
        return {Path(file).stem: outputs.read_table(outputs.place(self.profile, file)) for file in files}

    def finish(self) -> None:
        """Print the outputs of this notebook.

        Raises:
            RuntimeError: A promised output was not written.
        """
        written = [entry["file"] for entry in self._part["outputs"]]
        missing = [file for file in self._promised if file not in written]
        if missing:
            raise RuntimeError(f"{self.notebook} promises {', '.join(missing)} but did not write it")
        print("\n".join(f"{file}  {self._promised[file].paper}" for file in self._promised) or "no outputs promised")

    def _output(self, file: str) -> outputs.Output:
        """The promised output of that name."""
        if file not in self._promised:
            raise ValueError(
                f"{self.notebook} does not promise {file!r} in profile {self.profile.name!r}"
                f"{profiles.hint(file, self._promised)} (params/outputs.txt)"
            )
        return self._promised[file]

    def _record(self, output: outputs.Output, kind: str, path: Path, alt: str, dataset: str | None = None) -> None:
        """Note an output in this notebook's part; a second write of the same file replaces the first."""
        entry = {
            "file": output.file,
            "kind": kind,
            "paper": output.paper,
            "dataset": dataset or self.dataset,
            "alt": alt,
            "sha256": store.sha256(path),
        }
        self._part["outputs"] = [old for old in self._part["outputs"] if old["file"] != output.file] + [entry]
        self._save()

    def _save(self) -> None:
        store.write_json(outputs.part_path(self.profile, self.notebook), self._part)


def _describe(device: str) -> str:
    """A device in words; for a GPU its name, because results may differ between models in the last digits."""
    if device.startswith("cuda"):
        import torch  # only here: a report can be written without torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"


def _checked_alt(alt: str, name: str) -> str:
    """The alt text on one line, if it says enough."""
    alt = " ".join(alt.split())
    if len(alt) < ALT_LENGTH:
        raise ValueError(
            f"the alt text of {name} has {len(alt)} characters; "
            f"say in at least {ALT_LENGTH} what is shown and what is found"
        )
    return alt


def _file(fig: Figure) -> bytes:
    """A figure as the best PNG that fits the limit of a file, else as the smallest."""
    content = b""
    for dpi, palette in _LADDER:
        content = _png(_picture(fig, dpi), palette)
        if len(content) <= FILE_LIMIT:
            break
    return content


def _picture(fig: Figure, dpi: int) -> Image.Image:
    """A figure as pixels."""
    buffer = io.BytesIO()
    # The figure's style is in its artists; a matplotlibrc of the reader's must not change how they are drawn.
    with plt.style.context("default"):
        fig.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer).convert("RGB")


def _png(picture: Image.Image, palette: bool = False) -> bytes:
    """Pixels as PNG, with all their colours or with the 256 that suit them best."""
    if palette:
        picture = picture.quantize(palette=picture.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _display(fig: Figure, alt: str) -> None:
    """Show a figure with its alt text if a notebook is running: as PNG, or as JPEG where that is much
    smaller."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        return
    kind, content = "image/png", _png(_picture(fig, DPI))
    if len(content) > INLINE_LIMIT:
        buffer = io.BytesIO()
        _picture(fig, INLINE_DPI).save(buffer, format="jpeg", quality=_JPEG_QUALITY, optimize=True)
        kind, content = "image/jpeg", buffer.getvalue()
    bundle = {kind: base64.b64encode(content).decode(), "text/plain": alt}
    display(bundle, raw=True, metadata={kind: {"alt": alt}})


def _as_text(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table with every value as the text that is written and printed."""
    if frame.empty:
        raise ValueError(f"table {name!r} is empty")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError(f"table {name!r} has an index with content, which would be lost; call reset_index() first")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"table {name!r} has two columns {twice[0]!r}")
    return pd.DataFrame({str(column): [_as_word(value) for value in frame[column]] for column in frame.columns})


def _as_word(value: Any) -> str:
    """One value of a table as text; see :meth:`Report.table`."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    number = float(value)
    if math.isnan(number):
        return ""
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    if number == int(number) or abs(number) >= 1000:
        return str(round(number))
    return f"{number:.4g}"
