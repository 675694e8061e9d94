"""One thread at a time: any object in, a block that no other thread runs for the same object.

Some of these blocks run other people's code, which may never come back. Who watches the threads learns
here how one waits (`awaited`), and says which one is not counted on any more (`give_up`): then nobody
waits for it for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .color import BadImage

# How soon a waiting thread notices that whom it waits for was given up.
_POLL_S = 0.1
_STUCK = "not asked for: what it comes from is still busy with an image that was given up"


class _Turns:
    """Who holds one object; an entry lives only while somebody does or wants to."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users = 0  # threads that hold it or wait for it
        self.depth = 0  # what follows is written by the thread that holds it
        self.number = 0
        self.holder: int | None = None
        self.stuck = False

    def enter(self) -> None:
        if not self.lock.acquire(blocking=False):
            me = threading.get_ident()
            _waiting[me] = self
            try:
                while True:
                    if self.stuck:
                        raise BadImage(_STUCK)
                    if self.lock.acquire(timeout=_POLL_S):
                        break
            finally:
                del _waiting[me]
        self.depth += 1
        self.number += 1
        self.holder = threading.get_ident()

    def leave(self) -> None:
        self.depth -= 1
        if not self.depth:
            self.holder = None
        self.stuck = False  # it came back after all
        self.lock.release()


_registry = threading.Lock()
# By id, because PIL images and lists are neither hashable nor weakly referable. An entry lives only
# while somebody is in the block, and so holds the object: no other can get its id meanwhile.
_locks: dict[int, _Turns] = {}
_waiting: dict[int, _Turns] = {}  # by thread


@contextmanager
def exclusive(thing: object) -> Iterator[None]:
    """Keep other threads out while something that is not made for threads is used.

    Parameters
    ----------
    thing : object
        A data set, a PIL image, an open file. The same thread may enter again.

    Raises
    ------
    BadImage
        If another thread is in there that was given up.

    Examples
    --------
    >>> images = [b"..."]
    >>> with exclusive(images):
    ...     len(images)
    1
    """
    with _registry:
        turns = _locks.setdefault(id(thing), _Turns())
        turns.users += 1
    try:
        turns.enter()
        try:
            yield
        finally:
            turns.leave()
    finally:
        with _registry:
            turns.users -= 1
            if not turns.users:
                del _locks[id(thing)]


def awaited(thread: int) -> tuple[int, int] | None:
    """What a thread waits for, another value as soon as that changes hands; None if for nothing."""
    turns = _waiting.get(thread)
    return None if turns is None else (id(turns), turns.number)


def give_up(thread: int) -> None:
    """Let nobody wait for what a thread holds, or waits for itself, until that is left again."""
    with _registry:
        for turns in _locks.values():
            if turns.holder == thread or _waiting.get(thread) is turns:
                turns.stuck = True
