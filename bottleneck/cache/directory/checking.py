"""Is a directory of features what its manifest says? For ``verify``; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...errors import CacheError
from ..locate import MANIFEST
from ..sealed import digest_of
from ..storage import Storage
from .lists import load as load_lists
from .manifest import NAME, Manifest, Part
from .reading import load


@dataclass
class Findings:
    """What `check` found.

    Attributes
    ----------
    manifest : Manifest or None
        None if it cannot be read.
    faults : list of (str, str)
        Name of a file of the directory, and what is wrong with it.
    strays : list of str
        Files that nothing lists and nobody reads: the next run removes those that are ours.
    """

    manifest: Manifest | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


def check(storage: Storage, tell: Callable[[int], None] = lambda n: None) -> Findings:
    """Read the manifest, and every file that it lists from its first byte to its last.

    What a shard holds is checked as that of any feature file, at ``storage.path(shard.name)``.

    Parameters
    ----------
    storage : Storage
    tell : callable, optional
        Called with the bytes of each file that was read.
    """
    found = Findings()
    try:
        found.manifest = load(storage)
    except CacheError as error:
        found.faults.append((MANIFEST, error.what))
        return found
    if found.manifest is None:
        found.faults.append((MANIFEST, "is missing"))
        return found
    for part in found.manifest.parts():
        fault = _fault(storage, part)
        if fault:
            found.faults.append((part.name, fault))
        tell(part.bytes)
    if not found.faults:
        try:
            load_lists(found.manifest.lists, storage)
        except CacheError as error:
            found.faults.append(
                (str(found.manifest.lists and found.manifest.lists.name), error.what)
            )
    listed = {MANIFEST, *(part.name for part in found.manifest.parts())}
    found.strays = [name for name in storage.list() if name not in listed and NAME.fullmatch(name)]
    return found


def _fault(storage: Storage, part: Part) -> str:
    """What is wrong with a file; empty if it is the one that was written."""
    try:
        size = storage.size(part.name)
        if size is None:
            return "is missing"
        if size != part.bytes:
            return f"has {size} bytes, not {part.bytes}"
        with storage.path(part.name).open("rb", buffering=0) as file:
            digest = digest_of(file).hex()
    except CacheError as error:
        return error.what
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if digest == part.blake3 else "differs from its BLAKE3 in the manifest"
