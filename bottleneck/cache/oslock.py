"""A lock of the operating system on a file: free again as soon as the process that has it is gone."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover - only on Windows; tests put None in its place
    fcntl = None  # type: ignore[assignment]

_BUSY = {errno.EAGAIN, errno.EACCES}
# Answers of disks without locks: NFS without its lock service, some of FUSE, old clusters.
_NOT_OFFERED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# File systems of this machine alone, on which a lock that we have got proves that nobody else has it.
# The others may be seen by several machines, and whether their locks reach across depends on options.
_LOCAL = (
    " apfs bcachefs btrfs ecryptfs exfat ext2 ext3 ext4 f2fs fuseblk hfsplus iso9660 jfs msdos ntfs "
    "ntfs3 overlay ramfs reiserfs rootfs squashfs tmpfs ubifs vfat xfs zfs "
)


class OsLock:
    """Tries to take the lock on `file`, which is made if need be; does not wait.

    Attributes
    ----------
    state : str
        ``held``: it is ours. ``busy``: another process has it. ``none``: this disk has no locks.
    proves : bool
        It is ours, and so nobody else is alive that had it.

    Raises
    ------
    OSError
        If the file cannot be made or opened.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor: int | None = None
        self._windows: Any = None
        self.state = self._take_windows(file) if fcntl is None else self._take(file)
        self.proves = self.state == "held" and is_local(file.parent)

    def _take(self, file: Path) -> str:
        # A link that somebody put here in a folder of many users must not have its target written.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(file, flags, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in _BUSY:
                return "busy"
            if error.errno in _NOT_OFFERED:
                return "none"
            raise
        return "held"

    def _take_windows(self, file: Path) -> str:
        import filelock

        lock = filelock.FileLock(file)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            # Also where it cannot be made: then there is nothing to wait for.
            if not file.exists():
                raise PermissionError(errno.EACCES, "no lock can be made", str(file)) from None
            return "busy"
        self._windows = lock
        return "held"

    def release(self) -> None:
        """Give it back; the file stays, since another process may be about to lock it."""
        with suppress(OSError):
            if self._windows is not None:
                self._windows.release()
            if self._descriptor is not None:
                os.close(self._descriptor)
        self._windows = self._descriptor = None


def is_local(folder: Path) -> bool:
    """Whether only this machine can see `folder`, or a lock on it reaches all that can."""
    if sys.platform == "win32":  # a server of SMB keeps the locks of all its clients
        return True
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            lines = mounts.readlines()
    except OSError:  # macOS and others: not known
        return False
    here = os.fsencode(os.path.realpath(folder))
    best, kind = b"", b""
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        # Blanks in names stand as octal numbers.
        place = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), fields.split()[4])
        inside = here == place or here.startswith(place.rstrip(b"/") + b"/")
        if inside and len(place) >= len(best):  # of two at one place the later one lies on top
            best, kind = place, rest.split()[0]
    return f" {kind.decode('ascii', 'replace')} " in _LOCAL
