"""More than 8 bits a channel, as the file holds them: a loaded image and its file in, values out.

Pillow keeps the high bytes of 16-bit colour, and widens grey PGM of 9 to 15 bits to 16. That is
enough to show an image, and too little for a range that lies within the lowest 12 bits.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .color import BadImage, is_grey_beyond_8_bits
from .plugins import open_header

_NATIVE, _FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
# Read in the other byte order, the byte that Pillow keeps of each value is the low one.
_SWAPPED = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
}
_GREY_ALPHA = "LA;16B"


def is_wide_color(tile: Any) -> bool:
    """Whether a file holds more than 8 bits a channel in colour, or in grey with alpha.

    Parameters
    ----------
    tile : tuple or None
        The first of the image's ``tile`` (how the pixels lie in the file), before it is loaded.

    Examples
    --------
    >>> is_wide_color(("zip", (0, 0, 9, 9), 41, "RGB;16B"))
    True
    >>> is_wide_color(("zip", (0, 0, 9, 9), 41, "I;16B"))
    False
    """
    raw, rest = _layout(tile)
    ppm = tile is not None and tile[0].startswith("ppm") and raw == "RGB" and rest[0] > 255
    return raw in _SWAPPED or raw == _GREY_ALPHA or ppm


def _layout(tile: Any) -> tuple[str, tuple[Any, ...]]:
    """Pillow's name for the order of the bytes, such as ``RGB;16B``, and what follows it."""
    args = tile[3] if tile else ""
    raw, *rest = args if isinstance(args, (tuple, list)) and args else [args]
    return (raw if isinstance(raw, str) else ""), tuple(rest)


def stored_values(image: Any, tile: Any, data: bytes, kind: str) -> np.ndarray | None:
    """The values of a file of more than 8 bits a channel, none of them rounded or widened.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
        Loaded.
    tile : tuple or None
        The first of its ``tile``, from before it was loaded.
    data : bytes
        The file.
    kind : str
        Its format, as `formats.sniff` says.

    Returns
    -------
    ndarray of shape (h, w), (h, w, 3) or (h, w, 4), or None
        None if the file has 8 bits, or if Pillow's own array holds its values.

    Raises
    ------
    BadImage
        If there are more than 8 bits, but Pillow gives only 8 of them.
    """
    raw, rest = _layout(tile)
    if raw in _SWAPPED:
        high = np.asarray(image)
        return _joined(high, _pass(data, kind, image.mode, _SWAPPED[raw]))
    if raw == _GREY_ALPHA:
        pairs = _pass(data, kind, "RGBA", "RGBA")  # high and low byte of grey, then of alpha
        grey, alpha = _joined(pairs[:, :, 0], pairs[:, :, 1]), _joined(pairs[..., 2], pairs[..., 3])
        return np.stack([grey, grey, grey, alpha], axis=2)
    if kind == "PPM" and raw in ("L", "RGB") and rest and rest[0] > 255:
        return _ppm(image, tile, data)
    # Grey of 9 to 15 bits comes out shifted up to 16, colour of more than 8 shifted down to 8.
    if kind == "JPEG 2000" and _jpeg_2000_bits(data) not in _bits_kept(image.mode):
        raise _unreachable(kind)
    if kind == "TIFF" and not is_grey_beyond_8_bits(image.mode):
        bits = image.tag_v2.get(258, 8)
        if max(bits if isinstance(bits, tuple) else (bits,)) > 8:
            raise _unreachable(kind)
    return None


def _unreachable(kind: str) -> BadImage:
    return BadImage(
        f"{kind} of a kind whose values above 8 bits cannot be had here, and --range needs them; "
        "convert it to PNG or TIFF of 16 bits, grey, RGB or RGBA, or leave --range out"
    )


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return high.astype(np.uint16) << 8 | low


def _pass(data: bytes, kind: str, mode: str, raw: str) -> np.ndarray:
    """Decode once more, with the bytes of each pixel laid out in another way."""
    image = open_header(data, kind)
    image._mode = mode
    image.tile = [tile._replace(args=_renamed(tile.args, raw)) for tile in image.tile]
    image.load()
    return np.asarray(image)


def _renamed(args: Any, raw: str) -> Any:
    return raw if isinstance(args, str) else (raw, *args[1:])


def _ppm(image: Any, tile: Any, data: bytes) -> np.ndarray:
    largest = tile[3][1]
    if image.mode == "I":  # grey: value / largest * 65535, rounded; the way back loses nothing
        return np.rint(np.asarray(image) * (largest / 65535)).astype(np.uint16)
    if tile[0] != "ppm":
        raise _unreachable("PPM in plain text")
    count = image.width * image.height * 3
    values = np.frombuffer(data, ">u2", count, tile[2])
    return values.reshape(image.height, image.width, 3)


def _bits_kept(mode: str) -> tuple[int, ...]:
    return (16,) if is_grey_beyond_8_bits(mode) else (1, 2, 3, 4, 5, 6, 7, 8)


def _jpeg_2000_bits(data: bytes) -> int:
    """Bits of the first component, from the codestream's SIZ marker (ISO 15444-1, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51")
    return (data[start + 42] & 0x7F) + 1 if 0 <= start < len(data) - 42 else 8
