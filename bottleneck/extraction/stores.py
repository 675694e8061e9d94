"""Where features are looked up by key: a published file, sealed shards, memory, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..cache import sealed
from ..errors import CacheError


class Store(Protocol):
    """Features of one output by the key of their image, all its views in one row."""

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...

    def take(self, keys: Sequence[bytes]) -> np.ndarray:
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

    def take(self, keys: Sequence[bytes]) -> np.ndarray:
        """Features (m, d) float32 of `keys`."""
        if not keys:
            return np.empty((0, self._feature_size), np.float32)
        return np.stack([self._row[key] for key in keys])


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
        self._row = {keys[i].tobytes(): i for i in range(0, len(keys), views)}
        self._features = features
        self._views = views

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def take(self, keys: Sequence[bytes]) -> np.ndarray:
        """Features (m, views * d) float32 of `keys`."""
        first = np.array([self._row[key] for key in keys], np.int64)
        rows = (first[:, None] + np.arange(self._views)).ravel()
        # HDF5 wants increasing rows, each once.
        unique, back = np.unique(rows, return_inverse=True)
        found = np.asarray(self._features[unique], np.float32)[back]  # type: ignore[index]
        return found.reshape(len(keys), -1)


class ShardStore:
    """Features in sealed shards.

    Parameters
    ----------
    index : dict of bytes to (Shard, int)
        From `cache.sealed.load_all`.
    """

    def __init__(self, index: dict[bytes, tuple[sealed.Shard, int]]) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def take(self, keys: Sequence[bytes]) -> np.ndarray:
        """Features (m, d) float32 of `keys`, of which there is at least one."""
        return sealed.take(self._index, keys)

    def environments(self) -> list[dict[str, Any]]:
        """What the shards were computed with, each different one once."""
        found: list[dict[str, Any]] = []
        for shard in {id(shard): shard for shard, _ in self._index.values()}.values():
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

    def take(self, keys: Sequence[bytes]) -> np.ndarray:
        """Features (m, d) float32 of `keys`, each from the first store that has it."""
        result = np.empty((len(keys), self._feature_size), np.float32)
        left = list(range(len(keys)))
        for store in self._stores:
            here = [i for i in left if keys[i] in store]
            if here:
                result[here] = store.take([keys[i] for i in here])
                taken = set(here)
                left = [i for i in left if i not in taken]
        if left:
            raise CacheError(
                f"{len(left)} finished features are gone, the first of key {keys[left[0]].hex()[:12]}",
                expected="the shards of this run as they were sealed",
                next="run again; check whether another program cleans the folder of parts",
            )
        return result
