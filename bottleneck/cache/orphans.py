"""Temporary files: named after their target, locked by their writer, removed when it was killed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from ..regular import NotRegular, open_regular

try:
    import fcntl
except ImportError:  # pragma: no cover - only on Windows; tests put None in its place
    fcntl = None  # type: ignore[assignment]

# Between the birth of a temporary file and its lock there is a moment; only a file that is older is
# taken for an orphan by whoever does not hold the lock of the target (`cache.lock`).
AGE_S = 60.0
# Where files cannot be locked nobody can be asked whether they live: as long as a lease (`cache.lease`).
UNKNOWN_AGE_S = 1800.0
_NAME = re.compile(r"\.[0-9a-f]{12}-[0-9a-f]{16}\.tmp")


def create(target: Path) -> tuple[Path, int]:
    """A new temporary file beside `target`, and its descriptor, open for reading and writing."""
    # Not made from the target's whole name, which may already have the 255 bytes a name can have.
    temporary = target.with_name(f"{_mark(target)}{secrets.token_hex(8)}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    if fcntl is not None:
        with suppress(OSError):  # says that we live; nothing else rests on it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return temporary, descriptor


def remove_of(target: Path) -> None:
    """Remove what killed runs have left of `target`, unless it is very young."""
    _remove(target.parent.glob(f"{_mark(target)}*.tmp"), AGE_S)


def remove_beside(target: Path) -> None:
    """Remove all that killed runs have left of `target`; for who holds its lock."""
    _remove(target.parent.glob(f"{_mark(target)}*.tmp"), 0.0)


def remove_in(folder: Path) -> None:
    """Remove all temporary files in a folder of parts; for who holds the lock of its file."""
    _remove((each for each in folder.glob(".*.tmp") if _NAME.fullmatch(each.name)), 0.0)


def _mark(target: Path) -> str:
    return f".{blake3(os.fsencode(target.name)).hexdigest()[:12]}-"


def _remove(found: Iterable[Path], age_s: float) -> None:
    for orphan in list(found):
        # On Windows an open file cannot be removed: its owner lives. What is no file is not ours.
        with suppress(OSError, NotRegular):
            lives = _has_owner(orphan)
            least_s = UNKNOWN_AGE_S if lives is None else age_s
            if not lives and time.time() - orphan.stat().st_mtime >= least_s:
                os.unlink(orphan)


def _has_owner(path: Path) -> bool | None:
    """Whether a process writes it; None where the file system cannot say."""
    if fcntl is None:
        return False
    with open_regular(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return True if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return False
