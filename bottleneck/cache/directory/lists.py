"""The part of a directory that has no row: the quarantine, and files that are no images.

A small JSON file, named by its content and listed by the manifest. It is written anew only when it
says something else, so that images can be added without writing what has nothing to do with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from ...errors import CacheError
from ...recipe import canonical_json
from ..index import FileIndex, settled
from ..storage import Storage
from .manifest import NAME_DIGITS, Part

# Some 150 bytes an entry: a million images of a folder where all are bad.
MAX_BYTES = 512 << 20
_SIDE = 1 << 63


@dataclass(frozen=True, eq=False)
class Lists:
    """The inputs that have no row.

    Parameters
    ----------
    quarantine : list of (str, str)
        Stored path, and why it has no feature; ordered like paths.
    index : FileIndex or None
        How their files looked, and those that are no images; its `files` are empty.
    """

    quarantine: list[tuple[str, str]] = field(default_factory=list)
    index: FileIndex | None = None

    def knows(self, other: Lists) -> bool:
        """Whether it says all that `other` does, so that `other` need not be written."""
        mine, theirs = self.index, other.index
        if self.quarantine != other.quarantine:
            return False
        if mine is None or theirs is None:
            return theirs is None
        if (mine.decoders, mine.ignored_paths) != (theirs.decoders, theirs.ignored_paths):
            return False
        if not np.array_equal(mine.quarantine_keys, theirs.quarantine_keys):
            return False
        for name in ("quarantine", "ignored"):
            old, new = getattr(mine, name), getattr(theirs, name)
            # A file that was too young to be sure of may be old enough now.
            gained = settled(new, theirs.time_ns, theirs.grain_ns) & ~mine.unchanged(old, new)
            if gained.any():
                return False
        return True


def store(lists: Lists, storage: Storage) -> Part | None:
    """Write the lists; None if there is nothing in them."""
    index = lists.index
    if not lists.quarantine and (index is None or not index.ignored_paths):
        return None
    data: dict[str, Any] = {"quarantine": [list(each) for each in lists.quarantine]}
    if index is not None:
        data["stat"] = {
            "quarantine": index.quarantine.tolist(),
            "quarantine_keys": [key.tobytes().hex() for key in index.quarantine_keys],
            "ignored_paths": index.ignored_paths,
            "ignored": index.ignored.tolist(),
            "clock": [index.time_ns, index.grain_ns],
            "decoders": index.decoders,
        }
    encoded = canonical_json(_printable(data)) + b"\n"
    digest = blake3(encoded).hexdigest()
    name = f"{digest[:NAME_DIGITS]}.json"
    storage.put(name, encoded)
    return Part(name, len(encoded), digest)


def load(part: Part | None, storage: Storage) -> Lists:
    """The lists that a manifest names; a CacheError if they are not those that were written."""
    if part is None:
        return Lists()
    where = f"{storage.name}{part.name}"
    data = storage.read(part.name, min(part.bytes, MAX_BYTES))
    if data is None or len(data) != part.bytes or blake3(data).hexdigest() != part.blake3:
        raise CacheError(
            f"{where} is {'missing' if data is None else 'damaged'}",
            expected="the file that the manifest lists: the quarantine",
            where=storage.name,
            next="restore it from a backup, or extract again under another name",
        )
    try:
        found = json.loads(data)
        quarantine = [(_text(path), _text(reason)) for path, reason in found["quarantine"]]
        return Lists(quarantine, _index(found.get("stat"), len(quarantine)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheError(
            f"{where} is not what a quarantine looks like", where=storage.name
        ) from error


def _index(found: Any, n: int) -> FileIndex | None:
    if found is None:
        return None
    keys = b"".join(bytes.fromhex(each) for each in found["quarantine_keys"])
    ignored_paths = [_text(each) for each in found["ignored_paths"]]
    time_ns, grain_ns = found["clock"]
    return FileIndex(
        files=np.empty((0, 4), np.int64),
        quarantine=_statuses(found["quarantine"], n),
        quarantine_keys=np.frombuffer(keys, np.uint8).reshape(n, 32),
        ignored_paths=ignored_paths,
        ignored=_statuses(found["ignored"], len(ignored_paths)),
        time_ns=_whole(time_ns),
        grain_ns=_whole(grain_ns),
        decoders={_text(name): _text(value) for name, value in found["decoders"].items()},
    )


def _statuses(found: list[list[int]], n: int) -> np.ndarray:
    rows = [[_whole(value) for value in row] for row in found]
    return np.array(rows, np.int64).reshape(n, 4)


def _whole(value: Any) -> int:
    if type(value) is not int or not -_SIDE <= value < _SIDE:
        raise TypeError("no whole number of 64 bits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _printable(value: Any) -> Any:
    """The same, with what UTF-8 cannot hold escaped: a reason may quote anything in a broken file."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    return value
