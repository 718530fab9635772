"""Draws what covers trunk, arms, legs and feet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from workbook.pedestrians.body import LABEL, SIDES, Figure, band, rows_between, silhouette, stack
from workbook.pedestrians.canvas import Colour, Paint, Points, apart, capsule, darker, ellipse, mix, tube
from workbook.pedestrians.wardrobe import COLOURS, SKINS, TOPS

# Height, half width, half depth, z of the middle (see body.stack).
_TRUNK = np.array(
    [
        (0.842, 0.032, 0.032, -0.004),
        (0.834, 0.052, 0.040, -0.004),
        (0.820, 0.090, 0.050, 0.000),
        (0.800, 0.112, 0.058, 0.002),
        (0.720, 0.106, 0.072, 0.006),
        (0.620, 0.086, 0.060, 0.004),
        (0.550, 0.092, 0.068, -0.002),
        (0.480, 0.097, 0.074, -0.004),
    ]
)
_PELVIS = np.array(
    [
        (0.58, 0.086, 0.060, 0.0),
        (0.52, 0.094, 0.071, 0.0),
        (0.46, 0.090, 0.066, 0.0),
        (0.44, 0.050, 0.050, 0.0),
    ]
)
# Height of the hem, ease, flare of the hem.
_CUTS = {
    "t-shirt": (0.485, 0.000, 0.000),
    "shirt": (0.475, 0.003, 0.002),
    "hoodie": (0.470, 0.010, -0.004),
    "jacket": (0.455, 0.008, -0.004),
    "blazer": (0.435, 0.006, -0.001),
    "coat": (0.265, 0.012, 0.010),
    "puffer": (0.450, 0.022, -0.004),
    "dress": (0.330, 0.000, 0.045),
}
_SLEEVE_EASE = {"hoodie": 0.006, "jacket": 0.004, "blazer": 0.003, "coat": 0.006, "puffer": 0.012}
# Radius at hip, knee and ankle.
_TROUSERS = {
    "trousers": (0.052, 0.040, 0.033),
    "skinny": (0.047, 0.034, 0.023),
    "wide": (0.056, 0.052, 0.056),
}
_BARE_LEG = (0.046, 0.033, 0.021)
# Height and flare of the hem.
_SKIRTS = {"skirt": (0.33, 0.03), "long-skirt": (0.12, 0.045)}


# --- Cloth ----------------------------------------------------------------------------------------


def cloth(f: Figure) -> Paint:
    """The paint of the upper garment: a colour, or a picture of its pattern that moves with the body."""
    who, canvas = f.who, f.canvas
    base = COLOURS[who.top_colour]
    if who.pattern in ("plain", "logo"):
        return base
    second = mix(base, (235, 235, 235), 0.35) if who.top == "blazer" else COLOURS[who.second]
    # Only where the garment may be: the pattern is the dearest part of the drawing.
    x0, x1 = (round(f.view.origin[0] + side * 0.36 * f.unit) for side in (-1, 1))
    y0, y1 = (round(f.view.origin[1] - height * f.unit) for height in (0.88, 0.10))
    x, y = np.meshgrid(np.arange(x0, x1) - f.view.origin[0], np.arange(y0, y1) - f.view.origin[1])
    u = (f.along[0] * x + f.along[1] * y) / f.unit - 0.09 * f.pose.yaw
    v = (f.down[0] * x + f.down[1] * y) / f.unit
    strength = np.round(255 * _PATTERNS[who.pattern](u, v)).astype(np.uint8)
    paint = Image.new("RGB", canvas.image.size, base)
    paint.paste(second, (x0, y0), Image.fromarray(strength))
    return paint


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    step = 0.046
    row = np.floor(v / step)
    du, dv = (u / step + 0.5 * (row % 2)) % 1 - 0.5, (v / step) % 1 - 0.5
    return (du**2 + dv**2 < 0.29**2).astype(float)


_PATTERNS = {
    "stripes": lambda u, v: ((v / 0.052) % 1 < 0.45).astype(float),
    "pinstripes": lambda u, v: 0.85 * ((u / 0.034) % 1 < 0.30),
    "checks": lambda u, v: 0.5 * ((u / 0.052) % 1 < 0.5) + 0.5 * ((v / 0.052) % 1 < 0.5),
    "dots": _dots,
}


# --- Legs and shoes -------------------------------------------------------------------------------


def draw_legs(f: Figure) -> None:
    """Both legs with shoes, the far one first, and skirt, shorts or trousers."""
    who, label = f.who, LABEL["legs"]
    colour = COLOURS.get(who.bottom_colour, SKINS[who.skin])
    order = sorted(SIDES, key=lambda side: f.toward(f.joints[f"{side} hip"] + f.joints[f"{side} knee"]))
    for i, side in enumerate(order):
        # The far leg lies in the shadow of the near one.
        in_shadow = i == 0 and abs(f.frontal) < 0.8
        _draw_leg(f, side, colour, 0.22 if in_shadow else 0.0)
    if who.bottom not in ("bare", "tights"):
        f.canvas.fill(label, colour, silhouette(f, stack(_PELVIS, who)))
    if who.bottom in _SKIRTS:
        _draw_skirt(f, colour)


def _draw_leg(f: Figure, side: str, colour: Colour, shadow: float) -> None:
    who, label = f.who, LABEL["legs"]
    thick = f.unit * who.build**0.5
    hip, knee, ankle = (f.joint(side, joint) for joint in ("hip", "knee", "ankle"))
    _draw_shoe(f, side)
    covered = who.bottom in _TROUSERS or who.bottom == "tights"
    at_hip, at_knee, at_ankle = (thick * r for r in _TROUSERS.get(who.bottom, _BARE_LEG))
    lower = (tube if who.bottom == "wide" else capsule)(knee, ankle, at_knee, at_ankle)
    leg = darker(colour if covered else SKINS[who.skin], shadow)
    f.canvas.fill(label, leg, capsule(hip, knee, at_hip, at_knee), lower)
    if who.bottom == "shorts":
        end = hip + 0.86 * (knee - hip)
        f.canvas.fill(label, darker(colour, shadow), tube(hip, end, 0.055 * thick, 0.050 * thick))
    if who.shoes == "boots":
        top = ankle + 0.52 * (knee - ankle)
        width = (0.042 if who.bottom == "trousers" else 0.034) * f.unit
        boot = capsule(top, ankle, width, 0.029 * f.unit)
        f.canvas.fill(LABEL["shoes"], darker(COLOURS[who.shoes_colour], shadow), boot)


def _draw_shoe(f: Figure, side: str) -> None:
    who, label = f.who, LABEL["shoes"]
    colour = COLOURS[who.shoes_colour]
    heel, toe, ankle = (f.joint(side, joint) for joint in ("heel", "toe", "ankle"))
    r = 0.022 * f.unit
    if who.shoes == "sneakers":
        rubber = (245, 245, 242) if who.shoes_colour != "white" else (150, 150, 152)
        low = 0.014 * f.unit * f.down
    else:
        rubber, low = darker(colour, 0.55), 0.007 * f.unit * f.down
    f.canvas.fill(label, rubber, capsule(heel + low, toe + low, r, 0.95 * r))
    upper = capsule(heel, toe, 1.05 * r, 0.95 * r), capsule(ankle, heel, 0.95 * r, 1.05 * r)
    f.canvas.fill(label, colour, *upper)


def _draw_skirt(f: Figure, colour: Colour) -> None:
    hem, flare = _SKIRTS[f.who.bottom]
    spread = 0.65 * f.pose.stride * (0.5 - hem)
    rows = [(0.61, 0.084, 0.06, 0), (0.52, 0.096, 0.073, 0), (hem, 0.1 + flare, 0.08 + flare + spread, 0)]
    garment = stack(np.array(rows), f.who, 0.004)
    skirt = f.canvas.fill(LABEL["legs"], colour, silhouette(f, garment))
    for azimuth in np.arange(0.4, 2 * np.pi, 0.9):
        f.canvas.detail(apart(colour, 0.2), band(f, garment, azimuth, azimuth + 0.13, 0.5, hem), skirt)


# --- Trunk ----------------------------------------------------------------------------------------


def draw_torso(f: Figure, paint: Paint) -> tuple[int, Points]:
    """Neck and upper garment; returns the number of the garment's shape and its stack."""
    who = f.who
    hem, ease, flare = _CUTS[who.top]
    spread = 0.7 * f.pose.stride * max(0.0, 0.48 - hem)
    rows = np.vstack([_TRUNK[_TRUNK[:, 0] > hem], (hem, 0.097 + flare, 0.074 + flare + spread, 0.0)])
    garment = stack(rows, who, ease)
    neck = capsule(f.at(0, 0.83, 0), f.at(0, 0.88, 0.008), 0.034 * f.unit, 0.027 * f.unit)
    f.canvas.fill(LABEL["head"], SKINS[who.skin], neck)
    number = f.canvas.fill(LABEL["torso"], paint, silhouette(f, garment))
    _TRIMMINGS.get(who.top, _trim_neckline)(f, garment, number)
    if who.pattern == "logo":
        for side in (0.0, np.pi):  # a print on the chest and one on the back
            f.canvas.detail(COLOURS[who.second], band(f, garment, side - 0.6, side + 0.6, 0.76, 0.66), number)
    return number, garment


