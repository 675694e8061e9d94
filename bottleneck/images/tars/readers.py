"""A tar's bytes at any place: a path or URL in, `read(offset, size)` out."""

from __future__ import annotations

import os
import re
import stat
from typing import Protocol

from ..color import BadImage
from ..origin import Status
from ..payload import os_reason

# How much is read at once while headers are looked for: they lie some 100 KB apart, and on another
# machine one long answer comes sooner than ten short ones.
WINDOW = 1 << 20


# Two letters at least: `C://photos` is a folder on Windows.
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")


class TarReader(Protocol):
    """An open tar.

    Attributes
    ----------
    size : int
        In bytes.
    status : tuple of int or None
        How it looked when it was opened; None if that says nothing.
    """

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def status(self) -> Status | None: ...  # noqa: D102

    def __enter__(self) -> TarReader: ...
    def __exit__(self, *error: object) -> None: ...

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""

    def look(self) -> Status | None:
        """How it looks now."""


def is_url(location: str) -> bool:
    """Whether a location is on another machine, or at least no path."""
    return _URL.match(location) is not None


def open_tar(location: str) -> TarReader:
    """Open a tar for reading.

    Parameters
    ----------
    location : str
        An absolute path, or a URL.

    Raises
    ------
    BadImage
        If there is no such regular file, or it may not be read.
    """
    if is_url(location):
        from ...remote.files import RemoteFile

        return RemoteFile(location)
    return LocalTar(location)


class LocalTar:
    """A tar on this computer; one descriptor while it is open."""

    def __init__(self, path: str) -> None:
        self._path = path
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            _require_regular(os.stat(path))  # before it is opened: opening a device has effects
            self._descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
        except (OSError, ValueError) as error:
            raise BadImage(_tar_reason(error, path)) from error
        found = os.fstat(self._descriptor)
        self.size = found.st_size
        self.status: Status | None = _status(found)

    def __enter__(self) -> LocalTar:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""
        # Sizes come from headers: what is not there needs no memory.
        left = max(0, min(size, self.size - offset))
        parts = []
        try:
            while left:
                part = self._read_some(offset, left)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                left -= len(part)
        except OSError as error:
            raise BadImage(_tar_reason(error, self._path)) from error
        except MemoryError as error:
            raise BadImage("a file that needs more memory than there is") from error
        return b"".join(parts)

    def _read_some(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)  # Windows; the descriptor is ours alone
        return os.read(self._descriptor, size)

    def look(self) -> Status | None:
        """How it looks now."""
        return _status(os.fstat(self._descriptor))


class Windowed:
    """A tar whose small reads are answered from one larger one, for going from header to header."""

    def __init__(self, reader: TarReader, window: int = WINDOW) -> None:
        self._reader = reader
        self.size = reader.size
        self._window = window
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""
        if size > self._window:
            return self._reader.read(offset, size)
        within = offset - self._start
        if within < 0 or within + size > len(self._data):
            self._data = self._reader.read(offset, self._window)
            self._start, within = offset, 0
        return self._data[within : within + size]


def _status(found: os.stat_result) -> Status:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BadImage("not a regular file")


def _tar_reason(error: OSError | ValueError, path: str) -> str:
    return os_reason(error, path) if isinstance(error, OSError) else "no such file"
