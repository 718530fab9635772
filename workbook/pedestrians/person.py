"""Draws a whole person: the parts from far to near."""

from __future__ import annotations

import numpy as np

from workbook.pedestrians import carried, clothes, head
from workbook.pedestrians.body import NAMES, SIDES, Figure, Pose, View
from workbook.pedestrians.canvas import Canvas
from workbook.pedestrians.wardrobe import NONE, Identity

_FAR = -0.045  # depth below which a side of the body is behind the trunk


def draw(who: Identity, pose: Pose, view: View, size: tuple[int, int]) -> Canvas:
    """Draw a person in flat colours on an empty canvas of `size` (width, height)."""
    f = Figure(Canvas(size), who, pose, view)
    paint = clothes.cloth(f)
    facing = f.frontal > 0
    near = {side: f.toward(f.joints[f"{side} shoulder"]) > _FAR for side in SIDES}
    bag_near = near[NAMES[who.side]]
    held_behind = not bag_near or (who.bag == "suitcase" and facing)

    if who.bag == "backpack" and facing:
        carried.draw_backpack(f)
    if who.bag in carried.HELD and held_behind:
        carried.draw_held_bag(f)
    if who.umbrella != NONE and not facing:
        carried.draw_umbrella(f)
    if np.cos(pose.yaw + pose.head) > -0.25:
        head.draw_hanging_hair(f)
    for side in SIDES:
        if not near[side]:
            clothes.draw_arm(f, side, paint)
    if who.bag == "shoulder-bag" and not bag_near:
        carried.draw_shoulder_bag(f)
    clothes.draw_legs(f)
    torso, garment = clothes.draw_torso(f, paint)
    if who.bag == "shoulder-bag":
        carried.draw_shoulder_strap(f, torso)
    if who.bag == "backpack":
        if facing:
            carried.draw_straps(f, torso, garment)
        else:
            carried.draw_backpack(f)
    head.draw_head(f)
    if who.bag == "shoulder-bag" and bag_near:
        carried.draw_shoulder_bag(f)
    for side in SIDES:
        if near[side]:
            clothes.draw_arm(f, side, paint)
    if who.bag in carried.HELD and not held_behind:
        carried.draw_held_bag(f)
    if who.umbrella != NONE and facing:
        carried.draw_umbrella(f)
    return f.canvas
