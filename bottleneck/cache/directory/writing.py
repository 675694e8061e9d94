"""Bring a directory to the rows it is to hold: what it has stays where it is, what is new is written.

Rows that are the same stay in their shard. All others go into new shards; where they were, they are
marked as dead in the manifest, which is replaced last. So ten more images cost ten rows, and whoever
is killed on the way leaves the directory as it was, and files that nothing lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ...errors import CacheError
from ..array import FeatureArray
from ..features import Features
from ..index import FileIndex, settled
from ..layout import Header, Rows
from ..lazy import LazyRows
from ..locate import MANIFEST
from ..storage import Storage
from .building import SCRATCH, SHARD_BYTES, row_bytes_of, shares, write_shard
from .comparing import first_of_path, places
from .lists import Lists
from .lists import store as store_lists
from .manifest import NAME, Manifest, Part, Shard, encode
from .reading import Directory, assemble, index_of_directory
from .rows import ShardedRows, runs

# Shards below this are joined once there are so many of them: a thousand additions of ten images
# then leave at most 31 small files, and no row is rewritten more than once in 32 additions.
SMALL_BYTES = SHARD_BYTES // 8
SMALL_COUNT = 32


def write_directory(
    storage: Storage,
    header: Header,
    rows: Rows,
    features: Sequence[np.ndarray | LazyRows],
    *,
    index: FileIndex | None = None,
    existing: Features | None = None,
    refresh: bool = False,
) -> Features:
    """Make `rows` the rows of a directory. The caller is the only writer (`Storage.writing`).

    Parameters
    ----------
    storage : Storage
    header : Header
        Of all rows.
    rows : Rows
        Ordered by the bytes of the path, then by view, at least one; its quarantine is kept too.
    features : sequence of ndarray or LazyRows of shape (n, any d), float32
        For each output of the recipe; read only where a row has to be written.
    index : FileIndex, optional
        How the files looked that the rows were computed from.
    existing : Features, optional
        The directory as it is, opened from it. Without, everything is written anew.
    refresh : bool, default False
        Rows whose files the old index does not know and the new one does are written again.

    Returns
    -------
    Features
        Of the directory.

    Raises
    ------
    CacheError
        As `cache.writing.write`. The directory is then as it was before.
    """
    old = _reusable(existing, header)
    task = "classification" if rows.targets is None else rows.targets.task
    at = np.full(len(rows), -1, np.int64)
    if old is not None:
        at = places(rows, old.rows)
        if refresh and index is not None:
            at[_gained(old, index, at, rows)] = -1
        _settle_shards(old, rows, at)
    kept, left = _kept(old, at)
    entries = [
        replace(shard, meta=tuple(name for name in shard.meta if name in rows.meta))
        for shard in kept
    ]
    manifest = Manifest(
        header=header,
        classes=list(rows.classes),
        shards=(),
        meta=tuple((name, _kind(column)) for name, column in rows.meta.items()),
        task=task,
        phash=rows.phash is not None,
    )
    directory = Directory(storage, manifest, Lists())
    arrays = [] if old is None else [_outputs_of(old, number) for number in left]
    part, row = _old_places(old, at, left)
    fresh = np.flatnonzero(at < 0)
    row_bytes = row_bytes_of(rows, header, features)
    storage.require_space(len(fresh) * row_bytes)
    for picked in shares(rows, fresh, row_bytes):
        shard, own = write_shard(directory, header, rows, features, picked, index)
        part[picked] = len(entries)
        row[picked] = np.arange(len(picked))
        entries.append(shard)
        arrays.append(own)
    lists = _lists(rows, index)
    known = _lists_part(existing, lists)
    listed = known if known is not None else store_lists(lists, storage)
    if known is not None and existing is not None:
        lists = _directory_of(existing).lists
    manifest = replace(manifest, shards=tuple(entries), lists=listed)
    storage.put(MANIFEST, encode(manifest))
    # What is published is safe; what cannot be removed now is removed by the next run.
    with suppress(CacheError):
        clean(storage, manifest)
    final = Directory(storage, manifest, lists)
    return assemble(final, rows, arrays, part, row)


def clean(storage: Storage, manifest: Manifest | None) -> int:
    """Remove what a directory does not list, such as shards of a run that was killed; how many."""
    listed = set() if manifest is None else {part.name for part in manifest.parts()}
    storage.tidy()
    strays = [
        name
        for name in storage.list()
        if name not in listed and (NAME.fullmatch(name) or name.startswith(SCRATCH))
    ]
    for name in strays:
        # On Windows somebody may have the file open; then the next run removes it.
        with suppress(CacheError):
            storage.delete(name)
    return len(strays)


def strangers(names: Sequence[str]) -> list[str]:
    """Of the files in a folder those that no directory of features has."""
    return [
        name
        for name in names
        if name != MANIFEST and not NAME.fullmatch(name) and not name.startswith(".")
    ]


def _directory_of(features: Features) -> Directory:
    array = features.features
    assert isinstance(array, ShardedRows)
    return array.directory


def _reusable(existing: Features | None, header: Header) -> Features | None:
    """The directory, if its rows can stay where they are."""
    if existing is None or not isinstance(existing.features, ShardedRows):
        return None
    same = (existing.recipe, existing.header.store) == (header.recipe, header.store)
    return existing if same and existing.fingerprint == header.fingerprint else None


def _gained(old: Features, index: FileIndex, at: np.ndarray, rows: Rows) -> np.ndarray:
    """Rows whose file only the new index knows for sure, with all rows of their paths."""
    before = index_of_directory(old)
    gained = settled(index.files, index.time_ns, index.grain_ns) & (at >= 0)
    gained &= ~before.unchanged(before.files[np.maximum(at, 0)], index.files)
    first = first_of_path(rows)
    return np.flatnonzero(np.bincount(first, weights=gained, minlength=len(rows))[first] > 0)


def _settle_shards(old: Features, rows: Rows, at: np.ndarray) -> None:
    """Set to -1 the places in shards that are better written anew: mostly dead, or many and small."""
    directory, array = _directory_of(old), old.features
    assert isinstance(array, ShardedRows)
    shards = directory.manifest.shards
    there = array.part[at[at >= 0]]
    alive = np.bincount(there, minlength=len(shards))
    total = np.array([shard.rows for shard in shards])
    size = np.array([shard.bytes for shard in shards])
    given_up = (alive > 0) & (2 * alive < total)
    small = (alive > 0) & (size < SMALL_BYTES) & ~given_up
    if small.sum() + 1 >= SMALL_COUNT:
        given_up |= small
    # What was written with other columns than its neighbours stays readable; nothing else to do.
    if given_up.any():
        here = np.flatnonzero(at >= 0)
        at[here[given_up[array.part[at[here]]]]] = -1


def _kept(old: Features | None, at: np.ndarray) -> tuple[list[Shard], list[int]]:
    """The shards that still have a row, with what is dead in them, and their old numbers."""
    if old is None:
        return [], []
    array = old.features
    assert isinstance(array, ShardedRows)
    there = at[at >= 0]
    return alive_in(_directory_of(old).manifest.shards, array.part[there], array.row[there])


def alive_in(
    shards: Sequence[Shard], part: np.ndarray, row: np.ndarray
) -> tuple[list[Shard], list[int]]:
    """The shards that have any of some rows, all else in them being dead, and their numbers.

    Parameters
    ----------
    shards : sequence of Shard
    part, row : ndarray of shape (n,), int
        For each row its shard, and where in that.
    """
    entries, numbers = [], []
    by_part = np.argsort(part, kind="stable")
    edges = np.searchsorted(part[by_part], np.arange(len(shards) + 1))
    for number, shard in enumerate(shards):
        alive = row[by_part[edges[number] : edges[number + 1]]]
        if not len(alive):
            continue
        dead = np.ones(shard.rows, bool)
        dead[alive] = False
        entries.append(replace(shard, dead=runs(np.flatnonzero(dead))))
        numbers.append(number)
    return entries, numbers


def _old_places(
    old: Features | None, at: np.ndarray, left: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """For each row its new shard number and its row in it, where it stays; else what is not set."""
    part, row = np.zeros(len(at), np.int32), np.zeros(len(at), np.int32)
    if old is not None and left:
        array = old.features
        assert isinstance(array, ShardedRows)
        renumbered = np.zeros(len(array.parts), np.int32)
        renumbered[left] = np.arange(len(left))
        stays = np.flatnonzero(at >= 0)
        part[stays] = renumbered[array.part[at[stays]]]
        row[stays] = array.row[at[stays]]
    return part, row


def _outputs_of(old: Features, number: int) -> list[FeatureArray]:
    arrays = [old.features, *old.layers.values()]
    return [array.parts[number] for array in arrays if isinstance(array, ShardedRows)]


def _lists(rows: Rows, index: FileIndex | None) -> Lists:
    if index is None:
        return Lists(list(rows.quarantine))
    return Lists(list(rows.quarantine), replace(index, files=np.empty((0, 4), np.int64)))


def _lists_part(existing: Features | None, lists: Lists) -> Part | None:
    """The file of lists that can stay, since it says as much."""
    if existing is None or not isinstance(existing.features, ShardedRows):
        return None
    directory = _directory_of(existing)
    return directory.manifest.lists if directory.lists.knows(lists) else None


def _kind(column: object) -> str:
    return "number" if isinstance(column, np.ndarray) else "text"
