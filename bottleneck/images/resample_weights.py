"""The weights of Pillow's resampling: sizes and a filter in, 22-bit integers out.

Each expression stands in the order in which Pillow's C computes it, in float64: then no weight can be
rounded otherwise, and no image differ by a level here or there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Pillow's fixed point: 32 bits, less 8 of the pixel and 2 that sums may overshoot by.
PRECISION_BITS = 22
# Taps are unrolled by four in the kernels; weights of zero fill up.
UNROLL = 4


def _sinc(x: np.ndarray) -> np.ndarray:
    # `math`'s sine is the C library's, as Pillow's; numpy's own may differ in the last bit.
    turned = x * math.pi
    sines = np.fromiter(map(math.sin, turned.ravel()), np.float64, turned.size)
    with np.errstate(invalid="ignore"):
        return np.where(x == 0, 1.0, sines.reshape(x.shape) / turned)


def _box(x: np.ndarray) -> np.ndarray:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    return np.where(x < 1, 1.0 - x, 0.0)


def _hamming(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    turned = x * math.pi
    cosines = np.fromiter(map(math.cos, turned.ravel()), np.float64, turned.size)
    # Pillow writes these two numbers in 32 bits.
    high, low = float(np.float32(0.54)), float(np.float32(0.46))
    value = _sinc(x) * (high + low * cosines.reshape(x.shape))
    return np.where(x == 0, 1.0, np.where(x < 1, value, 0.0))


def _bicubic(x: np.ndarray) -> np.ndarray:
    # Keys' kernel with a = -1/2, multiplied out in Pillow's order: another order rounds otherwise.
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


# The filter, and how far it reaches to each side, in pixels of the coarser image.
_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def most_taps(length: float, out: int, method: str) -> int:
    """The most pixels that one of the result is made of."""
    return math.ceil(_FILTERS[method][1] * max(length / out, 1.0)) * 2 + 1


class Weights(NamedTuple):
    """Which pixels of a line make each pixel of the resized line, and how much each counts.

    Attributes
    ----------
    starts : ndarray of shape (n,), int64
        The first pixel that is used; never decreases.
    end : int
        Behind the last pixel that is used by any.
    table : ndarray of shape (n, taps), int32
        Weights times 2 ** `PRECISION_BITS`; zeros follow, up to a multiple of `UNROLL`.
    """

    starts: np.ndarray
    end: int
    table: np.ndarray


@lru_cache(maxsize=128)
def weights(
    side: int, low: float, high: float, out: int, method: str, first: int, count: int
) -> Weights:
    """The weights that Pillow computes, for some of the resized pixels.

    Parameters
    ----------
    side : int
        Pixels of the line.
    low, high : float
        The part of it that is resized, already rounded to 32 bits.
    out : int
        Pixels after resizing.
    method : str
        A key of `_FILTERS`.
    first, count : int
        Which of the resized pixels are wanted.
    """
    function, support = _FILTERS[method]
    scale = float(np.float32(high) - np.float32(low)) / out
    shrink = max(scale, 1.0)
    reach = support * shrink
    center = low + (np.arange(first, first + count) + 0.5) * scale
    # The cast cuts fractions off towards 0, as C's does.
    starts = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    counts = np.minimum((center + reach + 0.5).astype(np.int64), side) - starts
    taps = np.arange(counts.max())
    values = function((taps + starts[:, None] - center[:, None] + 0.5) * (1.0 / shrink))
    values[taps >= counts[:, None]] = 0.0
    # One after the other, as C adds: numpy's own sum adds in pairs and rounds otherwise.
    total = np.cumsum(values, axis=1)[:, -1:]
    values = np.divide(values, total, out=values, where=total != 0)
    values *= 1 << PRECISION_BITS
    table = np.zeros((count, -(-taps.size // UNROLL) * UNROLL), np.int32)
    table[:, : taps.size] = values + np.where(values < 0, -0.5, 0.5)
    for array in (starts, table):
        array.flags.writeable = False  # threads share them
    return Weights(starts, int((starts + counts).max()), table)
