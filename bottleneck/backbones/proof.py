"""What a network is proved with before it sees a user's images: pictures, and how far rows lie apart."""

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


def relative_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, ||a - b|| / ||b||; 0 where both are zero, infinite where it is not a number.

    Parameters
    ----------
    a, b : ndarray of shape (n, d)
        `b` is the reference.

    Examples
    --------
    >>> relative_error(np.array([[3.0, 0.0]]), np.array([[2.0, 0.0]])).tolist()
    [0.5]
    """
    difference = np.linalg.norm(np.asarray(a, np.float64) - b, axis=1)
    reference = np.linalg.norm(np.asarray(b, np.float64), axis=1)
    return np.divide(
        difference, reference, out=np.where(difference == 0, 0.0, np.inf), where=reference > 0
    )
