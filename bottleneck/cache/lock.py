"""One writer at a time to a feature file, so that two runs do not compute the same images.

Nothing rests on the lock but that: a file appears whole by `atomic`, and shards have the names of
their content, so two writers without a lock lose work at worst, never rows.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CacheError
from .atomic import telling

if TYPE_CHECKING:
    import filelock


@contextmanager
def writing(
    path: str | os.PathLike[str],
    *,
    timeout_s: float = -1,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Hold the hidden file ``.<name>.lock`` beside `path` inside the block.

    Parameters
    ----------
    path : str or path-like
        The feature file that will be written.
    timeout_s : float, default -1
        How long to wait for another writer, in seconds; 0 does not wait, -1 waits for ever.
    waiting : callable, optional
        Called once, with a sentence for people, before a wait begins.

    Yields
    ------
    pathlib.Path
        That file.

    Raises
    ------
    CacheError
        "in use by pid 12 on host h", if another writer still has it after `timeout_s`; or if the
        folder cannot be written.
    """
    import filelock

    target = Path(path)
    file = target.with_name(f".{target.name}.lock")
    with telling(path):
        file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    if not _acquired(lock, 0, path):
        if not file.exists():  # nobody holds it: it cannot be made, and waiting would not end
            raise CacheError(
                f"{path} cannot be written: no lock can be made beside it",
                where=str(file.parent),
                next="choose a folder that you may write to with -o",
            )
        if timeout_s and waiting is not None:
            waiting(f"{path} is in use by {_holder(file)}; waiting for it to end")
        if not timeout_s or not _acquired(lock, timeout_s, path):
            raise CacheError(
                f"{path} is in use by {_holder(file)}",
                expected="one writer at a time",
                where=str(file),
                next="wait for it to end and run again, or write to another file with -o",
            )
    try:
        _sign(file)
        yield file
    finally:
        with suppress(OSError):
            lock.release()


def _acquired(lock: filelock.BaseFileLock, timeout_s: float, path: str | os.PathLike[str]) -> bool:
    import filelock

    # On a disk without locks filelock warns, and marks its turn by a file's existence alone.
    with telling(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lock.acquire(timeout=timeout_s, poll_interval=0.1)
        except filelock.Timeout:  # an OSError too, but not of the disk
            return False
    return True


def _sign(file: Path) -> None:
    """Write who holds the lock into it, for the other's message."""
    signature = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    # Not write_text, which would first cut the file that filelock has open; and Windows allows no
    # second handle on a locked region at all.
    with suppress(OSError), file.open("r+", encoding="utf-8") as handle:
        handle.write(signature)
        handle.truncate()


def _holder(file: Path) -> str:
    try:
        told = json.loads(file.read_text("utf-8"))
        return f"pid {int(told['pid'])} on host {str(told['host'])!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
