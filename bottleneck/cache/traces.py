"""A recipe found among the bytes of a file whose root attributes HDF5 cannot read any more.

A recipe in canonical JSON proves itself: its fingerprint, 64 hexadecimal digits, has to stand in the
file as well.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

from ..errors import BottleneckError
from ..recipe import fingerprint

_MARK = b'"outputs":['
# A recipe takes a few hundred bytes; one with hundreds of layers some ten thousand.
_MOST_BYTES = 64 << 10
_MOST_TRIES = 200


def recipe_in(path: Path) -> tuple[dict[str, Any], str] | None:
    """The recipe of a damaged file and its fingerprint; None if no recipe in it is proved."""
    if not path.stat().st_size:  # nothing to map
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_MARK)
        tries = 0
        while at >= 0 and tries < _MOST_TRIES:
            first = max(0, at - _MOST_BYTES)
            start = data.rfind(b"{", first, at)
            while start >= 0 and tries < _MOST_TRIES:
                tries += 1
                found = _recipe(data[start : start + _MOST_BYTES])
                if found is not None and data.find(found[1].encode()) >= 0:
                    return found
                start = data.rfind(b"{", first, start)
            at = data.find(_MARK, at + 1)
    return None


def _recipe(text: bytes) -> tuple[dict[str, Any], str] | None:
    """What begins like a recipe, with the fingerprint that it ought to have."""
    try:
        recipe, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
        return recipe, fingerprint(recipe, recipe["outputs"][0])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, BottleneckError):
        return None
