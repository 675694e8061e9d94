"""A feature file from header, rows and blocks of features; the counterpart of `reading`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import paths
from .._version import __version__
from ..errors import CacheError
from ..recipe import canonical_json
from ..texts import Texts
from . import checksums, trailer
from .atomic import replace_atomically
from .blocks import Blocks
from .layout import (
    ATTRIBUTES,
    FORMAT,
    FORMAT_VERSION,
    STORES,
    Header,
    Rows,
    encode_name,
    require_equal_counts,
)
from .metadata import bound_cache
from .outputs import Layer, dataset_of, output_id, require_layers, require_outputs

if TYPE_CHECKING:
    import h5py

    from .index import FileIndex


def write(
    path: str | Path,
    header: Header,
    rows: Rows,
    blocks: Iterable[np.ndarray],
    layers: Sequence[Layer] = (),
    index: FileIndex | None = None,
) -> None:
    """Write a feature file, which replaces `path` once it is whole.

    Parameters
    ----------
    path : str or Path
        The file; the folders above it are made.
    header : Header
    rows : Rows
        Ordered by the bytes of the path, then by view (`Rows.sorted`), with n at least 1.
    blocks : iterable of ndarray of shape (m, d), float32
        Features in the order of `rows`, in pieces of any m; only one piece is held in memory.
    layers : sequence of Layer, optional
        The recipe's further outputs, in its order. Their blocks are asked for one layer after the
        other, when all of `blocks` is written.
    index : FileIndex, optional
        How the files looked that the rows were computed from, and those in the quarantine.

    Raises
    ------
    CacheError
        If columns and features do not fit together, a feature is NaN, infinite or too large for
        float16, the layers are not those of the recipe, or the file cannot be written. `path` is
        then as it was before.

    Notes
    -----
    Equal arguments give a file of equal bytes: it holds no random number, and no time but those of
    the index.
    """
    where = str(path)
    header.require_sound(where)
    require_outputs(header, where)
    require_layers(header, layers, where)
    rows.require_sound(where)
    _require_order(rows, where)
    if index is not None:
        require_equal_counts({"paths": len(rows), "stat/files": len(index.files)}, where)
    # Asked for its first block now: a disk that is too small is told before a file is begun. What a
    # layer needs is known when its own first block is there; to ask them all would hold them all.
    features = Blocks(blocks, len(rows), STORES[header.store], "features", where)

    import h5py

    with replace_atomically(path) as file:
        with h5py.File(file, "w") as h5:
            bound_cache(h5)
            sums = _Sums(h5)
            _write_attributes(h5, header, sums)
            _write_features(h5, features, sums)
            _write_rows(h5, rows, sums, where)
            if index is not None:
                _write_index(h5, index, sums)
            for layer in layers:
                _write_layer(h5, layer, len(rows), header.store, sums, where)
            sums.write()
            raw = trailer.raw_spans(h5)
        trailer.append(file, raw)


def _write_layer(h5: h5py.File, layer: Layer, n: int, store: str, sums: _Sums, where: str) -> None:
    name = dataset_of(output_id(layer.output))
    dataset = _write_features(h5, Blocks(layer.blocks, n, STORES[store], name, where), sums)
    for told in ("node", "pooling"):
        text = encode_text([layer.output[told]], f"{name}, {told}")[0]
        dataset.attrs[told] = text.decode()
    dataset.attrs["fingerprint"] = layer.fingerprint


def _write_features(h5: h5py.File, blocks: Blocks, sums: _Sums) -> h5py.Dataset:
    """A dataset of the rows of all `blocks`, with its digests."""
    # Never filled: every row is written below, and zeros first would double the writing.
    dataset = h5.create_dataset(blocks.name, (blocks.n, blocks.d), blocks.dtype, fill_time="never")
    digests: list[np.ndarray] = []
    start = 0
    for block in blocks:
        dataset[start : start + len(block)] = block
        digests.append(checksums.digests(block, checksums.FEATURE_ROWS))
        start += len(block)
    sums.add(blocks.name, np.concatenate(digests), checksums.FEATURE_ROWS)
    return dataset


def _require_order(rows: Rows, where: str) -> None:
    if Texts.of(rows.paths).ascending():
        return
    views = rows.views().tolist()
    for row in range(1, len(rows)):
        before = (paths.order(rows.paths[row - 1]), views[row - 1])
        if (paths.order(rows.paths[row]), views[row]) <= before:
            same = rows.paths[row] == rows.paths[row - 1]
            raise CacheError(
                f"row {row} ({rows.paths[row]!r}) {'stands twice' if same else 'is out of order'}",
                expected="each path once per view, ordered by its bytes, then by view",
                where=where,
            )


class _Sums:
    """The digests of what has been written so far; becomes the group ``checksums``."""

    def __init__(self, h5: h5py.File) -> None:
        self.h5 = h5
        self.named: dict[str, tuple[np.ndarray, int]] = {}

    def add(self, name: str, digests: np.ndarray, rows: int) -> None:
        self.named[name] = (digests, rows)

    def write(self) -> None:
        group = self.h5.create_group("checksums")
        group.attrs["algorithm"] = "blake3"
        found = {name: digests for name, (digests, _) in self.named.items()}
        group.attrs["content"] = checksums.content(found)
        if any(name.startswith("stat/") for name in found):
            group.attrs["content_without_stat"] = checksums.content_without_stat(found)
        for name, (digests, rows) in self.named.items():
            group.create_dataset(name, data=digests).attrs["rows"] = rows


def _write_attributes(h5: h5py.File, header: Header, sums: _Sums) -> None:
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": canonical_json(header.recipe).decode(),
        "environment": canonical_json(header.environment).decode(),
        "fingerprint": header.fingerprint,
        "root": encode_text([header.root], "root")[0].decode(),
        "created_by": f"bottleneck-probe {__version__}",
    }
    for name in ATTRIBUTES:
        h5.attrs[name] = values[name]
    sums.add("attributes", attributes_digest([str(values[name]) for name in ATTRIBUTES]), 1)


def attributes_digest(values: Sequence[str]) -> np.ndarray:
    """(1, 32) uint8: the digest of the root attributes as text, in the order of `ATTRIBUTES`."""
    return checksums.digests([value.encode() for value in values], len(ATTRIBUTES))


def task_digest(task: str) -> np.ndarray:
    """(1, 32) uint8: the digest of the attribute `task` of the targets."""
    return checksums.digests([task.encode()], 1)


def _write_rows(h5: h5py.File, rows: Rows, sums: _Sums, where: str) -> None:
    _write_numbers(h5, "keys", rows.keys, sums)
    _write_text(h5, "paths", rows.paths, sums)
    _write_numbers(h5, "labels", rows.labels.astype("<i4", copy=False), sums)
    _write_text(h5, "splits", rows.splits, sums)
    _write_text(h5, "classes", rows.classes, sums)
    if rows.targets is not None:
        _write_numbers(h5, "targets", rows.targets.values.astype("<f4", copy=False), sums)
        h5["targets"].attrs["task"] = rows.targets.task
        sums.add("task", task_digest(rows.targets.task), 1)
    if rows.view is not None:
        _write_numbers(h5, "view", rows.view.astype("<i4", copy=False), sums)
    if rows.phash is not None:
        _write_numbers(h5, "phash", rows.phash.astype("<u8", copy=False), sums)
    # The group keeps the order of the columns; by default HDF5 lists them by name.
    h5.create_group("meta", track_order=True)
    for name, column in rows.meta.items():
        link = encode_text([f"meta/{encode_name(name)}"], "meta")[0].decode()
        if isinstance(column, np.ndarray):
            _write_numbers(h5, link, column.astype("<f8", copy=False), sums)
        else:
            _write_text(h5, link, column, sums)
    _write_text(h5, "quarantine/paths", [path for path, _ in rows.quarantine], sums)
    # A reason may quote anything that stood in a broken file; no run shall end over that.
    reasons = [_printable(reason) for _, reason in rows.quarantine]
    _write_text(h5, "quarantine/reasons", reasons, sums)


def _write_index(h5: h5py.File, index: FileIndex, sums: _Sums) -> None:
    for name in ("files", "quarantine", "ignored"):
        values = getattr(index, name).astype("<i8", copy=False)
        _write_numbers(h5, f"stat/{name}", values, sums)
    _write_numbers(h5, "stat/quarantine_keys", index.quarantine_keys, sums)
    _write_text(h5, "stat/ignored_paths", index.ignored_paths, sums)
    _write_numbers(h5, "stat/clock", np.array([index.time_ns, index.grain_ns], "<i8"), sums)
    _write_text(h5, "stat/decoders", [canonical_json(index.decoders).decode()], sums)


def _write_numbers(h5: h5py.File, name: str, values: np.ndarray, sums: _Sums) -> None:
    h5.create_dataset(name, data=values)
    sums.add(name, checksums.digests(values, checksums.ROWS), checksums.ROWS)


def _write_text(h5: h5py.File, name: str, values: Sequence[str], sums: _Sums) -> None:
    import h5py

    dataset = h5.create_dataset(name, (len(values),), h5py.string_dtype())
    digests = [np.empty((0, 32), np.uint8)]
    # A block at a time: of many rows, all the texts as Python objects would take most of the memory.
    for start in range(0, len(values), checksums.ROWS):
        encoded = encode_text(values[start : start + checksums.ROWS], name, start)
        dataset[start : start + len(encoded)] = encoded
        digests.append(checksums.digests(encoded, checksums.ROWS))
    sums.add(name, np.concatenate(digests), checksums.ROWS)


def encode_text(values: Sequence[str], name: str, first: int = 0) -> list[bytes]:
    """UTF-8, or a CacheError naming the first entry of dataset `name` that HDF5 cannot hold.

    Parameters
    ----------
    values : sequence of str
    name : str
        Of the dataset.
    first : int, default 0
        The row of the first of them.
    """
    encoded = []
    for row, value in enumerate(values, start=first):
        try:
            encoded.append(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise CacheError(
                f"entry {row} of {name} is not Unicode: {value!r}",
                expected="text that UTF-8 can hold",
                next="escape it with bottleneck_probe.paths.escape",
            ) from None
        if "\0" in value:  # HDF5 would end the text there
            raise CacheError(f"entry {row} of {name} holds a NUL character: {value!r}")
    return encoded


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
