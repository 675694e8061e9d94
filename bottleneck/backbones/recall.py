"""Where files of weights were seen, by their hash, so that a probe or a feature file finds them again."""

from __future__ import annotations

import json
from pathlib import Path

from .. import usercache
from ..errors import CacheError
from .base import Weights
from .hashes import sha256_kept

_REMEMBERED = 8  # places of one file of weights


def remember(weights: Weights) -> None:
    """Keep where a file of weights lies; nothing for weights that are no file."""
    if weights.path is None:
        return
    seen = {"path": str(weights.path), "origin": weights.origin}
    try:
        known = places(weights.sha256)
        if seen not in known[:1]:
            all_places = [seen, *(each for each in known if each != seen)][:_REMEMBERED]
            note = usercache.folder("weights") / f"{weights.sha256}.json"
            usercache.write(note, json.dumps(all_places).encode())
    except (OSError, CacheError):
        return  # only a hint: without it the file has to be named again


def recall(sha256: str) -> Weights | None:
    """The file with this hash at one of the places where it was seen, its hash checked now."""
    for seen in places(sha256):
        path = Path(seen["path"])
        try:
            # The note is only a hint: the file may have been replaced since.
            if sha256_kept(path) == sha256:
                return Weights(path, sha256, seen["origin"])
        except OSError:
            continue
    return None


def complete(prefix: str) -> list[str]:
    """Hashes that begin with `prefix`, of all the files that were seen."""
    try:
        notes = usercache.folder("weights").glob(f"{prefix}*.json")
        return sorted(note.stem for note in notes)
    except (OSError, CacheError):
        return []


def places(sha256: str) -> list[dict[str, str]]:
    """Where weights with this hash were seen, as ``path`` and ``origin``; the last place first."""
    try:
        note = usercache.folder("weights") / f"{sha256}.json"
        found = json.loads(usercache.read(note))
        return [{"path": str(x["path"]), "origin": str(x["origin"])} for x in found]
    except (OSError, CacheError, ValueError, KeyError, TypeError):
        return []
