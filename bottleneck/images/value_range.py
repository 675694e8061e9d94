"""Which values are black and white: ``--range`` in, 8-bit numbers and how much was clipped out.

Cameras and X-ray detectors store 10 to 14 bits in 16, or counts in 32. Scaled by the type's own
range such an image is nearly black. It concerns values above 8 bits alone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import InputError

EXPECTED = "full, bits:N with N from 1 to 16, or LOW:HIGH with LOW below HIGH, such as 0:4095"
# An image whose lightest and darkest values lie closer together than this is as good as blank.
NARROW = 0.1
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PAIR = re.compile(f"({_NUMBER}):({_NUMBER})")
_BITS = re.compile("bits:([0-9]{1,2})")
# Values that are scaled at once: whole images of 100 MP as float64 would take 800 MB.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The values that become black and white.

    Attributes
    ----------
    low, high : float
        `low` and all below become 0, `high` and all above 255; linear between.
    """

    low: float
    high: float

    def scale(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """Scale values to 8 bits; count what is clipped.

        Parameters
        ----------
        pixels : ndarray of any shape, integer or float
            Finite.

        Returns
        -------
        scaled : ndarray of the same shape, uint8
            Rounded to the nearest, halves up.
        clipped : float
            Share of the values below `low` or above `high`, 0 to 1.

        Examples
        --------
        >>> scaled, clipped = ValueRange(0, 4095).scale(np.array([0, 2048, 4095, 5000]))
        >>> scaled.tolist(), clipped
        ([0, 128, 255, 255], 0.25)
        """
        if pixels.size == 0:
            return pixels.astype(np.uint8), 0.0
        flat = pixels.reshape(-1)
        scaled, outside = np.empty(flat.size, dtype=np.uint8), 0
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            if block.dtype.kind == "u" and block.dtype.itemsize == 2:
                table, beyond = _tables(self.low, self.high)
                scaled[start : start + _BLOCK] = table[block]
                outside += int(np.count_nonzero(beyond[block]))
            else:
                scaled[start : start + _BLOCK], count = self._scale(block)
                outside += count
        return scaled.reshape(pixels.shape), outside / flat.size

    def _scale(self, values: np.ndarray) -> tuple[np.ndarray, int]:
        exact = values.astype(np.float64)
        outside = int(np.count_nonzero((exact < self.low) | (exact > self.high)))
        np.clip(exact, self.low, self.high, out=exact)
        exact -= self.low
        exact /= self.high - self.low
        return np.floor(exact * 255 + 0.5).astype(np.uint8), outside


@lru_cache(maxsize=4)
def _tables(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """For each of the 65,536 values: what it becomes, and whether it is clipped."""
    every = np.arange(65536)
    scaled, _ = ValueRange(low, high)._scale(every)
    return scaled, (every < low) | (every > high)


def parse_range(text: str) -> ValueRange | None:
    """Read ``--range``.

    Parameters
    ----------
    text : str
        ``full``, ``bits:N`` (1 to 16: white is 2^N - 1) or ``LOW:HIGH``.

    Returns
    -------
    ValueRange or None
        None for ``full``.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> parse_range("bits:12"), parse_range("full")
    (ValueRange(low=0.0, high=4095.0), None)
    """
    return _parse(text)[1]


def canonical_range(text: str) -> str:
    """The one spelling of a range, so that ``0:4095.0`` and ``+0:4095`` are one recipe.

    Examples
    --------
    >>> canonical_range("-1e3:400.50")
    '-1000:400.5'
    """
    return _parse(text)[0]


def _parse(text: Any) -> tuple[str, ValueRange | None]:
    if not isinstance(text, str):
        raise _refusal(text, f"a {type(text).__name__}")
    if text == "full":
        return text, None
    bits = _BITS.fullmatch(text)
    if bits:
        if not 1 <= int(bits[1]) <= 16:
            raise _refusal(text, f"{int(bits[1])} bits")
        return f"bits:{int(bits[1])}", ValueRange(0.0, 2.0 ** int(bits[1]) - 1)
    pair = _PAIR.fullmatch(text)
    if not pair:
        raise _refusal(text)
    low, high = float(pair[1]), float(pair[2])
    if not math.isfinite(high - low):
        raise _refusal(text, "no finite numbers")
    if not low < high:
        raise _refusal(text, f"{_plain(low)} is not below {_plain(high)}")
    return f"{_plain(low)}:{_plain(high)}", ValueRange(low, high)


def _refusal(text: Any, why: str = "") -> InputError:
    return InputError(
        f"range is {text!r}" + (f": {why}" if why else ""),
        expected=EXPECTED,
        where="--range",
        next="leave it out for `full`, the range of the file's own type",
    )


def _plain(number: float) -> str:
    # `int` also makes -0.0 plain 0. Beyond 2^53 the digits of an integer would claim too much.
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def range_rules(values: ValueRange | None) -> dict[str, str]:
    """What a range changes in `COLOR_RULES`; empty for ``full``.

    Examples
    --------
    >>> range_rules(parse_range("bits:12"))["uint16"]
    '0..4095 to 0..255, clipped, rounded'
    """
    if values is None:
        return {}
    rule = f"{_plain(values.low)}..{_plain(values.high)} to 0..255, clipped, rounded"
    wide = dict.fromkeys(("uint16", "uint16_color_file", "int", "float"), rule)
    return {**wide, "uint8": "as is, whatever the range"}


def is_wide(dtype: np.dtype) -> bool:
    """Whether numbers of a type have more than 8 bits, so that a range applies to them."""
    return dtype.kind in "uif" and dtype.itemsize > 1


def note_use(info: dict[Any, Any], extrema: Any, clipped: float | None) -> None:
    """Write down how much of black to white a wide image uses.

    Parameters
    ----------
    info : dict
        Of a Pillow image; gets ``range_used``, 0 to 1: the distance between the darkest and the
        lightest of its 8-bit values over 255; and ``range_clipped``, 0 to 1, where a range was
        stated.
    extrema : tuple
        As `PIL.Image.Image.getextrema` gives it: (low, high), or such a pair for each channel.
    clipped : float or None
        Share of values that the range cut off; None without a range.
    """
    bands = np.asarray(extrema).reshape(-1, 2)
    info["range_used"] = int(bands[:, 1].max() - bands[:, 0].min()) / 255
    if clipped is not None:
        info["range_clipped"] = clipped


def narrow_range(image: Any) -> bool:
    """Whether an image of more than 8 bits comes out with under a tenth of black to white.

    Parameters
    ----------
    image : PIL.Image.Image
        From `to_image`. The share itself is ``image.info.get("range_used")``, None for 8-bit
        images; ``image.info.get("range_clipped")`` is the share of values that the range cut off.

    Returns
    -------
    bool
        False for images of 8 bits.
    """
    used = image.info.get("range_used")
    return used is not None and used < NARROW
