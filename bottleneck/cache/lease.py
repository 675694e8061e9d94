"""Who has a lock, written into its file: for the other's message, and where disks have no locks.

A lease is kept alive by the time of the file, which its owner sets to now every 5 minutes. One that
was not kept alive for 30 minutes is over, wherever its owner may be; one of this machine is over as
soon as its process is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..regular import open_regular

HEARTBEAT_S = 300.0
STALE_AFTER_S = 1800.0
_LIMIT = 4096  # bytes; a signature has some 150


@dataclass(frozen=True, slots=True)
class Lease:
    """Who has it.

    Attributes
    ----------
    pid : int
    host : str
    started : str
        When the process began, since numbers of processes are given anew; empty if not known.
    boot : str
        The run of the machine's system; the same in all of its containers. Empty if not known.
    token : str
        A random number of this lease alone.
    """

    pid: int
    host: str
    started: str = ""
    boot: str = ""
    token: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host!r}"


def mine() -> Lease:
    """A new lease of this process."""
    pid = os.getpid()
    token = secrets.token_hex(8)
    return Lease(pid, socket.gethostname(), started_at(pid), _boot(), token)


def read(file: Path) -> Lease | None:
    """What stands in a lock file; None if that is nothing, or nothing that makes sense."""
    try:
        # A file of our own version or an earlier one, which had no more than pid and host.
        with open_regular(file) as opened:
            told = json.loads(opened.read(_LIMIT))
        texts = {name: str(told.get(name, "")) for name in ("host", "started", "boot", "token")}
        return Lease(pid=int(told["pid"]), **texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    except (OverflowError, RecursionError):  # a number like 1e999; a thousand brackets
        return None


def sign(file: Path, lease: Lease | None) -> None:
    """Write a lease into its file, or take it out again; where that fails it is only not told."""
    data = b"" if lease is None else json.dumps(asdict(lease)).encode()
    # Not cut before it is written: a reader in between would take the lock for free.
    with suppress(OSError):
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(file, flags)
        try:
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)


def is_over(lease: Lease, file: Path, *, proved: bool, locked: bool) -> bool:
    """Whether its owner has ended without a word.

    Parameters
    ----------
    lease : Lease
        That stands in `file`.
    file : pathlib.Path
    proved : bool
        The system's lock is ours, and reaches all machines that see the file.
    locked : bool
        The system's lock is ours on this machine.
    """
    if proved:
        return True
    boot = _boot()
    if boot and lease.boot == boot:  # this very system, or a container in it
        return locked or (lease.host == socket.gethostname() and not _lives(lease))
    if lease.host == socket.gethostname():
        # Another boot of this machine, or a system that does not tell: its processes are ours to see.
        return bool(boot and lease.boot) or locked or not _lives(lease)
    return age_s(file) > STALE_AFTER_S


def age_s(file: Path) -> float:
    """Seconds since a lease was kept alive, by the clock of its file system; 0 if unknown."""
    # Of another computer's disk our own clock says nothing; a new file there says what time it is.
    probe = file.with_name(f".{secrets.token_hex(8)}.now")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            now = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
            os.unlink(probe)
        return max(0.0, now - os.stat(file).st_mtime)
    except OSError:
        return 0.0


def started_at(pid: int) -> str:
    """When a process began, in ticks since its machine did; empty if there is none, or not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in brackets may hold blanks and brackets itself.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _lives(lease: Lease) -> bool:
    if sys.platform == "win32":  # there os.kill ends a process; its locks tell it all
        return True
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    # Of another user's process /proc may tell nothing (hidepid), and of nobody's outside Linux.
    began = started_at(lease.pid)
    return not (lease.started and began) or lease.started == began


class Heartbeat:
    """Keeps a lease alive in a thread until `stop`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bottleneck-lease", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self._file)

    def stop(self) -> None:
        """Let it go."""
        self._end.set()
        self._thread.join()
