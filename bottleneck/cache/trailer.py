"""The end of a feature file: a digest of all its bytes that no other digest in it covers.

The group ``checksums`` speaks of values, and HDF5 has to be followed through its links and heaps to
find them. Where one of these is damaged, HDF5 may hang, crash, or lead to other values without a
word. So the file ends with BLAKE3 of its bytes, which is compared before HDF5 reads the first one.
The raw numbers of features and layers are left out: they are most of the file, and each block of
them has a digest that is compared when it is read.

HDF5 takes no notice of what stands behind its own end. A program that changes the file through HDF5
cuts the trailer off, and what is left is read as a file of an earlier version is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from blake3 import blake3

from ..errors import CacheError
from ..recipe import canonical_json

if TYPE_CHECKING:
    import h5py

    from .atomic import Descriptor

MAGIC = b"\x89BPT\r\n\x1a\n"
VERSION = 1
# Length of the JSON, little-endian, and the magic: what a reader looks for at the very end.
_TAIL = 8 + len(MAGIC)
_MOST_BYTES = 1 << 20
_PIECE = 1 << 20
# What HDF5 reads first; no file of it is shorter. Of a shorter one h5py hands it memory that nobody
# has filled, and what comes of that is different each time.
_HEAD_BYTES = 64
# Where the file's own length stands in HDF5's superblock, by its version.
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}

Spans = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Trailer:
    """What stands at the end of a file.

    Parameters
    ----------
    hdf5_bytes : int
        Where HDF5's part ends and the trailer begins.
    raw : dict of str to (int, int)
        First and last but one byte of the raw numbers of a dataset, which `digest` does not cover.
    digest : str
        BLAKE3 of the other bytes, then of the trailer without this member; hexadecimal.
    """

    hdf5_bytes: int
    raw: Spans
    digest: str

    def described(self) -> dict[str, Any]:
        """The trailer as JSON data, without its digest."""
        raw = {name: list(span) for name, span in self.raw.items()}
        return {"version": VERSION, "hdf5_bytes": self.hdf5_bytes, "raw": raw}


def raw_spans(h5: h5py.File) -> Spans:
    """Where the raw numbers of features and layers lie, of those that lie in one piece."""
    names = ["features", *(f"layers/{link}" for link in h5.get("layers", ()))]
    found: Spans = {}
    for name in names:
        start = h5[name].id.get_offset()
        if start is not None:
            found[name] = (start, start + h5[name].id.get_storage_size())
    return found


def append(file: Descriptor, raw: Mapping[str, tuple[int, int]]) -> None:
    """Put the trailer behind a file that HDF5 has closed.

    Parameters
    ----------
    file : Descriptor
        Open for reading and writing.
    raw : mapping of str to (int, int)
        As of `raw_spans`, taken before HDF5 closed it.
    """
    length = file.seek(0, os.SEEK_END)
    plain = Trailer(length, dict(raw), "")
    found = _digest(file, plain)
    text = canonical_json({**plain.described(), "blake3": found})
    file.seek(0, os.SEEK_END)
    file.write(text + len(text).to_bytes(8, "little") + MAGIC)


def read(file: BinaryIO, path: Path) -> Trailer | None:
    """The trailer of a file, not yet compared with its bytes.

    Parameters
    ----------
    file : binary file
        Seekable, open for reading.
    path : Path
        For the message.

    Returns
    -------
    Trailer or None
        None if there is none, or one of a later version.

    Raises
    ------
    CacheError
        If the file is shorter than HDF5's part, or goes on behind it with something that is no
        trailer, or with one that makes no sense.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _TAIL))
    tail = file.read(_TAIL)
    if not tail.endswith(MAGIC):
        if length < _HEAD_BYTES:
            raise _damaged(path, f"it was cut off after {length} bytes")
        end = _hdf5_end(file)
        if end is not None and end > length:
            raise _damaged(path, f"it was cut off after {length} of {end} bytes")
        if end is not None and end < length:
            raise _damaged(path, f"its last {length - end} bytes are no trailer of ours")
        return None
    size = int.from_bytes(tail[:8], "little")
    if not 0 < size <= min(_MOST_BYTES, length - _TAIL):
        raise _damaged(path, "its trailer says an impossible length")
    file.seek(length - _TAIL - size)
    try:
        told = json.loads(file.read(size))
        if told["version"] != VERSION:
            return None
        raw = {str(name): (int(start), int(stop)) for name, (start, stop) in told["raw"].items()}
        trailer = Trailer(int(told["hdf5_bytes"]), raw, str(told["blake3"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, "its trailer cannot be read") from error
    if trailer.hdf5_bytes != length - _TAIL - size or not _apart(trailer):
        raise _damaged(path, "its trailer is not about this file")
    return trailer


def _apart(trailer: Trailer) -> bool:
    """Whether the raw spans lie in HDF5's part, behind each other."""
    edges = [0, *(edge for span in sorted(trailer.raw.values()) for edge in span)]
    edges.append(trailer.hdf5_bytes)
    return edges == sorted(edges)


def require_equal(file: BinaryIO, trailer: Trailer, path: Path) -> None:
    """Raise a CacheError if the bytes of a file are not those that its trailer was made of."""
    if _digest(file, trailer) != trailer.digest:
        raise _damaged(path, "its structure or columns differ from the digest at its end")


def require_spans(h5: h5py.File, trailer: Trailer, path: Path) -> None:
    """Raise a CacheError if the trailer leaves out other bytes than the numbers of the features."""
    if raw_spans(h5) != trailer.raw:
        raise _damaged(path, "its trailer leaves out other bytes than those of the features")


def _digest(file: BinaryIO | Descriptor, trailer: Trailer) -> str:
    """BLAKE3 of all bytes of HDF5's part that are no raw numbers, then of the trailer itself."""
    whole = blake3()
    buffer = memoryview(bytearray(_PIECE))
    for start, stop in _covered(trailer):
        file.seek(start)
        while start < stop:
            count = file.readinto(buffer[: stop - start])  # type: ignore[union-attr]
            if not count:
                break
            whole.update(buffer[:count])
            start += count
    whole.update(canonical_json(trailer.described()))
    return whole.hexdigest()


def _covered(trailer: Trailer) -> Iterator[tuple[int, int]]:
    start = 0
    for first, stop in sorted(trailer.raw.values()):
        yield start, first
        start = stop
    yield start, trailer.hdf5_bytes


def _hdf5_end(file: BinaryIO) -> int | None:
    """How long HDF5's superblock says the file is; None where it does not say so plainly."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    place = _END_OF_FILE.get(head[8]) if len(head) == _HEAD_BYTES else None
    if place is None:
        return None
    # Addresses of 8 bytes, as everywhere but in files made so on purpose.
    if head[13 if head[8] < 2 else 9] != 8:
        return None
    return int.from_bytes(head[place : place + 8], "little")


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} is damaged: {reason}",
        where=str(path),
        next="`bottleneck cache repair` saves the rows that are whole; or restore it from a backup",
    )
