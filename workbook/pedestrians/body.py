"""A jointed body in three dimensions: pose, skeleton, view, and garments as stacks of ellipses.

Lengths are in units of an average person's height: x to the person's left, y up from the ground, z forward.
Limbs become tapered capsules and trunks become outlines; both can be had at any angle of view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbook.pedestrians.canvas import Canvas, Points
from workbook.pedestrians.wardrobe import NONE, PARTS, Identity

LABEL = {part: 1 + i for i, part in enumerate(PARTS)}
SIDES = {"left": 1, "right": -1}
NAMES = {side: name for name, side in SIDES.items()}


@dataclass(frozen=True)
class Pose:
    """How a person stands.

    Attributes:
        yaw: radians; 0 faces the camera, pi shows the back, pi / 2 looks to the right of the picture.
        phase: of the walk, radians.
        stride: largest angle of the hips while walking, radians; 0 stands still.
        phone: holds a hand to the head.
        head: turn of the head against the body, radians.
    """

    yaw: float
    phase: float = 0.0
    stride: float = 0.0
    phone: bool = False
    head: float = 0.0


@dataclass(frozen=True)
class View:
    """A distant camera: `scale` pixels per unit of length, `pitch` looks down and `tilt` turns the picture
    (radians), `origin` (x, y) is the pixel of the point on the ground between the feet."""

    scale: float
    origin: tuple[float, float]
    pitch: float = 0.0
    tilt: float = 0.0


@dataclass
class Figure:
    """What the drawing functions share: where to draw, whom, in which pose, how seen, and the joints (3,)."""

    canvas: Canvas
    who: Identity
    pose: Pose
    view: View

    def __post_init__(self) -> None:
        self.joints, self.lift = skeleton(self.who, self.pose)

    @property
    def unit(self) -> float:
        """Pixels per unit of length."""
        return self.view.scale

    @property
    def frontal(self) -> float:
        """1 seen from the front, 0 from the side, -1 from the back."""
        return float(np.cos(self.pose.yaw))

    @property
    def along(self) -> Points:
        """Direction (2,) of the ground in the picture."""
        return np.array([np.cos(self.view.tilt), np.sin(self.view.tilt)])

    @property
    def down(self) -> Points:
        """Direction (2,) of the vertical in the picture."""
        return np.array([-np.sin(self.view.tilt), np.cos(self.view.tilt)])

    def project(self, point: Points, turn: float = 0.0) -> Points:
        """Pixel (2,) of a point (3,), after a `turn` about the vertical axis of the body."""
        yaw, v = self.pose.yaw + turn, self.view
        across = point[0] * np.cos(yaw) + point[2] * np.sin(yaw)
        toward = point[2] * np.cos(yaw) - point[0] * np.sin(yaw)
        up = point[1] * np.cos(v.pitch) - toward * np.sin(v.pitch)
        return np.asarray(v.origin) + v.scale * (across * self.along - up * self.down)

    def at(self, x: float, y: float, z: float) -> Points:
        """Pixel of a point of the trunk, which sinks as the stride widens."""
        return self.project(np.array([x, y + self.lift, z]))

    def at_head(self, x: float, y: float, z: float) -> Points:
        """Pixel of a point given relative to the middle of the head."""
        return self.project(np.array([x, 0.925 + y + self.lift, z]), self.pose.head)

    def joint(self, side: str, name: str) -> Points:
        """Pixel of a joint."""
        return self.project(self.joints[f"{side} {name}"])

    def toward(self, point: Points) -> float:
        """Depth of a point (3,): the larger, the nearer to the camera."""
        return float(point[2] * np.cos(self.pose.yaw) - point[0] * np.sin(self.pose.yaw))

    def hand(self, side: int) -> Points:
        """Where a hand grips, (3,), relative to the trunk as in `at`."""
        elbow, wrist = (self.joints[f"{NAMES[side]} {joint}"] for joint in ("elbow", "wrist"))
        return wrist + 0.14 * (wrist - elbow) - np.array([0, self.lift, 0])


# --- Skeleton -------------------------------------------------------------------------------------

_THIGH, _SHIN, _UPPER_ARM, _FOREARM, _ANKLE = 0.235, 0.225, 0.165, 0.145, 0.042


def skeleton(who: Identity, pose: Pose) -> tuple[dict[str, Points], float]:
    """Joints of the limbs, (3,) each, and by how much (<= 0) the trunk sinks to let the lower foot stand."""
    joints = _leg(who, pose, "left") | _leg(who, pose, "right")
    lift = _ANKLE - min(joints["left ankle"][1], joints["right ankle"][1])
    for name in joints:
        joints[name] = joints[name] + (0, lift, 0)
    for side in SIDES:
        joints |= _arm(who, pose, side, lift)
    return joints, lift


def _leg(who: Identity, pose: Pose, name: str) -> dict[str, Points]:
    side = SIDES[name]
    thigh = side * pose.stride * np.sin(pose.phase)
    # The knee bends while the leg swings forward.
    shin = thigh - 0.05 - 1.3 * pose.stride * max(0.0, side * np.cos(pose.phase))
    hip = np.array([side * 0.046 * who.build, 0.50, 0.0])
    knee = hip + _THIGH * np.array([side * 0.03, -np.cos(thigh), np.sin(thigh)])
    ankle = knee + _SHIN * np.array([side * 0.02, -np.cos(shin), np.sin(shin)])
    sole = np.array([side * 0.12, np.sin(0.6 * shin), np.cos(0.6 * shin)])
    joints = {"hip": hip, "knee": knee, "ankle": ankle}
    foot = {"heel": ankle - (0, 0.022, 0) - 0.026 * sole, "toe": ankle - (0, 0.022, 0) + 0.070 * sole}
    return {f"{name} {joint}": point for joint, point in (joints | foot).items()}


def _arm(who: Identity, pose: Pose, name: str, lift: float) -> dict[str, Points]:
    side = SIDES[name]
    upper, bend, out = _arm_angles(who, pose, side)
    shoulder = np.array([side * 0.099 * who.build, 0.782 + lift, 0.0])
    elbow = shoulder + _UPPER_ARM * np.array([side * out, -np.cos(upper), np.sin(upper)])
    wrist = elbow + _FOREARM * np.array([side * 0.02, -np.cos(upper + bend), np.sin(upper + bend)])
    return {f"{name} shoulder": shoulder, f"{name} elbow": elbow, f"{name} wrist": wrist}


def _arm_angles(who: Identity, pose: Pose, side: int) -> tuple[float, float, float]:
    """Angles of upper arm and elbow (radians), and how far the arm is held off the body."""
    swing = -side * 0.9 * pose.stride * np.sin(pose.phase)
    if side == who.side and who.bag in ("handbag", "shopper"):
        return 0.3 * swing, 0.06, 0.22
    if side == who.side and who.bag == "suitcase":
        return -0.42, 0.0, 0.20
    if side != who.side and who.umbrella != NONE:
        return 0.35, 1.9, 0.16
    if side != who.side and pose.phone:
        return 0.45, 2.0, 0.10
    return swing, 0.22 + 0.5 * max(0.0, swing), 0.16


# --- Stacks of ellipses ---------------------------------------------------------------------------


def stack(rows: Points, who: Identity, ease: float = 0.0) -> Points:
    """A garment around this body.

    Args:
        rows: (n, 4) of height, half width, half depth and z of the middle, from the top down.
        who: whose build and waist scale it.
        ease: room of the cloth, added to the half axes.

    Returns:
        (16, 4) of the same, at even heights.
    """
    y = np.linspace(rows[0, 0], rows[-1, 0], 16)
    wide, deep, z = (np.interp(-y, -rows[:, 0], rows[:, i]) for i in (1, 2, 3))
    scale = who.build * (1 + (who.waist - 1) * np.exp(-(((y - 0.62) / 0.07) ** 2)))
    return np.stack([y, wide * scale + ease, deep * scale + ease, z], axis=1)


def silhouette(f: Figure, garment: Points) -> Points:
    """Outline of a stack: an ellipse with half axes a, b is sqrt((a cos)^2 + (b sin)^2) wide at any yaw."""
    c, s = np.cos(f.pose.yaw), np.sin(f.pose.yaw)
    middle = np.stack([f.at(0.0, y, z) for y, _, _, z in garment])
    half = f.unit * np.hypot(garment[:, 1] * c, garment[:, 2] * s)[:, None]
    # Seen from above, the hem is the near half of an ellipse.
    sag = f.unit * np.hypot(garment[-1, 1] * s, garment[-1, 2] * c) * np.sin(f.view.pitch)
    t = np.linspace(np.pi, 0, 7)[1:-1]
    hem = middle[-1] + np.outer(half[-1] * np.cos(t), f.along) + np.outer(sag * np.sin(t), f.down)
    return np.concatenate([middle - half * f.along, hem, (middle + half * f.along)[::-1]])


def band(f: Figure, garment: Points, left: Points | float, right: Points | float, high: float, low: float) -> Points:
    """Outline of the seen part of a stack between two azimuths and two heights; (0, 2) where nothing is seen.

    Azimuths are radians from the front, one number or one for each row between the heights (`rows_between`).
    """
    rows = garment[rows_between(garment, high, low)]
    # Azimuth phi is seen while |phi + yaw| < 90 degrees; beyond, the band ends at the silhouette.
    middle = -f.pose.yaw
    edges = []
    for edge in (left, right):
        relative = (np.asarray(edge) - middle + np.pi) % (2 * np.pi) - np.pi
        edges.append(np.broadcast_to(middle + np.clip(relative, -np.pi / 2, np.pi / 2), len(rows)))
    width = np.abs(edges[0] - edges[1])
    hidden = np.all(width < 1e-6)
    behind = np.any(width > 2.6)  # the two ends were clipped to opposite sides
    if len(rows) < 2 or hidden or behind:
        return np.zeros((0, 2))
    sides = [
        [f.at(a * np.sin(p), y, z + b * np.cos(p)) for p, (y, a, b, z) in zip(edge, rows, strict=True)]
        for edge in edges
    ]
    return np.array(sides[0] + sides[1][::-1])


def rows_between(garment: Points, high: float, low: float) -> Points:
    """Which rows (bool) of a stack lie between two heights."""
    return (garment[:, 0] <= high + 1e-6) & (garment[:, 0] >= low - 1e-6)
