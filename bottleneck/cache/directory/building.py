"""Rows into shards: how many go into one, and the feature file that each becomes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...paths import order
from ...texts import Texts
from ..array import FeatureArray
from ..checks import opened
from ..index import FileIndex
from ..layout import STORES, Header, Rows
from ..lazy import LazyRows
from ..outputs import Layer, alone
from ..reading import identity_of
from ..sealed import digest_of
from ..writing import write
from .comparing import first_of_path
from .manifest import NAME_DIGITS, Part, Shard
from .reading import Directory, open_shard

# As much as a crash may cost, and as little as one copy to a bucket should take.
SHARD_BYTES = 64 << 20
SHARD_ROWS = 1 << 16
# Beside what is counted: label, split, view, hash, checksums, index of files.
ROW_BYTES = 120
_WINDOW_BYTES = 16 << 20
SCRATCH = ".new-"


def row_bytes_of(rows: Rows, header: Header, features: Sequence[np.ndarray | LazyRows]) -> int:
    """What one row takes in a shard, about."""
    wide = sum(array.shape[1] for array in features) * STORES[header.store].itemsize
    names = Texts.of(rows.paths)
    of_names = sum(map(len, next(names.blocks(), []))) // max(min(len(names), 4096), 1)
    meta = sum(8 if isinstance(column, np.ndarray) else 24 for column in rows.meta.values())
    targets = 0 if rows.targets is None else 4 * rows.targets.values.shape[1]
    return wide + ROW_BYTES + of_names + meta + targets


def shares(rows: Rows, fresh: np.ndarray, row_bytes: int) -> Iterator[np.ndarray]:
    """The rows to write in pieces of one shard each; the rows of one path stay together."""
    most = min(max(SHARD_BYTES // row_bytes, 1), SHARD_ROWS)
    first = first_of_path(rows)[fresh]
    start = 0
    while start < len(fresh):
        stop = min(start + most, len(fresh))
        while start < stop < len(fresh) and first[stop] == first[stop - 1]:
            stop -= 1
        if stop == start:  # one path has more rows than a shard should
            stop = start + int(np.searchsorted(first[start:], first[start], side="right"))
        yield fresh[start:stop]
        start = stop


def write_shard(
    directory: Directory,
    header: Header,
    rows: Rows,
    features: Sequence[np.ndarray | LazyRows],
    picked: np.ndarray,
    index: FileIndex | None,
) -> tuple[Shard, list[FeatureArray]]:
    """Write rows as a shard, and open it again: what is listed is what the disk gives back."""
    own = _own(rows, picked)
    layers = [
        Layer(output, alone(header, i).fingerprint, _windows(array, picked))
        for i, (output, array) in enumerate(
            zip(header.recipe["outputs"], features, strict=True), start=0
        )
    ]
    storage = directory.storage
    with storage.scratch() as folder:
        built = folder / f"{SCRATCH}{secrets.token_hex(8)}.h5"
        try:
            write(built, header, own, layers[0].blocks, layers[1:], _index_of(index, picked))
            with built.open("rb", buffering=0) as file:
                digest = digest_of(file).hex()
            entry = Part(f"{digest[:NAME_DIGITS]}.h5", os.path.getsize(built), digest)
            storage.adopt(built, entry.name)
        except BaseException:
            with suppress(OSError):
                built.unlink(missing_ok=True)
            raise
    path = storage.path(entry.name)
    content = _content_of(path)
    shard = Shard(
        **vars(entry),
        rows=len(own),
        fingerprint=header.fingerprint,
        content=content,
        meta=tuple(own.meta),
    )
    arrays, _ = open_shard(directory, shard, own)
    return shard, arrays


def _content_of(path: Path) -> str:
    with opened(path) as h5:
        return identity_of(h5, path)


def _own(rows: Rows, picked: np.ndarray) -> Rows:
    """The columns of some rows: with the classes that occur, and without the quarantine."""
    own = rows.take(picked)
    own.quarantine = []
    if own.targets is None:
        used = np.unique(own.labels[own.labels >= 0])
        place = np.full(len(own.classes) + 1, -1, np.int32)
        place[used] = np.arange(len(used))
        own.labels = place[own.labels]
        own.classes = sorted((own.classes[i] for i in used.tolist()), key=order)
    return own


def _windows(array: np.ndarray | LazyRows, picked: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _WINDOW_BYTES // (4 * max(array.shape[1], 1)))
    for start in range(0, len(picked), step):
        yield np.asarray(array[picked[start : start + step]])


def _index_of(index: FileIndex | None, picked: np.ndarray) -> FileIndex | None:
    if index is None:
        return None
    return FileIndex(
        files=index.files[picked],
        quarantine=np.empty((0, 4), np.int64),
        quarantine_keys=np.empty((0, 32), np.uint8),
        time_ns=index.time_ns,
        grain_ns=index.grain_ns,
        decoders=index.decoders,
    )
