r"""Stored paths: any file name of any system in, valid UTF-8 without loss out, and back.

``%`` and bytes that are not UTF-8 become ``%XX``; the separator is ``/`` everywhere; NFC and NFD
spellings stay as they are, because they are different files on some systems. A file has one stored
path whatever the locale is.
"""

from __future__ import annotations

import codecs
import os
import re
import sys

# Python reads names in the encoding of the locale. Under ``LC_ALL=C`` without Python's UTF-8 mode that
# is ASCII, and every byte of an e with an accent comes as a surrogate of its own.
ASCII_NAMES = codecs.lookup(sys.getfilesystemencoding()).name == "ascii"
# Whether a stored path without % is the file's own.
PLAIN = os.sep == "/" and not ASCII_NAMES

SURROGATES = re.compile("[\ud800-\udfff]")


def as_text(name: str) -> str:
    r"""A name as the functions of `os` give it, as the text that its bytes spell in UTF-8.

    Only bytes that are not UTF-8 stay surrogates, U+DC80 to U+DCFF (PEP 383).

    Examples
    --------
    >>> as_text("caf\udcc3\udca9") == "caf\xe9"
    True
    """
    found = SURROGATES.findall(name)
    if not found:
        return name
    # On Windows names are UTF-16 and may hold half a character. Elsewhere a name never does, but what
    # a caller makes up may.
    half = os.name == "nt" or not all("\udc80" <= c <= "\udcff" for c in found)
    data = name.encode("utf-8", "surrogatepass" if half else "surrogateescape")
    return data.decode("utf-8", "surrogateescape")


def as_name(text: str) -> str:
    """What `as_text` was given: the name as the functions of `os` take it, in this locale."""
    if ASCII_NAMES:
        return text.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")
    if os.name == "nt" and SURROGATES.search(text):
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogatepass")
    return text


def escape(path: str | bytes) -> str:
    r"""A file system path as it is stored in features, probes and tables.

    Parameters
    ----------
    path : str or bytes
        As the functions of `os` give it: a str may carry surrogates for undecodable bytes.

    Returns
    -------
    str
        Encodable as UTF-8, with ``/`` as separator. Two different paths never become equal.

    Examples
    --------
    >>> escape(b"ants/caf\xe9 100%.jpg")
    'ants/caf%E9 100%25.jpg'
    """
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else as_text(path)
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    text = text.replace("%", "%25")
    # U+DC80..U+DCFF stand for the bytes 80..FF that were not UTF-8 (PEP 383).
    return re.sub("[\udc80-\udcff]", lambda m: f"%{ord(m[0]) - 0xDC00:02X}", text)


def unescape(stored: str) -> str:
    r"""The file system path that `escape` was given, with the system's own separator.

    Parameters
    ----------
    stored : str
        A value of the dataset ``paths``.

    Returns
    -------
    str
        For `open`; bytes that are not UTF-8 are surrogate escapes.

    Examples
    --------
    >>> unescape("ants/100%25.jpg").replace(os.sep, "/")
    'ants/100%.jpg'
    """

    def byte(match: re.Match[str]) -> str:
        value = int(match[1], 16)
        return chr(value) if value < 0x80 else chr(0xDC00 + value)

    text = as_name(re.sub("%([0-9A-Fa-f]{2})", byte, stored))
    return text.replace("/", os.sep) if os.sep != "/" else text


def order(stored: str) -> bytes:
    """The sort key of stored paths: their UTF-8 bytes, so that no locale changes a row's place."""
    return stored.encode("utf-8")
