"""Files that may have been named by somebody else, opened without waiting and without surprise."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Any, BinaryIO, cast


class NotRegular(ValueError):
    """What a name leads to is no regular file; the text says what it is."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device is an error, not an endless wait.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    binary file
        Without a buffer, and whole: a read gives all that was asked for, as far as the file goes.

    Raises
    ------
    OSError
        If it cannot be opened.
    NotRegular
        If it is something else than a regular file.
    """
    _require_regular(os.stat(path))
    # O_NONBLOCK: somebody may have put a pipe there since.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _require_regular(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return cast(BinaryIO, _Whole(descriptor, "rb"))


def unreadable(error: OSError) -> str:
    """What the system says about a file that cannot be read, with the error's name.

    Examples
    --------
    >>> unreadable(OSError(5, "Input/output error"))
    'Input/output error (EIO)'
    """
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{error.strerror or error}" + (f" ({name})" if name else "")


class _Whole(io.FileIO):
    """A file without a buffer, since a child process may move its position."""

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as the file goes: Linux reads at most 2 GiB at once."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (count := super().readinto(view[done:])):
            done += count
        return done


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise NotRegular(kinds.get(stat.S_IFMT(status.st_mode), "a device"))
