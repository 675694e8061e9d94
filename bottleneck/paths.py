r"""Stored paths: any file name of any system in, valid UTF-8 without loss out, and back.

``%`` and bytes that are not UTF-8 become ``%XX``; the separator is ``/`` everywhere; NFC and NFD
spellings stay as they are, because they are different files on some systems.
"""

from __future__ import annotations

import os
import re


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
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
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

    text = re.sub("%([0-9A-Fa-f]{2})", byte, stored)
    return text.replace("/", os.sep) if os.sep != "/" else text


def order(stored: str) -> bytes:
    """The sort key of stored paths: their UTF-8 bytes, so that no locale changes a row's place."""
    return stored.encode("utf-8")
