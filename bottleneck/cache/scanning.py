"""All values of one dataset against their digests, as fast as the disk and the processor go.

A block of rows has a digest (`checksums`); which blocks are not what was written is what comes out.
Features of a file of ours lie in one piece, so several threads read and hash spans of them at once,
past HDF5, which does one thing at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from blake3 import blake3

from . import checksums
from .columns import is_text

if TYPE_CHECKING:
    import h5py

# Bytes in one read: enough for a disk's full speed, and little enough for the processor's cache.
SPAN_BYTES = 4 << 20
MAX_THREADS = 4

Tell = Callable[[int], None]


@dataclass
class Scan:
    """What was found of one dataset.

    Attributes
    ----------
    name : str
    rows : int
        Of the dataset.
    block_rows : int
        Rows of one digest; all of them where there are none.
    vouched : bool
        Whether there are digests to compare with.
    bad : list of int
        Blocks that differ from their digest, or cannot be read.
    not_finite : list of int
        Rows with NaN or infinity, where asked for.
    fault : str
        Why it could not be looked at; empty if it could.
    unreadable : list of int
        Those of `bad` that the system or HDF5 did not give.
    n_bytes : int
        Bytes of values.
    """

    name: str
    rows: int = 0
    block_rows: int = 1
    vouched: bool = False
    bad: list[int] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    fault: str = ""
    unreadable: list[int] = field(default_factory=list)
    n_bytes: int = 0

    def good_rows(self) -> np.ndarray:
        """Rows that are as they were written, as far as that can be told: (n,) bool."""
        if self.fault:
            return np.zeros(self.rows, bool)
        good = np.ones(-(-self.rows // self.block_rows) if self.rows else 0, bool)
        good[self.bad] = False
        each = np.repeat(good, self.block_rows)[: self.rows]
        each[self.not_finite] = False
        return each

    def bad_ranges(self) -> list[tuple[int, int]]:
        """First and last row of each run of blocks in `bad`."""
        return [
            (first * self.block_rows, min((last + 1) * self.block_rows, self.rows) - 1)
            for first, last in runs(self.bad)
        ]


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other.

    Examples
    --------
    >>> runs([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def scan(
    h5: h5py.File,
    name: str,
    path: Path,
    digests: np.ndarray | None,
    block_rows: int,
    *,
    finite: bool = False,
    tell: Tell | None = None,
) -> Scan:
    """Read a dataset whole and compare it, block by block.

    Parameters
    ----------
    h5 : h5py.File
        Open, its structure checked.
    name : str
        Of the dataset.
    path : Path
        The same file.
    digests : ndarray of shape (m, 32), uint8, or None
        Of its blocks; None if there are none: then only what can be read is told.
    block_rows : int
        Rows of one digest.
    finite : bool, default False
        Also look for NaN and infinity.
    tell : callable, optional
        Is told bytes as they are done.

    Returns
    -------
    Scan
    """
    dataset = h5[name]
    n = int(dataset.shape[0])
    found = Scan(name, n, max(1, block_rows), digests is not None)
    wanted = -(-n // found.block_rows)
    if digests is not None and len(digests) != wanted:
        found.fault = f"it has {len(digests)} checksums, and {wanted} blocks of rows"
        return found
    if not n:
        return found
    if is_text(dataset):
        _scan_texts(dataset, found, digests, tell)
        return found
    row_bytes = int(dataset.dtype.itemsize * np.prod(dataset.shape[1:], dtype=np.int64))
    found.n_bytes = n * row_bytes
    spans = list(_spans(n, found.block_rows, row_bytes))
    offset = _offset(h5, dataset)
    if offset is None:
        _scan_through_hdf5(dataset, found, spans, digests, finite, tell)
    else:
        _scan_raw(path, offset, dataset, found, spans, digests, finite, tell)
    return found


def _spans(n: int, block_rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """First row and the one behind the last of each read: whole blocks, some megabytes."""
    blocks = max(1, SPAN_BYTES // max(1, block_rows * row_bytes))
    for start in range(0, n, blocks * block_rows):
        yield start, min(start + blocks * block_rows, n)


def _offset(h5: h5py.File, dataset: h5py.Dataset) -> int | None:
    """Where the values lie in the file in one piece, as they are hashed; None if they do not."""
    plain = dataset.chunks is None and dataset.dtype == dataset.dtype.newbyteorder("<")
    return dataset.id.get_offset() if plain and not h5.userblock_size else None


class _Checker:
    """Compares spans of one dataset; several threads may use it."""

    def __init__(
        self, found: Scan, digests: np.ndarray | None, finite: bool, shape: tuple[int, ...]
    ) -> None:
        self.found = found
        self.digests = digests
        self.finite = finite
        self.row_shape = shape[1:]

    def check(self, raw: memoryview, start: int, stop: int, dtype: Any) -> list[int]:
        """The bad blocks of rows `start` to `stop`; notes rows that are not finite."""
        block, rows = self.found.block_rows, stop - start
        bad: list[int] = []
        if self.digests is not None:
            step = len(raw) // rows * block
            first = start // block
            for number, at in enumerate(range(0, len(raw), step), start=first):
                if blake3(raw[at : at + step]).digest() != self.digests[number].tobytes():
                    bad.append(number)
        if self.finite:
            values = np.frombuffer(raw, dtype).reshape(rows, -1)
            # A sum is finite only if every term is, and costs a quarter of looking at each.
            with np.errstate(over="ignore", invalid="ignore"):
                suspect = not np.isfinite(values.sum(dtype=np.float32))
            if suspect:
                wrong = np.flatnonzero(~np.isfinite(values).all(axis=1)) + start
                damaged = np.isin(wrong // block, bad)
                self.found.not_finite += wrong[~damaged].tolist()
        return bad


def _scan_raw(
    path: Path,
    offset: int,
    dataset: h5py.Dataset,
    found: Scan,
    spans: list[tuple[int, int]],
    digests: np.ndarray | None,
    finite: bool,
    tell: Tell | None,
) -> None:
    """Spans of the file itself, by several threads."""
    row_bytes, dtype = found.n_bytes // found.rows, dataset.dtype
    checker = _Checker(found, digests, finite, dataset.shape)
    local = threading.local()
    files: list[BinaryIO] = []

    def read(start: int, stop: int) -> memoryview:
        if not hasattr(local, "file"):
            local.file = path.open("rb", buffering=0)
            local.buffer = bytearray(max(b - a for a, b in spans) * row_bytes)
            files.append(local.file)
        view = memoryview(local.buffer)[: (stop - start) * row_bytes]
        local.file.seek(offset + start * row_bytes)
        done = 0
        while done < len(view):
            count = local.file.readinto(view[done:])
            if not count:
                raise OSError("the file ends")
            done += count
        return view

    def work(span: tuple[int, int]) -> tuple[list[int], list[int]]:
        try:
            return checker.check(read(*span), *span, dtype), []
        except OSError:
            return _one_by_one(span, found, lambda a, b: checker.check(read(a, b), a, b, dtype))

    pool = ThreadPoolExecutor(min(MAX_THREADS, _cores(), len(spans)))
    try:
        for (start, stop), (bad, unreadable) in zip(spans, pool.map(work, spans), strict=True):
            found.bad += bad
            found.unreadable += unreadable
            if tell:
                tell((stop - start) * row_bytes)
    finally:
        # On Ctrl-C what has not begun is not begun.
        pool.shutdown(wait=True, cancel_futures=True)
        for file in files:
            file.close()
    found.not_finite.sort()


def _scan_through_hdf5(
    dataset: h5py.Dataset,
    found: Scan,
    spans: list[tuple[int, int]],
    digests: np.ndarray | None,
    finite: bool,
    tell: Tell | None,
) -> None:
    """Chunks, filters, another byte order: HDF5 reads, one span after the other."""
    little = dataset.dtype.newbyteorder("<")
    checker = _Checker(found, digests, finite, dataset.shape)

    def work(start: int, stop: int) -> list[int]:
        values = np.ascontiguousarray(dataset[start:stop], dtype=little)
        return checker.check(values.reshape(-1).view(np.uint8).data, start, stop, little)

    for start, stop in spans:
        try:
            found.bad += work(start, stop)
        except (OSError, RuntimeError):
            bad, unreadable = _one_by_one((start, stop), found, work)
            found.bad += bad
            found.unreadable += unreadable
        if tell:
            tell((stop - start) * (found.n_bytes // found.rows))


def _one_by_one(
    span: tuple[int, int], found: Scan, work: Callable[[int, int], list[int]]
) -> tuple[list[int], list[int]]:
    """A span that could not be read, block by block: those that are bad, and of them the unreadable."""
    bad: list[int] = []
    unreadable: list[int] = []
    for start in range(span[0], span[1], found.block_rows):
        try:
            bad += work(start, min(start + found.block_rows, span[1]))
        except (OSError, RuntimeError):
            bad.append(start // found.block_rows)
            unreadable.append(start // found.block_rows)
    return bad, unreadable


def _scan_texts(
    dataset: h5py.Dataset, found: Scan, digests: np.ndarray | None, tell: Tell | None
) -> None:
    for number, start in enumerate(range(0, found.rows, found.block_rows)):
        stop = min(start + found.block_rows, found.rows)
        try:
            values = [bytes(value) for value in dataset[start:stop]]
        except (OSError, RuntimeError, ValueError):
            found.bad.append(number)
            found.unreadable.append(number)
            continue
        n_bytes = sum(map(len, values))
        found.n_bytes += n_bytes
        if digests is not None and checksums.digest(values) != digests[number].tobytes():
            found.bad.append(number)
        if tell:
            tell(n_bytes)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
