"""The medium below the files: synced files and folders, free space, and its errors in plain words."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import CacheError

try:
    import fcntl
except ImportError:  # pragma: no cover - only on Windows; tests put None in its place
    fcntl = None  # type: ignore[assignment]

# Answers of file systems that lack a way to sync; any other one is a failure.
_NOT_OFFERED = {errno.EINVAL, errno.ENOTSUP, errno.ENOTTY, errno.ENOSYS}


def sync(descriptor: int) -> None:
    """Wait until what was written is on the medium, not only in its cache."""
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:  # macOS: fsync alone leaves the data in the drive's cache
        try:
            fcntl.fcntl(descriptor, full_sync)
            return
        except OSError as error:
            if error.errno not in _NOT_OFFERED:  # network file systems do not have it
                raise
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until names made, changed or removed in `folder` are on the medium, where that can be done."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders; its file systems log renames themselves
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED | {errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, so that a power cut afterwards takes none of them away.

    Raises
    ------
    CacheError
        If one cannot be made.
    """
    missing = []
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        missing.append(place)
        place = place.parent
    for each in reversed(missing):
        with telling(each, "mkdir"), suppress(FileExistsError):  # another run was sooner
            os.mkdir(each)
        # The name stands in the folder above: a synced file in a folder that is not there is lost.
        with telling(each, "fsync"):
            sync_folder(each.parent)


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
def telling(path: str | os.PathLike[str], call: str = "") -> Iterator[None]:
    """Turn an OSError inside the block into a CacheError that names `path`, `call` and the cause."""
    try:
        yield
    except OSError as error:
        raise explain(error, Path(path), call) from error


def explain(error: OSError, path: Path, call: str = "", needs: int = 0) -> CacheError:
    """What a failed call means for whoever waits for `path`.

    Parameters
    ----------
    error : OSError
    path : pathlib.Path
        The file that was to be written.
    call : str
        The call that failed, as the system names it.
    needs : int
        Bytes of the file, as far as they are known.
    """
    cause = errno.errorcode.get(error.errno or 0, "")
    words = error.strerror or str(error)
    told = f"{words} ({' in '.join(each for each in (cause, call) if each)})"
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    if error.errno in full:
        what = "over quota" if error.errno != errno.ENOSPC else "disk full"
        wanted = [f"needs {size(needs)}"] if needs else []
        with suppress(OSError):
            wanted.append(f"has {size(shutil.disk_usage(path.parent).free)} at {path.parent}")
        return CacheError(
            f"{what}: {', '.join(wanted)}; {path} could not be written: {told}",
            where=str(path),
            next="free some space and run again; what was finished is kept",
        )
    if error.errno == errno.EFBIG:
        wanted_size = f" and needs {size(needs)}" if needs else ""
        return CacheError(
            f"{path} grew larger than this file system or `ulimit -f` allows{wanted_size}: {told}",
            where=str(path),
            next="raise the limit, or put the output on another disk with -o",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CacheError(
            f"no permission to write {path}: {told}",
            where=str(path.parent),
            next="choose a folder that you may write to with -o",
        )
    return CacheError(
        f"{path} could not be written: {told}",
        where=str(path),
        next="check the disk and run again; what was finished is kept",
    )