def _trim_neckline(f: Figure, garment: Points, number: int) -> None:
    if f.frontal > 0:
        throat = ellipse(f.at(0, 0.836, 0.03), 0.034 * f.unit, 0.017 * f.unit)
        f.canvas.fill(LABEL["head"], SKINS[f.who.skin], throat, inside=f.canvas.where(number))


def _trim_shirt(f: Figure, garment: Points, number: int) -> None:
    base = COLOURS[f.who.top_colour]
    f.canvas.detail(apart(base, 0.35), band(f, garment, -0.05, 0.05, 0.82, 0.47), number)
    f.canvas.detail(mix(base, (255, 255, 255), 0.35), band(f, garment, -1.2, 1.2, 0.85, 0.822), number)


def _trim_hoodie(f: Figure, garment: Points, number: int) -> None:
    base = COLOURS[f.who.top_colour]
    f.canvas.detail(apart(base, 0.25), band(f, garment, -0.75, 0.75, 0.585, 0.51), number)
    f.canvas.detail(apart(base, 0.25), band(f, garment, -np.pi / 2, np.pi / 2, 0.49, 0.47), number)
    for azimuth in (-0.3, 0.3):
        cord = band(f, garment, azimuth - 0.05, azimuth + 0.05, 0.81, 0.73)
        f.canvas.detail(mix(base, (255, 255, 255), 0.6), cord, number)
    if f.frontal < 0.2:
        hood = ellipse(f.at(0, 0.815, -0.055), 0.062 * f.unit, 0.042 * f.unit)
        f.canvas.fill(LABEL["torso"], darker(base, 0.12), hood)


