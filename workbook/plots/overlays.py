"""One image, its map laid over it, and grids of both on one scale.

Images are (3, H, W) in [0, 1], saliency maps (H, W) in [0, 1]; tensors and arrays are both welcome.
:func:`workbook.plots.style.use_look` chooses the colours of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from torch import Tensor

from workbook.plots import canvas, style
from workbook.plots.canvas import LINE, MARGIN, axes_at, text_at, text_width, wrap
from workbook.plots.style import FONT, GREY, PAGE_WIDTH, RULE, ZONE_NAMES, ZONES, colour_map, colours

Array = np.ndarray | Tensor
Cell = Any  # an image, a pair (image, saliency), a text that says why there is no image, or None

ALPHA = 0.55  # weight of the map's colour in an overlay
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: the lightness of a colour picture in grey
GAP = 0.05  # inches between neighbouring images
GROUP_GAP = 0.18  # inches between groups of columns
MAX_CELL = (1.7, 2.0)  # largest width and height of an image in a grid, inches
MIN_PAGE = 4.2  # inches: a narrower page would break every title
ZONE_LINES = ("--", "-")  # line styles of the contours at the low and the high boundary
ZONE_LINE_WIDTH = 0.7


def to_numpy(values: Array) -> np.ndarray:
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)


def _unit_range(values: np.ndarray, name: str, advice: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    if values.min() < -1e-4 or values.max() > 1 + 1e-4:
        raise ValueError(f"{name} must lie in [0, 1], got {values.min():.3g} to {values.max():.3g}: {advice}")
    return values.clip(0, 1)


def rgb(image: Array) -> np.ndarray:
    """An image (3, H, W) in [0, 1] as (H, W, 3), the order in which it is drawn.

    Raises:
        ValueError: the shape or the range is wrong.
    """
    values = to_numpy(image)
    if values.ndim != 3 or values.shape[0] != 3:
        raise ValueError(f"image must have the shape (3, H, W), got {values.shape}")
    return _unit_range(values, "image", "undo the normalisation first (x * std + mean)").transpose(1, 2, 0)


def to_map(saliency: Array, name: str = "saliency") -> np.ndarray:
    values = to_numpy(saliency)
    if values.ndim != 2:
        raise ValueError(f"{name} must have the shape (H, W), got {values.shape}")
    return _unit_range(values, name, "use Explanation.saliency or masking.min_max")


def same_length(**sequences: Sequence | Array) -> None:
    lengths = {name: len(values) for name, values in sequences.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"these must have the same length: {lengths}")


def overlay(image: Array, saliency: Array) -> np.ndarray:
    """The map laid over its image: (1 - ALPHA) * image + ALPHA * colour(saliency).

    By default the image is shown in grey, so that every colour in the overlay comes from the map and can be
    read off the colour bar; the look "paper" keeps the image's colours, as the paper does.

    Args:
        image: (3, H, W) in [0, 1].
        saliency: (H, W) in [0, 1].

    Returns:
        (H, W, 3) in [0, 1].

    Raises:
        ValueError: a shape or a range is wrong.
    """
    picture, values = rgb(image), to_map(saliency)
    if picture.shape[:2] != values.shape:
        raise ValueError(f"image {picture.shape[:2]} and saliency {values.shape} must have the same height and width")
    if style.current_look() != "paper":
        picture = (picture @ np.array(LUMA))[..., None]
    return (1 - ALPHA) * picture + ALPHA * colours(values)


def show_image(ax: Axes, image: Array) -> None:
    """Draw an image without ticks or frame."""
    ax.imshow(rgb(image))
    bare(ax)


def show_overlay(ax: Axes, image: Array, saliency: Array, zones: tuple[float, float] = ZONES) -> QuadContourSet | None:
    """Draw the overlay with a dashed line around the medium zone and a solid one around the high zone.

    Args:
        ax: where to draw.
        image: (3, H, W) in [0, 1].
        saliency: (H, W) in [0, 1].
        zones: boundaries of the zones, B_Low and B_High of Eq. 14.

    Returns:
        The contour lines; None where the map crosses neither boundary.
    """
    ax.imshow(overlay(image, saliency))
    bare(ax)
    values = to_map(saliency)
    crossed = [i for i, level in enumerate(zones) if values.min() < level <= values.max()]
    if not crossed or (len(crossed) == 2 and zones[0] == zones[1]):
        crossed = crossed[:1]
    if not crossed:
        return None
    lines = ax.contour(
        values,
        levels=[zones[i] for i in crossed],
        linestyles=[ZONE_LINES[i] for i in crossed],
        colors="white",
        linewidths=ZONE_LINE_WIDTH,
    )
    # White alone is lost on a bright background, black alone on a dark one.
    lines.set_path_effects([withStroke(linewidth=ZONE_LINE_WIDTH + 0.7, foreground="black")])
    return lines


def bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def zone_colorbar(
    fig: Figure, cax: Axes, orientation: str = "horizontal", zones: tuple[float, float] = ZONES
) -> Colorbar:
    """A colour bar with ticks at 0, B_Low, B_High and 1, and the names of the three zones between them.

    The lines across it are those of :func:`show_overlay`: dashed at B_Low, solid at B_High.
    """
    scale = ScalarMappable(Normalize(0, 1), colour_map())
    bar = fig.colorbar(scale, cax=cax, orientation=orientation, drawedges=False)
    low, high = zones
    bar.set_ticks([0, low, high, 1], labels=["0", f"{low:g}", f"{high:g}", "1"])
    middles = [low / 2, (low + high) / 2, (high + 1) / 2]
    # A zone too narrow for its name goes unnamed.
    named = [
        (m, n) for m, n, width in zip(middles, ZONE_NAMES, (low, high - low, 1 - high), strict=True) if width > 0.15
    ]
    bar.set_ticks([m for m, _ in named], labels=[n for _, n in named], minor=True)
    cax.tick_params(which="both", labelsize=FONT)
    cax.tick_params(which="major", length=3, pad=3)
    cax.tick_params(which="minor", length=0, pad=6)  # on one line with the numbers
    bar.outline.set_linewidth(0.6)
    line = cax.axvline if orientation == "horizontal" else cax.axhline
    for level, dashes in zip(zones, ZONE_LINES, strict=True):
        line(
            level,
            color="white",
            linestyle=dashes,
            linewidth=1.2,
            path_effects=[withStroke(linewidth=2.2, foreground="black")],
        )
    return bar


def height_over_width(cell: Cell) -> float | None:
    if cell is None or isinstance(cell, str):
        return None
    image = cell[0] if isinstance(cell, tuple) else cell
    height, width = image.shape[-2:]
    return height / width


def _draw_cell(ax: Axes, cell: Cell, zones: tuple[float, float]) -> None:
    if isinstance(cell, tuple):
        show_overlay(ax, *cell, zones=zones)
    elif cell is None or isinstance(cell, str):
        bare(ax)
        if cell:
            ax.set_facecolor("#F2F2F2")
            width = ax.get_position().width * ax.figure.get_figwidth()
            ax.text(
                0.5,
                0.5,
                wrap(cell, width - 0.04),
                ha="center",
                va="center",
                color=GREY,
                transform=ax.transAxes,
            )
        else:
            ax.set_axis_off()
    else:
        show_image(ax, cell)


def _frame(ax: Axes, correct: bool) -> None:
    for spine in ax.spines.values():
        # The default cap of a spine would fill the gaps between dashes.
        spine.set(visible=True, linewidth=2.2, capstyle="butt")
        spine.set(color=style.GREEN if correct else style.RED, linestyle="-" if correct else (0, (2, 1)))


@style.context()
def image_grid(
    rows: Sequence[Sequence[Cell]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str = "",
    *,
    note: str = "",
    captions: Sequence[Sequence[str]] | None = None,
    groups: Sequence[tuple[str, int]] | None = None,
    frames: Sequence[Sequence[bool | None]] | None = None,
    max_height: float = MAX_CELL[1],
    zones: tuple[float, float] = ZONES,
) -> Figure:
    """A grid of images and overlays on one scale, with one colour bar if there is an overlay.

    Args:
        rows: cells by row. A cell is an image (3, H, W), a pair (image, saliency), a text that stands where
            there is no image, or None.
        row_labels: text to the left of each row.
        column_labels: text above each column; slanted where the columns are too narrow for it.
        title: one sentence.
        note: what the data are, below the title.
        captions: text below each cell.
        groups: (heading, number of columns) pairs from left to right; groups are set apart by a wider gap.
        frames: True draws a solid green frame around a cell, False a dashed red one, None none.
        max_height: of an image, inches.
        zones: boundaries of the zones, B_Low and B_High of Eq. 14.

    Raises:
        ValueError: there is no image, or the lengths of rows, labels, captions or groups do not agree.
    """
    n = _check_grid(rows, row_labels, column_labels, captions, groups, frames)
    captions = captions or [[""] * n for _ in rows]
    groups = groups or [("", n)]
    plan = _lay_out(rows, row_labels or [], column_labels or [""] * n, captions, groups, max_height)
    has_bar = any(isinstance(cell, tuple) for row in rows for cell in row)
    height = plan.head_height + sum(plan.row_heights) + (0.5 if has_bar else 0.0) + MARGIN / 2
    fig, top = canvas.page(plan.page_width, height, title, note)

    _draw_groups(fig, groups, plan, top)
    top += plan.head_height
    place = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if plan.slanted else {"ha": "center"}
    for head, left in zip(plan.heads, plan.lefts, strict=True):
        text_at(fig, left + plan.width / 2, top - 0.06, head, va="baseline", **place)
    for i, row in enumerate(rows):
        if plan.labels:
            text_at(fig, MARGIN, top + plan.height / 2, plan.labels[i], va="center")
        for cell, left, caption, correct in zip(
            row, plan.lefts, plan.captions[i], frames[i] if frames else [None] * n, strict=True
        ):
            ax = axes_at(fig, left, top, plan.width, plan.height)
            _draw_cell(ax, cell, zones)
            if correct is not None:
                _frame(ax, correct)
            if caption:
                middle = left + plan.width / 2
                text_at(fig, middle, top + plan.height + 0.03, caption, ha="center", va="top")
        top += plan.row_heights[i]
    if has_bar:
        bar_width = min(3.2, plan.page_width - 2 * MARGIN - 0.2)
        cax = axes_at(fig, (plan.page_width - bar_width) / 2, top + 0.1, bar_width, 0.12)
        zone_colorbar(fig, cax, zones=zones)
    return fig


class _Plan(NamedTuple):
    """Where everything in a grid goes; lengths in inches."""

    width: float  # of an image
    height: float
    lefts: np.ndarray  # (columns,)
    row_heights: list[float]
    head_height: float  # of groups and column labels
    group_height: float
    page_width: float
    labels: list[str]  # wrapped
    heads: list[str]
    captions: list[list[str]]
    slanted: bool


def _lay_out(
    rows: Sequence[Sequence[Cell]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    captions: Sequence[Sequence[str]],
    groups: Sequence[tuple[str, int]],
    max_height: float,
) -> _Plan:
    """The largest images that fit the page, and the space that the texts around them need."""
    n = len(column_labels)
    aspects = [a for row in rows for a in map(height_over_width, row) if a is not None]
    if not aspects:
        raise ValueError("rows hold no image")
    starts = np.cumsum([count for _, count in groups])[:-1]
    extra = GROUP_GAP * np.array([(starts <= j).sum() for j in range(n)])
    labels = [wrap(label, 1.0) for label in row_labels]
    label_width = max(map(text_width, labels), default=-0.12) + 0.12

    free = PAGE_WIDTH - 2 * MARGIN - label_width - extra[-1]
    width = min((free - GAP * (n - 1)) / n, MAX_CELL[0], max_height / max(aspects))
    # Columns move apart where a caption is wider than its image, as far as the page allows.
    widest = max(canvas.narrowest(c) for row in captions for c in row) + 0.06
    gap = max(GAP, min(widest - width, (free - n * width) / max(n - 1, 1)))
    heads, slanted, overhang = _column_heads(column_labels, width + gap)
    if slanted:
        width = min(width, (free - gap * (n - 1) - max(0.0, overhang - width / 2)) / n)
    height = width * max(aspects)
    lefts = MARGIN + label_width + extra + np.arange(n) * (width + gap)
    group_height = 1.6 * LINE if any(name for name, _ in groups) else 0.0
    texts = [[wrap(c, width + gap - 0.06) for c in row] for row in captions]
    below = [max(map(canvas.n_lines, row)) * LINE + (0.04 if any(row) else 0) for row in texts]
    right = lefts[-1] + width + max(0.0, overhang - width / 2) + MARGIN
    return _Plan(
        width=width,
        height=height,
        lefts=lefts,
        row_heights=[height + GAP + text for text in below],
        head_height=group_height + _head_height(heads, slanted),
        group_height=group_height,
        page_width=min(PAGE_WIDTH, max(right, MIN_PAGE)),
        labels=labels,
        heads=heads,
        captions=texts,
        slanted=slanted,
    )


def _check_grid(
    rows: Sequence[Sequence[Cell]],
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    captions: Sequence[Sequence[str]] | None,
    groups: Sequence[tuple[str, int]] | None,
    frames: Sequence[Sequence[bool | None]] | None,
) -> int:
    """The number of columns, once all lengths agree."""
    if not rows or not rows[0]:
        raise ValueError("rows must hold at least one row with one cell")
    n = len(rows[0])
    for name, table in (("rows", rows), ("captions", captions), ("frames", frames)):
        if table is not None and [len(row) for row in table] != [n] * len(rows):
            raise ValueError(f"{name} must have {len(rows)} rows of {n}, got {[len(row) for row in table]}")
    if row_labels is not None:
        same_length(rows=rows, row_labels=row_labels)
    if column_labels is not None:
        same_length(columns=rows[0], column_labels=column_labels)
    if groups is not None and sum(count for _, count in groups) != n:
        raise ValueError(f"groups must add up to {n} columns, got {[count for _, count in groups]}")
    return n


def _column_heads(labels: Sequence[str], width: float) -> tuple[list[str], bool, float]:
    """Wrapped column labels; or, if one does not fit, all slanted, and how far the last one then reaches."""
    if max(map(canvas.narrowest, labels)) <= width - 0.06:
        return [wrap(label, width - 0.06) for label in labels], False, 0.0
    flat = [" ".join(label.split()) for label in labels]
    return flat, True, text_width(flat[-1]) * np.cos(np.radians(40)) + 0.1


def _head_height(heads: Sequence[str], slanted: bool) -> float:
    if slanted:
        return max(map(text_width, heads)) * np.sin(np.radians(40)) + LINE
    lines = max(map(canvas.n_lines, heads))
    return lines * LINE + (0.06 if lines else 0)


def _draw_groups(fig: Figure, groups: Sequence[tuple[str, int]], plan: _Plan, top: float) -> None:
    """A heading with a rule over each group of columns."""
    page_width, page_height = fig.get_size_inches()
    first = 0
    for name, count in groups:
        left, right = plan.lefts[first], plan.lefts[first + count - 1] + plan.width
        first += count
        if not name:
            continue
        text_at(fig, (left + right) / 2, top + 1.1 * LINE, name, ha="center", va="bottom", weight="bold")
        y = 1 - (top + 1.25 * LINE) / page_height
        fig.add_artist(Line2D([left / page_width, right / page_width], [y, y], color=RULE, linewidth=1))
