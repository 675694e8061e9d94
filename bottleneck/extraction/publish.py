"""From an outcome to a published file: rows in order, features gathered block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..backbones.base import Backbone
from ..cache.directory import clean, load, write_directory
from ..cache.features import Features, opened
from ..cache.format import Header, Layer, Rows, write
from ..cache.storage import Storage
from ..images.part import Part, Seen
from ..images.sample import ImageSet
from .by_key import ByKey
from .contract import Outcome
from .hashes import Hashes
from .options import RunOptions
from .record import Record
from .rows import leaving, rows_of, same, with_kept
from .stores import Chain, Store

_BLOCK = 4096  # rows gathered at a time


def header_of(
    images: ImageSet, backbone: Backbone, environment: dict[str, Any], options: RunOptions
) -> Header:
    """Where the features come from, as the file says it."""
    return Header(
        recipe=backbone.recipe(),
        environment=environment,
        fingerprint=backbone.fingerprint(),
        root=paths.escape(images.root),
        store=options.store or "float32",
    )


def publish(
    images: ImageSet,
    outcome: Outcome,
    header: Header,
    backbone: Backbone,
    known: Sequence[Chain],
    output: Path,
    *,
    existing: Features | None,
    add: bool,
    record: Record | None = None,
    hashes: Hashes | None = None,
    place: Storage | None = None,
    part: Part | Seen | None = None,
) -> tuple[Features, int, bool]:
    """Write the file, or the directory, unless it is the same already.

    Parameters
    ----------
    images : ImageSet
    outcome : Outcome
        Of all their samples.
    header : Header
    backbone : Backbone
    known : sequence of Chain
        For each output, the feature of every row.
    output : pathlib.Path
    existing : Features or None
        The file as it is.
    add : bool
        Keep its rows whose path is gone.
    record : Record, optional
        What this run has seen of the files, for the next one.
    hashes : Hashes, optional
        Knows the perceptual hashes.
    place : Storage, optional
        Where the output is a directory.
    part : Part, optional
        Of the images this run was about: rows of the others stay.

    Returns
    -------
    features : Features
        Of the file.
    removed : int
        Rows whose path is gone.
    written : bool
    """
    views = backbone.preprocessing.views
    rows = rows_of(images.samples, outcome, views)
    removed = 0
    unchanged = False
    if existing is not None:
        seen = images.columns.paths
        if add:
            rows = with_kept(rows, existing.rows, seen)
        else:
            removed = len(leaving(existing.rows.paths, seen, part)) // views
            if part is not None:
                rows = with_kept(rows, existing.rows, seen, part)
    rows.phash = _phash(rows, existing, hashes, views)
    if existing is not None:
        unchanged = (
            outcome.computed == 0
            and _same_header(existing.header, header)
            and same(rows, existing.rows)
        )
    # With the same rows, the index of their files may still be worth writing.
    pays = unchanged and record is not None and record.pays(rows, _bytes_of(output, place))
    if existing is not None and unchanged and not pays:
        if place is not None:
            clean(place, load(place))
        return existing, removed, False
    index = None if record is None else record.index(rows)
    if place is not None:
        arrays = [ByKey(store, rows.keys, views) for store in known]
        written = write_directory(
            place, header, rows, arrays, index=index, existing=existing, refresh=pays
        )
        return written, removed, True
    first, *others = (_blocks(store, rows.keys, views) for store in known)
    layers = [
        Layer(each.to_recipe(), backbone.fingerprint(each), blocks)
        for each, blocks in zip(backbone.outputs[1:], others, strict=True)
    ]
    write(output, header, rows, first, layers, index)
    return opened(output, rows), removed, True


def _bytes_of(output: Path, place: Storage | None) -> int:
    """What is there now and would be written anew, at the most."""
    if place is None:
        return output.stat().st_size
    manifest = load(place)
    return 0 if manifest is None else manifest.bytes


def _phash(
    rows: Rows, existing: Features | None, hashes: Hashes | None, views: int
) -> np.ndarray | None:
    """The perceptual hash of each row; None if not all are known."""
    old = None if existing is None else existing.phash
    if existing is not None and old is not None and np.array_equal(rows.keys, existing.keys):
        return old  # not looked up one by one
    found = None if hashes is None else hashes.of(rows.keys[::views])
    return None if found is None else np.repeat(found, views)


def _same_header(a: Header, b: Header) -> bool:
    """Whether two headers say the same; who wrote them and what with does not count."""
    return (a.recipe, a.root, a.store) == (b.recipe, b.root, b.store)


def _blocks(store: Store, keys: np.ndarray, views: int) -> Iterator[np.ndarray]:
    """Features of all rows, in their order; the views of an image are neighbours."""
    images = keys[::views]
    for start in range(0, len(images), _BLOCK):
        found = store.take(images[start : start + _BLOCK])
        yield found.reshape(len(found) * views, -1)
