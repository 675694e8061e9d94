"""Features looked up by the key of each row, as an array: rows and a store in, `LazyRows` out."""

from __future__ import annotations

import numpy as np

from ..cache.lazy import LazyRows
from .stores import Chain


class ByKey(LazyRows):
    """Rows of features, float32, taken from a store when they are asked for.

    Parameters
    ----------
    store : Chain
        Has the feature of every key, all views of an image in one row.
    keys : ndarray of shape (n, 32), uint8
        Of each row; the views of an image are neighbours.
    views : int
        Rows of one image.
    """

    def __init__(self, store: Chain, keys: np.ndarray, views: int) -> None:
        self._store = store
        self._keys = keys
        self._views = views
        self._size = store.feature_size // views

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self._keys), self._size

    def take(self, rows: np.ndarray) -> LazyRows:
        """Not asked for: whoever writes rows reads them."""
        raise NotImplementedError

    def _read(self, picked: np.ndarray) -> np.ndarray:
        images, back = np.unique(picked // self._views, return_inverse=True)
        if not len(images):
            return np.empty((0, self._size), np.float32)
        found = self._store.take(self._keys[images * self._views])
        by_view = found.reshape(len(images), self._views, self._size)
        rows: np.ndarray = by_view[back, picked % self._views]
        return rows
