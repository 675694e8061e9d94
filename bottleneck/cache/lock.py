"""One writer at a time to a feature file, so that two runs do not compute the same images.

Nothing rests on the lock but that: a file appears whole by `atomic`, and shards have the names of
their content, so two writers without a lock lose work at worst, never rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ..errors import CacheError
from ..regular import NotRegular, open_regular
from . import lease, orphans
from .media import make_folder, telling
from .oslock import OsLock

_POLL_S = 0.1
# On a disk without locks: so long after the signature, whoever signed at the same moment shows.
_SETTLE_S = 0.2
_NAME_BYTES = 255


@contextmanager
def writing(
    path: str | os.PathLike[str],
    *,
    timeout_s: float = -1,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Hold the hidden file ``.<name>.lock`` beside `path` inside the block.

    What a killed run has left of `path`, half-written under a temporary name, is removed first.

    Parameters
    ----------
    path : str or path-like
        The feature file that will be written. If it is a symbolic link, the file that it points to
        is locked, since that is what will be replaced.
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
    target = Path(os.path.realpath(path))
    file = _lock_file(target)
    make_folder(target.parent)
    until = time.monotonic() + timeout_s
    told = False
    while isinstance(hold := _attempt(file, path), str):
        if timeout_s >= 0 and time.monotonic() >= until:
            raise CacheError(
                f"{path} is in use by {hold}",
                expected="one writer at a time",
                where=str(file),
                next="wait for it to end and run again, or write to another file with -o",
            )
        if waiting is not None and not told:
            waiting(f"{path} is in use by {hold}; waiting for it to end")
            told = True
        time.sleep(_POLL_S)
    try:
        orphans.remove_beside(target)
        yield file
    finally:
        hold.release()


def _lock_file(target: Path) -> Path:
    name = f".{target.name}.lock"
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = f".{blake3(os.fsencode(target.name)).hexdigest()[:32]}.lock"
    return target.with_name(name)


@dataclass
class _Hold:
    file: Path
    system: OsLock
    own: lease.Lease
    heartbeat: lease.Heartbeat | None

    def release(self) -> None:
        """Take the signature out, then the lock off: who comes next finds no owner."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
        found = lease.read(self.file)
        if found is None or found.token == self.own.token:
            lease.sign(self.file, None)
        self.system.release()


def _attempt(file: Path, path: str | os.PathLike[str]) -> _Hold | str:
    """The lock; or who has it."""
    _require_lockable(file)
    own = lease.mine()
    with telling(path, "open"):
        system = OsLock(file)
    try:
        found = lease.read(file)
        if system.state == "busy":
            return str(found or "another run")
        locked = system.state == "held"
        if found and not lease.is_over(found, file, proved=system.proves, locked=locked):
            system.release()
            return _of_another_machine(found, file)
        lease.sign(file, own)
        if not locked:
            time.sleep(_SETTLE_S)
            found = lease.read(file)
            if found is not None and found.token != own.token:
                return str(found)
        beating = None if system.proves else lease.Heartbeat(file)
        return _Hold(file, system, own, beating)
    except BaseException:
        # Signed and not held: without locks it would keep off whoever runs on, a notebook for one.
        found = lease.read(file)
        if found is not None and found.token == own.token:
            lease.sign(file, None)
        system.release()
        raise


def _require_lockable(file: Path) -> None:
    """Raise a CacheError where something else has the lock's name: to read a pipe would not end."""
    try:
        with suppress(OSError):  # none yet; or not to be read, which the lock itself will say
            open_regular(file).close()
    except NotRegular as kind:
        raise CacheError(
            f"{file} is {kind}, where the lock of the output has to be",
            expected="nothing of that name, or the empty file of an earlier run",
            where=str(file),
            next="remove it, or write to another file with -o",
        ) from None


def _of_another_machine(found: lease.Lease, file: Path) -> str:
    minutes = int(lease.age_s(file) // 60)
    return (
        f"{found} (last sign of life {minutes} min ago; after "
        f"{lease.STALE_AFTER_S / 60:.0f} min it counts as gone. If it is gone, remove {file})"
    )
