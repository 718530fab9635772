"""Draws head, face, hair and hat."""

from __future__ import annotations

import numpy as np
from PIL import Image

from workbook.pedestrians.body import LABEL, Figure
from workbook.pedestrians.canvas import capsule, darker, ellipse, mix
from workbook.pedestrians.wardrobe import COLOURS, HAIR_COLOURS, NONE, SKINS

# Half width and lower end (relative to the middle of the head) of the hair that hangs behind the face.
_HANGING = {"bob": (0.062, -0.066), "long": (0.064, -0.175)}

# Colour of a feature and its share against the skin.
_INKS = {
    "eye": ((20, 12, 12), 0.72),
    "brow": ((20, 12, 12), 0.40),
    "mouth": ((150, 40, 40), 0.55),
    "nose": ((70, 30, 20), 0.25),
}
# What it is, its place on the face (x, y), half width and half height.
_FEATURES = (
    ("eye", -0.019, 0.004, 0.0085, 0.0058),
    ("eye", 0.019, 0.004, 0.0085, 0.0058),
    ("brow", -0.019, 0.018, 0.0110, 0.0030),
    ("brow", 0.019, 0.018, 0.0110, 0.0030),
    ("mouth", 0.000, -0.038, 0.0140, 0.0042),
    ("nose", 0.004, -0.016, 0.0060, 0.0080),
)


def _facing(f: Figure) -> tuple[float, float]:
    """How far the face looks to the camera (1 straight at it) and to the right of the picture."""
    yaw = f.pose.yaw + f.pose.head
    return float(np.cos(yaw)), float(np.sin(yaw))


def draw_head(f: Figure) -> None:
    """Everything above the neck that is not behind the trunk."""
    who, u, canvas = f.who, f.unit, f.canvas
    facing, aside = _facing(f)
    if -0.25 < facing < 0.5:
        draw_hanging_hair(f)
    if who.hair == "long" and facing >= 0.5:
        _draw_locks(f)
    half = u * np.hypot(0.049 * facing, 0.058 * aside)
    skull = canvas.fill(LABEL["head"], SKINS[who.skin], ellipse(f.at_head(0, 0, 0), half, 0.067 * u))
    inside = canvas.where(skull)
    if who.hair != "bald":
        _draw_cap_of_hair(f, half)
    if facing > -0.6:
        _draw_face(f, inside, facing, aside)
    if facing <= -0.25:
        draw_hanging_hair(f)
    if who.hat != NONE:
        _draw_hat(f, half)


def draw_hanging_hair(f: Figure) -> None:
    """What hangs or sits at the back of the head: long hair, ponytail, bun."""
    who, u = f.who, f.unit
    if who.hair == "ponytail":
        outline = capsule(f.at_head(0, 0.035, -0.062), f.at_head(0, -0.12, -0.085), 0.026 * u, 0.013 * u)
    elif who.hair == "bun":
        outline = ellipse(f.at_head(0, 0.062, -0.045), 0.032 * u, 0.030 * u)
    elif who.hair in _HANGING:
        half, low = _HANGING[who.hair]
        half *= u * (1 - 0.3 * abs(_facing(f)[1]))  # from the side it leaves the throat bare
        outline = capsule(f.at_head(0, 0.01, -0.018), f.at_head(0, low, -0.028), half, 0.72 * half)
    else:
        return
    f.canvas.fill(LABEL["hair"], HAIR_COLOURS[who.hair_colour], outline)


def _draw_locks(f: Figure) -> None:
    """Long hair that falls over the shoulders to the front."""
    colour = HAIR_COLOURS[f.who.hair_colour]
    for side in (-1, 1):
        ends = f.at_head(0.050 * side, -0.02, 0.01), f.at_head(0.056 * side, -0.135, 0.05)
        f.canvas.fill(LABEL["hair"], colour, capsule(*ends, 0.016 * f.unit, 0.012 * f.unit))


def _draw_cap_of_hair(f: Figure, half: float) -> None:
    who, u = f.who, f.unit
    if who.hair == "afro":
        outline = ellipse(f.at_head(0, 0.030, -0.012), 0.088 * u, 0.078 * u)
    else:
        outline = ellipse(f.at_head(0, 0.006, -0.006), 1.12 * half, 1.12 * 0.066 * u)
        nape = f.at_head(0, -0.05 if who.hair in _HANGING else -0.03, 0)[1]
        outline[:, 1] = np.minimum(outline[:, 1], nape)
    f.canvas.fill(LABEL["hair"], HAIR_COLOURS[who.hair_colour], outline)


def _draw_face(f: Figure, inside: Image.Image, facing: float, aside: float) -> None:
    """The bare front of the head below the hairline; from the side it is the front half of the skull."""
    u, skin = f.unit, SKINS[f.who.skin]
    front = max(facing, 0.0)
    half = u * (0.044 * front + 0.034 * (1 - abs(facing)) + 0.006)
    x = f.at_head(0, 0, 0)[0] + u * aside * (0.034 - 0.012 * front)
    top, bottom = f.at_head(0, 0.022 if f.who.hair != "bald" else 0.05, 0)[1], f.at_head(0, -0.085, 0)[1]
    face = ellipse((x, (top + bottom) / 2), half, (bottom - top) / 2)
    number = f.canvas.fill(LABEL["head"], skin, face, inside=inside)
    for kind, x, y, wide, high in _FEATURES:
        if 0.045 * facing - x * aside > 0.004:  # on the near side of the head
            mark = ellipse(f.at_head(x, y, 0.046), wide * u, high * u)
            f.canvas.detail(mix(skin, *_INKS[kind]), mark, number)


def _draw_hat(f: Figure, half: float) -> None:
    who, u, label = f.who, f.unit, LABEL["hat"]
    colour = COLOURS[who.hat_colour]
    afro = who.hair == "afro"
    wide, high = (0.088 * u, 0.078 * u) if afro else (1.17 * half, 0.062 * u)
    rim = f.at_head(0, 0.020 if who.hat == "beanie" else 0.030, 0)
    dome = ellipse(f.at_head(0, 0.036 if afro else 0.022, -0.004), wide, high)
    dome[:, 1] = np.minimum(dome[:, 1], rim[1])
    if who.hat == "brim":
        edge = ellipse(rim, max(0.105 * u, 1.15 * wide), (0.013 + 0.1 * np.sin(f.view.pitch)) * u)
    elif who.hat == "cap":
        facing = _facing(f)[0]
        width = (0.012 + 0.026 * max(0.0, facing)) * u
        edge = capsule(f.at_head(0, 0.034, 0.050), f.at_head(0, 0.028, 0.100), width, 0.009 * u)
    else:
        edge = capsule(rim - 0.96 * wide * f.along, rim + 0.96 * wide * f.along, 0.014 * u, 0.014 * u)
    layers = [(colour, dome), (darker(colour, 0.25), edge)]
    if who.hat == "cap" and facing <= 0:
        layers.reverse()
    for paint, outline in layers:
        f.canvas.fill(label, paint, outline)
