"""Decoding: the bytes of an image file, or pixels from memory, in; an upright RGB image out.

The format follows from the content, never from the name, and only formats of a fixed list are
tried. Whatever is wrong with the bytes comes out as `BadImage`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .color import (
    COLOR_RULES,
    BadImage,
    array_to_rgb,
    is_grey_beyond_8_bits,
    to_rgb,
    wide_grey,
)
from .depth import is_wide_color, stored_values
from .formats import HEAD_BYTES, describe, sniff
from .guard import strictly
from .headers import SIZES, gif_is_animated
from .jpeg import decode_rgb, shrink_for, trusted
from .limits import MAX_PIXELS, too_many_pixels
from .plugins import open_header
from .reasons import one_line, reason_for, truncation
from .value_range import ValueRange, note_use, parse_range

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

__all__ = [
    "COLOR_RULES",
    "MAX_PIXELS",
    "BadImage",
    "Target",
    "decode",
    "decode_pixels",
    "from_pixels",
    "wide_pixels",
]

# What size an upright image of some size, (width, height) both, is resized to as a whole.
Target = Callable[[tuple[int, int]], tuple[int, int]]

_SEVERAL = "several_frames"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, range: str = "full") -> Image.Image:
    """Decode an image file to upright RGB, by the rules of `COLOR_RULES`.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int, default 100_000_000
        Largest width times height; looked up in the header, before pixels take memory.
    range : str, default "full"
        What becomes black and white in files of more than 8 bits a channel, as `Preprocessing` has
        it. What a decoder gives in 8 bits alone (10-bit AVIF and HEIC) counts as 8 bits.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, EXIF orientation applied; of several frames the first.

    Raises
    ------
    BadImage
        If the bytes are no whole image of a format that can be read here.

    Examples
    --------
    >>> decode(b"P6 2 1 255 " + bytes(6)).size
    (2, 1)
    """
    values = parse_range(range)
    return _read(data, max_pixels, lambda kind: _decode(data, kind, max_pixels, values))


def decode_pixels(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    range: str = "full",
    target: Target | None = None,
) -> tuple[np.ndarray, float | None, bool]:
    """Decode an image file to upright RGB pixels: those of `decode`, the quickest way.

    Parameters
    ----------
    data, max_pixels, range
        As `decode` has them.
    target : callable, optional
        Given where JPEG files may be decoded smaller than they are, which makes other pixels.

    Returns
    -------
    pixels : ndarray of shape (h, w, 3), uint8
    range_used : float or None
        As `value_range.note_use` has it.
    several : bool
        Whether the file holds further frames or pages, as far as its decoder knows without decoding
        them.

    Raises
    ------
    BadImage
        If the bytes are no whole image of a format that can be read here.

    Examples
    --------
    >>> decode_pixels(b"P6 2 1 255 " + bytes(6))[0].shape
    (1, 2, 3)
    """
    values = parse_range(range)
    # Not within `work`: a warning must not become the reason of an image, even if it is an error.
    quick = sniff(data[:HEAD_BYTES]) == "JPEG" and trusted()

    def work(kind: str) -> tuple[np.ndarray, float | None, bool]:
        shrink = 1
        if kind == "JPEG":
            header = open_header(data, kind)
            _check_size(header.size, max_pixels)
            method = turn_of(header)
            if target is not None:
                shrink = _shrink(header.size, method, target)
            pixels = decode_rgb(data, header, shrink) if quick else None
            if pixels is not None:
                return (pixels if method is None else _turned(pixels, method)), None, False
        image = _decode(data, kind, max_pixels, values, shrink)
        info = image.info
        return np.asarray(image), info.get("range_used"), info.get(_SEVERAL, False)

    return _read(data, max_pixels, work)


def _read(data: bytes, max_pixels: int, work: Callable[[str], T]) -> T:
    """What `work` makes of a file, told its format; whatever is wrong with it is `BadImage`."""
    head = data[:HEAD_BYTES]
    kind = sniff(head)
    if kind is None:
        raise BadImage(describe(head))
    if kind in SIZES:  # its plugin takes memory as soon as it is opened
        _check_size(SIZES[kind](data), max_pixels)
    try:
        return strictly(lambda: work(kind))
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage(f"{kind} that needs more memory than there is") from error
    except Exception as error:  # Pillow raises SyntaxError, ValueError, struct.error, KeyError...
        whole = 8 + int.from_bytes(data[4:8], "little") if kind == "WebP" else 0
        raise BadImage(reason_for(kind, error, len(data), whole)) from error


def _decode(
    data: bytes, kind: str, max_pixels: int, values: ValueRange | None, shrink: int = 1
) -> Image.Image:
    image = open_header(data, kind)
    _check_size(image.size, max_pixels)
    if shrink > 1:  # only of JPEG
        image.draft(None, (image.width // shrink, image.height // shrink))
    several = _has_several(image, data, kind)
    color_16 = _is_16_bit_color(image)
    tile = image.tile[0] if image.tile else None  # gone once the pixels are loaded
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        cut = truncation(image, error)
        if cut is None:
            raise
        raise BadImage(cut) from error
    stored = None if values is None else stored_values(image, tile, data, kind)
    if color_16 and stored is None:
        _fold_transparency(image)
    rgb = upright(image, values, stored)
    if is_wide_color(tile) and stored is None:
        extrema = image.getextrema()  # of the high bytes, which is near enough; alpha left out
        note_use(rgb.info, extrema[:1] if image.mode == "LA" else extrema[:3], None)
    if several:
        rgb.info[_SEVERAL] = True
    return rgb


def _has_several(image: Any, data: bytes, kind: str) -> bool:
    """Whether an image that was only opened has more than one frame or page; decodes none."""
    if kind == "GIF":  # Pillow would read the next frame's header into the first one's image
        return gif_is_animated(data)
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of broken files: what `load` makes of them counts
        return False


def upright(
    image: Image.Image, values: ValueRange | None = None, stored: np.ndarray | None = None
) -> Image.Image:
    """Turn a loaded image by its EXIF orientation and convert it to RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        With the metadata of its file. An orientation outside 2..8, or EXIF that cannot be read,
        counts as upright.
    values, stored
        As `to_rgb` has them.

    Returns
    -------
    PIL.Image.Image of mode RGB
    """
    method = turn_of(image)
    rgb = to_rgb(image, values, stored)
    return rgb if method is None else rgb.transpose(method)


_SIDEWAYS = ("TRANSPOSE", "TRANSVERSE", "ROTATE_90", "ROTATE_270")


def _shrink(size: tuple[int, int], method: Image.Transpose | None, target: Target) -> int:
    if method is None or method.name not in _SIDEWAYS:
        return shrink_for(size, target(size))
    needed = target(size[::-1])
    return shrink_for(size, needed[::-1])


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright by its EXIF orientation; None if nothing has to be done."""
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        return turns.get(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF takes many forms, and never loses the image
        return None


def from_pixels(source: Any, *, max_pixels: int = MAX_PIXELS, range: str = "full") -> Image.Image:
    """Turn pixels from memory into an upright RGB image.

    Parameters
    ----------
    source : ndarray or PIL.Image.Image
        An array as `array_to_rgb` takes it, or a Pillow image of any mode.
    max_pixels : int, default 100_000_000
        Largest width times height.
    range : str, default "full"
        What becomes black and white in types of more than 8 bits, as `Preprocessing` has it.

    Returns
    -------
    PIL.Image.Image of mode RGB

    Raises
    ------
    BadImage
        If the pixels cannot be read as an image.

    Examples
    --------
    >>> from_pixels(np.zeros((4, 6, 3), dtype=np.uint8)).size
    (6, 4)
    """
    values = parse_range(range)
    if isinstance(source, np.ndarray):
        if source.ndim >= 2:
            _check_size((source.shape[1], source.shape[0]), max_pixels)
        return array_to_rgb(source, values)
    return _strictly_loaded(source, max_pixels, lambda image: upright(image, values))


def wide_pixels(source: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """The values of a Pillow image of more than 8 bits, upright, for a range to be applied later.

    Parameters
    ----------
    source : PIL.Image.Image
    max_pixels : int, default 100_000_000
        Largest width times height.

    Returns
    -------
    ndarray of shape (h, w) or None
        uint16, int32 or float32; (h, w, 4) with an alpha channel where one value is transparent.
        None for images of 8 bits, and for what is no image. `from_pixels` makes the same RGB image
        of it as of `source`.
    """
    if not is_grey_beyond_8_bits(getattr(source, "mode", "")):
        return None

    def values(image: Image.Image) -> np.ndarray:
        pixels, method = wide_grey(image), turn_of(image)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            opaque = {"F": 1, "I": 255}.get(image.mode, 65535)
            alpha = np.where(pixels == transparent, 0, opaque).astype(pixels.dtype)
            pixels = np.stack([pixels, pixels, pixels, alpha], axis=2)
        return pixels if method is None else _turned(pixels, method)

    return _strictly_loaded(source, max_pixels, values)


def _turned(pixels: np.ndarray, method: Image.Transpose) -> np.ndarray:
    from PIL import Image

    turn = Image.Transpose
    if method.name in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if method in (turn.FLIP_TOP_BOTTOM, turn.ROTATE_180, turn.TRANSVERSE, turn.ROTATE_90):
        pixels = pixels[::-1]
    if method in (turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.TRANSVERSE, turn.ROTATE_270):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _strictly_loaded(image: Any, max_pixels: int, convert: Callable[[Any], T]) -> T:
    """What `convert` makes of a Pillow image, loaded; whatever is wrong with it is `BadImage`."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise BadImage(f"a {type(image).__name__}; an array or a PIL image was expected")
    _check_size(image.size, max_pixels)

    def run() -> T:
        image.load()
        return convert(image)

    try:
        return strictly(run)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"a PIL image that cannot be read: {one_line(error)}") from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadImage(too_many_pixels(width, height, max_pixels))


def _is_16_bit_color(image: Any) -> bool:
    """Whether Pillow keeps the high bytes of 16 bits a channel (raw mode ``RGB;16B``)."""
    tiles = image.tile or [(None, None, None, "")]
    return image.mode == "RGB" and ";16" in str(tiles[0][3])


def _fold_transparency(image: Any) -> None:
    # tRNS names the hidden colour in the file's 16 bits, while the pixels now have their high 8.
    hidden = image.info.get("transparency")
    if isinstance(hidden, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in hidden)
