"""Addresses on the network: a path as the user wrote it in, what to say if it is a URL out."""

from __future__ import annotations

import re

# Two letters at least: `C://photos` is a folder on Windows.
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")


def address_fault(value: str) -> str | None:
    """Why a value that is a URL (``https://``, ``s3://``, ...) names no image; None for paths.

    Examples
    --------
    >>> address_fault("s3://bucket/a.jpg")
    "'s3://bucket/a.jpg' is an address; images are not read from the network"
    >>> address_fault("photos/a.jpg") is None
    True
    """
    if _URL.match(value):
        return f"{value!r} is an address; images are not read from the network"
    return None
