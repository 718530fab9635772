"""A Re-ID data set of coloured rectangles in Market1501's layout, a few kilobytes large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 16)


def write_image(path: Path, colour: tuple[int, int, int] = (200, 30, 30), seed: int = 0) -> Path:
    """A figure of one colour on grey noise, 32 x 16 pixels."""
    pixels = np.random.default_rng(seed).integers(90, 160, (*SIZE, 3), dtype=np.uint8)
    pixels[8:28, 4:12] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_rectangles(root: Path, n_train_ids: int = 4, n_test_ids: int = 3, per_camera: int = 3) -> Path:
    """A data set of two cameras: each person is one colour, the first image of a camera is the query."""
    colours = np.random.default_rng(7).integers(0, 256, (n_train_ids + n_test_ids, 3))
    for person, colour in enumerate(colours.tolist(), start=1):
        for camera in (1, 2):
            for index in range(per_camera):
                name = f"{person:04d}_c{camera}_{index:02d}.png"
                if person <= n_train_ids:
                    folder = "bounding_box_train"
                else:
                    folder = "query" if index == 0 else "bounding_box_test"
                write_image(root / folder / name, tuple(colour), seed=100 * person + 10 * camera + index)
    return root
