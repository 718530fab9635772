"""A page in inches: text that is measured before it is placed, axes at exact positions, labels kept apart.

Positions are inches from the figure's top left corner, so that images get the size they are meant to have.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from workbook.plots.style import DPI, FONT, GREY, TITLE_FONT

MARGIN = 0.1  # inches around the content
LINE = 1.3 * FONT / 72  # inches from one line of text to the next
TITLE_LINE = 1.3 * TITLE_FONT / 72

# Where a label may stand: distances from its point (printer's points), directions, and rounds of the search.
LABEL_DISTANCES = (6.0, 10.0, 15.0, 21.0, 28.0, 36.0, 45.0, 55.0, 66.0, 78.0)
LABEL_DIRECTIONS = 24
LABEL_SWEEPS = 6


class PageFigure(Figure):
    """A figure outside pyplot's state that still shows itself, once and as a PNG, at the end of a cell."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(fig: Figure) -> bytes:
    """The figure as PNG bytes, without the date or software version that would make two runs differ."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@cache
def _line_width(line: str, size: float, weight: str) -> float:
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    return TextToPath().get_text_width_height_descent(line, font, ismath="$" in line)[0] / 72


def text_width(text: str, size: float = FONT, weight: str = "normal") -> float:
    """Width of the widest line of a text in inches."""
    return max((_line_width(line, size, weight) for line in text.split("\n") if line), default=0.0)


def _pieces(paragraph: str) -> list[tuple[str, str]]:
    """(separator, piece) pairs: words, and parts of hyphened words, though none of two letters ("cg-ram")."""
    pieces = []
    for word in paragraph.split():
        for i, piece in enumerate(re.split(r"(?<=[^\W\d]{3}-)(?=[^\W\d])", word)):
            pieces.append(("" if i else " ", piece))
    return pieces


def wrap(text: str, width: float, size: float = FONT, weight: str = "normal") -> str:
    """Break a text at spaces and hyphens so that no line is wider than ``width`` inches, if possible."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for separator, piece in _pieces(paragraph):
            joined = line + separator + piece if line else piece
            if line and text_width(joined, size, weight) > width:
                lines.append(line)
                joined = piece
            line = joined
        lines.append(line)
    return "\n".join(lines)


def narrowest(text: str) -> float:
    """The smallest width in inches into which the text can be wrapped: that of its longest piece."""
    return max((text_width(piece) for _, piece in _pieces(text)), default=0.0)


def n_lines(text: str) -> int:
    """Number of lines of a wrapped text; an empty text has none."""
    return text.count("\n") + 1 if text else 0


def page(width: float, height: float, title: str = "", note: str = "") -> tuple[PageFigure, float]:
    """An empty figure with its title and, below it, the note that says what the data are.

    Args:
        width: of the figure, inches.
        height: of the part below the title, inches.
        title: one sentence; wrapped.
        note: for example "synthetic pedestrians"; wrapped.

    Returns:
        The figure, and the inches from its top at which the part below the title begins.
    """
    title = wrap(title, width - 2 * MARGIN, TITLE_FONT, "bold")
    note = wrap(note, width - 2 * MARGIN)
    head = MARGIN + n_lines(title) * TITLE_LINE + n_lines(note) * LINE + (0.06 if title or note else 0)
    fig = PageFigure(figsize=(width, head + height), dpi=DPI)
    if title:
        text_at(fig, MARGIN, MARGIN, title, va="top", fontsize=TITLE_FONT, weight="bold", gid="title")
    if note:
        below = MARGIN + n_lines(title) * TITLE_LINE
        text_at(fig, MARGIN, below, note, va="top", color=GREY, gid="note")
    return fig, head


