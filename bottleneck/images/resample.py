"""Pillow's resampling without Pillow's price: RGB pixels in, a window of the resized image out.

The values are those of `PIL.Image.Image.resize`, bit for bit. What is saved is everything outside
the window, and most of the time for the rest: the sums run over many rows at once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .resample_weights import most_taps, weights

Box = tuple[float, float, float, float]
Window = tuple[int, int, int, int]

# Beyond this many weights of one axis (an image 65,000 pixels wide squeezed into 224), or pixels in a
# line, they and the turned rows take too much memory: Pillow goes on alone, slower and as exact.
_MOST_WEIGHTS = 1 << 18
_MOST_PIXELS_A_LINE = 1 << 17


def resample(
    pixels: np.ndarray,
    size: tuple[int, int],
    method: str,
    *,
    box: Box | None = None,
    window: Window | None = None,
) -> np.ndarray:
    """Resize an image, or a part of it, and compute only a window of the result.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
    size : tuple of int
        Width and height after resizing.
    method : str
        ``bilinear``, ``bicubic``, ``lanczos``, ``box``, ``hamming`` or ``nearest``.
    box : (left, top, right, bottom), optional
        The part of `pixels` that becomes `size`, in pixels, fractions included; all by default.
    window : (left, top, width, height), optional
        The part of the resized image that is wanted, in whole pixels; all by default.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        New memory, in C order.

    References
    ----------
    Pillow, ``src/libImaging/Resample.c``: horizontal pass, rounding to 8 bits, vertical pass, with
    weights of 22 bits.

    Examples
    --------
    >>> image = np.zeros((375, 500, 3), dtype=np.uint8)
    >>> resample(image, (341, 256), "bicubic", window=(58, 16, 224, 224)).shape
    (224, 224, 3)
    """
    height, width = pixels.shape[:2]
    box = (0.0, 0.0, float(width), float(height)) if box is None else _as_floats(box)
    left, top, columns, rows = window = (0, 0, *size) if window is None else window
    on_grid = box[0] == int(box[0]) and box[1] == int(box[1])
    if on_grid and (box[2] - box[0], box[3] - box[1]) == size:
        # Nothing to resize: Pillow cuts as well, whatever the method.
        x, y = int(box[0]) + left, int(box[1]) + top
        return pixels[y : y + rows, x : x + columns].copy()
    # `nearest` copies one pixel for each of the result's: there is nothing to save.
    if method != "nearest" and _fits(width, height, size, box, method) and (found := passes()):
        return _by_passes(found, pixels, size, method, box, window)
    return _by_pillow(pixels, size, method, box, window)


def _by_passes(
    found: Passes,
    pixels: np.ndarray,
    size: tuple[int, int],
    method: str,
    box: Box,
    window: Window,
) -> np.ndarray:
    height, width = pixels.shape[:2]
    left, top, columns, rows = window
    across = down = None
    if size[0] != width or box[0] != 0 or box[2] != size[0]:
        across = weights(width, box[0], box[2], size[0], method, left, columns)
    if size[1] != height or box[1] != 0 or box[3] != size[1]:
        down = weights(height, box[1], box[3], size[1], method, top, rows)
    # What of the source is used, so that each pass works on that alone.
    x0, x1 = (left, left + columns) if across is None else (across.starts[0], across.end)
    y0, y1 = (top, top + rows) if down is None else (down.starts[0], down.end)
    lines = np.ascontiguousarray(pixels[y0:y1]).reshape(y1 - y0, width * 3)
    lost = height - size[1], width - size[0]
    down_first = found.tall_first and lost[0] > 0 and lost[0] > 2 * lost[1]
    out = np.empty((rows, 3 * columns), np.uint8)
    if across is None and down is not None:
        found.vertical(lines, 3 * x0, down.starts - y0, down.table, out)
    elif down is None and across is not None:
        found.horizontal(lines, x1, across.starts, across.table, out)
    elif across is not None and down is not None:
        if down_first:
            between = _scratch(rows, 3 * (x1 - x0))
            found.vertical(lines, 3 * x0, down.starts - y0, down.table, between)
            found.horizontal(between, x1 - x0, across.starts - x0, across.table, out)
        else:
            between = _scratch(y1 - y0, 3 * columns)
            found.horizontal(lines, x1, across.starts, across.table, between)
            found.vertical(between, 0, down.starts - y0, down.table, out)
    return out.reshape(rows, columns, 3)


def _scratch(rows: int, columns: int) -> np.ndarray:
    """Memory of this thread for what lies between two passes.

    New memory costs as much as the pass that fills it: the system hands it out page by page.
    """
    size = rows * columns
    if size > _MOST_SCRATCH:
        return np.empty((rows, columns), np.uint8)
    if _local.scratch.size < size:
        _local.scratch = np.empty(size, np.uint8)
    return _local.scratch[:size].reshape(rows, columns)


class _Local(threading.local):
    scratch = np.empty(0, np.uint8)


_local = _Local()
# What a thread keeps: a frame of 12 megapixels needs 1.8 MB for a crop of 224.
_MOST_SCRATCH = 4 << 20


def _as_floats(box: Box) -> Box:
    # Pillow keeps a box in 32 bits.
    left, top, right, bottom = (float(np.float32(side)) for side in box)
    return left, top, right, bottom


def _fits(width: int, height: int, size: tuple[int, int], box: Box, method: str) -> bool:
    across = size[0] * most_taps(box[2] - box[0], size[0], method)
    down = size[1] * most_taps(box[3] - box[1], size[1], method)
    return width <= _MOST_PIXELS_A_LINE and max(across, down) <= _MOST_WEIGHTS


def _by_pillow(
    pixels: np.ndarray, size: tuple[int, int], method: str, box: Box, window: Window
) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(pixels).resize(size, Image.Resampling[method.upper()], box=box)
    left, top, columns, rows = window
    if window != (0, 0, *size):
        image = image.crop((left, top, left + columns, top + rows))
    return np.array(image)


class Passes(NamedTuple):
    """Both passes, and the order that Pillow takes them in.

    Attributes
    ----------
    horizontal, vertical : callable
        As `resample_kernels` has them.
    tall_first : bool
        Whether an image that loses more than twice as many rows as columns is resized vertically
        first, as since Pillow 13 (its pull request 9549). The rounding in between lies elsewhere
        then, which shows in a level here and there.
    """

    horizontal: Callable[..., None]
    vertical: Callable[..., None]
    tall_first: bool


_lock = threading.Lock()
_passes: list[Passes | None] = []


def passes() -> Passes | None:
    """The compiled passes; None where Pillow has to do, which is told once, as a warning.

    The first call of a process compiles for a second, or reads numba's cache in a tenth of one.
    """
    if not _passes:
        with _lock:
            if not _passes:
                found, why = _prepare()
                # First: where warnings are errors, the next call must not begin anew.
                _passes.append(found)
                if why:
                    warnings.warn(
                        f"{why}: Pillow resizes the images, to the same pixels but several times "
                        "slower",
                        RuntimeWarning,
                        stacklevel=2,
                    )
    return _passes[0]


def _prepare() -> tuple[Passes | None, str]:
    """The passes, or why there are none."""
    try:
        from . import resample_kernels

        horizontal, vertical = resample_kernels.compiled()
    except Exception as error:  # numba refuses a NumPy or a Python too new for it, in many ways
        return None, f"numba cannot be used here ({type(error).__name__}: {error})"
    for tall_first in (True, False):
        found = Passes(horizontal, vertical, tall_first)
        if all(_agrees(found, *case) for case in _CASES):
            return found, ""
    from PIL import __version__

    return None, f"the values of Pillow {__version__} are others than those computed here"


# Sizes before and after, and a method: one where the order of the passes matters, one where not.
_CASES = (((20, 64), (19, 12), "bicubic"), ((40, 30), (17, 21), "lanczos"))


def _agrees(found: Passes, before: tuple[int, int], after: tuple[int, int], method: str) -> bool:
    pixels = np.random.default_rng(0).integers(0, 256, (before[1], before[0], 3), np.uint8)
    box, window = (0.0, 0.0, float(before[0]), float(before[1])), (0, 0, *after)
    ours = _by_passes(found, pixels, after, method, box, window)
    return np.array_equal(ours, _by_pillow(pixels, after, method, box, window))
