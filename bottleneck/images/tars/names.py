"""Names of members: whatever stands in a tar in, a stored path that stays in its tar out."""

from __future__ import annotations

import os
import re

from ...paths import escape
from .headers import MAX_NAME

# Most names: nothing in them is escaped or left out.
_SIMPLE = re.compile(r"[\w-][\w. -]*(/[\w-][\w. -]*)*", re.ASCII)


def stored_name(name: str, offset: int) -> tuple[str, str | None]:
    """The stored path of a member below its tar, and why a member cannot be called so.

    Parameters
    ----------
    name : str
        As it stands in the tar.
    offset : int
        Where the member's bytes begin, which tells names apart that are too long to be kept.

    Returns
    -------
    path : str
        Escaped; without ``.`` and empty parts, and with the dots of ``..`` escaped, so that it leads
        nowhere else wherever it is put together with a folder.
    fault : str or None

    Examples
    --------
    >>> stored_name("./ants//1.jpg", 512)
    ('ants/1.jpg', None)
    >>> stored_name("../../etc/1.jpg", 512)
    ('%2E%2E/%2E%2E/etc/1.jpg', 'its name in the tar leads out of it (..)')
    """
    if _SIMPLE.fullmatch(name) and len(name) <= MAX_NAME:
        return name, None
    fault = None
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > MAX_NAME:
        return (
            f"{escape_name(name[:100])}...@{offset}",
            f"its name in the tar has {size} bytes; up to {MAX_NAME} are read",
        )
    if name.startswith("/"):
        fault = "its name in the tar is an absolute path"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        fault = "its name in the tar leads out of it (..)"
    if "\0" in name:
        fault = "its name in the tar holds a NUL"
    start = "%2F" if name.startswith("/") else ""
    return start + "/".join("%2E%2E" if p == ".." else escape_name(p) for p in parts), fault


def escape_name(part: str) -> str:
    """`paths.escape` for a name that no file system has seen."""
    if os.sep != "/":  # there a backslash would become a separator
        return "%5C".join(escape(piece) for piece in part.split(os.sep)).replace("\0", "%00")
    return escape(part).replace("\0", "%00")


def key_and_suffix(stored: str) -> tuple[str, str]:
    """What members of one sample share, and what tells them apart: around the first dot of the name.

    Examples
    --------
    >>> key_and_suffix("a.b/0001.seg.png"), key_and_suffix("0001.CLS")
    (('a.b/0001', 'seg.png'), ('0001', 'cls'))
    """
    folder, slash, base = stored.rpartition("/")
    key, _, suffix = base.partition(".")
    return folder + slash + key, suffix.lower()
