"""Files that appear whole or not at all: temporary name, write, fsync, rename, fsync of the folder.

All writing goes through `os.open`, `os.write`, `os.fsync`, `os.replace` and `os.unlink`, also when
HDF5 writes: it is handed a `Descriptor`. So an error is never swallowed by a library (HDF5's own
`close()` raises nothing after a failed write), and a test can fail any single call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import CacheError
from . import orphans
from .descriptor import Descriptor
from .media import explain, make_folder, require_space, size, sync, sync_folder, telling

__all__ = [
    "Descriptor",
    "explain",
    "make_folder",
    "replace_atomically",
    "require_space",
    "require_writable",
    "size",
    "sync",
    "sync_folder",
    "telling",
]

# On Windows a virus scanner or an indexer may hold a new file open for a moment.
REPLACE_TRIES = 5
REPLACE_PAUSE_S = 0.2


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise a CacheError if no file can be made beside `path`: better now than after an hour of work."""
    target = Path(os.path.realpath(path))
    with telling(path, "open"):
        temporary, descriptor = orphans.create(target)
        os.close(descriptor)
    with telling(path, "unlink"):
        os.unlink(temporary)


@contextmanager
def replace_atomically(
    path: str | os.PathLike[str],
    *,
    needs: int = 0,
    check: Callable[[Path], None] | None = None,
) -> Iterator[Descriptor]:
    """A new file to write, which takes `path`'s place when the block ends without an error.

    Parameters
    ----------
    path : str or path-like
        Its folder is made if need be. If it is a symbolic link, the file it points to is replaced.
    needs : int, default 0
        Bytes of the whole file, where they are known: told where the disk is too small.
    check : callable, optional
        Called with the path of the temporary file when it is on the medium, before it gets its
        name; may raise.

    Yields
    ------
    Descriptor
        A binary file, open for reading and writing, in the folder of `path`, under another name.

    Raises
    ------
    CacheError
        If it cannot be written, naming `path`, the call and the cause. `path` is as it was before,
        and the temporary file is gone; both also after any other exception inside the block.
    """
    target = Path(os.path.realpath(path))
    make_folder(target.parent)
    with telling(path, "open"):
        orphans.remove_of(target)
        temporary, descriptor = orphans.create(target)
    file = Descriptor(descriptor)
    try:
        try:
            yield file
            file.sync()
        finally:
            file.close()
        if file.error is not None:
            raise file.error
        if check is not None:
            check(temporary)
        with telling(path, "rename"):
            _replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # Ours to explain if it came from our file, even where whoever wrote made something else of
        # it or did not pass it on; the block may also read from other places.
        if file.error is not None and isinstance(error, Exception):
            needed = max(needs, file.reach)
            raise explain(file.error, Path(path), file.call, needed) from file.error
        raise
    with telling(path, "fsync"):
        sync_folder(target.parent)


def _replace(source: Path, target: Path) -> None:
    tries = 0
    while True:
        tries += 1
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            # On Windows a file that somebody has open cannot be replaced; elsewhere it means
            # the folder, and waiting does not help.
            if getattr(error, "winerror", None) not in (5, 32):
                raise
            if tries >= REPLACE_TRIES:
                raise CacheError(
                    f"{target} cannot be replaced: another program has it open",
                    where=str(target),
                    next="close the notebook, HDF5 viewer or backup that reads it, and run again; "
                    "what was computed is kept",
                ) from error
            time.sleep(REPLACE_PAUSE_S)
