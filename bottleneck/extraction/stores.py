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

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, (m, 32) uint8: (m,) uint64, and which are known: (m,) bool."""


class MemoryStore:
    """Features that live as long as the process; also a sink for new ones.

    Parameters
    ----------
    feature_size : int
        d, needed while there is no row yet.
    """

    def __init__(self, feature_size: int) -> None:
        self._row: dict[bytes, np.ndarray] = {}
        self._hash: dict[bytes, int] = {}
        self._feature_size = feature_size

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def append(self, keys: np.ndarray, features: np.ndarray, hashes: np.ndarray) -> None:
        """Take features (m, d) float32 with their keys (m, 32) uint8 and phash (m,) uint64."""
        for key, row, phash in zip(keys, features, hashes.tolist(), strict=True):
            self._row[key.tobytes()] = row
            self._hash[key.tobytes()] = phash

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, as of `Store`."""
        found = [self._hash.get(key.tobytes()) for key in keys]
        known = np.array([each is not None for each in found], bool)
        return np.array([each or 0 for each in found], np.uint64), known

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
    phash : ndarray of shape (n,), uint64, optional
        Perceptual hash of the image of each row.
    """

    def __init__(
        self,
        keys: np.ndarray,
        features: object,
        views: int = 1,
        phash: np.ndarray | None = None,
    ) -> None:
        # Of the images of the file, the rows of one being neighbours.
        self._image = KeyIndex(keys[::views])
        self._hashes = None if phash is None else phash[::views]
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

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, as of `Store`."""
        values, known = np.zeros(len(keys), np.uint64), np.zeros(len(keys), bool)
        if self._hashes is not None:
            rows = self._image.rows(keys)
            known = rows >= 0
            values[known] = self._hashes[rows[known]]
        return values, known


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

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, as of `Store`."""
        return self._index.hashes(keys)

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

    @property
    def feature_size(self) -> int:
        """d of every row: of all views of an image."""
        return self._feature_size

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

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, each from the first store that knows it; as of `Store`."""
        values, known = np.zeros(len(keys), np.uint64), np.zeros(len(keys), bool)
        for store in self._stores:
            left = np.flatnonzero(~known)
            if not len(left):
                break
            values[left], known[left] = store.hashes(keys[left])
        return values, known

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
