"""The bytes of ``manifest.json`` in, a checked `Manifest` out.

They may come from anywhere, so nothing in them is used before all of it was looked at: types, ranges,
names that can only be those of files in the directory itself, and a checksum over the whole.
"""

from __future__ import annotations

import json
import re
from itertools import chain, pairwise
from typing import Any

from blake3 import blake3

from ...errors import CacheError, RecipeError
from ...paths import order
from ...recipe import canonical_json
from ...targets import TASKS
from ..layout import Header
from ..locate import MANIFEST
from ..outputs import require_outputs
from .manifest import (
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    MAX_SHARDS,
    NAME,
    NAME_DIGITS,
    Manifest,
    Part,
    Shard,
    without_manifest,
)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 53  # what every JSON reader holds without loss


def decode(data: bytes, where: str) -> Manifest:
    """The manifest that `data` is, or a CacheError that says what is wrong with it.

    Parameters
    ----------
    data : bytes
    where : str
        The directory, for messages.
    """
    try:
        found = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"it is not JSON ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CacheError(
            f"{where}: {MANIFEST} is not that of a directory of features",
            expected=f'"format": "{FORMAT}"',
            where=where,
            next="check the name; `bottleneck extract IMAGES -o NAME/` makes such a directory",
        )
    version = found.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        made = f"format version {version}" if newer else "no format version that there is"
        raise CacheError(
            f"{where} was made by {made}, this reads {FORMAT_VERSION}",
            where=where,
            next="pip install --upgrade bottleneck-probe" if newer else "extract again",
        )
    _require_checksum(found, where)
    try:
        manifest = _manifest(found, where)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(where, str(error.args[0] if error.args else error)) from error
    _require_sound(manifest, where)
    if manifest.rows != found.get("rows"):
        raise _damaged(where, f"its shards have {manifest.rows} rows, not {found.get('rows')}")
    return manifest


def _require_checksum(found: dict[str, Any], where: str) -> None:
    told = found.pop("checksum", None)
    try:
        right = blake3(canonical_json(found)).hexdigest()
    except (RecipeError, RecursionError, OverflowError) as error:
        raise _damaged(where, f"it holds what no manifest does ({error})") from error
    if told != right:
        raise _damaged(where, "it differs from its checksum")


def _manifest(found: dict[str, Any], where: str) -> Manifest:
    header = Header(
        recipe=_a(found, "recipe", dict),
        environment=_a(found, "environment", dict),
        fingerprint=_digest(found, "fingerprint"),
        root=_a(found, "root", str),
        store=_a(found, "store", str),
        created_by=_a(found, "created_by", str),
    )
    header.require_sound(where)
    require_outputs(header, where)
    columns = [_column(each) for each in _a(found, "meta", list)]
    lists = found["lists"]
    return Manifest(
        header=header,
        classes=_texts(found, "classes"),
        shards=tuple(_shard(each) for each in _a(found, "shards", list)),
        meta=tuple(columns),
        task=_a(found, "task", str),
        phash=_a(found, "phash", bool),
        lists=None if lists is None else Part(**_part(lists, ".json")),
    )


def _shard(found: Any) -> Shard:
    return Shard(
        **_part(found, ".h5"),
        rows=_count(found, "rows"),
        fingerprint=_digest(found, "fingerprint"),
        content=_a(found, "content", str),
        meta=tuple(_texts(found, "meta")),
        dead=tuple(_run(each) for each in _a(found, "dead", list)),
    )


def _part(found: Any, suffix: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"{_shown(found)} stands where a file is described")
    name, digest = _a(found, "name", str), _digest(found, "blake3")
    if not NAME.fullmatch(name) or name != f"{digest[:NAME_DIGITS]}{suffix}":
        raise ValueError(f"{_shown(name)} is no name of a file of it")
    return {"name": name, "bytes": _count(found, "bytes"), "blake3": digest}


def _require_sound(manifest: Manifest, where: str) -> None:
    """Raise a CacheError for what each value alone does not show."""
    shards = manifest.shards
    if not 0 < len(shards) <= MAX_SHARDS:
        raise _damaged(where, f"it lists {len(shards)} shards")
    names = [part.name for part in manifest.parts()]
    if len(set(names)) < len(names):
        raise _damaged(where, "it lists a file twice")
    for shard in shards:
        if shard.fingerprint != manifest.header.fingerprint:
            raise CacheError(
                f"{where}: {shard.name} is of fingerprint {shard.fingerprint[:12]}...",
                expected=f"that of the directory, {manifest.header.fingerprint[:12]}...",
                where=where,
                next="extract again under another name: it cannot be said what these features are",
            )
        # A key alone takes 32 bytes: nothing is taken into memory that the file cannot hold.
        if not 0 < shard.rows <= shard.bytes // 32:
            raise _damaged(where, f"{shard.name} cannot have {shard.rows} rows")
        edges = [0, *chain.from_iterable(shard.dead), shard.rows]
        falling = any(a > b for a, b in pairwise(edges))
        if falling or any(start == stop for start, stop in shard.dead):
            raise _damaged(where, f"the dead rows of {shard.name} are out of order")
        if not shard.alive:
            raise _damaged(where, f"no row of {shard.name} counts")
    ordered = [order(name) for name in manifest.classes]
    if any(a >= b for a, b in pairwise(ordered)):
        raise _damaged(where, "classes are not in byte order, each once")
    columns = [name for name, _ in manifest.meta]
    if len(set(columns)) < len(columns):
        raise _damaged(where, "it lists a column twice")
    if manifest.task not in TASKS:
        raise _damaged(where, f"the task is {_shown(manifest.task)}")


def _a(found: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise KeyError(f"it lacks {name}")
    value = found[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is {_shown(value)}")
    return value


def _count(found: dict[str, Any], name: str) -> int:
    value: int = _a(found, name, int)
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{name} is {_shown(value)}")
    return value


def _digest(found: dict[str, Any], name: str) -> str:
    value: str = _a(found, name, str)
    if not _DIGEST.fullmatch(value):
        raise ValueError(f"{name} is {_shown(value)}, not 64 hexadecimal digits")
    return value


def _texts(found: dict[str, Any], name: str) -> list[str]:
    values: list[str] = _a(found, name, list)
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} are not all text")
    return values


def _column(found: Any) -> tuple[str, str]:
    if not (isinstance(found, list) and len(found) == 2 and isinstance(found[0], str)):
        raise TypeError(f"{_shown(found)} is no column")
    if found[1] not in KINDS:
        raise ValueError(f"the column {_shown(found[0])} is {_shown(found[1])}")
    return found[0], found[1]


def _run(found: Any) -> tuple[int, int]:
    numbers = isinstance(found, list) and len(found) == 2
    if not numbers or any(type(each) is not int or not 0 <= each <= _LARGEST for each in found):
        raise TypeError(f"{_shown(found)} is no run of rows")
    return found[0], found[1]


def _shown(value: Any) -> str:
    """A value from a stranger, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _damaged(where: str, what: str) -> CacheError:
    return CacheError(
        f"{where}: {MANIFEST} is damaged: {what}",
        where=f"{where}, {MANIFEST}",
        next=without_manifest(where),
    )
