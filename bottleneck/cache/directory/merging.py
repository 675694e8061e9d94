"""Several directories as one without writing a feature: their shards are linked, or copied, as they are."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...paths import order
from ...texts import concatenated, find_texts
from ..atomic import replace_atomically
from ..features import Features
from ..locate import MANIFEST
from ..sealed import digest_of
from ..settling import in_runs
from ..storage import Storage
from .building import SCRATCH
from .lists import Lists
from .lists import store as store_lists
from .manifest import Manifest, Shard, encode
from .reading import Directory, read
from .rows import ShardedRows, living, runs
from .saving import require_ours
from .writing import alive_in, clean


def merge(
    sources: Sequence[Features], storage: Storage, *, environment: dict[str, Any] | None = None
) -> Features | None:
    """The rows of several directories in a new one. The caller is its only writer.

    Parameters
    ----------
    sources : sequence of Features
        Opened from directories, all rows of them; of equal paths with another key the later one's
        row counts.
    storage : Storage
        Where the new one is made; may be that of one of them.
    environment : dict, optional
        Of the new one; by default that of the first.

    Returns
    -------
    Features or None
        None, and nothing was written, where the shards cannot stay as they are: the sources differ
        in recipe, root, task or type of a column, one row has two labels or splits, or the row that
        counts stands in a shard before that of the row it replaces.
    """
    manifests = [_manifest_of(each) for each in sources]
    if not all(manifests):
        return None
    known = [each for each in manifests if each is not None]
    if any(not _alike(known[0], other) for other in known[1:]):
        return None
    columns: dict[str, str] = {}
    for name, kind in (column for each in known for column in each.meta):
        if columns.setdefault(name, kind) != kind:
            return None
    if any(_contradict(a, b) for a, b in combinations(sources, 2)):
        return None
    if not _in_turn(sources, known):
        return None
    require_ours(storage)
    shards: dict[str, Shard] = {}
    for source, manifest in zip(sources, known, strict=True):
        for shard in manifest.shards:
            shards[shard.name] = _either(shards.get(shard.name), shard)
            _bring(source, shard, storage)
    first = known[0].header
    merged = Manifest(
        header=first if environment is None else replace(first, environment=environment),
        classes=sorted({name for each in known for name in each.classes}, key=order),
        shards=tuple(shards.values()),
        meta=tuple(columns.items()),
        task=known[0].task,
        phash=all(each.phash for each in known),
    )
    found = read(Directory(storage, merged, Lists()))
    array = found.features
    assert isinstance(array, ShardedRows)
    entries, _ = alive_in(merged.shards, array.part, array.row)
    bad = dict(entry for source in sources for entry in source.quarantine)
    good = set(np.flatnonzero(find_texts(sorted(bad, key=order), found.rows.paths) >= 0).tolist())
    left = [path for i, path in enumerate(sorted(bad, key=order)) if i not in good]
    lists = Lists([(path, bad[path]) for path in left])
    merged = replace(merged, shards=tuple(entries), lists=store_lists(lists, storage))
    storage.put(MANIFEST, encode(merged))
    with suppress(Exception):
        clean(storage, merged)
    return read(Directory(storage, merged, lists))


def _manifest_of(features: Features) -> Manifest | None:
    array = features.features
    if not isinstance(array, ShardedRows):
        return None
    manifest = array.directory.manifest
    whole = len(features) == manifest.rows and features.recipe == manifest.header.recipe
    return manifest if whole else None


def _alike(a: Manifest, b: Manifest) -> bool:
    """Whether shards of both can stand in one directory as they are."""
    same = (a.header.recipe, a.header.store, a.header.root, a.task) == (
        b.header.recipe,
        b.header.store,
        b.header.root,
        b.task,
    )
    named = a.task == "classification" or a.classes == b.classes
    return same and named and bool(a.header.root)


def _contradict(a: Features, b: Features) -> bool:
    """Whether a row that both have differs in anything: label, split, targets, further columns."""
    at = find_texts(b.rows.paths, a.rows.paths)
    here = np.flatnonzero(at >= 0)
    here = here[(a.keys[at[here]] == b.keys[here]).all(axis=1)]
    if not len(here):
        return False
    there = at[here]
    if set(a.rows.meta) != set(b.rows.meta):
        return True
    pairs = [(a.labels[there], b.labels[here]), (a.splits[there], b.splits[here])]
    pairs += [(column[there], b.meta[name][here]) for name, column in a.meta.items()]
    if a.targets is not None and b.targets is not None:
        x, y = a.targets[there], b.targets[here]
        if not ((x == y) | (np.isnan(x) & np.isnan(y))).all():
            return True
    # Whoever joins rows one by one has to say it, or to take the one that is known.
    return any(((x != y) & ((x == x) | (y == y))).any() for x, y in pairs)


def _in_turn(sources: Sequence[Features], manifests: Sequence[Manifest]) -> bool:
    """Whether the last shard that has a path holds the row of the last source that has it.

    A shard that several sources list stands once, where the first has it: what a later source takes
    from it may so come before the row of an earlier source.
    """
    number: dict[str, int] = {}
    columns: dict[str, tuple[str, ...]] = {}
    for shard in (shard for manifest in manifests for shard in manifest.shards):
        number.setdefault(shard.name, len(number))
        if columns.setdefault(shard.name, shard.meta) != shard.meta:
            return False
    places = []
    for source, manifest in zip(sources, manifests, strict=True):
        array = source.features
        assert isinstance(array, ShardedRows)
        own = np.array([number[shard.name] for shard in manifest.shards], np.int64)
        places.append(own[array.part])
    order, again = in_runs(
        concatenated(source.rows.paths for source in sources),
        np.concatenate([source.rows.views() for source in sources]),
    )
    place = np.concatenate(places)[order]
    keys = np.concatenate([source.keys for source in sources])[order]
    run = np.cumsum(np.concatenate([[True], ~again])) - 1
    last = np.flatnonzero(np.append(~again, True))  # of each run, that of the last source
    top = np.zeros(len(last), np.int64)
    np.maximum.at(top, run, place)
    counts = place == top[run]
    return bool((keys[counts] == keys[last[run[counts]]]).all())


def _either(one: Shard | None, other: Shard) -> Shard:
    """A shard that two directories list: what counts in either counts."""
    if one is None:
        return other
    counts = np.zeros(one.rows, bool)
    counts[living(one)] = True
    counts[living(other)] = True
    meta = tuple(dict.fromkeys([*one.meta, *other.meta]))
    return replace(one, dead=runs(np.flatnonzero(~counts)), meta=meta)


def _bring(source: Features, shard: Shard, storage: Storage) -> None:
    """A shard's file into the new directory: the same file under a second name where that can be."""
    array = source.features
    assert isinstance(array, ShardedRows)
    path = array.directory.storage.path(shard.name)
    if storage.size(shard.name) == shard.bytes and _is_it(storage.path(shard.name), path, shard):
        return
    with storage.scratch() as folder:
        built = folder / f"{SCRATCH}{secrets.token_hex(8)}.h5"
        try:
            _link(path, built)
            storage.adopt(built, shard.name)
        finally:
            with suppress(OSError):
                built.unlink(missing_ok=True)


def _is_it(there: Path, path: Path, shard: Shard) -> bool:
    """Whether a file is the shard that is to be brought: the same file, or the same bytes."""
    with suppress(OSError):
        if os.path.samefile(there, path):
            return True
        with there.open("rb", buffering=0) as file:
            return digest_of(file).hex() == shard.blake3
    return False


def _link(path: Path, built: Path) -> None:
    try:
        os.link(path, built)
    except (OSError, NotImplementedError):  # another disk, or a system without links
        with path.open("rb") as source, replace_atomically(built) as target:
            shutil.copyfileobj(source, target, 1 << 20)
