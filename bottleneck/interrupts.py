"""A Ctrl-C that Python would lose.

The handler of a signal raises `KeyboardInterrupt` wherever the main thread happens to be. In a
callback of Python's own (a weak reference that dies, a finalizer) the exception is printed and
forgotten, and the work goes on for hours: 2 of 100 signals at random instants of a short run. So the
handler also notes it, and the loop that waits for work asks.
"""

from __future__ import annotations

import sys
from typing import Any

_noted = False
_hooked = False


def note() -> None:
    """Somebody wants the work to end."""
    global _noted
    _noted = True


def forget() -> None:
    """It is ending."""
    global _noted
    _noted = False


def check() -> None:
    """Raise the KeyboardInterrupt that was noted, if none has arrived."""
    if _noted:
        forget()
        raise KeyboardInterrupt


def print_none() -> None:
    """Have Python print no traceback of an interrupt that it drops."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)

    sys.unraisablehook = hook
