"""A file over an `os` descriptor that libraries can write to, and that keeps its first error."""

from __future__ import annotations

import io
import os
from typing import Any

from .media import sync


class Descriptor(io.RawIOBase):
    """A binary file over an `os` descriptor, for reading and writing.

    Attributes
    ----------
    error : OSError or None
        The first one; a library that writes may not pass it on.
    call : str
        Which call that error came from: ``write``, ``ftruncate``, ``fsync`` or ``close``.
    reach : int
        How long the file would be if every write had succeeded, in bytes.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        self.call = ""
        self.reach = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; a late flush of a wrapper cannot reach whoever gets its number."""
        if not self.closed:
            super().close()
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)
            except OSError as error:  # on a network disk "over quota" may come as late as here
                self._keep(error, "close")

    def sync(self) -> None:
        """Wait until what was written is on the medium.

        Raises
        ------
        OSError
            Also if an earlier call failed. After a failed fsync the system may have dropped what was
            not written and call the next fsync of the same descriptor a success, so there is none.
        """
        if self.error is None:
            try:
                sync(self._descriptor)
            except OSError as error:
                self._keep(error, "fsync")
        if self.error is not None:
            raise self.error

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the file goes, and say how far."""
        view = memoryview(buffer).cast("B")
        data = os.read(self._descriptor, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            # A write may be short: Linux moves at most 2 GiB at once, less where the disk ends.
            while done < len(view):
                done += os.write(self._descriptor, view[done:])
        except OSError as error:
            self._keep(error, "write")
            if not self.closed:
                self.reach = max(self.reach, self.tell() + len(view) - done)
            raise
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """The position."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        """Make the file `size` bytes long."""
        length = self.tell() if size is None else size
        try:
            os.ftruncate(self._descriptor, length)
        except OSError as error:
            self._keep(error, "ftruncate")
            self.reach = max(self.reach, length)
            raise
        return length

    def _keep(self, error: OSError, call: str) -> None:
        if self.error is None:
            self.error, self.call = error, call
