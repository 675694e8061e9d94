"""Why a file cannot be decoded, in words for a person: what a decoder raised in, a sentence out."""

from __future__ import annotations

import re
from typing import Any

ENDS_EARLY = re.compile("truncat|unexpected end|not enough|buffer is not large", re.IGNORECASE)
CUT = "truncated: the file ends before the image does"

_DAMAGED = "its pixel data is damaged"
_HEADER = "its header is damaged"
_CUT_HEADER = "its header is cut short"
# What Pillow (12 and 13) says, and what that means for somebody who has the file at hand. Whatever
# is not here is shown as it was raised.
_MEANINGS = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"^broken data stream when reading image file", _DAMAGED),
        (r"^unrecognized data stream contents", _DAMAGED),
        (r"^unknown filter category", _DAMAGED),
        (r"^decoder error -?\d+", _DAMAGED),
        (r"^failed to read next frame", _DAMAGED),
        (r"^cannot load this image", "a header without image data behind it"),
        (r"^not identified by this driver|^not an? .* file", _HEADER),
        (r"^could not create decoder object", _HEADER),
        (r"^bad quantization table", "its quantization tables are damaged"),
        (r"^no marker found", _HEADER),
        (r"^cannot handle (\d+)-bit layers", r"\1 bits a channel; 8 can be decoded"),
        (r"^cannot handle (\d+)-layer images", r"\1 channels; 1, 3 or 4 can be decoded"),
        (r"^unpack_from requires a buffer|^unpack requires a buffer", _CUT_HEADER),
        (r"^index out of range", _CUT_HEADER),
        (r"^broken PNG file \(bad header checksum in b'(\w+)'\)", r"its \1 block is damaged"),
        (r"^broken PNG file \(incomplete checksum in b'(\w+)'\)", r"cut within its \1 block"),
        (r"^broken PNG file \(chunk ", "what follows one of its blocks is none: damaged, or cut"),
        (r"^Decompressed data too large", "a text or profile in it unpacks to more than 1 MB"),
        (r"^Too much memory used in text chunks", "its texts unpack to more than 64 MB"),
        (r"^image not found in GIF frame|^no more images in GIF file", "it holds no image"),
        (r"^tile cannot extend outside image", "its frame is larger than its image"),
        (r"^Missing dimensions", "it does not say its width and height"),
        (r"^Invalid dimensions", "it says an impossible width or height"),
        (r"^unknown data organization", "its pixels are neither in strips nor in tiles"),
        (r"^unknown pixel mode", "a kind of pixels that is not decoded here, or a damaged header"),
        (r"^Unsupported BMP pixel depth \((\d+)\)", r"\1 bits a pixel, which BMP does not have"),
    )
)
_TIFF_TAGS = {
    "258": "bits per channel",
    "259": "compression",
    "262": "meaning of its colours",
    "273": "offsets of its strips",
    "277": "channels",
    "279": "lengths of its strips",
    "320": "palette",
    "322": "width of its tiles",
    "323": "height of its tiles",
    "324": "offsets of its tiles",
}


def reason_for(kind: str, error: BaseException, size: int = 0, whole: int = 0) -> str:
    """Why a file of a known format cannot be decoded.

    Parameters
    ----------
    kind : str
        The format, as `formats.sniff` names it.
    error : BaseException
        What its decoder raised.
    size, whole : int
        Bytes of the file, and how many there should be; 0 where its format does not say.

    Examples
    --------
    >>> reason_for("JPEG", OSError("broken data stream when reading image file"))
    'broken JPEG: its pixel data is damaged'
    >>> reason_for("WebP", OSError("failed to read next frame"), 750, 1000)
    'truncated after 75 % of its bytes'
    """
    if size < whole:
        return truncated(size / whole, "bytes")
    text = str(error)
    if ENDS_EARLY.search(text):
        return CUT
    if kind == "TIFF" and text in _TIFF_TAGS:  # of a KeyError, perhaps in another exception
        return f"broken TIFF: it does not say the {_TIFF_TAGS[text]}"
    text = one_line(error)
    for pattern, meaning in _MEANINGS:
        if found := pattern.match(text):
            return f"broken {kind}: {found.expand(meaning)}"
    return f"broken {kind}: {text}"


def truncated(share: float, of: str) -> str:
    """The reason for a file of which only a share, from 0 to 1, is there.

    Examples
    --------
    >>> truncated(0.753, "rows"), truncated(0.001, "bytes"), truncated(0.999, "bytes")
    ('truncated after 75 % of its rows', 'truncated after less than 1 % of its bytes', \
'truncated after 99 % of its bytes')
    """
    percent = min(99, round(100 * share))  # 100 % would be whole
    return f"truncated after {percent or 'less than 1'} % of its {of}"


def truncation(image: Any, error: Exception) -> str | None:
    """The reason for a file that ends too early, with how much is there; None for other faults.

    Parameters
    ----------
    image : PIL.Image.Image
        What was decoded before the end lies in it already, the rest is still zero.
    error : Exception
        What loading it has raised.
    """
    if not ENDS_EARLY.search(str(error)):
        return None
    try:
        box = image.im.getbbox()
    except Exception:
        box = None
    if not box or box[3] >= image.size[1]:
        return CUT
    return truncated(box[3] / image.size[1], "rows")


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and control characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not re.search("[A-Za-z]{4}", text):  # a KeyError says no more than the key
        text = "its header is damaged, or of a kind that is not decoded here"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
