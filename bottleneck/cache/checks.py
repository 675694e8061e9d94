"""The one way into an HDF5 file: opened only after its bytes, or a child process, vouch for it.

A feature file may come from anywhere, and any disk may change a bit. So first the digest at the
file's end is compared (`trailer`); a file without one is tried in a child process (`child`). Then
its structure is looked at (`structure`), and only then a value is read.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import CacheError
from ..regular import NotRegular, open_regular, unreadable
from ..remote.urls import is_url
from . import child, trailer
from .locate import SUFFIXES, is_directory, locate
from .metadata import bound_cache
from .structure import require_plain
from .verify import mended

if TYPE_CHECKING:
    import h5py

__all__ = ["explained", "is_hdf5", "opened", "require_plain", "try_out"]

MAGIC = b"\x89HDF\r\n\x1a\n"
# Files that were found whole, by device, inode, size and times: a window of features is read every
# few milliseconds, and the file was replaced in between or it was not.
_Identity = tuple[int, int, int, int, int]
_whole: OrderedDict[_Identity, None] = OrderedDict()
_MOST_KNOWN = 4096
# What h5py raises for structures that make no sense is not only OSError.
_ODD = (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError, SystemError)


@contextmanager
def opened(path: Path, *, vouched: bool = False) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading, whose structure has been checked.

    Parameters
    ----------
    path : Path
    vouched : bool, default False
        The caller has compared the whole file with a digest: no trailer and no child is needed.

    Yields
    ------
    h5py.File

    Raises
    ------
    CacheError
        If it cannot be opened, is no HDF5 file, is cut short, differs from the digest at its end,
        makes HDF5 crash or hang, or holds what must not be followed.
    """
    with _read_only(path) as file:
        known = _identity(file) in _whole
        end = None if known or vouched else _trailer_of(file, path)
        if not known and not vouched and end is None:
            child.require_survived(file, path)
        with explained(path), _hdf5(file) as h5:
            if not known:
                require_plain(h5, file, path)
                if end is not None:
                    trailer.require_spans(h5, end, path)
                _remember(file)
            yield h5


def try_out(path: Path) -> None:
    """Open a file in a child process, whatever its trailer says: it may come from a stranger.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CacheError
        As of `opened`. Afterwards `opened` needs no trial of its own.
    """
    with _read_only(path) as file:
        _trailer_of(file, path)
        child.require_survived(file, path)
        _remember(file)


def _trailer_of(file: BinaryIO, path: Path) -> trailer.Trailer | None:
    """The trailer of a file, compared with its bytes."""
    try:
        end = trailer.read(file, path)
        if end is not None:
            trailer.require_equal(file, end, path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return end


def _identity(file: BinaryIO) -> _Identity:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _remember(file: BinaryIO) -> None:
    _whole[_identity(file)] = None
    if len(_whole) > _MOST_KNOWN:
        _whole.popitem(last=False)


@contextmanager
def _hdf5(file: BinaryIO) -> Iterator[h5py.File]:
    """The HDF5 file in a binary file.

    HDF5 is handed the descriptor that was checked, so no other file can have taken its place, and
    it takes no lock: published files never change, and network disks often have none.
    """
    import h5py

    with h5py.File(file, "r") as h5:
        bound_cache(h5)
        yield h5


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what h5py raises inside the block into a CacheError that names the file."""
    try:
        yield
    except CacheError:
        raise
    except (OSError, RuntimeError) as error:
        # The system's errors have a number, those of HDF5 about what it has read have none. EINVAL
        # is about a place that no file has, where a damaged address has led.
        if isinstance(error, OSError) and error.errno not in (None, 0, errno.EINVAL):
            raise _unreadable(path, error) from error
        raise _damaged(path, error) from error
    except _ODD as error:
        if not _from_h5py(error):
            raise  # a mistake of ours, or of whoever uses the file
        raise _damaged(path, error) from error


def _from_h5py(error: Exception) -> bool:
    """Whether h5py itself raised it."""
    trace = error.__traceback__
    module = ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return str(module).partition(".")[0] == "h5py"


def _damaged(path: Path, error: Exception) -> CacheError:
    return CacheError(
        f"{path} is damaged: HDF5 cannot read it ({_reason(error)})",
        where=str(path),
        next=mended(path),
    )


def _unreadable(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{path} cannot be read: {unreadable(error)}",
        where=str(path),
        next="check the disk (dmesg, SMART)" if error.errno == errno.EIO else "",
    )


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a feature file: by its first bytes, or by its suffix if it is not there.

    ``FILE.h5::ID``, an output of a file, names it too; and so does a directory with a manifest.
    """
    if is_url(os.fspath(path)):
        from .elsewhere import is_features

        return is_features(os.fspath(path))
    file, _ = locate(path)
    if is_directory(file):
        return True
    if not file.is_file():
        return file.suffix.lower() in SUFFIXES
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def is_called_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file has the suffix of feature files, and is not a probe all the same."""
    file, _ = locate(path)
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(9)[8:] != b"{"


def _reason(error: Exception) -> str:
    """HDF5's own words in brackets, without its "unable to synchronously open file"."""
    text = str(error)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text


@contextmanager
def _read_only(path: Path) -> Iterator[BinaryIO]:
    """A file that begins as HDF5 does, open for reading."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except NotRegular as kind:
        raise CacheError(
            f"{path} is {kind}", expected="a feature file (.h5)", where=str(path)
        ) from None
    with file:
        try:
            head = file.read(16)
        except OSError as error:
            raise _unreadable(path, error) from error
        if not head.startswith(MAGIC):
            raise _another_kind(path, head)
        yield file


def _another_kind(path: Path, head: bytes) -> CacheError:
    if head[8:9] == b"{":
        return CacheError(
            f"{path} is a probe, not a feature file",
            expected="a feature file (.h5), made by `bottleneck extract`",
            where=str(path),
            next=f"`bottleneck info {path}`, or bp.load({str(path)!r}) in Python",
        )
    return CacheError(
        f"{path} is empty" if not head else f"{path} is not an HDF5 file",
        expected="a feature file (.h5), made by `bottleneck extract`",
        where=str(path),
        next="check the name; a file that was copied only in part has to be copied again",
    )
