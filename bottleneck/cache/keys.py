"""Which row a key has: keys of 32 bytes in, row numbers out; 8 bytes a row beside the keys."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

import numpy as np

KEY_BYTES = 32
_HEAD_BYTES = 4


class KeyIndex:
    """Finds rows by key, one or many at a time; a dict of the same would take 250 bytes a row.

    The rows are sorted by the first four bytes of their keys, and those whose four bytes are equal
    are compared in full: keys are digests, so that even of 10 million hardly any two are.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), uint8
        Not copied, so it must not change. Of equal keys the first row counts.

    Examples
    --------
    >>> index = KeyIndex(np.arange(64, dtype=np.uint8).reshape(2, 32))
    >>> index.row(bytes(range(32, 64))), index.row(bytes(32)), len(index)
    (1, -1, 2)
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        heads = _heads(keys)
        order = np.argsort(heads, kind="stable")
        self._order = order.astype(np.min_scalar_type(-max(len(keys), 1)))
        del order
        heads.sort()
        self._heads = heads
        # Python's own numbers from here on: bisecting over NumPy's takes five times as long.
        self._search = memoryview(self._heads)  # type: ignore[arg-type]

    def __getstate__(self) -> np.ndarray:
        return self._keys

    def __setstate__(self, keys: np.ndarray) -> None:
        self.__init__(keys)  # type: ignore[misc]

    @cached_property
    def _distinct(self) -> int:
        """How many different keys there are."""
        block = 1 << 16
        return sum(
            int((self.rows(self._keys[i : i + block]) == np.arange(i, min(i + block, n))).sum())
            for n in (len(self._keys),)
            for i in range(0, n, block)
        )

    def _key(self, place: int) -> bytes:
        return self._keys[self._order[place]].tobytes()

    def __len__(self) -> int:
        return self._distinct

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self.row(key) >= 0

    def row(self, key: bytes) -> int:
        """The first row of this key; -1 if there is none."""
        head = int.from_bytes(key[:_HEAD_BYTES], "big")
        place = bisect_left(self._search, head)
        while place < len(self._search) and self._search[place] == head:
            if self._key(place) == key:
                return int(self._order[place])
            place += 1
        return -1

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """The first row of each key, -1 where there is none: (m, 32) uint8 to (m,) int64."""
        heads = _heads(keys)
        found = np.full(len(keys), -1, np.int64)
        places = np.searchsorted(self._heads, heads)
        left = np.arange(len(keys))
        while len(left):
            left = left[places[left] < len(self._heads)]
            left = left[self._heads[places[left]] == heads[left]]
            rows = self._order[places[left]].astype(np.int64)
            right = (self._keys[rows] == keys[left]).all(axis=1)
            found[left[right]] = rows[right]
            left = left[~right]
            places[left] += 1
        return found


def as_keys(keys: Sequence[bytes] | np.ndarray) -> np.ndarray:
    """Keys as (m, 32) uint8, from a list of bytes or from such an array itself."""
    if isinstance(keys, np.ndarray):
        return keys
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)


def _heads(keys: np.ndarray) -> np.ndarray:
    """The first bytes of each key as a number, ordered like the bytes."""
    heads = np.array(keys[:, :_HEAD_BYTES], order="C").view(np.uint32).ravel()
    return heads.byteswap(inplace=True) if sys.byteorder == "little" else heads