def axes_at(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """New axes at a position in inches from the figure's top left corner."""
    total_width, total_height = fig.get_size_inches()
    bottom = total_height - top - height
    rect = (left / total_width, bottom / total_height, width / total_width, height / total_height)
    return fig.add_axes(rect)


def text_at(fig: Figure, left: float, top: float, text: str, **options: object) -> Text:
    """A text at a position in inches from the figure's top left corner."""
    total_width, total_height = fig.get_size_inches()
    # Matplotlib's default of 1.2 differs from LINE, with which the space for a text is reckoned.
    return fig.text(left / total_width, 1 - top / total_height, text, linespacing=1.1, **options)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that each of (n, 4) boxes shares with each of (m, 4) others: (n, m)."""
    a, b = boxes[:, None], others[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return width.clip(0) * height.clip(0)


def _candidates(point: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Boxes of a label all around its point, at growing distances: (n, 4)."""
    radius, angle = np.meshgrid(LABEL_DISTANCES, np.arange(LABEL_DIRECTIONS) * 2 * np.pi / LABEL_DIRECTIONS)
    direction = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(-1, 2)
    centres = point + direction * (radius.reshape(-1, 1) + size / 2)
    return np.concatenate([centres - size / 2, centres + size / 2], 1)


def leader(point: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The line from a label's box to its point: (..., 4) boxes -> (..., 2, 2) ends."""
    box = np.asarray(box)
    nearest = np.clip(point, box[..., :2], box[..., 2:])
    return np.stack([np.broadcast_to(point, nearest.shape), nearest], -2)


def _inside(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of each of (n, 2, 2) lines that runs inside each of (m, 4) boxes: (n, m)."""
    start, step = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]
    step = np.where(step == 0, 1e-9, step)
    # At which parts of the line it passes the box's left and right, lower and upper side.
    passes = np.stack([(boxes[None, :, :2] - start) / step, (boxes[None, :, 2:] - start) / step])
    enter, leave = passes.min(0).max(-1).clip(0, 1), passes.max(0).min(-1).clip(0, 1)
    return (leave - enter).clip(0)


def _crossings(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of the (m, 2, 2) others each of the (n, 2, 2) lines crosses: (n,)."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        u, v = b - a, c - a
        return np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

    a, b, c, d = lines[:, None, 0], lines[:, None, 1], others[None, :, 0], others[None, :, 1]
    return ((side(a, b, c) != side(a, b, d)) & (side(c, d, a) != side(c, d, b))).sum(1)


def place_labels(points: np.ndarray, sizes: np.ndarray, frame: Sequence[float], obstacles: np.ndarray) -> np.ndarray:
    """Positions for labels beside their points so that no label covers another, a marker or an error bar.

    A deterministic search: each label takes the cheapest of many places around its point (what it would
    cover, what the line to its point would cross, and the distance), and is then placed again with all others
    in place, a few times. The first round's order matters, so several are tried and the cheapest outcome is
    kept. All lengths are in printer's points.

    Args:
        points: (n, 2).
        sizes: (n, 2), width and height of each label.
        frame: (left, bottom, right, top) that no label may leave.
        obstacles: (m, 4) boxes that no label may cover: markers and error bars.

    Returns:
        (n, 4) boxes, left, bottom, right, top.
    """
    points, sizes, frame = np.asarray(points, float), np.asarray(sizes, float), np.asarray(frame, float)[None]
    obstacles = np.asarray(obstacles, float).reshape(-1, 4)
    places = [_candidates(point, size) for point, size in zip(points, sizes, strict=True)]
    lines = [leader(point, boxes) for point, boxes in zip(points, places, strict=True)]
    fixed = [_fixed_cost(*label, frame, obstacles) for label in zip(points, places, lines, strict=True)]
    crowd = (np.linalg.norm(points[:, None] - points[None], axis=-1) < 40).sum(1)
    keys = (-crowd, crowd, points[:, 0], -points[:, 0], points[:, 1], -points[:, 1])
    outcomes = [_search(np.argsort(key, kind="stable"), places, lines, fixed) for key in keys]
    chosen = min(outcomes, key=lambda outcome: outcome[1])[0]
    return np.array([boxes[i] for boxes, i in zip(places, chosen, strict=True)]).reshape(-1, 4)


def _fixed_cost(
    point: np.ndarray, boxes: np.ndarray, lines: np.ndarray, frame: np.ndarray, obstacles: np.ndarray
) -> np.ndarray:
    """What each place of one label costs whatever the other labels do: (n,)."""
    # The label's own marker is an obstacle to its box, but not to its line.
    own = ((obstacles[:, :2] <= point) & (point <= obstacles[:, 2:])).all(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    cost = 20 * (area - _overlaps(boxes, frame)[:, 0] + _overlaps(boxes, obstacles).sum(1))
    cost += 40 * _inside(lines, obstacles[~own]).sum(1)
    return cost + np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)


def _search(
    order: np.ndarray, places: list[np.ndarray], lines: list[np.ndarray], fixed: list[np.ndarray]
) -> tuple[list[int], float]:
    """The place of each label after a few rounds in the given order, and what they cost together."""
    chosen: dict[int, int] = {}
    costs: dict[int, float] = {}
    for _ in range(LABEL_SWEEPS):
        before = dict(chosen)
        for i in order:
            boxes = np.array([places[j][k] for j, k in chosen.items() if j != i]).reshape(-1, 4)
            leaders = np.array([lines[j][k] for j, k in chosen.items() if j != i]).reshape(-1, 2, 2)
            cost = fixed[i] + 20 * _overlaps(places[i], boxes).sum(1) + 60 * _crossings(lines[i], leaders)
            cost += 300 * (_inside(lines[i], boxes).sum(1) + _inside(leaders, places[i]).sum(0))
            chosen[i] = int(cost.argmin())
            costs[i] = float(cost[chosen[i]])
        if chosen == before:
            break
    return [chosen[i] for i in range(len(places))], sum(costs.values())
