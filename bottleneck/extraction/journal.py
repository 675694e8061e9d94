"""Which images are being read and decoded right now, kept beside the output for the case of a crash.

Decoders are C code that shares the process with everything else: a segfault in one, or the system's
answer to one that takes all memory, ends the run without a word, and would do so at the same image
each time. So each thread writes down what it takes up, before it does. A run that ends in order
removes the file; one that finds it knows which images to try alone (`alone`), and keeps in it which
of them crashed.

Nothing is synced: what a process has written outlives it, and after a power cut there is nobody to
blame. A line costs some microseconds, against milliseconds for an image.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from blake3 import blake3

from ..regular import NotRegular, open_regular

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SURROGATE_OR_NUL = re.compile("[\ud800-\udfff\0]")
# Rewritten beyond this, to what still counts.
_MOST_BYTES = 1 << 20
_LONGEST_NAME = 250  # most systems allow 255 bytes, of which ".new" takes some
_MODE = 0o666  # as of any new file: the user's umask decides


@dataclass(frozen=True, slots=True)
class Verdict:
    """An image that ended the process in which it was decoded alone.

    Attributes
    ----------
    key : str
        Of its bytes, 64 hex digits.
    path : str
        Stored path, at that time.
    reason : str
    decoders : dict of str to str
        Versions that it crashed.
    """

    key: str
    path: str
    reason: str
    decoders: Mapping[str, str]


class Journal:
    """The journal of one output; a context that removes it where it is not needed any more.

    Used by many threads. What cannot be written (a full disk) is left out: the run's own files say
    so where it matters. What is no file (somebody's pipe) is left alone.

    Parameters
    ----------
    path : pathlib.Path

    Attributes
    ----------
    suspects : list of str
        Stored paths of what a run that did not end had taken up.
    verdicts : dict of str to Verdict
        By key.
    fault : str
        Why no journal can be kept here; empty if one can.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._descriptor: int | None = None
        self._size = 0
        self._lines: dict[int, bytes] = {}  # of each thread, what it is at
        self._threads = 0
        self.fault = ""
        self.suspects: list[str] = []
        self.verdicts: dict[str, Verdict] = {}
        try:
            self.suspects, self.verdicts = _read(path)
        except NotRegular as kind:
            self.fault = f"{path} is {kind}"

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._close()
            self._lines.clear()
            if self.fault:
                return
            # What was not looked at (Ctrl-C) is looked at by the next run.
            if self.suspects or self.verdicts:
                self._rewrite()
                self._close()
            else:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)

    def thread(self) -> int:
        """A number for a thread that will take up images."""
        with self._lock:
            self._threads += 1
            return self._threads

    def take_up(self, thread: int, path: str) -> None:
        """Write down that a thread goes on to the image at this stored path."""
        line = json.dumps(["at", thread, path]).encode() + b"\n"
        with self._lock:
            self._lines[thread] = line
            self._write(line)

    def met(self, key: bytes, path: str) -> None:
        """An image that is known to crash was found at this stored path: perhaps it was renamed."""
        with self._lock:
            known = self.verdicts.get(key.hex())
            if known is not None:
                self.verdicts[known.key] = replace(known, path=path)

    def cleared(self) -> None:
        """Nobody is suspected any more; what was found is in `verdicts`."""
        with self._lock:
            self.suspects = []
            self._rewrite()

    def _write(self, line: bytes) -> None:
        if self._descriptor is None or self._size > _MOST_BYTES:
            self._rewrite()
            return
        try:
            os.write(self._descriptor, line)
        except OSError:
            return
        self._size += len(line)

    def _rewrite(self) -> None:
        """Put what still counts into a new file, and that in the old one's place: never half of it."""
        self._close()
        if self.fault:
            return
        lines = [
            json.dumps(["crashed", v.key, v.path, v.reason, dict(v.decoders)]).encode() + b"\n"
            for v in self.verdicts.values()
        ]
        lines += [json.dumps(["at", 0, path]).encode() + b"\n" for path in self.suspects]
        content = b"".join([*lines, *self._lines.values()])
        new = self.path.with_name(f"{self.path.name}.new")
        # O_EXCL: to open somebody's pipe or link of that name could wait for ever, or write elsewhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_CLOEXEC", 0)
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, flags, _MODE)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
            os.replace(new, self.path)
            append = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, append | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return
        self._size = len(content)

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def journal_path(output: Path) -> Path:
    """Where the journal of a run lies: beside its output, hidden."""
    target = Path(os.path.realpath(output))
    name = f".{target.name}.journal"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{blake3(os.fsencode(target.name)).hexdigest()[:12]}.journal"
    return target.with_name(name)


def _read(path: Path) -> tuple[list[str], dict[str, Verdict]]:
    """What each thread of an earlier run took up last, and what is known to crash.

    Raises
    ------
    NotRegular
        If it is no file.
    """
    try:
        with open_regular(path) as file:
            content = file.read(8 * _MOST_BYTES)
    except OSError:
        return [], {}
    last: dict[int, list[str]] = {}
    verdicts: dict[str, Verdict] = {}
    for line in content.split(b"\n"):
        match _parsed(line):
            case ["at", 0, str(name)]:  # left over from a run before that one
                last.setdefault(0, []).append(name)
            case ["at", int(thread), str(name)]:
                last[thread] = [name]
            case ["crashed", str(key), str(name), str(reason), dict(decoders)]:
                if _HEX.match(key) and all(isinstance(each, str) for each in decoders.values()):
                    verdicts[key] = Verdict(key, name, reason, decoders)
    return list(dict.fromkeys(name for names in last.values() for name in names)), verdicts


def _parsed(line: bytes) -> Any:
    """One line; None if it is not one of ours: a full disk cut it short, or somebody else wrote it."""
    try:
        found = json.loads(line)
        texts = [each for each in found if isinstance(each, str)]
    except (ValueError, TypeError, RecursionError):
        return None
    # Neither could be a stored path, nor be written into a file.
    return None if any(_SURROGATE_OR_NUL.search(text) for text in texts) else found
