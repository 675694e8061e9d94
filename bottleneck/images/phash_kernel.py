"""The sums of grey cells in machine code: 8-bit lines in, 32x32 sums out, in a quarter of NumPy's time.

Importing this module imports numba; `phash` does so when the first image is hashed.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np


def cell_sums(
    lines: np.ndarray, rows: np.ndarray, starts: np.ndarray, luma: np.ndarray, out: np.ndarray
) -> None:
    """Add the grey levels of each cell.

    Parameters
    ----------
    lines : ndarray of shape (h, w * 3), uint8
    rows : ndarray of shape (r, l), int64
        Lines that are read for each row of cells; so few that their sums fit 16 bits.
    starts : ndarray of shape (c + 1,), int64
        The first column of each cell, and the one behind the last.
    luma : ndarray of shape (3,), int64
        What red, green and blue count.
    out : ndarray of shape (r, c), int64
        Is filled.
    """
    colors = np.empty(lines.shape[1], np.uint16)
    for y in range(rows.shape[0]):
        colors[:] = 0
        for i in range(rows.shape[1]):
            line = lines[rows[y, i]]
            for j in range(colors.size):
                colors[j] += np.uint16(line[j])
        for x in range(starts.size - 1):
            red = green = blue = np.int64(0)
            for column in range(starts[x], starts[x + 1]):
                red += colors[3 * column]
                green += colors[3 * column + 1]
                blue += colors[3 * column + 2]
            out[y, x] = luma[0] * red + luma[1] * green + luma[2] * blue


def compiled() -> Callable[..., None]:
    """`cell_sums`, compiled or read from numba's cache; it lets go of the interpreter's lock."""
    try:
        return _compile(cache=True)
    except Exception:  # no place for the cache: see `resample_kernels.compiled`
        return _compile(cache=False)


def _compile(cache: bool) -> Callable[..., None]:
    lines = numba.types.Array(numba.uint8, 2, "C", readonly=True)
    numbers = numba.types.Array(numba.int64, 1, "C", readonly=True)
    rows = numba.types.Array(numba.int64, 2, "C", readonly=True)
    signature = numba.void(lines, rows, numbers, numbers, numba.int64[:, ::1])
    code: Callable[..., None] = numba.njit(signature, nogil=True, cache=cache, boundscheck=False)(
        cell_sums
    )
    return code
