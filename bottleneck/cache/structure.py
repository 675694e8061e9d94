"""What an HDF5 file is built of, looked at before a first value is read.

HDF5 follows links into other files, fills what was never written with zeros, and believes any size
a file declares; each of these is refused here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import CacheError
from ..memory import physical_memory
from .atomic import size

if TYPE_CHECKING:
    import h5py

# Filters that every HDF5 library has: deflate, shuffle, fletcher32, and lzf of h5py. A plugin is
# code that is loaded because a file asks for it.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
# deflate reaches about 1,030 to 1, and nothing above can do better.
EXPANSION = 1100
DEPTH = 8
# A chunk is unpacked whole for one row of it. h5py's own choice is at most 1 MiB.
CHUNK_BYTES = 16 << 20
_PIECE = 1 << 20


def require_plain(h5: h5py.File, file: BinaryIO, path: Path) -> None:
    """Raise a CacheError if anything in a file points outside, is hidden, or cannot be as declared.

    Parameters
    ----------
    h5 : h5py.File
    file : binary file
        What `h5` reads from.
    path : Path
        For the message.
    """
    import h5py

    length = os.fstat(file.fileno()).st_size
    stack: list[tuple[str, h5py.Group]] = [("", h5)]
    seen = {h5py.h5o.get_info(h5.id).addr}
    columns = 0
    while stack:
        prefix, group = stack.pop()
        if prefix.count("/") > DEPTH:
            raise refused(path, prefix, f"is nested over {DEPTH} deep")
        for name in group:
            where = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise refused(path, where, "points outside the file or at another place in it")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise refused(path, where, "stands twice in the file")
            seen.add(address)
            if isinstance(item, h5py.Group):
                stack.append((f"{where}/", item))
            elif isinstance(item, h5py.Dataset):
                declared = require_plain_dataset(item, where, path, length)
                require_texts_fit(item, where, file, path)
                if where != "features" and not where.startswith("layers/"):
                    columns += declared
    # Columns are read whole, features a window at a time.
    if columns > physical_memory():
        raise refused(
            path,
            "all columns together",
            f"declare {size(columns)}, more than this machine's memory",
        )


def require_plain_dataset(dataset: h5py.Dataset, name: str, path: Path, length: int) -> int:
    """The bytes that a dataset declares, after its checks."""
    import h5py

    if dataset.is_virtual:
        raise refused(path, name, "is virtual: its values lie outside the file")
    creation = dataset.id.get_create_plist()
    if creation.get_external_count():
        raise refused(path, name, "points outside the file")
    filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
    for number in filters:
        if number not in FILTERS:
            raise refused(path, name, f"needs HDF5 filter {number}", ", ".join(FILTERS.values()))
    if dataset.shape is None:
        raise refused(path, name, "has no shape")
    declared = _product(dataset.dtype.itemsize, dataset.shape)
    if declared > length * EXPANSION or (not filters and declared > length):
        raise refused(path, name, f"declares {size(declared)} in a file of {size(length)}")
    # HDF5 reads whatever was never written as zeros, without an error.
    if dataset.chunks:
        chunk = _product(dataset.dtype.itemsize, dataset.chunks)
        if chunk > max(declared, CHUNK_BYTES) or chunk > physical_memory() // 4:
            raise refused(path, name, f"has chunks of {size(chunk)} for {size(declared)} in all")
        expected = 1
        for n, c in zip(dataset.shape, dataset.chunks, strict=True):
            expected *= -(-int(n) // int(c))
        missing = expected - dataset.id.get_num_chunks() if declared else 0
    else:
        compact = creation.get_layout() == h5py.h5d.COMPACT
        missing = int(declared > 0 and not compact and dataset.id.get_storage_size() < declared)
    if missing:
        raise refused(path, name, "was declared, but never written in full")
    return declared


def require_texts_fit(dataset: h5py.Dataset, name: str, file: BinaryIO, path: Path) -> None:
    """Refuse texts that together are longer than the file: many entries that are one long text."""
    import h5py

    text = h5py.check_string_dtype(dataset.dtype)
    start = dataset.id.get_offset()
    if start is None or text is None or text.length is not None or not dataset.size:
        return  # in chunks or none at all; or of one length, which its type declares
    # Each entry is a length (4 bytes), the address of a heap, and a number there (4 bytes); neither is
    # followed here. HDF5 takes them one behind the other, however much room the file declares.
    address_bytes, _ = dataset.file.id.get_create_plist().get_sizes()
    entry = 8 + address_bytes
    left = dataset.size * entry
    if dataset.id.get_storage_size() != left:
        raise refused(path, name, "has entries that are no texts")
    file.seek(start)
    total = 0
    while left >= entry and (data := file.read(min(left, _PIECE // entry * entry))):
        whole = np.frombuffer(data[: len(data) // entry * entry], np.uint8).reshape(-1, entry)
        total += int(np.ascontiguousarray(whole[:, :4]).view("<u4").sum(dtype=np.uint64))
        left -= len(data)
    length = os.fstat(file.fileno()).st_size
    if total > length:
        raise refused(path, name, f"declares {size(total)} of text in a file of {size(length)}")


def _product(start: int, sides: tuple[int, ...]) -> int:
    # Python's integers, because a declared shape can exceed what 64 bits hold.
    for side in sides:
        start *= int(side)
    return start


def refused(path: Path, name: str, reason: str, expected: str = "") -> CacheError:
    """The error for what must not be followed; raise what it returns."""
    return CacheError(
        f"{path}: {name} {reason}",
        expected=expected or "plain datasets, as in the specification (cache/README.md)",
        where=f"{path}, {name}",
        next="use it only if you know who made it; `bottleneck extract` makes a new one",
    )
