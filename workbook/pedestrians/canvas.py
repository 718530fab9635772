"""A canvas that remembers which shape is on top of every pixel, outlines to fill on it, and light."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
Paint = Colour | Image.Image
Points = np.ndarray
Box = tuple[int, int, int, int]


class Canvas:
    """A picture and, for every pixel, the number of the shape on top of it (0 = nothing drawn).

    `labels[number]` is the part label of a shape; what stands in front of a person has the label 0.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """An empty, black canvas; `size` is (width, height) in pixels."""
        self.image = Image.new("RGB", size)
        self.shapes = Image.new("L", size)
        self.labels = [0]

    def fill(self, label: int, paint: Paint, *outlines: Points, inside: Image.Image | None = None) -> int:
        """Draw a new shape, the union of the outlines (n, 2), and return its number.

        Args:
            label: part label of the shape.
            paint: a colour, or a picture of the canvas's size to cut the shape from.
            outlines: polygons in pixels.
            inside: mask of the canvas's size; the shape is cut to it.
        """
        self.labels.append(label)
        number = len(self.labels) - 1
        box = self._box(outlines)
        if box is None:
            return number
        mask = self._mask(outlines, box)
        if inside is not None:
            mask = ImageChops.multiply(mask, inside.crop(box))
        self._colour(paint, box, mask)
        self.shapes.paste(number, box, mask)
        return number

    def detail(self, paint: Paint, outline: Points, *of: int) -> None:
        """Colour what lies inside the outline and on the visible pixels of the shapes `of`."""
        box = self._box((outline,))
        if box is not None:
            visible = _where(self.shapes.crop(box), of)
            self._colour(paint, box, ImageChops.multiply(self._mask((outline,), box), visible))

    def where(self, *numbers: int) -> Image.Image:
        """A mask of 0 and 255: the pixels on which one of the shapes is on top."""
        return _where(self.shapes, numbers)

    def window(self, left: int, top: int, size: tuple[int, int]) -> Canvas:
        """The part of the canvas in a window of `size` (width, height), which may reach beyond the border."""
        result = Canvas(size)
        box = (left, top, left + size[0], top + size[1])
        result.image, result.shapes = self.image.crop(box), self.shapes.crop(box)
        result.labels = list(self.labels)
        return result

    def cover(self, other: Canvas) -> None:
        """Draw another canvas of the same size on top, all of it as background (label 0)."""
        first = len(self.labels)
        drawn = other.shapes.point([0] + [255] * 255)
        self.image.paste(other.image, None, drawn)
        self.shapes.paste(other.shapes.point([min(255, first + i) for i in range(256)]), None, drawn)
        self.labels += [0] * len(other.labels)

    def _colour(self, paint: Paint, box: Box, mask: Image.Image) -> None:
        self.image.paste(paint.crop(box) if isinstance(paint, Image.Image) else paint, box, mask)

    def _box(self, outlines: tuple[Points, ...]) -> Box | None:
        """The pixels (left, top, right, bottom) that the outlines may touch: only these are worked on."""
        points = np.concatenate(outlines)
        if not len(points):
            return None
        low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, self.image.size)
        return None if np.any(low >= high) else (int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def _mask(self, outlines: tuple[Points, ...], box: Box) -> Image.Image:
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        draw = ImageDraw.Draw(mask)
        for outline in outlines:
            if len(outline):
                draw.polygon((outline - box[:2]).ravel().tolist(), fill=255)
        return mask


def _where(shapes: Image.Image, numbers: tuple[int, ...]) -> Image.Image:
    return shapes.point([255 if i in numbers else 0 for i in range(256)])


# --- Outlines and colours -------------------------------------------------------------------------

_TURN = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 9)


def ellipse(centre: Points, rx: float, ry: float) -> Points:
    """Outline (28, 2) of an upright ellipse."""
    return np.stack([centre[0] + rx * np.cos(_TURN), centre[1] + ry * np.sin(_TURN)], axis=1)


def rounded_box(centre: Points, half_width: float, half_height: float) -> Points:
    """Outline (28, 2) of a box with rounded corners: a superellipse."""
    c, s = np.cos(_TURN), np.sin(_TURN)
    x, y = (np.sign(v) * np.abs(v) ** 0.45 for v in (c, s))
    return np.stack([centre[0] + half_width * x, centre[1] + half_height * y], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Outline (4, 2) of an upright box."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def capsule(p: Points, q: Points, rp: float, rq: float) -> Points:
    """Outline (18, 2) of two circles, centres p and q, radii rp and rq, and of what lies between them."""
    angle = np.arctan2(q[1] - p[1], q[0] - p[0])
    return np.concatenate([_arc(p, rp, angle + np.pi), _arc(q, rq, angle)])


def tube(p: Points, q: Points, rp: float, rq: float) -> Points:
    """Outline (11, 2) of a sleeve or a trouser leg: round at p, cut off square at q."""
    angle = np.arctan2(q[1] - p[1], q[0] - p[0])
    side = rq * np.array([-np.sin(angle), np.cos(angle)])
    return np.concatenate([_arc(p, rp, angle + np.pi), [q - side, q + side]])


def _arc(centre: Points, radius: float, towards: float) -> Points:
    angles = towards + _HALF_TURN
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` in [0, 1] of `b`."""
    return tuple(round(x + share * (y - x)) for x, y in zip(a, b, strict=True))


def darker(colour: Colour, share: float) -> Colour:
    """The colour with a share of black."""
    return mix(colour, (0, 0, 0), share)


def apart(colour: Colour, share: float) -> Colour:
    """A colour for seams and folds that shows on `colour`: darker, or lighter where it is dark already."""
    return mix(colour, (0, 0, 0) if sum(colour) > 180 else (255, 255, 255), share)


# --- Light ----------------------------------------------------------------------------------------

_STEPS = 7


def light_up(
    colours: np.ndarray, shapes: np.ndarray, light: tuple[float, float], strength: float, folds: np.ndarray
) -> np.ndarray:
    """Shade flat shapes as if they were round.

    A pixel close to the edge of its shape is lit on the side of the light and dark on the other, which rounds
    limbs and bodies and drops a soft shadow where one shape covers another.

    Args:
        colours: (H, W, 3) uint8.
        shapes: (H, W) uint8 numbers of the shapes.
        light: direction to the light in the picture, x right and y down, length about 1.
        strength: 0 leaves only the folds, 1 is sunlight.
        folds: (H, W) float32 in [-1, 1], the wrinkles of the cloth.

    Returns:
        The shaded colours, (H, W, 3) uint8.
    """
    lit, dark = np.zeros(shapes.shape, np.uint8), np.zeros(shapes.shape, np.uint8)
    reach = 0.65 / 128 * shapes.shape[0]
    for k in range(1, _STEPS + 1):
        down, right = round(light[1] * k * reach), round(light[0] * k * reach)
        lit += np.roll(shapes, (-down, -right), (0, 1)) != shapes
        dark += np.roll(shapes, (down, right), (0, 1)) != shapes
    edges = (0.18 * lit.astype(np.float32) - 0.42 * dark.astype(np.float32)) / _STEPS
    factor = 1 + np.float32(strength) * edges + 0.11 * folds
    return np.minimum(colours * factor[..., None], 255).astype(np.uint8)
