"""Whether an HDF5 file may be read at all: looks at its structure, and at no value.

A feature file may come from anywhere. HDF5 follows links into other files, fills what was never
written with zeros, and believes any size a file declares; each of these is refused here, before
a first value is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CacheError
from .atomic import size
from .locate import SUFFIXES, locate
from .metadata import bound_cache

if TYPE_CHECKING:
    import h5py

# Filters that every HDF5 library has: deflate, shuffle, fletcher32, and lzf of h5py. A plugin is
# code that is loaded because a file asks for it.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
# deflate reaches about 1,030 to 1, and nothing above can do better.
EXPANSION = 1100
MAGIC = b"\x89HDF\r\n\x1a\n"
DEPTH = 8


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading, whose structure has been checked.

    Parameters
    ----------
    path : Path

    Yields
    ------
    h5py.File

    Raises
    ------
    CacheError
        If it cannot be opened, is no HDF5 file, is cut short, or holds what must not be followed.
    """
    _require_hdf5(path)
    with ExitStack() as stack:
        try:
            file = _open(path, stack)
            bound_cache(file)
            require_plain(file, path)
        # What h5py raises for structures that make no sense is not only OSError.
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(path, error) from error
        try:
            yield file
        except (OSError, RuntimeError) as error:
            raise _damaged(path, error) from error


def _open(path: Path, stack: ExitStack) -> h5py.File:
    import h5py

    try:
        return stack.enter_context(h5py.File(path, "r"))
    except OSError:
        # A network disk without locks, or another program's lock. Published files never change in
        # place, so none is needed; a Python file takes none, whatever HDF5_USE_FILE_LOCKING says.
        return stack.enter_context(h5py.File(stack.enter_context(path.open("rb")), "r"))


def _damaged(path: Path, error: Exception) -> CacheError:
    return CacheError(
        f"{path} is damaged: HDF5 cannot read it ({_reason(error)})",
        where=str(path),
        next="extract again under another name, or restore the file from a backup",
    )


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a feature file: by its first bytes, or by its suffix if it is not there.

    ``FILE.h5::ID``, an output of a file, names it too.
    """
    file, _ = locate(path)
    if not file.is_file():
        return file.suffix.lower() in SUFFIXES
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def _reason(error: Exception) -> str:
    """HDF5's own words in brackets, without its "unable to synchronously open file"."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text


def _require_hdf5(path: Path) -> None:
    try:
        if path.is_dir():
            raise CacheError(
                f"{path} is a folder", expected="a feature file (.h5)", where=str(path)
            )
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
    if head.startswith(MAGIC):
        return
    if head[8:9] == b"{":
        raise CacheError(
            f"{path} is a probe, not a feature file",
            expected="a feature file (.h5), made by `bottleneck extract`",
            where=str(path),
            next=f"`bottleneck info {path}`, or bp.load({str(path)!r}) in Python",
        )
    raise CacheError(
        f"{path} is empty" if not head else f"{path} is not an HDF5 file",
        expected="a feature file (.h5), made by `bottleneck extract`",
        where=str(path),
        next="check the name; a file that was copied only in part has to be copied again",
    )


def require_plain(file: h5py.File, path: Path) -> None:
    """Raise a CacheError if anything in `file` points outside, is hidden, or cannot be as declared.

    Parameters
    ----------
    file : h5py.File
    path : Path
        For the message.
    """
    import h5py

    length = os.stat(path).st_size
    stack: list[tuple[str, h5py.Group]] = [("", file)]
    seen = {h5py.h5o.get_info(file.id).addr}
    while stack:
        prefix, group = stack.pop()
        if prefix.count("/") > DEPTH:
            raise _refused(path, prefix, f"is nested over {DEPTH} deep")
        for name in group:
            where = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _refused(path, where, "points outside the file or at another place in it")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise _refused(path, where, "stands twice in the file")
            seen.add(address)
            if isinstance(item, h5py.Group):
                stack.append((f"{where}/", item))
            elif isinstance(item, h5py.Dataset):
                _require_plain_dataset(item, where, path, length)


def _require_plain_dataset(dataset: h5py.Dataset, name: str, path: Path, length: int) -> None:
    import h5py

    if dataset.is_virtual:
        raise _refused(path, name, "is virtual: its values lie outside the file")
    creation = dataset.id.get_create_plist()
    if creation.get_external_count():
        raise _refused(path, name, "points outside the file")
    filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
    for number in filters:
        if number not in FILTERS:
            raise _refused(path, name, f"needs HDF5 filter {number}", ", ".join(FILTERS.values()))
    if dataset.shape is None:
        raise _refused(path, name, "has no shape")
    # Python's integers, because a declared shape can exceed what 64 bits hold.
    declared = dataset.dtype.itemsize
    for side in dataset.shape:
        declared *= int(side)
    if declared > length * EXPANSION or (not filters and declared > length):
        raise _refused(path, name, f"declares {size(declared)} in a file of {size(length)}")
    # HDF5 reads whatever was never written as zeros, without an error.
    if dataset.chunks:
        expected = int(
            np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)])
        )
        missing = expected - dataset.id.get_num_chunks() if declared else 0
    else:
        compact = creation.get_layout() == h5py.h5d.COMPACT
        missing = int(declared > 0 and not compact and dataset.id.get_storage_size() < declared)
    if missing:
        raise _refused(path, name, "was declared, but never written in full")


def _refused(path: Path, name: str, reason: str, expected: str = "") -> CacheError:
    return CacheError(
        f"{path}: {name} {reason}",
        expected=expected or "plain datasets, as in the specification (cache/README.md)",
        where=f"{path}, {name}",
        next="use it only if you know who made it; `bottleneck extract` makes a new one",
    )