def _trim_jacket(f: Figure, garment: Points, number: int) -> None:
    """Open: the shirt shows between the edges, wider towards the collar."""
    y = garment[rows_between(garment, 0.835, 0.45), 0]
    gap = np.interp(y, (0.45, 0.62, 0.84), (0.55, 0.38, 0.85))
    edge = darker(COLOURS[f.who.top_colour], 0.45)
    f.canvas.detail(edge, band(f, garment, -gap - 0.12, gap + 0.12, 0.835, 0.45), number)
    f.canvas.detail(COLOURS[f.who.second], band(f, garment, -gap, gap, 0.835, 0.45), number)


def _trim_blazer(f: Figure, garment: Points, number: int) -> None:
    """Lapels, a wedge of shirt and a tie above the button."""
    y = garment[rows_between(garment, 0.835, 0.60), 0]
    gap = np.interp(y, (0.60, 0.84), (0.02, 0.85))
    base, shirt = COLOURS[f.who.top_colour], COLOURS[f.who.second]
    f.canvas.detail(apart(base, 0.3), band(f, garment, -gap - 0.2, gap + 0.2, 0.835, 0.60), number)
    f.canvas.detail(shirt, band(f, garment, -gap, gap, 0.835, 0.60), number)
    f.canvas.detail(mix(shirt, (20, 20, 30), 0.75), band(f, garment, -0.1, 0.1, 0.825, 0.64), number)
    f.canvas.detail(apart(base, 0.4), band(f, garment, -0.03, 0.03, 0.60, 0.43), number)


