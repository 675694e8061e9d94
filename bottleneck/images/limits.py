"""What one image may cost at the most: pixels, bytes and time, and how a reason says that it is more."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A bomb of a few KB can declare gigapixels; 100 MP (300 MB as RGB) is beyond every camera's frame
# that is resized to a few hundred pixels afterwards.
MAX_PIXELS = 100_000_000
# An encoded image of `MAX_PIXELS` in 32-bit floats needs 1.2 GB. A file beyond this is a film or a
# disk image under a wrong name, and reading it would only fill the memory.
MAX_BYTES = 2 * 1024**3

_MP = 1e6
_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "bytes": 1}
_PIXELS = re.compile(r"^(\d+)x(\d+) = .* MP, over the limit of ")
_BYTES = re.compile(r"^[0-9.]+ \w+, over the limit of ([0-9.e+]+) (GiB|MiB|KiB|bytes)\b")


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these an image is quarantined. They decide what is read, never a feature's value.

    Attributes
    ----------
    max_pixels : int
        Width times height.
    max_bytes : int
        Of an encoded file.
    decode_timeout_s : float or None
        Seconds of a processor; None is `extraction.patience.DECODE_TIMEOUT_S`.
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    decode_timeout_s: float | None = None


DEFAULT = Limits()


def too_many_pixels(width: int, height: int, max_pixels: int) -> str:
    """The reason for an image beyond the limit.

    Examples
    --------
    >>> too_many_pixels(13000, 13000, 100_000_000)
    '13000x13000 = 169 MP, over the limit of 100 MP (--max-pixels)'
    """
    pixels = width * height / _MP
    return (
        f"{width}x{height} = {pixels:.{0 if pixels >= 10 else 4}f} MP, "
        f"over the limit of {max_pixels / _MP:g} MP (--max-pixels)"
    )


def too_many_bytes(size: int, max_bytes: int) -> str:
    """The reason for a file beyond the limit.

    Examples
    --------
    >>> too_many_bytes(3 * 1024**3, 2 * 1024**3)
    '3 GiB, over the limit of 2 GiB (--max-bytes)'
    """
    return f"{_in_words(size)}, over the limit of {_in_words(max_bytes)} (--max-bytes)"


def _in_words(size: int) -> str:
    unit = next(name for name, one in _UNITS.items() if size >= one or one == 1)
    return f"{size / _UNITS[unit]:.4g} {unit}"


def lifted(reason: str, limits: Limits) -> bool:
    """Whether an image that was refused for a limit would pass it now, as far as that is known.

    Parameters
    ----------
    reason : str
        Why it stands in the quarantine.
    limits : Limits
        Of this run.

    Examples
    --------
    >>> reason = too_many_pixels(13000, 13000, 100_000_000)
    >>> lifted(reason, Limits()), lifted(reason, Limits(max_pixels=200_000_000))
    (False, True)
    """
    if found := _PIXELS.match(reason):
        return int(found[1]) * int(found[2]) <= limits.max_pixels
    if found := _BYTES.match(reason):
        # Both numbers are rounded; that the limit was raised is certain.
        return limits.max_bytes > float(found[1]) * _UNITS[found[2]] * 1.001
    return False
