"""Helper processes end with the one that started them, also when that one is killed."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

_LOOK_S = 1.0


def environment(**more: str) -> dict[str, str]:
    """Of a helper: the modules of this process, and one thread."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **more,
    }


def end_with_parent() -> None:
    """From a thread, end this process about a second after the one that started it, where POSIX tells.

    While C code keeps Python's lock the thread waits; against that a helper has a limit on what it
    computes. On Windows a process has its parent's number for ever: there a helper ends when its input
    does, or its work.
    """
    with suppress(RuntimeError):  # no further thread is allowed: the helper still does its work
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
