"""Draws bags and umbrellas."""

from __future__ import annotations

import numpy as np

from workbook.pedestrians.body import LABEL, Figure, band, rows_between, silhouette, stack
from workbook.pedestrians.canvas import Colour, Points, apart, capsule, darker, ellipse, mix, rounded_box
from workbook.pedestrians.wardrobe import COLOURS

HELD = ("handbag", "shopper", "suitcase")
"""Bags in a hand."""

_PACK = np.array(
    [
        (0.80, 0.070, 0.035, -0.100),
        (0.78, 0.094, 0.050, -0.110),
        (0.66, 0.098, 0.060, -0.118),
        (0.55, 0.100, 0.065, -0.120),
        (0.52, 0.085, 0.055, -0.115),
    ]
)


def draw_backpack(f: Figure) -> None:
    """The bag on the back, with pocket and flap."""
    colour = COLOURS[f.who.bag_colour]
    pack = stack(_PACK, f.who)
    number = f.canvas.fill(LABEL["bag"], colour, silhouette(f, pack))
    for half, high, low in ((0.85, 0.64, 0.545), (0.9, 0.74, 0.71)):
        f.canvas.detail(apart(colour, 0.35), band(f, pack, np.pi - half, np.pi + half, high, low), number)


def draw_straps(f: Figure, torso: int, garment: Points) -> None:
    """The straps of a backpack on the chest; `torso` and `garment` as from `clothes.draw_torso`."""
    y = garment[rows_between(garment, 0.83, 0.60), 0]
    on_torso = f.canvas.where(torso)
    for side in (-1, 1):
        azimuth = side * np.interp(y, (0.60, 0.72, 0.83), (1.2, 0.72, 0.62))
        strap = band(f, garment, azimuth - 0.17, azimuth + 0.17, 0.83, 0.60)
        f.canvas.fill(LABEL["bag"], COLOURS[f.who.bag_colour], strap, inside=on_torso)


def draw_shoulder_bag(f: Figure) -> None:
    """The bag at the hip."""
    hip = np.array([0.115 * f.who.side * f.who.build, 0.50, 0.01])
    _draw_box(f, hip, (0.035, 0.055, 0.075), COLOURS[f.who.bag_colour], flap=True)


def draw_shoulder_strap(f: Figure, torso: int) -> None:
    """The strap of a shoulder bag, across the trunk to the other shoulder."""
    ends = f.at(-0.07 * f.who.side, 0.83, 0.0), f.at(0.10 * f.who.side, 0.55, 0.0)
    strap = capsule(*ends, 0.011 * f.unit, 0.011 * f.unit)
    f.canvas.fill(LABEL["bag"], darker(COLOURS[f.who.bag_colour], 0.25), strap, inside=f.canvas.where(torso))


def draw_held_bag(f: Figure) -> None:
    """Handbag, shopper or suitcase."""
    {"handbag": _draw_handbag, "shopper": _draw_shopper, "suitcase": _draw_suitcase}[f.who.bag](f)


def _draw_handbag(f: Figure) -> None:
    centre = f.hand(f.who.side) - (0, 0.105, 0)
    _draw_handles(f, centre + (0, 0.045, 0), 0.03)
    _draw_box(f, centre, (0.045, 0.052, 0.078), COLOURS[f.who.bag_colour], flap=True)


def _draw_shopper(f: Figure) -> None:
    colour = COLOURS[f.who.bag_colour]
    centre = f.hand(f.who.side) - (0, 0.15, 0)
    _draw_handles(f, centre + (0, 0.10, 0), 0.035)
    number = _draw_box(f, centre, (0.055, 0.105, 0.075), colour)
    mark = ellipse(f.at(*centre), 0.026 * f.unit, 0.026 * f.unit)
    f.canvas.detail(mix(colour, (255, 255, 255), 0.75), mark, number)


def _draw_suitcase(f: Figure) -> None:
    """A trolley pulled behind, on its wheels."""
    label, u, colour = LABEL["bag"], f.unit, COLOURS[f.who.bag_colour]
    grip = f.hand(f.who.side)
    centre = np.array([grip[0] + 0.03 * f.who.side, 0.175 - f.lift, grip[2] - 0.07])
    rod = capsule(f.at(*grip), f.at(*(centre + (0, 0.12, 0))), 0.008 * u, 0.008 * u)
    f.canvas.fill(label, (70, 70, 74), rod)
    for shift in (-0.045, 0.045):
        wheel = ellipse(f.at(*(centre + (0, -0.152, shift))), 0.017 * u, 0.017 * u)
        f.canvas.fill(label, (30, 30, 32), wheel)
    number = _draw_box(f, centre, (0.075, 0.145, 0.052), colour)
    middle, reach = f.at(*centre), 0.12 * u * f.down
    for shift in (-0.03, 0.0, 0.03):
        rib = middle + shift * u * f.along
        f.canvas.detail(apart(colour, 0.35), capsule(rib - reach, rib + reach, 0.004 * u, 0.004 * u), number)


def _draw_handles(f: Figure, top: Points, half: float) -> None:
    colour, thin, grip = darker(COLOURS[f.who.bag_colour], 0.35), 0.006 * f.unit, f.at(*f.hand(f.who.side))
    for shift in (-half, half):
        handle = capsule(grip, f.at(*(top + (0, 0, shift))), thin, thin)
        f.canvas.fill(LABEL["bag"], colour, handle)


def _draw_box(f: Figure, centre: Points, half: tuple[float, float, float], colour: Colour, flap: bool = False) -> int:
    """An upright bag around `centre` (3,) with half sizes across, up and along the body."""
    width = f.unit * (half[0] * abs(np.cos(f.pose.yaw)) + half[2] * abs(np.sin(f.pose.yaw)))
    middle = f.at(*centre)
    outline = rounded_box(middle, width, f.unit * half[1])
    number = f.canvas.fill(LABEL["bag"], colour, outline)
    if flap:
        upper = np.minimum(outline, (np.inf, middle[1]))
        f.canvas.detail(apart(colour, 0.3), upper, number)
        clasp = ellipse(middle, 0.006 * f.unit, 0.006 * f.unit)
        f.canvas.detail(mix(colour, (255, 240, 200), 0.7), clasp, number)
    return number


def draw_umbrella(f: Figure) -> None:
    """An open umbrella in the hand that carries no bag."""
    label, u, colour = LABEL["umbrella"], f.unit, COLOURS[f.who.umbrella]
    grip = f.hand(-f.who.side)
    top, rim = f.at(0.6 * grip[0], 1.13, 0.04), f.at(0.6 * grip[0], 1.005, 0.04)
    f.canvas.fill(label, (60, 58, 56), capsule(f.at(*grip), top, 0.006 * u, 0.006 * u))
    half = 0.235 * u
    t = np.linspace(np.pi, 0, 15)
    dome = np.stack([top[0] + half * np.cos(t), rim[1] - (rim[1] - top[1]) * np.sin(t)], axis=1)
    across = np.linspace(1, -1, 25)
    scallops = 0.02 * u * np.abs(np.sin(2 * np.pi * across))
    edge = np.stack([top[0] + half * across, rim[1] - scallops], axis=1)
    number = f.canvas.fill(label, colour, np.concatenate([dome, edge]))
    for share in (-0.5, 0.0, 0.5):
        rib = capsule(top, np.array([top[0] + share * half, rim[1]]), 0.003 * u, 0.004 * u)
        f.canvas.detail(apart(colour, 0.3), rib, number)
