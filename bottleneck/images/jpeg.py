"""JPEG pixels the quick way: the bytes of a file and its header in, RGB pixels out, or None.

libjpeg-turbo without Pillow around it: the interpreter's lock is free for the whole decoding, pixels
are written once, and memory is used again. None means that Pillow decides: whatever is unusual or
wrong with a file must end as it always did, reason included.
"""

from __future__ import annotations

import io
import sys
import threading
import warnings
from typing import Any

import numpy as np

# libjpeg's reduced sizes that every decoder here offers: one pixel for 2, 4 or 8 of each side.
SHRINKS = (8, 4, 2)
# Decoding to less than twice the size that is needed would show: the averages of 2x2, 4x4 or 8x8
# pixels are a poorer filter than the one that follows.
MARGIN = 2
# What a thread keeps of memory for pixels: 20 megapixels. The system hands out new memory page by
# page, which takes as long again as decoding into it.
_MOST_KEPT = 60_000_000
# The quick decoder is told a size, not a scale, and takes the smallest of 1/8, 2/8 ... 8/8 that gives
# it: of 3x3 pixels 3/8 leaves 2x2 as 4/8 does, but others. From 8 pixels on, no two give the same.
_LEAST_SHRUNK = 16


def shrink_for(size: tuple[int, int], needed: tuple[int, int]) -> int:
    """How much smaller an image may be decoded than it is.

    Parameters
    ----------
    size : tuple of int
        Width and height of the file.
    needed : tuple of int
        Width and height that the whole image is resized to afterwards.

    Returns
    -------
    int
        8, 4, 2 or 1: the largest of them that leaves `MARGIN` times as much as is needed.

    Examples
    --------
    >>> shrink_for((4000, 3000), (341, 256)), shrink_for((500, 375), (341, 256))
    (4, 1)
    """
    for shrink in SHRINKS:
        width, height = shrunk(size, shrink)
        if width >= MARGIN * needed[0] and height >= MARGIN * needed[1]:
            return shrink
    return 1


def shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    """The size that libjpeg gives to an image decoded `shrink` times smaller; it rounds up."""
    return -(-size[0] // shrink), -(-size[1] // shrink)


def decode_rgb(data: bytes, header: Any, shrink: int = 1) -> np.ndarray | None:
    """Decode a JPEG file to RGB as it lies, not turned by its EXIF orientation; if `trusted`.

    Parameters
    ----------
    data : bytes
        The whole file.
    header : PIL.JpegImagePlugin.JpegImageFile
        What Pillow read of it: mode and size.
    shrink : int, default 1
        1, 2, 4 or 8: decode to a size this much smaller.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8, or None
        Pillow's own pixels; None where Pillow has to decide. The memory is used again by this
        thread's next call, but not before the last reference to the array is gone.
    """
    if header.mode not in ("L", "RGB"):
        return None
    if shrink > 1 and max(header.size) < _LEAST_SHRUNK:
        return None
    width, height = shrunk(header.size, shrink)
    try:
        pixels = _decode(data, width, height)
    except Exception:  # broken or merely unusual: any warning of libjpeg counts
        return None
    # Two headers in one file: the decoders may not take the same one.
    return pixels if pixels.shape == (height, width, 3) else None


def _decode(data: bytes, width: int, height: int) -> np.ndarray:
    import simplejpeg

    pixels: np.ndarray = simplejpeg.decode_jpeg(
        data,
        "RGB",
        min_width=width,
        min_height=height,
        buffer=_memory(3 * width * height),
        strict=True,
    )
    return pixels


class _Local(threading.local):
    memory = np.empty(0, np.uint8)


_local = _Local()


def _memory(size: int) -> np.ndarray:
    if size > _MOST_KEPT:
        return np.empty(size, np.uint8)
    # Every view of an array refers to the one that owns the memory. Two references are our own: the
    # attribute, and the argument of `getrefcount`.
    if _local.memory.size < size or sys.getrefcount(_local.memory) > 2:
        _local.memory = np.empty(size, np.uint8)
    return _local.memory


_lock = threading.Lock()
_verdict: list[bool] = []


def trusted() -> bool:
    """Whether the quick decoder gives Pillow's pixels here; tried once, a warning tells if not.

    Both carry a libjpeg-turbo of their own. All versions so far decode alike, but a build against
    another libjpeg would not.
    """
    if not _verdict:
        with _lock:
            if not _verdict:
                why = _fault()
                # First: where warnings are errors, the next call must not begin anew.
                _verdict.append(not why)
                if why:
                    warnings.warn(
                        f"simplejpeg cannot be used here ({why}): Pillow decodes JPEG files, "
                        "to the same pixels but slower",
                        RuntimeWarning,
                        stacklevel=2,
                    )
    return _verdict[0]


def _fault() -> str:
    try:
        if all(_agree(mode, shrink) for mode in ("RGB", "L") for shrink in (1, *SHRINKS)):
            return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "its pixels are not those of Pillow's own decoder"


def _agree(mode: str, shrink: int) -> bool:
    from PIL import Image

    # Noise has every frequency; sides that are no multiple of 16 show how edges are filled.
    noise = np.random.default_rng(0).integers(0, 256, (45, 59, 3), np.uint8)
    file = io.BytesIO()
    # Chroma at half the size, as photographs have it, must be enlarged alike.
    Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=90, subsampling=2)
    image = Image.open(file)
    width, height = shrunk(image.size, shrink)
    image.draft(None, (image.width // shrink, image.height // shrink))
    quick = _decode(file.getvalue(), width, height)
    return np.array_equal(np.asarray(image.convert("RGB")), quick)
