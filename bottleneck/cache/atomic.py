"""Files that appear whole or not at all: temporary name, write, fsync, rename, fsync of the folder.

All writing goes through `os.open`, `os.write`, `os.fsync`, `os.replace` and `os.unlink`, also when
HDF5 writes: it is handed the `Descriptor` below. So an error is never swallowed by a library
(HDF5's own `close()` raises nothing after a failed write), and a test can fail any single call.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from ..errors import CacheError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# On Windows a virus scanner or an indexer may hold a new file open for a moment.
REPLACE_TRIES = 5
REPLACE_PAUSE_S = 0.2
# A temporary file this old without a living owner belonged to a run that was killed.
ORPHAN_AGE_S = 60.0


class Descriptor(io.RawIOBase):
    """A binary file over an `os` descriptor, for reading and writing; keeps its first error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

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
            os.close(descriptor)

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
            self.error = self.error or error
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
            self.error = self.error or error
            raise
        return length


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Descriptor]:
    """A new file to write, which takes `path`'s place when the block ends without an error.

    Parameters
    ----------
    path : str or path-like
        Its folder is made if need be. If it is a symbolic link, the file it points to is replaced.

    Yields
    ------
    Descriptor
        A binary file, open for reading and writing, in the folder of `path`, under another name.

    Raises
    ------
    CacheError
        If it cannot be written, naming `path` and the cause. `path` is as it was before, and the
        temporary file is gone; both also after any other exception inside the block.
    """
    target = Path(os.path.realpath(path))
    with telling(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(target)
        temporary, descriptor = _create(target)
    try:
        file = Descriptor(descriptor)
        try:
            yield file
        except OSError:
            # Ours to explain if it came from our file; the block may also read from other places.
            _raise_first(file, path)
            raise
        finally:
            with telling(path):  # on a network disk "over quota" may come as late as here
                try:
                    _raise_first(file, path)  # whoever wrote did not pass it on
                    sync(descriptor)
                finally:
                    file.close()
        with telling(path):
            _replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with telling(path):
        sync_folder(target.parent)


def _raise_first(file: Descriptor, path: str | os.PathLike[str]) -> None:
    if file.error:
        raise _explain(file.error, Path(path)) from file.error


def _create(target: Path) -> tuple[Path, int]:
    # Not made from the target's whole name, which may already have the 255 bytes a name can have.
    temporary = target.with_name(f"{_mark(target)}{secrets.token_hex(8)}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    if fcntl is not None:
        with suppress(OSError):  # tells `_remove_orphans` that we live; nothing else rests on it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return temporary, descriptor


def _mark(target: Path) -> str:
    return f".{blake3(os.fsencode(target.name)).hexdigest()[:12]}-"


def _remove_orphans(target: Path) -> None:
    """Remove temporary files of `target` that a killed run has left behind."""
    for orphan in target.parent.glob(f"{_mark(target)}*.tmp"):
        with suppress(OSError):  # on Windows an open file cannot be removed: its owner lives
            if time.time() - orphan.stat().st_mtime > ORPHAN_AGE_S and _without_owner(orphan):
                os.unlink(orphan)


def _without_owner(path: Path) -> bool:
    if fcntl is None:
        return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _replace(source: Path, target: Path) -> None:
    for left in reversed(range(REPLACE_TRIES)):
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            # On Windows a file that somebody has open cannot be replaced; elsewhere it means
            # the folder, and waiting does not help.
            if getattr(error, "winerror", None) not in (5, 32):
                raise
            if not left:
                raise CacheError(
                    f"{target} cannot be replaced: another program has it open",
                    where=str(target),
                    next="close the notebook, HDF5 viewer or backup that reads it, and run again; "
                    "what was computed is kept",
                ) from error
            time.sleep(REPLACE_PAUSE_S)


def sync(descriptor: int) -> None:
    """Wait until what was written is on the medium, not only in its cache."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:  # macOS: fsync alone leaves the data in the drive's cache
        try:
            fcntl.fcntl(descriptor, full_sync)
            return
        except OSError:  # file systems without it, such as network ones
            pass
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until a rename in `folder` is on the medium, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders; its file systems log renames themselves
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def require_space(folder: str | os.PathLike[str], needed: int) -> None:
    """Raise a CacheError if `folder` has less than `needed` bytes free.

    Parameters
    ----------
    folder : str or path-like
        Need not exist yet; then its nearest parent that does is asked.
    needed : int
        In bytes.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise CacheError(
            f"disk full: needs {size(needed)}, has {size(free)} at {place}",
            where=str(folder),
            next="free some space, or put the output on another disk with -o",
        )


def size(count: int) -> str:
    """Bytes as a person reads them: ``'1.2 GB'``."""
    amount, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


@contextmanager
def telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError inside the block into a CacheError that names `path` and the cause."""
    try:
        yield
    except OSError as error:
        raise _explain(error, Path(path)) from error


def _explain(error: OSError, path: Path) -> CacheError:
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    if error.errno in full:
        free = ""
        with suppress(OSError):
            free = f", has {size(shutil.disk_usage(path.parent).free)} at {path.parent}"
        what = "over quota" if error.errno != errno.ENOSPC else "disk full"
        return CacheError(
            f"{what}: {path} could not be written{free}",
            where=str(path),
            next="free some space and run again; what was finished is kept",
        )
    if error.errno == errno.EFBIG:
        return CacheError(
            f"{path} grew larger than this file system or `ulimit -f` allows",
            where=str(path),
            next="raise the limit, or put the output on another disk with -o",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CacheError(
            f"no permission to write {path} ({error.strerror})",
            where=str(path.parent),
            next="choose a folder that you may write to with -o",
        )
    name = errno.errorcode.get(error.errno or 0, "error")
    return CacheError(
        f"{path} could not be written: {error.strerror or error} ({name})", where=str(path)
    )
