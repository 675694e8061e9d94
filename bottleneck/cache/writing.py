"""A feature file from header, rows and blocks of features; the counterpart of `reading`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import paths
from .._version import __version__
from ..errors import CacheError
from ..recipe import canonical_json
from . import checksums
from .atomic import replace_atomically, require_space
from .layout import (
    ATTRIBUTES,
    FORMAT,
    FORMAT_VERSION,
    STORES,
    Header,
    Rows,
    encode_name,
)

if TYPE_CHECKING:
    import h5py

# A write of 1 MB or more runs at the disk's speed, and what lies in memory stays small for any d.
BLOCK_ROWS = 4096
BLOCK_BYTES = 32 << 20


def write(path: str | Path, header: Header, rows: Rows, blocks: Iterable[np.ndarray]) -> None:
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

    Raises
    ------
    CacheError
        If columns and features do not fit together, a feature is NaN, infinite or too large for
        float16, or the file cannot be written. `path` is then as it was before.

    Notes
    -----
    Equal arguments give a file of equal bytes: it holds no time and no random number.
    """
    where = str(path)
    header.require_sound(where)
    rows.require_sound(where)
    _require_order(rows, where)
    pieces = iter(blocks)
    first = next((piece for piece in pieces if len(piece)), None)
    if first is None or not len(rows):
        raise CacheError("no row to write", expected="at least one feature", where=where)
    n, d = len(rows), first.shape[1]
    dtype = STORES[header.store]
    require_space(Path(path).absolute().parent, n * (d * dtype.itemsize + 64))

    import h5py

    with replace_atomically(path) as file, h5py.File(file, "w") as h5:
        sums = _Sums(h5)
        _write_attributes(h5, header, sums)
        # Never filled: every row is written below, and zeros first would double the writing.
        dataset = h5.create_dataset("features", (n, d), dtype, fill_time="never")
        rows_at_once = _rows_at_once(d)
        stored: list[np.ndarray] = []
        start = 0
        for block in _regroup(first, pieces, rows_at_once, n, where):
            narrow = _store(block, dtype, start, where)
            dataset[start : start + len(block)] = narrow
            stored.append(checksums.digests(narrow, checksums.FEATURE_ROWS))
            start += len(block)
        if start != n:
            raise CacheError(f"rows differ: features {start}, keys {n}", where=where)
        sums.add("features", np.concatenate(stored), checksums.FEATURE_ROWS)
        _write_rows(h5, rows, sums, where)
        sums.write()


def _rows_at_once(d: int) -> int:
    """Rows in one write: whole blocks of checksums, so that none has to be put together again."""
    fitting = BLOCK_BYTES // (4 * max(d, 1)) // checksums.FEATURE_ROWS * checksums.FEATURE_ROWS
    return int(min(max(fitting, checksums.FEATURE_ROWS), BLOCK_ROWS))


def _regroup(
    first: np.ndarray, rest: Iterator[np.ndarray], size: int, n: int, where: str
) -> Iterator[np.ndarray]:
    """The same rows in blocks of exactly `size` rows (the last one shorter), float32.

    The yielded array is used again for the next block.
    """
    d = first.shape[1]
    buffer = np.empty((min(size, n), d), np.float32)
    filled = done = 0
    piece: np.ndarray | None = first
    while piece is not None:
        if piece.ndim != 2 or piece.shape[1] != d:
            raise CacheError(f"features are {piece.shape}", expected=f"(m, {d})", where=where)
        if done + filled + len(piece) > n:
            raise CacheError(f"rows differ: features over {n}, keys {n}", where=where)
        while len(piece):
            step = min(len(piece), len(buffer) - filled)
            buffer[filled : filled + step] = piece[:step]
            filled, piece = filled + step, piece[step:]
            if filled == len(buffer):
                yield buffer
                done, filled = done + filled, 0
        piece = next(rest, None)
    if filled:
        yield buffer[:filled]


def _store(block: np.ndarray, dtype: np.dtype, start: int, where: str) -> np.ndarray:
    """`block` in the type of the file; every value finite, or a CacheError naming rows."""
    wrong = start + np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(wrong):
        raise CacheError(
            f"NaN or infinity in the features of {_listed(wrong)}",
            expected="finite numbers",
            where=f"{where}, features",
            next="try --precision fp32 or another engine; these images give no usable feature",
        )
    with np.errstate(over="ignore"):  # told below, by row
        narrow = block.astype(dtype, copy=False)
    wrong = start + np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(wrong):
        largest = float(np.abs(block).max())
        raise CacheError(
            f"float16 cannot hold the features of {_listed(wrong)}: up to {largest:.6g}",
            expected="at most 65504",
            where=f"{where}, features",
            next="leave --store float16 out",
        )
    return narrow


def _listed(rows: np.ndarray) -> str:
    """Row numbers in words, five at most."""
    shown = ", ".join(map(str, rows[:5].tolist()))
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def _require_order(rows: Rows, where: str) -> None:
    views = rows.views().tolist()
    for row in range(1, len(rows)):
        before = (paths.order(rows.paths[row - 1]), views[row - 1])
        if (paths.order(rows.paths[row]), views[row]) <= before:
            same = rows.paths[row] == rows.paths[row - 1]
            raise CacheError(
                f"row {row} ({rows.paths[row]!r}) {'stands twice' if same else 'is out of order'}",
                expected="each path once, ordered by its bytes",
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
        group.attrs["content"] = checksums.content(
            {name: digests for name, (digests, _) in self.named.items()}
        )
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


def _write_rows(h5: h5py.File, rows: Rows, sums: _Sums, where: str) -> None:
    _write_numbers(h5, "keys", rows.keys, sums)
    _write_text(h5, "paths", rows.paths, sums)
    _write_numbers(h5, "labels", rows.labels.astype("<i4", copy=False), sums)
    _write_text(h5, "splits", rows.splits, sums)
    _write_text(h5, "classes", rows.classes, sums)
    if rows.view is not None:
        _write_numbers(h5, "view", rows.view.astype("<i4", copy=False), sums)
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


def _write_numbers(h5: h5py.File, name: str, values: np.ndarray, sums: _Sums) -> None:
    h5.create_dataset(name, data=values)
    sums.add(name, checksums.digests(values, checksums.ROWS), checksums.ROWS)


def _write_text(h5: h5py.File, name: str, values: Sequence[str], sums: _Sums) -> None:
    import h5py

    encoded = encode_text(values, name)
    dataset = h5.create_dataset(name, (len(encoded),), h5py.string_dtype())
    if encoded:
        dataset[:] = encoded
    sums.add(name, checksums.digests(encoded, checksums.ROWS), checksums.ROWS)


def encode_text(values: Sequence[str], name: str) -> list[bytes]:
    """UTF-8, or a CacheError naming the first entry of dataset `name` that HDF5 cannot hold."""
    encoded = []
    for row, value in enumerate(values):
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
