"""A directory of features as `Features`: the manifest, then the columns of each shard, checked.

Features are read when they are asked for, from the shards that hold them; no file stays open.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import CacheError
from ...remote.urls import is_url
from .. import reading
from ..array import FeatureArray
from ..features import Features
from ..index import FileIndex, read_index, settled
from ..layout import Rows
from ..locate import MANIFEST
from ..outputs import output_ids
from ..storage import Storage
from .decoding import decode
from .lists import Lists
from .lists import load as load_lists
from .manifest import MAX_BYTES, SHARD, Manifest, Shard, mended, without_manifest
from .rows import Columns, ShardedRows


@dataclass(frozen=True, eq=False)
class Directory:
    """A directory as it was when it was opened.

    Parameters
    ----------
    storage : Storage
    manifest : Manifest
    lists : Lists
    """

    storage: Storage
    manifest: Manifest
    lists: Lists


def load(storage: Storage) -> Manifest | None:
    """The manifest of a directory; None if there is none."""
    data = storage.read(MANIFEST, MAX_BYTES)
    return None if data is None else decode(data, storage.name)


def open_directory(storage: Storage) -> Features:
    """The features of a directory.

    Parameters
    ----------
    storage : Storage

    Returns
    -------
    Features
        As of one file that holds the same rows: ordered by the bytes of their paths.

    Raises
    ------
    CacheError
        If there is no manifest, it is damaged, or a shard is missing or not the one that it lists.
    """
    manifest = load(storage)
    if manifest is None:
        raise CacheError(
            f"{storage.name} is a folder without {MANIFEST}",
            expected="a feature file (.h5), or a directory that `bottleneck extract IMAGES -o NAME/` made",
            where=storage.name,
            next=without_manifest(storage.name)
            if any(SHARD.fullmatch(name) for name in storage.list())
            else "check the name; the first run there may not have ended: run it again",
        )
    while True:
        try:
            return read(Directory(storage, manifest, load_lists(manifest.lists, storage)))
        except CacheError:
            # A writer may have replaced the manifest and removed what the old one listed: then the
            # new one counts. If it is the same, the error is what there is to say.
            newer = load(storage)
            if newer is None or newer == manifest:
                raise
            manifest = newer


def read(directory: Directory) -> Features:
    """The features of a directory whose manifest is known; as of `open_directory`."""
    storage, manifest = directory.storage, directory.manifest
    columns = Columns(manifest, storage.name)
    parts: list[list[FeatureArray]] = []
    for shard in manifest.shards:
        arrays, rows = open_shard(directory, shard)
        columns.add(shard, rows)
        parts.append(arrays)
    rows, part, row = columns.finish()
    rows.quarantine = list(directory.lists.quarantine)
    rows.require_sound(storage.name)
    return assemble(directory, rows, parts, part, row)


def assemble(
    directory: Directory,
    rows: Rows,
    parts: list[list[FeatureArray]],
    part: np.ndarray,
    row: np.ndarray,
) -> Features:
    """`Features` of rows whose places are known.

    Parameters
    ----------
    directory : Directory
    rows : Rows
    parts : list of list of FeatureArray
        For each shard its outputs.
    part, row : ndarray of shape (n,), int32
        For each row its shard, and where in that.
    """
    header = directory.manifest.header
    lengths = {tuple(array.shape[1] for array in arrays) for arrays in parts}
    if len(lengths) > 1:
        raise CacheError(
            f"{directory.storage.name}: its shards have features of different length",
            where=directory.storage.name,
            next="extract again under another name",
        )
    names = output_ids(header)
    arrays = [
        ShardedRows([own[i] for own in parts], part, row, directory) for i in range(len(names))
    ]
    name = directory.storage.name
    file = name if is_url(name) else Path(name)
    return Features(header, rows, arrays[0], file, dict(zip(names[1:], arrays[1:], strict=True)))


def open_shard(
    directory: Directory, shard: Shard, known: Rows | None = None
) -> tuple[list[FeatureArray], Rows]:
    """The outputs of a shard, unread, and its columns, after it was seen to be the listed one."""
    storage, manifest = directory.storage, directory.manifest
    found = storage.size(shard.name)
    if found != shard.bytes:
        what = "is missing" if found is None else f"has {found} bytes, not {shard.bytes}"
        raise CacheError(
            f"{storage.name}{shard.name} {what}",
            expected="each shard that the manifest lists, whole",
            where=storage.name,
            next=mended(storage.name),
        )
    path = storage.path(shard.name)
    header, rows, stored = reading.read(path, known)
    told = (header.fingerprint, header.recipe, header.store, len(rows), stored.identity)
    wanted = manifest.header
    if told != (shard.fingerprint, wanted.recipe, wanted.store, shard.rows, shard.content):
        raise CacheError(
            f"{path} is not the shard that the manifest lists",
            expected="the file of that name as it was written",
            where=storage.name,
            next=mended(storage.name),
        )
    return [FeatureArray(stored), *map(FeatureArray, stored.layers.values())], rows


def index_of_directory(features: Features) -> FileIndex:
    """How the files looked that the rows of a directory were made from, as of one feature file."""
    array = features.features
    assert isinstance(array, ShardedRows)
    lists = array.directory.lists.index
    files = np.full((len(features), 4), -1, np.int64)
    latest = 0 if lists is None else lists.time_ns - lists.grain_ns
    by_part = np.argsort(array.part, kind="stable")
    edges = np.searchsorted(array.part[by_part], np.arange(len(array.parts) + 1))
    for number, own in enumerate(array.parts):
        index = read_index(own.stored, 0)
        if index is None:
            continue
        # Each shard has a moment of its own. What was not settled at that counts as unknown; all
        # else is settled at the latest of these moments too.
        sure = settled(index.files, index.time_ns, index.grain_ns)
        here = by_part[edges[number] : edges[number + 1]]
        rows = array.row[here]
        files[here[sure[rows]]] = index.files[rows[sure[rows]]]
        latest = max(latest, index.time_ns - index.grain_ns)
    q = len(features.quarantine)
    if lists is None:
        nothing = np.full((q, 4), -1, np.int64)
        return FileIndex(files, nothing, np.zeros((q, 32), np.uint8), time_ns=latest)
    sure = settled(lists.quarantine, lists.time_ns, lists.grain_ns)
    known = settled(lists.ignored, lists.time_ns, lists.grain_ns)
    return FileIndex(
        files=files,
        quarantine=np.where(sure[:, None], lists.quarantine, -1),
        quarantine_keys=lists.quarantine_keys,
        ignored_paths=lists.ignored_paths,
        ignored=np.where(known[:, None], lists.ignored, -1),
        time_ns=latest,
        grain_ns=0,
        decoders=lists.decoders,
    )
