"""From a person to a picture: pose, crop, light, scene, what stands in front, and where each part is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from workbook.pedestrians import person, scenery, wardrobe
from workbook.pedestrians.body import Pose, View
from workbook.pedestrians.canvas import Canvas, light_up
from workbook.pedestrians.scenery import CAMERAS, Camera
from workbook.pedestrians.wardrobe import NONE, Identity

_OVERSAMPLING = 4
_OCCLUDED = 0.28  # share of the pictures in which something stands in front of the person


class Rendering(NamedTuple):
    """One picture with the truth about it.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8; 0 is background or something in front, otherwise 1 + the index in `PARTS`.
        backdrop: (H, W, 3) uint8, the empty scene in the camera's colours, without shadow, blur and noise.
    """

    image: np.ndarray
    labels: np.ndarray
    backdrop: np.ndarray


def render(
    who: Identity,
    camera: int,
    rng: np.random.Generator,
    size: tuple[int, int] = (128, 64),
    *,
    pose: Pose | None = None,
    clean: bool = False,
    cut: bool = False,
    seed: int = 0,
) -> Rendering:
    """Picture one person with one camera.

    Args:
        who: the person.
        camera: 1 to 6.
        rng: decides on pose, crop, light, noise and what stands in front.
        size: (height, width) in pixels.
        pose: this pose in place of a random one.
        clean: leave out shadow on the ground, things in front, blur and noise; the picture then equals the
            backdrop wherever the person does not reach.
        cut: badly cut, too large and off centre, like the false alarm of a detector.
        seed: varies the details of the scene.

    Raises:
        ValueError: there is no such camera.
    """
    if camera not in range(1, len(CAMERAS) + 1):
        raise ValueError(f"camera must be a whole number from 1 to {len(CAMERAS)}, got {camera!r}")
    seen = CAMERAS[camera - 1]
    frame = _frame(who, _draw_pose(rng) if pose is None else pose, seen, rng, size, cut)
    feet = frame.shapes.getbbox()
    in_front = np.random.default_rng(int(rng.integers(2**32)))
    if not clean and in_front.random() < _OCCLUDED:
        _occlude(frame, seen, in_front, size)

    light = np.asarray(seen.light) + rng.normal(0, 0.15, 2)
    folds = scenery.folds(frame.image.size)
    top, left = (int(rng.integers(side)) for side in frame.image.size[::-1])
    folds = folds[top : top + frame.image.height, left : left + frame.image.width]
    shapes = np.asarray(frame.shapes)
    lit = light_up(np.asarray(frame.image), shapes, (light[0], light[1]), seen.sun, folds)

    whole = scenery.scene(camera, size[0], seed)
    left = int(rng.integers(whole.shape[1] - size[1] + 1))
    backdrop = whole[:, left : left + size[1]]
    ground = backdrop if clean or feet is None else _cast_shadow(backdrop, feet, seen)
    cover = _reduce(255 * (shapes > 0).astype(np.uint8))[..., None]
    # Nothing drawn is black, so the mean over a pixel is already weighted by how much of it is covered.
    pixels = ground * (1 - cover) + _reduce(lit)
    exposure = float(np.exp(rng.normal(0, 0.09)))
    pixels, backdrop = (scenery.develop(p, seen, exposure) for p in (pixels, backdrop))
    image = _quantise(pixels) if clean else scenery.sense(pixels, seen, rng)
    middle = slice(_OVERSAMPLING // 2, None, _OVERSAMPLING)
    return Rendering(image, np.asarray(frame.labels, np.uint8)[shapes[middle, middle]], _quantise(backdrop))


def _draw_pose(rng: np.random.Generator) -> Pose:
    """Walking or standing, seen from one of eight directions give or take."""
    yaw = int(rng.integers(8)) * np.pi / 4 + rng.normal(0, 0.18)
    walks = rng.random() < 0.75
    return Pose(
        yaw=float(yaw),
        phase=float(rng.uniform(0, 2 * np.pi)),
        stride=float(rng.uniform(0.24, 0.44)) if walks else 0.04,
        phone=bool(rng.random() < 0.12),
        head=float(rng.normal(0, 0.2)),
    )


def _frame(
    who: Identity, pose: Pose, camera: Camera, rng: np.random.Generator, size: tuple[int, int], cut: bool
) -> Canvas:
    """The oversampled drawing of a person, cut around what is drawn as a detector would, give or take."""
    height, width = (side * _OVERSAMPLING for side in size)
    fill = min(camera.fill * who.height * rng.uniform(0.95, 1.04), 0.95)
    scale = fill * height * (1.7 if cut else 1.0) / (1.17 if who.umbrella != NONE else 1.0)
    room = (round(1.35 * max(scale, width)), round(1.3 * scale))
    view = View(scale, (room[0] / 2, 0.93 * room[1]), camera.pitch, camera.tilt + rng.normal(0, 0.012))
    canvas = person.draw(who, pose, view, room)
    x0, y0, x1, y1 = canvas.shapes.getbbox()
    jitter = rng.uniform(-1, 1, 2) * (0.07 * width, 0.014 * height)
    x, y = (x0 + x1) / 2 + jitter[0], (y0 + y1) / 2 + jitter[1]
    if cut:
        x, y = rng.choice((x0, x1)), rng.uniform(y0 + 0.25 * height, y1 - 0.25 * height)
    return canvas.window(round(x - width / 2), round(y - height / 2), (width, height))


def _occlude(frame: Canvas, camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """Draw something in front of the person: a thing of the camera's place, or the edge of a passer-by."""
    width, height = frame.image.size
    kind, side = camera.occluders[int(rng.integers(len(camera.occluders)))], int(rng.choice((-1, 1)))
    if kind != scenery.PASSER_BY:
        scenery.OCCLUDERS[kind](frame, width, height, side, rng)
        return
    stranger = _frame(wardrobe.draw_identity(rng), _draw_pose(rng), camera, rng, size, cut=False)
    x0, _, x1, _ = stranger.shapes.getbbox()
    shift = side * width * rng.uniform(0.40, 0.50) + width / 2 - (x0 + x1) / 2
    frame.cover(stranger.window(round(-shift), round(-0.03 * height), (width, height)))


def _cast_shadow(backdrop: np.ndarray, drawn: tuple[int, int, int, int], camera: Camera) -> np.ndarray:
    """Darken the ground at the feet and away from the light; `drawn` is the person's oversampled box."""
    height, width = backdrop.shape[:2]
    x0, _, x1, y = (side / _OVERSAMPLING for side in drawn)
    start, spread = (x0 + x1) / 2, 0.35 * min(x1 - x0, 0.3 * height)
    end = start - 0.16 * height * camera.light[0]
    box = (min(start, end) - spread, y - 0.045 * height, max(start, end) + spread, y + 0.012 * height)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    dark = np.asarray(mask.filter(ImageFilter.GaussianBlur(height / 90)), np.float32) / 255
    return backdrop * (1 - camera.shadow * dark[..., None])


def _reduce(values: np.ndarray) -> np.ndarray:
    """Mean over blocks of the oversampling: uint8 to float32 in [0, 1]."""
    return np.asarray(Image.fromarray(values).reduce(_OVERSAMPLING), np.float32) / 255


def _quantise(pixels: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
