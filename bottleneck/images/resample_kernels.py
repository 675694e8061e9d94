"""The two passes of resampling in machine code: 8-bit lines and weights in, 8-bit lines out.

Importing this module imports numba; `resample` does so when the first image is resized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from .resample_weights import PRECISION_BITS, UNROLL

# Rows that the horizontal pass takes at once: 96 sums of 32 bits, six registers of AVX-512. Of 8,
# 16, 32 and 64 it was the fastest.
ROWS = 32
_HALF = np.int32(1 << (PRECISION_BITS - 1))
_U64 = np.uint64


def horizontal(
    lines: np.ndarray, end: int, starts: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """Resize each line of an image.

    A block of rows is turned first, so that a line of the block is one pixel of all its rows: then
    one weight meets 96 values that lie side by side, and the compiler makes vectors of them.

    Parameters
    ----------
    lines : ndarray of shape (h, w * 3), uint8
    end : int
        Behind the last pixel that is used.
    starts : ndarray of shape (n,), int64
    table : ndarray of shape (n, taps), int32
        As `resample_weights.Weights` has them.
    out : ndarray of shape (h, n * 3), uint8
        Is filled.
    """
    count, taps = table.shape
    begin, last = starts[0], lines.shape[0] - 1
    width = end - begin
    lanes = 3 * ROWS
    # Lines beyond the last pixel meet weights of zero alone.
    block = np.zeros((width + taps, lanes), np.uint8)
    turned = np.empty((count, lanes), np.uint8)
    sums = np.empty(lanes, np.int32)
    # Turning goes by eights: a column of eight bytes is a number of 64 bits, so that the one step
    # over scattered places moves eight bytes at once, and the other is done in vectors.
    columns = np.empty(3 * max(width, count), _U64)
    block_8, turned_8 = block.view(_U64), turned.view(_U64)
    eights = ROWS // 8
    for top in range(0, lines.shape[0], ROWS):
        rows = min(ROWS, lines.shape[0] - top)
        for r in range((rows + 7) // 8):
            for j in range(8):
                line = lines[min(top + 8 * r + j, last)][3 * begin : 3 * end]
                shift = _U64(8 * j)
                if j == 0:
                    for i in range(3 * width):
                        columns[i] = _U64(line[i])
                else:
                    for i in range(3 * width):
                        columns[i] |= _U64(line[i]) << shift
            for i in range(width):
                block_8[i, r] = columns[3 * i]
                block_8[i, eights + r] = columns[3 * i + 1]
                block_8[i, 2 * eights + r] = columns[3 * i + 2]
        for x in range(count):
            first = starts[x] - begin
            for i in range(lanes):
                sums[i] = _HALF
            for k in range(0, taps, UNROLL):
                w0, w1, w2, w3 = table[x, k], table[x, k + 1], table[x, k + 2], table[x, k + 3]
                p0, p1 = block[first + k], block[first + k + 1]
                p2, p3 = block[first + k + 2], block[first + k + 3]
                for i in range(lanes):
                    sums[i] += (
                        w0 * np.int32(p0[i])
                        + w1 * np.int32(p1[i])
                        + w2 * np.int32(p2[i])
                        + w3 * np.int32(p3[i])
                    )
            pixel = turned[x]
            for i in range(lanes):
                pixel[i] = min(max(sums[i] >> PRECISION_BITS, 0), 255)
        for r in range((rows + 7) // 8):
            for x in range(count):
                columns[3 * x] = turned_8[x, r]
                columns[3 * x + 1] = turned_8[x, eights + r]
                columns[3 * x + 2] = turned_8[x, 2 * eights + r]
            for j in range(min(8, rows - 8 * r)):
                row = out[top + 8 * r + j]
                shift = _U64(8 * j)
                for i in range(3 * count):
                    row[i] = np.uint8(columns[i] >> shift)


def vertical(
    lines: np.ndarray, begin: int, starts: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """Resize each column of an image, of the columns that are wanted.

    Parameters
    ----------
    lines : ndarray of shape (h, w), uint8
    begin : int
        The first of the m columns that are wanted; each colour of a pixel is one.
    starts : ndarray of shape (n,), int64
    table : ndarray of shape (n, taps), int32
        As `resample_weights.Weights` has them.
    out : ndarray of shape (n, m), uint8
        Is filled.
    """
    count, taps = table.shape
    last, width = lines.shape[0] - 1, out.shape[1]
    sums = np.empty(width, np.int32)
    for y in range(count):
        first = starts[y]
        for i in range(width):
            sums[i] = _HALF
        for k in range(0, taps, UNROLL):
            w0, w1, w2, w3 = table[y, k], table[y, k + 1], table[y, k + 2], table[y, k + 3]
            # Weights of zero may stand beyond the last row.
            p0 = lines[min(first + k, last)][begin : begin + width]
            p1 = lines[min(first + k + 1, last)][begin : begin + width]
            p2 = lines[min(first + k + 2, last)][begin : begin + width]
            p3 = lines[min(first + k + 3, last)][begin : begin + width]
            for i in range(width):
                sums[i] += (
                    w0 * np.int32(p0[i])
                    + w1 * np.int32(p1[i])
                    + w2 * np.int32(p2[i])
                    + w3 * np.int32(p3[i])
                )
        row = out[y]
        for i in range(width):
            row[i] = min(max(sums[i] >> PRECISION_BITS, 0), 255)


def compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    """Both passes, compiled or read from numba's cache; they let go of the interpreter's lock.

    numba keeps its cache beside this file, or in the user's folder for caches. Where neither can be
    written, the disk is full or what lies there is broken, it raises: then the compiled code serves
    this process alone.
    """
    try:
        return _compile(cache=True)
    except Exception:
        return _compile(cache=False)


def _compile(cache: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    # Pixels of a Pillow image and shared weights cannot be written to, and need not be.
    lines = numba.types.Array(numba.uint8, 2, "C", readonly=True)
    starts = numba.types.Array(numba.int64, 1, "C", readonly=True)
    table = numba.types.Array(numba.int32, 2, "C", readonly=True)
    number, out = numba.int64, numba.uint8[:, ::1]

    def machine_code(function: Callable[..., None], *types: Any) -> Any:
        return numba.njit(numba.void(*types), nogil=True, cache=cache, boundscheck=False)(function)

    return (
        machine_code(horizontal, lines, number, starts, table, out),
        machine_code(vertical, lines, number, starts, table, out),
    )
