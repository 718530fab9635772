"""One look for every figure: page size, fonts, colours, colour maps and the three zones of a saliency map.

Figures are drawn at the size at which they are printed, so a font size here is a font size on paper.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap

from fam_lib.masking import B_HIGH, B_LOW

# Boundaries between the low, medium and high zone (Section 4.2); contours and colour-bar ticks stand here.
ZONES = (B_LOW, B_HIGH)
ZONE_NAMES = ("low", "medium", "high")

PAGE_WIDTH = 7.2  # inches between the margins of an A4 page
DPI = 110  # a page-wide PNG then has the width of a README column
FONT = 9.0  # points; nothing in a figure is smaller
TITLE_FONT = 11.0

# Jet's top is almost as dark as its bottom, so its bands vanish in grey print and it draws edges that are not
# there. It is offered only to stand beside the paper's figures, which describe the zones in jet's colours.
LOOKS = {"default": "inferno", "paper": "jet"}
_look = "default"  # of the maps in all figures; see use_look

# Seven of Okabe and Ito's colours, told apart by readers with any common colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#595959"  # 7:1 on white
RULE = "#BFBFBF"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same figure on every machine
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "figure.titlesize": TITLE_FONT,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": GREY,
    "axes.labelcolor": "black",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "image.cmap": LOOKS["default"],
    "image.interpolation": "auto",
    "mathtext.fontset": "dejavusans",
}


def apply() -> None:
    """Make the workbook's style this session's default, for figures drawn outside :mod:`workbook.plots`."""
    mpl.rcParams.update(RC)


def context() -> AbstractContextManager:
    """The workbook's style for a ``with`` block or as a decorator; the reader's own settings come back."""
    return mpl.rc_context(RC)


def use_look(look: Literal["default", "paper"]) -> None:
    """Choose how maps are drawn from now on, in every figure.

    Args:
        look: "default" (inferno, whose lightness grows with the value, over the image in grey) or "paper" (jet over
            the image in its colours, for a look beside the paper's own figures).

    Raises:
        ValueError: there is no such look.
    """
    global _look
    if look not in LOOKS:
        raise ValueError(f"look must be one of {sorted(LOOKS)}, got {look!r}")
    _look = look


def current_look() -> str:
    """The look that :func:`use_look` chose last; "default" at first."""
    return _look


def colour_map() -> Colormap:
    """The colour map of the current look."""
    return mpl.colormaps[LOOKS[_look]]


def colours(values: np.ndarray) -> np.ndarray:
    """RGB in [0, 1] of values in [0, 1]: any shape (...) -> (..., 3)."""
    return colour_map()(values)[..., :3]
