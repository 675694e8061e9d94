"""Where the files of a directory lie: `Storage` says what is needed of it, `LocalStorage` is a folder.

Everything that `cache.directory` reads or writes goes through this, so that a bucket can stand in for
a folder. Names are those of `cache.directory.manifest`: never with a slash, never from outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from ..errors import CacheError
from . import atomic, lock, orphans


class Storage(Protocol):
    """A flat place for files, each of which appears whole or not at all.

    Who writes calls, inside `writing`, first `adopt` for each large file, then `put` for the one
    that names them, then `delete` for what it no longer names. Who reads needs no lock: a file
    never changes under its name, except by `put`, which replaces it at once.
    """

    @property
    def name(self) -> str:
        """What a user types to open it, for messages too."""

    def read(self, name: str, limit: int) -> bytes | None:
        """All of a small file; None if it is not there, a CacheError if it is over `limit` bytes."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""

    def path(self, name: str) -> Path:
        """A file of this machine with the content of `name`: itself, or a copy that was fetched."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder of this machine where files can be built that `adopt` takes."""

    def adopt(self, built: Path, name: str) -> None:
        """Take over a file from `scratch` under its name; `built` is gone afterwards."""

    def put(self, name: str, data: bytes) -> None:
        """Make `data` the content of `name` at once, after all that was adopted is safe."""

    def list(self) -> list[str]:
        """The names of all files that are there; empty if the place itself is not."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    def tidy(self) -> None:
        """Remove what a killed writer has left half-written; for who is the only writer."""

    def require_space(self, needed: int) -> None:
        """Raise a CacheError if fewer than `needed` bytes are free, where that can be told."""

    def writing(
        self, waiting: Callable[[str], None] | None = None
    ) -> AbstractContextManager[object]:
        """Be the only writer inside the block, where the place has locks."""


class LocalStorage:
    """A folder of this machine.

    Parameters
    ----------
    folder : str or path-like
        Need not exist; it is made by the first write.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The folder, with a slash at its end."""
        return f"{self.folder}{os.sep}"

    def read(self, name: str, limit: int) -> bytes | None:
        """All of a small file, as of `Storage`."""
        size = self.size(name)
        if size is None:
            return None
        if size > limit:
            raise CacheError(
                f"{self.folder / name} has {atomic.size(size)}",
                expected=f"at most {atomic.size(limit)}",
                where=str(self.folder),
            )
        with _reading(self.folder / name), open(self.folder / name, "rb") as file:
            return file.read(limit)

    def size(self, name: str) -> int | None:
        """Bytes of a regular file, as of `Storage`; a link or a pipe of that name is an error."""
        path = self.folder / name
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CacheError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
        # A directory may come from anywhere: a link could lead to any file of this machine, and a
        # pipe would block for ever.
        if not stat.S_ISREG(found.st_mode):
            raise CacheError(
                f"{path} is no regular file, or a link",
                expected="the file itself",
                where=str(self.folder),
                next="copy it with its content (cp -rL), if you know where it comes from",
            )
        return found.st_size

    def path(self, name: str) -> Path:
        """The file itself."""
        return self.folder / name

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """The folder itself, so that taking over a file is one rename."""
        with atomic.telling(self.folder, "mkdir"):
            atomic.make_folder(self.folder)
        yield self.folder

    def adopt(self, built: Path, name: str) -> None:
        """Rename a file that was synced when it was built, as of `Storage`."""
        with atomic.telling(self.folder / name, "rename"):
            os.replace(built, self.folder / name)

    def put(self, name: str, data: bytes) -> None:
        """Replace a file atomically, as of `Storage`."""
        with atomic.telling(self.folder, "fsync"):
            atomic.make_folder(self.folder)
            # What the new content names has to be there after a power cut, if it is.
            atomic.sync_folder(self.folder)
        with atomic.replace_atomically(self.folder / name) as file:
            file.write(data)

    def list(self) -> list[str]:
        """The names of all files, as of `Storage`, ordered."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CacheError(
                f"{self.folder} cannot be read: {error.strerror}", where=str(self.folder)
            ) from error

    def delete(self, name: str) -> None:
        """Remove a file, as of `Storage`."""
        with atomic.telling(self.folder / name, "unlink"):
            (self.folder / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove orphaned temporary files, as of `Storage`."""
        orphans.remove_in(self.folder)

    def require_space(self, needed: int) -> None:
        """Ask the disk, as of `Storage`."""
        atomic.require_space(self.folder, needed)

    def writing(
        self, waiting: Callable[[str], None] | None = None
    ) -> AbstractContextManager[object]:
        """Hold the lock beside the folder, as of `Storage`."""
        return lock.writing(self.folder, waiting=waiting)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
