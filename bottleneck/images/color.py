"""How pixels become RGB: a loaded Pillow image or an array of any kind in, 8-bit RGB out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .value_range import ValueRange, is_wide, note_use, range_rules

if TYPE_CHECKING:
    from PIL import Image

# Part of every recipe: a change of any value here changes what a feature is.
COLOR_RULES: dict[str, Any] = {
    "mode": "RGB",
    "orientation": "exif",
    "alpha": "over white",
    "cmyk": "pillow convert",
    "icc": "ignored",
    "frame": "first",
    "uint16": "value / 257, rounded",
    "uint16_color_file": "high byte",
    "int": "0..255 as is, 0..65535 / 257, else min..max to 0..255",
    "float": "0..1 * 255, 0..255 as is, 0..65535 / 257, else min..max to 0..255",
    "bool": "0 or 255",
}


def color_rules(values: ValueRange | None = None) -> dict[str, str]:
    """The rules as a recipe states them: `COLOR_RULES`, with what a range changes.

    Parameters
    ----------
    values : ValueRange or None
        None is each type's own range, ``full``.
    """
    return {**COLOR_RULES, **range_rules(values)}


class BadImage(Exception):
    """An input that cannot be used as an image; its text is the reason, in one line."""


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Scale numbers of any type to 8 bits, without clipping.

    Bits are kept where the type says the range (bool, uint8, uint16). Where it does not (signed,
    32-bit and float), the narrowest of the usual ranges that holds all values of the image is taken
    as the range; values beyond all of these are stretched from the image's minimum and maximum.

    Parameters
    ----------
    pixels : ndarray of any shape, bool, integer or float

    Returns
    -------
    ndarray of the same shape, uint8

    Raises
    ------
    BadImage
        If a value is not finite, or the type is not a real number.

    Examples
    --------
    >>> eight_bit(np.array([0, 32768, 65535], dtype=np.uint16)).tolist()
    [0, 128, 255]
    >>> eight_bit(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8:
        return pixels
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise BadImage(f"pixels of type {pixels.dtype}; bool, integers or floats were expected")
    if kind == "u" and pixels.dtype.itemsize == 2:
        return _over_257(pixels)
    if pixels.size == 0:
        return pixels.astype(np.uint8)
    if kind == "f":
        # float16 overflows at 65504 when it is scaled; float32 holds all that follows.
        pixels = pixels.astype(np.float32) if pixels.dtype.itemsize < 4 else pixels
        _require_finite(pixels)
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 255:
        if kind != "f":
            return pixels.astype(np.uint8)
        # Half up, as for integers: numpy rounds halves to even, which would make steps uneven.
        return np.floor(pixels * (255.0 if high <= 1 else 1.0) + 0.5).astype(np.uint8)
    if low >= 0 and high <= 65535:
        return _over_257(np.floor(pixels + 0.5).astype(np.uint32) if kind == "f" else pixels)
    if high == low:
        return np.zeros(pixels.shape, dtype=np.uint8)
    span = float(high) / 2 - float(low) / 2  # halved: a difference of two huge floats overflows
    stretched = (pixels.astype(np.float64) / 2 - float(low) / 2) / span
    return np.floor(stretched * 255 + 0.5).astype(np.uint8)


def _over_257(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _measured(pixels: np.ndarray, values: ValueRange | None) -> tuple[np.ndarray, dict[Any, Any]]:
    """Scale to 8 bits, by `values` if there are more; and what `note_use` has to say of it."""
    info: dict[Any, Any] = {}
    if not is_wide(pixels.dtype):
        return eight_bit(pixels), info
    clipped = None
    if values is None:
        scaled = eight_bit(pixels)
    else:
        _require_finite(pixels)
        scaled, clipped = values.scale(pixels)
    note_use(info, (scaled.min(), scaled.max()), clipped)
    return scaled, info


def _require_finite(pixels: np.ndarray) -> None:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadImage("pixels that are not finite (NaN or Inf)")


def is_grey_beyond_8_bits(mode: str) -> bool:
    """Whether a Pillow mode is grey in 16 or 32 bits; Pillow has no such modes in colour."""
    return mode in ("I", "F") or mode.startswith("I;16")


def wide_grey(image: Image.Image) -> np.ndarray:
    """The values (h, w) of a loaded image of such a mode, 16 bits as uint16."""
    pixels = np.asarray(image)
    # Pillow's PPM reader widens every sample above 8 bits to 0..65535 in mode I.
    sixteen = image.format == "PPM" and image.mode == "I"
    return pixels.astype(np.uint16) if sixteen else pixels


def to_rgb(
    image: Image.Image, values: ValueRange | None = None, stored: np.ndarray | None = None
) -> Image.Image:
    """Convert a loaded Pillow image of any mode to RGB by `color_rules`.

    Parameters
    ----------
    image : PIL.Image.Image
        Pixels are loaded; its `info` still holds the file's ``transparency``.
    values : ValueRange, optional
        What becomes black and white in images of more than 8 bits; by default the type's range.
    stored : ndarray of shape (h, w), (h, w, 3) or (h, w, 4), optional
        The file's own values, where it has more bits than `image`.

    Returns
    -------
    PIL.Image.Image of mode RGB, same size
        With what `note_use` writes in its `info` if there were more than 8 bits.
    """
    from PIL import Image

    mode, transparent = image.mode, image.info.get("transparency")
    if stored is None and is_grey_beyond_8_bits(mode):
        stored = wide_grey(image)
    if stored is not None:
        rgb = array_to_rgb(stored, values)
        if isinstance(transparent, int if stored.ndim == 2 else tuple):
            hidden = (stored.reshape(*stored.shape[:2], -1) == transparent).all(axis=2)
            rgb.paste((255, 255, 255), mask=Image.fromarray(hidden))
        return rgb
    if mode == "La":
        image, mode = image.convert("LA"), "LA"
    has_alpha = mode in ("RGBA", "LA", "PA", "RGBa")
    if has_alpha or (transparent is not None and mode in ("1", "L", "P", "RGB")):
        layer = image if mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    rgb = image.convert("RGB")  # a copy, also of RGB
    rgb.info = {}  # orientation and transparency must not be applied a second time further on
    return rgb


def array_to_rgb(pixels: np.ndarray, values: ValueRange | None = None) -> Image.Image:
    """Turn an array of pixels into an RGB image by `color_rules`.

    Parameters
    ----------
    pixels : ndarray of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)
        bool, integer or float; the fourth channel is alpha, scaled on its own.
    values : ValueRange, optional
        What becomes black and white in types of more than 8 bits, alpha excepted; by default the
        type's range.

    Returns
    -------
    PIL.Image.Image of mode RGB
        With what `note_use` writes in its `info` if the type has more than 8 bits.

    Raises
    ------
    BadImage
        If shape or type is not one of these, or a value is not finite.

    Examples
    --------
    >>> array_to_rgb(np.zeros((4, 6), dtype=np.uint8)).size
    (6, 4)
    """
    from PIL import Image

    shape = pixels.shape
    if pixels.ndim == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    elif pixels.ndim != 2 and not (pixels.ndim == 3 and shape[2] in (3, 4)):
        hint = ""
        if pixels.ndim == 3 and shape[0] in (1, 3, 4):
            hint = "; channels come last: array.transpose(1, 2, 0)"
        raise BadImage(f"an array of shape {shape}; (h, w), (h, w, 3) or (h, w, 4) expected{hint}")
    if 0 in shape:
        raise BadImage(f"an array without pixels: shape {shape}")
    color, info = _measured(pixels if pixels.ndim == 2 else pixels[:, :, :3], values)
    if pixels.ndim == 3 and shape[2] == 4:
        color = np.concatenate([color, eight_bit(pixels[:, :, 3:])], axis=2)
    image = Image.fromarray(np.ascontiguousarray(color))
    image = image if image.mode == "RGB" else to_rgb(image)
    image.info = info
    return image
