"""A perceptual hash: RGB pixels in, 64 bits out that stay nearly the same when an image is saved again.

Two files of one picture (another JPEG quality, another size, other metadata) have other bytes and so
another key; their hashes differ in a few bits of 64, those of two pictures in about 32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

SIDE = 32  # cells across and down
BITS = 64
_LOW = 8  # frequencies 0 to 7 in each direction
# Lines of pixels that are read for each row of cells. Of 1, 2, 4, 8: with 4, of 200 photographs saved
# again in ten ways all but 1 in 100 stay within 4 bits, as with 8; and 12 megapixels cost what 1 does.
_LINES = 4
# Pixels of a line that are read at the most: 64 a cell, so that sums stay below 2**24 and float32 is
# exact, in whatever order they are added.
_MOST_COLUMNS = 64 * SIDE
# ITU-R 601, as Pillow's `convert("L")`, in 256ths.
_LUMA = np.array([77, 150, 29], np.int64)


def phash(pixels: np.ndarray) -> int:
    """The perceptual hash of an image.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        Upright RGB, of any size from 1x1.

    Returns
    -------
    int
        0 to 2**64 - 1. Bit ``8 * v + u`` says whether the cosine of `v` half waves down and `u` half
        waves across is stronger than the median of all 63. Bit 0, the brightness, is never set;
        an image of one colour has no bit at all.

    Notes
    -----
    The image is averaged to 32x32 grey cells, of which the 8x8 lowest frequencies of the discrete
    cosine transform are compared with their median. Everything is computed in whole numbers, which
    float64 holds exactly: the same pixels give the same bits on every machine.

    References
    ----------
    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section
    3.2.1 (pHash's DCT hash). The lowest frequencies, which he leaves out, are kept as in the Python
    library ImageHash: they carry most of what survives.

    Examples
    --------
    >>> ramp = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[:, None, None], 60, axis=1)
    >>> image = np.repeat(ramp, 3, axis=2)
    >>> distance(np.uint64(phash(image)), np.uint64(phash(image[::2, ::2]))).item()
    0
    """
    cells = _cells(pixels)
    # Around zero, or the rounding of the table would look like a pattern in an image of one colour.
    cells -= np.floor(cells.mean())
    table = _cosines()
    strength = (table @ cells @ table.T).ravel()[1:]
    above = np.zeros(BITS, bool)
    above[1:] = strength > np.sort(strength)[len(strength) // 2]
    return int.from_bytes(np.packbits(above, bitorder="little").tobytes(), "little")


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In how many bits hashes differ: 0 to 64, uint8.

    Parameters
    ----------
    a, b : ndarray of uint64
        Of shapes that go together.

    Examples
    --------
    >>> distance(np.uint64(0b1011), np.array([0b1011, 0b0011, 0], np.uint64)).tolist()
    [0, 1, 3]
    """
    return np.bitwise_count(np.bitwise_xor(a, b))


def _cells(pixels: np.ndarray) -> np.ndarray:
    """Averages of 32x32 cells: (32, 32) float64 of whole numbers, 256 a level."""
    height, width = pixels.shape[:2]
    if width < SIDE:
        pixels = pixels[:, np.arange(SIDE) * width // SIDE]
    elif width > _MOST_COLUMNS:
        pixels = pixels[:, :: -(-width // _MOST_COLUMNS)]
    width = pixels.shape[1]
    rows = ((2 * np.arange(SIDE * _LINES) + 1) * height // (2 * SIDE * _LINES)).reshape(SIDE, -1)
    starts = np.arange(SIDE + 1) * width // SIDE
    if not pixels.flags.c_contiguous:
        lines = np.unique(rows)  # only what is read is copied
        rows = np.searchsorted(lines, rows)
        pixels = np.ascontiguousarray(pixels[lines])
    sums = (_kernel() or _sums)(pixels, rows, starts)
    cells: np.ndarray = np.floor(sums / (_LINES * np.diff(starts)))
    return cells


def _sums(pixels: np.ndarray, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Grey levels added up in each cell: (32, 32) float64; where there is no machine code."""
    # Below 2**24, so that float32 is exact, in whatever order it adds.
    lines = pixels[rows].sum(axis=1, dtype=np.float32)
    return np.add.reduceat(lines @ _LUMA.astype(np.float32), starts[:-1], axis=1).astype(np.float64)


def get_ready() -> None:
    """Load or compile the machine code, which the first image would wait for."""
    _kernel()


@lru_cache(maxsize=1)
def _kernel() -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None:
    """`_sums` in machine code; None where numba cannot be used, which `resample` tells."""
    try:
        from .phash_kernel import compiled

        code = compiled()
    except Exception:  # numba refuses a NumPy or a Python too new for it, in many ways
        return None

    def sums(pixels: np.ndarray, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        found = np.empty((SIDE, SIDE), np.int64)
        code(pixels.reshape(len(pixels), -1), rows, starts, _LUMA, found)
        return found.astype(np.float64)

    return sums


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The first 8 rows of the cosine transform of 32 values: (8, 32) float64 of whole numbers."""
    v, y = np.arange(_LOW)[:, None], np.arange(SIDE)[None]
    table: np.ndarray = np.rint(4096 * np.cos(np.pi * v * (2 * y + 1) / (2 * SIDE)))
    return table