def _trim_coat(f: Figure, garment: Points, number: int) -> None:
    """A collar, a line of buttons and a belt all around."""
    seam = apart(COLOURS[f.who.top_colour], 0.4)
    y = garment[rows_between(garment, 0.85, 0.72), 0]
    gap = np.interp(y, (0.72, 0.84), (0.1, 1.0))
    f.canvas.detail(seam, band(f, garment, -gap, gap, 0.85, 0.72), number)
    f.canvas.detail(seam, band(f, garment, -0.05, 0.05, 0.80, 0.26), number)
    _ring(f, seam, 0.60, 0.013, number)


def _trim_puffer(f: Figure, garment: Points, number: int) -> None:
    seam = apart(COLOURS[f.who.top_colour], 0.38)
    for y in np.arange(0.50, 0.80, 0.052):
        _ring(f, seam, y, 0.0045, number)
    f.canvas.detail(seam, band(f, garment, -0.06, 0.06, 0.82, 0.45), number)


def _ring(f: Figure, colour: Colour, y: float, half: float, number: int) -> None:
    """A level line of half the thickness `half` across a garment."""
    reach = 0.2 * f.unit * f.along
    line = capsule(f.at(0, y, 0) - reach, f.at(0, y, 0) + reach, half * f.unit, half * f.unit)
    f.canvas.detail(colour, line, number)


_TRIMMINGS = {
    "shirt": _trim_shirt,
    "hoodie": _trim_hoodie,
    "jacket": _trim_jacket,
    "blazer": _trim_blazer,
    "coat": _trim_coat,
    "puffer": _trim_puffer,
}


# --- Arms -----------------------------------------------------------------------------------------


def draw_arm(f: Figure, side: str, paint: Paint) -> None:
    """One arm with its sleeve and hand."""
    who, label = f.who, LABEL["arms"]
    shoulder, elbow, wrist = (f.joint(side, joint) for joint in ("shoulder", "elbow", "wrist"))
    skin, thick = SKINS[who.skin], f.unit * who.build**0.5
    hand = wrist + 0.14 * (wrist - elbow)
    f.canvas.fill(label, skin, capsule(wrist, hand, 0.017 * f.unit, 0.019 * f.unit))
    if TOPS[who.top].sleeve == "short":
        at_shoulder, at_elbow, at_wrist = 0.030 * thick, 0.025 * thick, 0.019 * thick
        bare = capsule(shoulder, elbow, at_shoulder, at_elbow), capsule(elbow, wrist, at_elbow, at_wrist)
        f.canvas.fill(label, skin, *bare)
        end = shoulder + 0.62 * (elbow - shoulder)
        f.canvas.fill(label, paint, tube(shoulder, end, 0.035 * thick, 0.036 * thick))
        return
    ease = _SLEEVE_EASE.get(who.top, 0.0)
    at_shoulder, at_elbow, at_wrist = (thick * (r + ease) for r in (0.034, 0.028, 0.022))
    sleeve = capsule(shoulder, elbow, at_shoulder, at_elbow), tube(elbow, wrist, at_elbow, at_wrist)
    number = f.canvas.fill(label, paint, *sleeve)
    if who.top == "puffer":
        seam = apart(COLOURS[who.top_colour], 0.38)
        for point in (shoulder + 0.4 * (elbow - shoulder), elbow, elbow + 0.6 * (wrist - elbow)):
            f.canvas.detail(seam, ellipse(point, 0.05 * f.unit, 0.005 * f.unit), number)
