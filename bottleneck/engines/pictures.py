"""Images to try a network with, before it sees a user's: made, not stored, always the same."""

from __future__ import annotations

import numpy as np


def pictures(count: int, size: tuple[int, int]) -> np.ndarray:
    """Images (n, h, w, 3) uint8 with slopes, edges and grain, each another one."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    images = np.empty((count, *size, 3), np.uint8)
    for image in images:
        for channel in range(3):
            slope = rng.uniform(-1, 1, 2)
            wave = 64 * np.sin(x * rng.uniform(0.02, 0.5) + y * rng.uniform(0.02, 0.5))
            plane = 127 + 90 * (slope[0] * x / size[1] + slope[1] * y / size[0])
            grain = rng.normal(0, 10, size)
            image[..., channel] = (plane + wave + grain).clip(0, 255).astype(np.uint8)
    return images
