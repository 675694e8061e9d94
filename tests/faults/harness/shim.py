"""Between the program and the system: fails, kills at, or notes down the calls that change a disk.

Installed inside a child of `nursery`. Settings:

``mode``
    ``once``: call number ``at`` fails with ``errno``. ``ever``: so do all after it. ``kill``: the
    process is killed right before it. ``count``: nothing but counting. ``log``: each call that
    succeeded is written to the trace with its data, for `lose`.
``under``
    Only calls on files below this folder count.
``calls``, ``path``
    Only these, by default all of `CALLS`; only of this file.

The trace of the other modes holds, in its last line, which call was hit, and of which path.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "rmdir")
_BY_DESCRIPTOR = {"write", "fsync", "ftruncate"}


def install(settings: dict[str, Any], trace: Path) -> None:
    """Take the place of the calls in `os`."""
    shim = _Shim(settings, trace)
    for name in (*CALLS, "close"):
        setattr(os, name, shim.wrapped(name, getattr(os, name)))


class _Shim:
    def __init__(self, settings: dict[str, Any], trace: Path) -> None:
        self.mode = settings["mode"]
        self.at = settings.get("at", 0)
        self.errno = settings.get("errno", 5)
        self.under = str(settings["under"])
        self.calls = set(settings.get("calls", CALLS))
        self.path = settings.get("path")
        self.count = 0
        self.paths: dict[int, str] = {}
        self.lock = threading.RLock()
        self._write = os.write
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND)

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self.lock:
                if name == "close":
                    self.paths.pop(args[0], None)
                    return real(*args)
                path = self.path_of(name, args, options)
                if path is None:
                    return real(*args, **options)
                counted = name in self.calls and self.path in (None, path)
                if counted and self.mode != "log":
                    self.count += 1
                    self.perhaps_fail(name, path)
                before = self.before(name, args)
                result = real(*args, **options)
                if name == "open":
                    self.paths[result] = path
                if self.mode == "log":
                    self.log(name, path, args, result, before)
                return result

        return call

    def path_of(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> str | None:
        """The file that a call is about, if it lies below the folder."""
        if name in _BY_DESCRIPTOR:
            return self.paths.get(args[0])
        path = os.fspath(args[1] if name == "replace" else args[0])
        if not isinstance(path, str):
            return None
        if options.get("dir_fd") is not None:  # as `shutil.rmtree` does
            path = os.path.join(self.paths.get(options["dir_fd"], "/"), path)
        path = os.path.abspath(path)
        return path if path == self.under or path.startswith(self.under + os.sep) else None

    def perhaps_fail(self, name: str, path: str) -> None:
        hit = self.count == self.at or (self.mode == "ever" and self.count > self.at > 0)
        if self.mode == "count" or not hit:
            return
        if self.count == self.at:
            self.note({"call": name, "path": path, "number": self.count})
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.errno, os.strerror(self.errno))

    def before(self, name: str, args: tuple[Any, ...]) -> Any:
        if self.mode != "log":
            return None
        if name == "write":
            return os.lseek(args[0], 0, os.SEEK_CUR)
        if name == "open":
            return os.path.lexists(args[0])
        return None

    def log(self, name: str, path: str, args: tuple[Any, ...], result: Any, before: Any) -> None:
        told: dict[str, Any] = {"call": name, "path": path}
        if name == "open":
            told |= {"fd": result, "new": not before, "cut": bool(args[1] & os.O_TRUNC)}
        elif name == "write":
            data = base64.b64encode(bytes(args[1])[:result]).decode()
            told |= {"fd": args[0], "at": before, "data": data}
        elif name == "ftruncate":
            told |= {"fd": args[0], "length": args[1]}
        elif name == "fsync":
            told |= {"fd": args[0]}
        elif name == "replace":
            told |= {"source": os.path.abspath(args[0])}
        self.note(told)

    def note(self, told: dict[str, Any]) -> None:
        self._write(self._trace, json.dumps(told).encode() + b"\n")
