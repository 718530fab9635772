"""Six cameras: where they stand, how they see, and what stands between them and the pedestrian.

A camera is a painted scene several pictures wide (each picture shows another stretch of it), a light, a view
and a tone. Scenes are painted in fractions of the picture's height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from workbook.pedestrians.canvas import Canvas, Colour, box, capsule, ellipse, mix

SCENE_WIDTH = 3
"""Width of a scene in heights of the picture."""


PASSER_BY = "passer-by"
"""The occluder that is a person and therefore not drawn here."""


@dataclass(frozen=True)
class Camera:
    """How a camera sees.

    Attributes:
        scene: paints the place.
        occluders: what may stand in front: names in `OCCLUDERS`, or `PASSER_BY`.
        pitch, tilt: looking down, and turned, in radians.
        fill: average height of a person in heights of the picture.
        light: direction to the light in the picture (x right, y down).
        sun: strength of the shading (0 flat, 1 sunlight).
        cast: gain of red, green and blue.
        contrast, lift: slope about mid-grey, and what is added after it.
        noise: standard deviation of the sensor noise in grey levels (0-255).
        blur: radius of the blur in pixels of a picture 128 pixels high.
        shadow: darkness of the shadow on the ground, 0-1.
    """

    scene: Callable[[_Brush], None]
    occluders: tuple[str, ...]
    pitch: float
    tilt: float
    fill: float
    light: tuple[float, float]
    sun: float
    cast: tuple[float, float, float]
    contrast: float
    lift: float
    noise: float
    blur: float
    shadow: float


class _Brush:
    """Paints a scene in units of the picture's height."""

    def __init__(self, height: int, rng: np.random.Generator) -> None:
        self.unit, self.rng = height, rng
        self.image = Image.new("RGB", (SCENE_WIDTH * height, height))
        self.draw = ImageDraw.Draw(self.image)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        u = self.unit
        self.draw.rectangle((x0 * u, y0 * u, max(x0, x1) * u, max(y0, y1) * u), fill=colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        u = self.unit
        self.draw.line((x0 * u, y0 * u, x1 * u, y1 * u), fill=colour, width=max(1, round(width * u)))

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=colour)

    def blob(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        u = self.unit
        self.draw.ellipse(((x - rx) * u, (y - ry) * u, (x + rx) * u, (y + ry) * u), fill=colour)

    def ramp(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        """A vertical gradient over the whole width."""
        steps = 40
        for i in range(steps):
            a, b = y0 + (y1 - y0) * i / steps, y0 + (y1 - y0) * (i + 1) / steps
            self.box(0, a, SCENE_WIDTH, b, mix(top, bottom, i / (steps - 1)))

    def vary(self, colour: Colour, spread: float) -> Colour:
        shift = self.rng.normal(0, spread)
        return tuple(int(np.clip(c + shift, 0, 255)) for c in colour)

    def slabs(self, top: float, bottom: float, colour: Colour, joint: Colour, rows: int, lean: float) -> None:
        """Paving in perspective: rows grow towards the viewer, and the joints lean."""
        self.ramp(top, bottom, mix(colour, (0, 0, 0), 0.12), colour)
        for i in range(1, rows):
            y = top + (bottom - top) * (i / rows) ** 1.6
            self.line(0, y, SCENE_WIDTH, y, 0.005, joint)
        for x in np.arange(-1.0, SCENE_WIDTH + 1, 0.22):
            self.line(x, top, x + lean * (x % 1 + 0.6), bottom, 0.005, joint)


def _brick_wall(b: _Brush) -> None:
    horizon = 0.74
    b.box(0, 0, SCENE_WIDTH, horizon, (150, 138, 128))
    high, wide = 0.042, 0.115
    for row in range(round(horizon / high) + 1):
        for x in np.arange(-wide * (row % 2) / 2, SCENE_WIDTH, wide):
            y = row * high
            b.box(x, y, x + wide - 0.008, min(y + high - 0.008, horizon), b.vary((158, 96, 76), 9))
    for x in (0.5, 1.45, 2.5):
        b.box(x - 0.02, 0.05, x + 0.36, 0.42, (205, 200, 190))
        b.box(x, 0.07, x + 0.34, 0.39, (74, 92, 106))
        b.shape([(x, 0.07), (x + 0.18, 0.07), (x, 0.30)], (112, 132, 146))
        b.line(x + 0.17, 0.07, x + 0.17, 0.39, 0.012, (205, 200, 190))
        b.box(x - 0.03, 0.41, x + 0.37, 0.435, (178, 172, 162))
    b.box(0, horizon - 0.03, SCENE_WIDTH, horizon, (112, 104, 98))
    b.slabs(horizon, 1, (172, 168, 160), (138, 134, 128), 6, -0.25)


def _shop_window(b: _Brush) -> None:
    b.box(0, 0, SCENE_WIDTH, 1, (52, 58, 66))
    for i, x in enumerate(np.arange(0.0, SCENE_WIDTH, 0.75)):
        awning = ((126, 44, 48), (46, 84, 96), (172, 138, 70), (66, 66, 92))[i % 4]
        b.box(x, 0, x + 0.75, 0.10, awning)
        for k in range(6):
            b.box(x + 0.125 * k, 0.10, x + 0.125 * k + 0.0625, 0.135, mix(awning, (255, 255, 255), 0.6))
        b.box(x + 0.06, 0.16, x + 0.70, 0.70, (226, 206, 160))
        b.box(x + 0.06, 0.16, x + 0.70, 0.26, (246, 236, 204))
        b.box(x + 0.06, 0.56, x + 0.70, 0.70, (150, 122, 92))
        for k in range(3):
            centre, hue = (
                x + 0.18 + 0.2 * k,
                b.vary(((150, 170, 176), (190, 130, 120), (120, 130, 100))[k], 15),
            )
            b.blob(centre, 0.30, 0.022, 0.03, (222, 214, 200))
            b.shape(
                [
                    (centre - 0.05, 0.34),
                    (centre + 0.05, 0.34),
                    (centre + 0.065, 0.56),
                    (centre - 0.065, 0.56),
                ],
                hue,
            )
        b.shape([(x + 0.06, 0.42), (x + 0.36, 0.16), (x + 0.45, 0.16), (x + 0.06, 0.52)], (240, 228, 194))
        b.box(x + 0.36, 0.14, x + 0.385, 0.72, (60, 62, 66))
    b.box(0, 0.70, SCENE_WIDTH, 0.775, (44, 46, 52))
    b.slabs(0.775, 1, (120, 122, 130), (92, 94, 102), 5, 0.3)


def _park(b: _Brush) -> None:
    b.ramp(0, 0.34, (176, 208, 236), (222, 232, 232))
    b.box(0, 0.34, SCENE_WIDTH, 0.5, (72, 104, 58))
    for greens, low, size in (((96, 128, 84), 0.36, 0.10), ((70, 108, 58), 0.44, 0.085)):
        for x in np.arange(0, SCENE_WIDTH + 0.1, 0.075):
            b.blob(x + b.rng.normal(0, 0.02), low - b.rng.uniform(0, 0.17), size, size * 0.8, b.vary(greens, 9))
    for x in (0.35, 1.15, 1.9, 2.6):
        b.box(x, 0.22, x + 0.06, 0.56, (88, 68, 52))
        for _ in range(16):
            dx, dy = b.rng.normal(0, 0.10), b.rng.normal(0, 0.06)
            b.blob(x + 0.03 + dx, 0.14 + dy, 0.06, 0.05, b.vary((78, 120, 58), 14))
    b.ramp(0.46, 1, (112, 152, 70), (92, 132, 58))
    for _ in range(700):
        x, y = b.rng.uniform(0, SCENE_WIDTH), b.rng.uniform(0.48, 1) ** 0.8
        b.line(x, y, x + b.rng.normal(0, 0.006), y - 0.02, 0.004, b.vary((104, 146, 62), 16))
    b.shape([(0, 0.80), (SCENE_WIDTH, 0.72), (SCENE_WIDTH, 0.93), (0, 1.05)], (204, 188, 152))
    b.shape([(0, 0.80), (SCENE_WIDTH, 0.72), (SCENE_WIDTH, 0.735), (0, 0.82)], (172, 158, 122))


def _corridor(b: _Brush) -> None:
    b.ramp(0, 0.14, (206, 206, 200), (232, 231, 222))
    for x in np.arange(0.1, SCENE_WIDTH, 0.62):
        b.shape([(x, 0.03), (x + 0.32, 0.03), (x + 0.26, 0.085), (x + 0.04, 0.085)], (255, 255, 250))
    b.ramp(0.14, 0.52, (226, 220, 200), (212, 205, 184))
    b.box(0, 0.52, SCENE_WIDTH, 0.76, (128, 156, 150))
    b.box(0, 0.51, SCENE_WIDTH, 0.53, (92, 116, 112))
    for i, x in enumerate((0.28, 1.05, 1.75, 2.45)):
        door = ((150, 112, 76), (156, 160, 164), (140, 104, 70), (100, 128, 150))[i]
        b.box(x - 0.02, 0.20, x + 0.34, 0.77, mix(door, (0, 0, 0), 0.4))
        b.box(x, 0.22, x + 0.32, 0.77, door)
        b.box(x + 0.20, 0.28, x + 0.28, 0.46, (190, 204, 206))
        b.blob(x + 0.035, 0.53, 0.014, 0.014, (226, 220, 196))
    for x in (0.78, 1.50, 2.22):
        b.box(x, 0.24, x + 0.16, 0.40, (246, 242, 230))
        b.box(x + 0.02, 0.27, x + 0.14, 0.31, (196, 80, 60))
    b.box(0, 0.745, SCENE_WIDTH, 0.77, (84, 82, 78))
    b.ramp(0.77, 1, (176, 168, 148), (208, 200, 178))
    for x in np.arange(-0.6, SCENE_WIDTH + 0.6, 0.18):
        b.line(x, 0.77, x + 0.35 * (x - 1.5) / 1.5, 1, 0.004, (164, 156, 136))
    for x in np.arange(0.25, SCENE_WIDTH, 0.62):
        b.shape([(x, 0.79), (x + 0.14, 0.79), (x + 0.2, 1), (x - 0.04, 1)], (224, 218, 200))


def _car(b: _Brush, x: float, y: float, colour: Colour) -> None:
    glass, dark = (44, 52, 62), mix(colour, (0, 0, 0), 0.35)
    b.shape([(x + 0.13, y), (x + 0.2, y - 0.13), (x + 0.5, y - 0.13), (x + 0.6, y)], colour)
    b.shape([(x + 0.17, y), (x + 0.22, y - 0.11), (x + 0.34, y - 0.11), (x + 0.34, y)], glass)
    b.shape([(x + 0.37, y), (x + 0.37, y - 0.11), (x + 0.48, y - 0.11), (x + 0.56, y)], glass)
    b.shape(
        [
            (x, y + 0.11),
            (x + 0.02, y + 0.01),
            (x + 0.15, y - 0.005),
            (x + 0.62, y - 0.005),
            (x + 0.73, y + 0.03),
            (x + 0.74, y + 0.11),
        ],
        colour,
    )
    b.box(x, y + 0.085, x + 0.74, y + 0.12, dark)
    for wheel in (x + 0.15, x + 0.58):
        b.blob(wheel, y + 0.115, 0.062, 0.062, (28, 28, 30))
        b.blob(wheel, y + 0.115, 0.03, 0.03, (130, 132, 136))
    b.blob(x + 0.715, y + 0.05, 0.02, 0.016, (240, 236, 206))


def _car_park(b: _Brush) -> None:
    b.ramp(0, 0.6, (112, 116, 118), (150, 150, 146))
    b.box(0, 0, SCENE_WIDTH, 0.10, (78, 82, 86))
    for x in np.arange(0.2, SCENE_WIDTH, 0.7):
        b.box(x, 0.06, x + 0.28, 0.085, (222, 236, 236))
    b.ramp(0.6, 1, (78, 80, 84), (104, 106, 108))
    for x, colour in ((0.10, (130, 40, 44)), (1.02, (52, 70, 104)), (1.98, (170, 172, 176))):
        b.blob(x + 0.37, 0.70, 0.4, 0.03, (50, 52, 54))
        _car(b, x, 0.55, colour)
    for x in (0.0, 0.9, 1.86, 2.84):
        b.box(x, 0, x + 0.12, 0.74, (164, 162, 154))
        b.box(x + 0.09, 0, x + 0.12, 0.74, (132, 130, 124))
        for k in range(4):
            b.box(x, 0.50 + 0.05 * k, x + 0.12, 0.525 + 0.05 * k, (214, 174, 52))
            b.box(x, 0.525 + 0.05 * k, x + 0.12, 0.55 + 0.05 * k, (42, 42, 42))
    for x in np.arange(0.05, SCENE_WIDTH, 0.5):
        b.shape([(x, 0.78), (x + 0.03, 0.78), (x - 0.05, 1), (x - 0.1, 1)], (206, 204, 192))


def _crossing(b: _Brush) -> None:
    b.slabs(0, 0.20, (190, 182, 170), (164, 156, 146), 4, 0.1)
    b.box(0, 0.20, SCENE_WIDTH, 0.225, (212, 208, 200))
    b.box(0, 0.225, SCENE_WIDTH, 0.245, (128, 126, 122))
    b.ramp(0.245, 1, (104, 106, 112), (124, 126, 130))
    for _ in range(900):
        x, y = b.rng.uniform(0, SCENE_WIDTH), b.rng.uniform(0.25, 1)
        b.blob(x, y, 0.005, 0.003, b.vary((114, 116, 120), 14))
    for i, y in enumerate((0.30, 0.42, 0.56, 0.72, 0.90)):
        high = 0.05 + 0.012 * i
        for x0, x1 in ((0.05, 1.35), (1.75, 2.95)):
            b.shape(
                [(x0, y), (x1, y - 0.03), (x1 + 0.03, y + high - 0.03), (x0 - 0.02, y + high)],
                b.vary((222, 222, 216), 5),
            )


CAMERAS: tuple[Camera, ...] = (
    Camera(
        scene=_brick_wall,
        occluders=("pole", "bin", PASSER_BY),
        pitch=0.06,
        tilt=0.0,
        fill=0.9,
        light=(-0.8, -0.6),
        sun=0.9,
        cast=(1.04, 1.0, 0.95),
        contrast=1.0,
        lift=0.0,
        noise=2.5,
        blur=0.25,
        shadow=0.35,
    ),
    Camera(
        scene=_shop_window,
        occluders=(PASSER_BY, "sign", "bollard"),
        pitch=0.03,
        tilt=-0.035,
        fill=0.93,
        light=(0.5, -0.7),
        sun=0.7,
        cast=(0.86, 0.9, 1.04),
        contrast=0.95,
        lift=-0.05,
        noise=4.0,
        blur=0.35,
        shadow=0.25,
    ),
    Camera(
        scene=_park,
        occluders=("bush", "bench", "pole"),
        pitch=0.09,
        tilt=0.02,
        fill=0.84,
        light=(0.7, -0.7),
        sun=1.1,
        cast=(1.04, 1.04, 0.9),
        contrast=1.08,
        lift=0.01,
        noise=2.0,
        blur=0.0,
        shadow=0.45,
    ),
    Camera(
        scene=_corridor,
        occluders=("bin", PASSER_BY, "plant"),
        pitch=0.13,
        tilt=0.0,
        fill=0.92,
        light=(0.2, -1.0),
        sun=0.65,
        cast=(1.04, 1.0, 0.82),
        contrast=0.92,
        lift=0.02,
        noise=3.0,
        blur=0.75,
        shadow=0.18,
    ),
    Camera(
        scene=_car_park,
        occluders=("bollard", "bonnet", "pole"),
        pitch=0.1,
        tilt=0.045,
        fill=0.88,
        light=(-0.3, -0.9),
        sun=0.8,
        cast=(0.62, 0.7, 0.74),
        contrast=1.0,
        lift=-0.03,
        noise=6.0,
        blur=0.45,
        shadow=0.35,
    ),
    Camera(
        scene=_crossing,
        occluders=("pole", PASSER_BY, "sign"),
        pitch=0.34,
        tilt=-0.05,
        fill=0.9,
        light=(-0.9, -0.2),
        sun=1.0,
        cast=(1.02, 1.02, 1.06),
        contrast=0.74,
        lift=0.13,
        noise=3.0,
        blur=0.4,
        shadow=0.45,
    ),
)
"""The cameras; camera c of the file names is `CAMERAS[c - 1]`."""


@lru_cache(maxsize=32)
def scene(camera: int, height: int, seed: int) -> np.ndarray:
    """The painted scene of camera 1-6, (height, SCENE_WIDTH * height, 3) float32 in [0, 1]."""
    rng = np.random.default_rng([seed, 3, camera])
    brush = _Brush(4 * height, rng)
    CAMERAS[camera - 1].scene(brush)
    # The camera is focused on the person, so what is behind is a little soft.
    soft = brush.image.reduce(4).filter(ImageFilter.GaussianBlur(height / 220))
    rough = rng.normal(0, 2 / 255, (height, SCENE_WIDTH * height, 1)).astype(np.float32)
    return _frozen(np.clip(np.asarray(soft, np.float32) / 255 + rough, 0, 1))


@lru_cache(maxsize=2)
def folds(size: tuple[int, int]) -> np.ndarray:
    """Wrinkles, to cut `size` (width, height) from: twice as large, smooth noise in [-1, 1]."""
    rng = np.random.default_rng([7, 4])
    width, height = 2 * size[0], 2 * size[1]
    total = np.zeros((height, width), np.float32)
    for across, along, share in ((0.030, 0.075, 0.6), (0.016, 0.030, 0.4)):
        shape = (round(height / (along * size[1])), round(width / (across * size[1])))
        coarse = rng.normal(0, 1, shape).astype(np.float32)
        total += share * np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return _frozen(np.clip(total, -1.6, 1.6) / 1.6)


def _frozen(values: np.ndarray) -> np.ndarray:
    """The array made read-only, since the cache hands it out again."""
    values.flags.writeable = False
    return values


# --- Occluders ------------------------------------------------------------------------------------


def _pole(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x = w / 2 + side * w * rng.uniform(0.10, 0.34)
    half = 0.018 * h
    c.fill(0, (92, 96, 100), box(x - half, -h, x + half, 1.1 * h))


def _bin(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x, top = w / 2 + side * w * rng.uniform(0.24, 0.40), h * rng.uniform(0.70, 0.78)
    r = 0.095 * h
    c.fill(
        0,
        (58, 92, 72),
        np.array([(x - r, top), (x + r, top), (x + 0.85 * r, 1.1 * h), (x - 0.85 * r, 1.1 * h)]),
    )
    c.fill(0, (38, 62, 50), capsule(np.array([x - r, top]), np.array([x + r, top]), 0.018 * h, 0.018 * h))


def _bush(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x = w / 2 + side * w * 0.34
    for _ in range(26):
        r = h * rng.uniform(0.022, 0.045)
        centre = (x + rng.normal(0, 0.15 * w), h * (0.98 - abs(rng.normal(0, 0.10))))
        green = tuple(int(v) for v in np.clip(np.array((62, 104, 46)) + rng.normal(0, 14), 0, 255))
        c.fill(0, green, ellipse(centre, r, 0.85 * r))


def _plant(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x, base = w / 2 + side * w * 0.36, 0.90 * h
    for angle in rng.uniform(-0.9, 0.9, 11):
        tip = np.array([x + np.sin(angle) * 0.2 * h, base - np.cos(angle) * rng.uniform(0.18, 0.30) * h])
        c.fill(0, (64, int(rng.uniform(96, 132)), 62), capsule(np.array([x, base]), tip, 0.008 * h, 0.014 * h))
    r = 0.065 * h
    c.fill(
        0,
        (168, 98, 68),
        np.array([(x - r, base), (x + r, base), (x + 0.8 * r, 1.1 * h), (x - 0.8 * r, 1.1 * h)]),
    )


def _bench(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x0, x1 = (w * 0.45, 2.0 * w) if side > 0 else (-w, w * 0.55)
    top = h * rng.uniform(0.78, 0.83)
    for x in (0.5 * x0 + 0.5 * np.clip(x1, 0, w), np.clip(x0, 0, w) + 0.02 * h):
        c.fill(0, (54, 56, 58), box(x, top, x + 0.02 * h, h))
    for k in range(2):
        y = top + 0.045 * h * k
        c.fill(0, (134, 96, 62), box(x0, y, x1, y + 0.03 * h))


def _sign(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x, y = w / 2 + side * w * rng.uniform(0.26, 0.38), h * rng.uniform(0.52, 0.64)
    post = 0.010 * h
    c.fill(0, (96, 98, 102), box(x - post, y, x + post, 1.1 * h))
    wide, high = 0.085 * h, 0.11 * h
    board = c.fill(0, (236, 232, 220), box(x - wide, y - high, x + wide, y + high))
    for colour, middle, half in (
        ((44, 92, 156), -0.05, 0.031),
        ((120, 118, 112), 0.02, 0.006),
        ((120, 118, 112), 0.055, 0.006),
    ):
        line = y + middle * h
        c.detail(colour, box(x - 0.75 * wide, line - half * h, x + 0.75 * wide, line + half * h), board)


def _bollard(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    x, top = w / 2 + side * w * rng.uniform(0.12, 0.38), h * rng.uniform(0.72, 0.78)
    r = 0.034 * h
    post = c.fill(0, (196, 160, 52), capsule(np.array([x, top]), np.array([x, 1.1 * h]), r, r))
    for k in range(3):
        y = top + (0.02 + 0.085 * k) * h
        c.detail((46, 46, 48), box(x - r, y, x + r, y + 0.04 * h), post)


def _bonnet(c: Canvas, w: int, h: int, side: int, rng: np.random.Generator) -> None:
    top = h * rng.uniform(0.78, 0.84)
    edge, far = w / 2 - side * w * 0.02, w / 2 + side * 2.0 * w
    body = np.array(
        [
            (edge, 1.1 * h),
            (edge, top + 0.07 * h),
            (edge + side * 0.1 * h, top + 0.01 * h),
            (far, top - 0.05 * h),
            (far, 1.1 * h),
        ]
    )
    paint = ((122, 126, 132), (60, 76, 110), (120, 44, 44))[int(rng.integers(3))]
    car = c.fill(0, paint, body)
    c.detail((244, 240, 214), ellipse((edge + side * 0.05 * h, top + 0.10 * h), 0.035 * h, 0.022 * h), car)
    c.detail(mix(paint, (0, 0, 0), 0.4), box(edge, top + 0.15 * h, far, 1.1 * h), car)


OCCLUDERS: dict[str, Callable[[Canvas, int, int, int, np.random.Generator], None]] = {
    "pole": _pole,
    "bin": _bin,
    "bush": _bush,
    "plant": _plant,
    "bench": _bench,
    "sign": _sign,
    "bollard": _bollard,
    "bonnet": _bonnet,
}
"""Things that stand in front of people: each draws itself on a canvas (width, height, side -1 or 1, rng)."""


# --- Tone -----------------------------------------------------------------------------------------


def develop(pixels: np.ndarray, camera: Camera, exposure: float) -> np.ndarray:
    """The camera's colour cast and contrast: (H, W, 3) float32 in [0, 1] to the same, not clipped."""
    cast = np.asarray(camera.cast, np.float32) * exposure
    return (pixels * cast - 0.5) * camera.contrast + 0.5 + camera.lift


def sense(pixels: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """The camera's blur and noise: (H, W, 3) float32 in [0, 1] to uint8."""
    picture = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    if camera.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur * pixels.shape[0] / 128))
    noisy = np.asarray(picture, np.float32) + rng.normal(0, camera.noise, pixels.shape).astype(np.float32)
    return np.round(np.clip(noisy, 0, 255)).astype(np.uint8)
