"""Where features are looked up by key: a published file, sealed shards, memory, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..cache import sealed
from ..cache.keys import KeyIndex, as_keys
from ..errors import CacheError

Keys: TypeAlias = Sequence[bytes] | np.ndarray  # of 32 bytes, or of shape (m, 32), uint8


class Store(Protocol):
    """Features of one output by the key of their image, all its views in one row."""

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are in the store: (m,) bool."""

    def take(self, keys: Keys) -> np.ndarray:
        """Features (m, d) float32 of keys that are all in the store."""


class MemoryStore:
    """Features that live as long as the process; also a sink for new ones.

    Parameters
    ----------
    feature_size : int
        d, needed while there is no row yet.
    """

    def __init__(self, feature_size: int) -> None:
        self._row: dict[bytes, np.ndarray] = {}
        self._feature_size = feature_size

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def append(self, keys: np.ndarray, features: np.ndarray) -> None:
        """Take features (m, d) float32 with their keys (m, 32) uint8."""
        for key, row in zip(keys, features, strict=True):
            self._row[key.tobytes()] = row

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are here: (m,) bool."""
        return np.fromiter((key.tobytes() in self._row for key in keys), bool, len(keys))

    def take(self, keys: Keys) -> np.ndarray:
        """Features (m, d) float32 of `keys`."""
        result = np.empty((len(keys), self._feature_size), np.float32)
        for i, key in enumerate(as_keys(keys)):
            result[i] = self._row[key.tobytes()]
        return result


class RowStore:
    """Features of a file or of `Features` in memory, by key.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), uint8
    features : array-like of shape (n, d)
        Sliced, never read whole.
    views : int, default 1
        Rows that an image has, one after the other.
    """

    def __init__(self, keys: np.ndarray, features: object, views: int = 1) -> None:
        # Of the images of the file, the rows of one being neighbours.
        self._image = KeyIndex(keys[::views])
        self._features = features
        self._views = views

    def __len__(self) -> int:
        return len(self._image)

    def __contains__(self, key: object) -> bool:
        return key in self._image

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are here: (m,) bool."""
        return self._image.rows(keys) >= 0

    def take(self, keys: Keys) -> np.ndarray:
        """Features (m, views * d) float32 of `keys`."""
        first = self._image.rows(as_keys(keys))
        if len(first) and first.min() < 0:
            raise KeyError(bytes(keys[int(first.argmin())]))
        first *= self._views
        rows = (first[:, None] + np.arange(self._views)).ravel()
        # HDF5 wants increasing rows, each once.
        unique, back = np.unique(rows, return_inverse=True)
        found = np.asarray(self._features[unique], np.float32)[back]  # type: ignore[index]
        return found.reshape(len(keys), -1)


class ShardStore:
    """Features in sealed shards.

    Parameters
    ----------
    index : sealed.Index
        From `cache.sealed.load_all`.
    """

    def __init__(self, index: sealed.Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are here: (m,) bool."""
        return self._index.holds(keys)

    def take(self, keys: Keys) -> np.ndarray:
        """Features (m, d) float32 of `keys`, of which there is at least one."""
        return sealed.take(self._index, keys)

    def environments(self) -> list[dict[str, Any]]:
        """What the shards were computed with, each different one once."""
        found: list[dict[str, Any]] = []
        for shard in self._index.shards:
            if shard.environment and shard.environment not in found:
                found.append(shard.environment)
        return found


class Chain:
    """Several stores asked in turn.

    Parameters
    ----------
    stores : sequence of Store
    feature_size : int
        d of every row.
    """

    def __init__(self, stores: Sequence[Store], feature_size: int) -> None:
        self._stores = stores
        self._feature_size = feature_size

    def __len__(self) -> int:
        return sum(len(store) for store in self._stores)

    def __contains__(self, key: object) -> bool:
        return any(key in store for store in self._stores)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are in any store: (m,) bool."""
        found = np.zeros(len(keys), bool)
        for store in self._stores:
            found |= store.holds(keys)
        return found

    def take(self, keys: Keys) -> np.ndarray:
        """Features (m, d) float32 of `keys`, each from the first store that has it."""
        wanted = as_keys(keys)
        result = np.empty((len(wanted), self._feature_size), np.float32)
        left = np.arange(len(wanted))
        for store in self._stores:
            there = store.holds(wanted[left])
            if there.any():
                result[left[there]] = store.take(wanted[left[there]])
                left = left[~there]
        if len(left):
            first = wanted[left[0]].tobytes().hex()
            raise CacheError(
                f"{len(left)} finished features are gone, the first of key {first[:12]}",
                expected="the shards of this run as they were sealed",
                next="run again; check whether another program cleans the folder of parts",
            )
        return result
