"""One thread at a time: any object in, a block that no other thread runs for the same object."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_registry = threading.Lock()
# id -> [lock, how many threads hold it or wait for it]. By id, because PIL images and lists are
# neither hashable nor weakly referable; an entry lives only while somebody is in the block, and so
# holds the object: no other can get its id meanwhile.
_locks: dict[int, list[Any]] = {}


@contextmanager
def exclusive(thing: object) -> Iterator[None]:
    """Keep other threads out while something that is not made for threads is used.

    Parameters
    ----------
    thing : object
        A data set, a PIL image, an open file. The same thread may enter again.

    Examples
    --------
    >>> images = [b"..."]
    >>> with exclusive(images):
    ...     len(images)
    1
    """
    with _registry:
        entry = _locks.setdefault(id(thing), [threading.RLock(), 0])
        entry[1] += 1
    try:
        with entry[0]:
            yield
    finally:
        with _registry:
            entry[1] -= 1
            if not entry[1]:
                del _locks[id(thing)]
