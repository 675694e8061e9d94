"""Pillow under our own conditions: a block of code in, the same code strict and silent.

The host program shares Pillow, the warning filters and the log with us, and other threads decode at
the same moment. But for `silence_libtiff`, nothing here changes what the host sees outside of our
own decoding.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class _Here(threading.local):
    active = False  # whether this thread is inside `strictly`


_here = _Here()


class _PillowHere:
    """Matches a warning's module if it is Pillow's and this thread is decoding for us.

    `warnings.catch_warnings` swaps the process's filters and so mixes up threads. A filter's module
    may be any object with `match`, so one permanent entry can decide by thread instead.
    """

    # Who hands filters on to worker processes (scikit-learn's `Parallel`) reads them as regular
    # expressions.
    pattern = r"PIL\."

    def match(self, module: str) -> bool:
        return _here.active and module.startswith("PIL.")


_FILTER: Any = ("ignore", None, Warning, _PillowHere(), 0)


class _Silence(logging.Filter):
    """Drops Pillow's log records of our own decoding: without handlers they land on stderr."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _here.active


# The one plugin that logs above debug level (2026, Pillow 13); a filter on the parent logger
# "PIL" would not see its records.
logging.getLogger("PIL.TiffImagePlugin").addFilter(_Silence())


class _Truncated:
    """Holds `ImageFile.LOAD_TRUNCATED_IMAGES` off while any thread decodes; then puts it back.

    The flag is a module global that Pillow reads deep inside, so it cannot be passed in. `taints`
    counts how often a host thread switched it on in between: what was decoded then is not trusted.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.wanted = False  # what the host had set
        self.taints = 0

    def enter(self) -> int:
        from PIL import ImageFile

        with self.lock:
            if self.users == 0:
                self.wanted = ImageFile.LOAD_TRUNCATED_IMAGES
            elif ImageFile.LOAD_TRUNCATED_IMAGES:
                self.wanted = True
                self.taints += 1
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            self.users += 1
            return self.taints

    def leave(self, before: int) -> bool:
        """Whether the flag stayed off the whole time."""
        from PIL import ImageFile

        with self.lock:
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                self.wanted = True
                self.taints += 1
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self.users -= 1
            if self.users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self.wanted
            return self.taints == before


_truncated = _Truncated()


@contextmanager
def _silent() -> Iterator[None]:
    if not warnings.filters or warnings.filters[0] is not _FILTER:
        # In front: a host that turns warnings into errors must not turn an odd TIFF tag into a
        # failed image. Outside our decoding the entry matches nothing.
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    before, _here.active = _here.active, True
    try:
        yield
    finally:
        _here.active = before


def strictly(work: Callable[[], T]) -> T:
    """Run code that uses Pillow without its warnings, and never with truncated images allowed.

    Parameters
    ----------
    work : callable without arguments
        Is run again in the rare case that the host changed Pillow's settings meanwhile.

    Returns
    -------
    object
        What `work` returns; its exceptions pass through.

    Examples
    --------
    >>> strictly(lambda: 2)
    2
    """
    for _ in range(10):
        before, error = _truncated.enter(), None
        try:
            with _silent():
                result = work()
        except Warning as caught:  # another thread's filter got in front of ours for a moment
            error = caught
        finally:
            kept = _truncated.leave(before)
        if kept and error is None:
            return result
    raise OSError("Pillow's settings were changed by this program again and again while decoding")


@cache
def silence_libtiff() -> None:
    """Keep libtiff from writing to the terminal what Pillow raises anyway.

    It prints straight to file descriptor 2, up to four lines for each odd tag: 500 lines for 215
    broken TIFFs. The handler belongs to the process, so this is the one thing that
    stays; it reaches the library inside Pillow's wheels on Linux and macOS, and does nothing
    elsewhere.
    """
    import PIL

    package = Path(PIL.__file__).parent
    libraries = [
        *package.parent.glob("pillow.libs/libtiff*.so*"),
        *package.glob(".dylibs/libtiff*.dylib"),
    ]
    for library in libraries:
        try:
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)
        except (OSError, AttributeError):
            continue
