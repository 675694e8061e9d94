"""Rows of features that are read when they are asked for: what such an array can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# Rows in one read; of 1,280 float32 about 20 MB.
WINDOW_ROWS = 4096


class LazyRows(NDArrayOperatorsMixin, ABC):
    """Features (n, d) float32 somewhere else; a subclass says where, by `shape`, `take`, `_read`.

    Indexing gives ndarrays: ``features[3]``, ``features[10:20]``, ``features[[4, 1, 1]]``,
    ``features[mask]``, ``features[rows, columns]``. ``np.asarray(features)`` reads everything, and
    so do arithmetic and NumPy's functions.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n, d)."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> LazyRows:
        """These rows of the array, still unread."""

    @abstractmethod
    def _read(self, picked: np.ndarray) -> np.ndarray:
        """Rows `picked`, (m,) int from 0 to n - 1, in that order: (m, d) float32."""

    @property
    def size(self) -> int:
        """n times d."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes in memory once everything is read."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        row_index, *column_index = index if isinstance(index, tuple) else (index,)
        if row_index is Ellipsis and not column_index:
            row_index = slice(None)
        if row_index is None or row_index is Ellipsis:
            return np.asarray(self)[index]
        if isinstance(row_index, slice):
            picked = np.arange(*row_index.indices(len(self)))
        else:
            picked = np.arange(len(self))[row_index]
        if picked.ndim > 1:
            return np.asarray(self)[index]
        if not column_index:
            return self._read(np.atleast_1d(picked)).reshape(*picked.shape, self.shape[1])
        if isinstance(row_index, slice | int | np.integer):
            block = self._read(np.atleast_1d(picked)).reshape(*picked.shape, self.shape[1])
            return block[(slice(None),) * picked.ndim + tuple(column_index)]
        # Two lists select single elements, as in NumPy: rows are read, then paired with columns.
        return self._read(picked)[(np.arange(len(picked)), *column_index)]

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            yield from block

    def blocks(self, rows: int = WINDOW_ROWS) -> Iterator[np.ndarray]:
        """All rows in order, at most `rows` at a time: ndarrays of shape (m, d), float32."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def runs(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Rows of several runs, each shorter where the rows end, in one read: (m, d) float32.

        Parameters
        ----------
        starts : ndarray of shape (r,), int
            First row of each, ascending.
        length : int
            Rows of each.
        """
        rows = (np.asarray(starts)[:, None] + np.arange(length)).ravel()
        return self._read(rows[rows < len(self)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("features are read on demand; an array of them is always a copy")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(out, LazyRows) for out in options.get("out", ())):
            raise TypeError("features read on demand are read-only; np.asarray(features) is a copy")
        plain = [np.asarray(x) if isinstance(x, LazyRows) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def mean(self, axis: Any = None, **options: Any) -> Any:
        """The mean, as of an ndarray."""
        return np.asarray(self).mean(axis, **options)

    def std(self, axis: Any = None, **options: Any) -> Any:
        """The standard deviation, as of an ndarray."""
        return np.asarray(self).std(axis, **options)


class GatheredRows(LazyRows):
    """Rows picked out of several arrays, each read from its own when it is asked for.

    Parameters
    ----------
    parts : sequence of ndarray or LazyRows of shape (any n, d), float32
        At least one; of equal d.
    part, row : ndarray of shape (n,), int
        For each row of the result which array it is in, and where in that.
    """

    def __init__(
        self, parts: Sequence[np.ndarray | LazyRows], part: np.ndarray, row: np.ndarray
    ) -> None:
        self._parts = parts
        self._part = part
        self._row = row

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self._row), self._parts[0].shape[1]

    def take(self, rows: np.ndarray) -> GatheredRows:
        """These rows of the array, still unread."""
        return GatheredRows(self._parts, self._part[rows], self._row[rows])

    def _read(self, picked: np.ndarray) -> np.ndarray:
        part, row = self._part[picked], self._row[picked]
        result = np.empty((len(picked), self.shape[1]), np.float32)
        for number in np.unique(part).tolist():
            here = np.flatnonzero(part == number)
            result[here] = self._parts[number][row[here]]
        return result


def take_rows(array: np.ndarray | LazyRows, rows: np.ndarray) -> np.ndarray | LazyRows:
    """These rows of it; of a file, still unread."""
    return array.take(rows) if isinstance(array, LazyRows) else array[rows]


def in_order(array: np.ndarray | LazyRows, order: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in this order, a window at a time."""
    for start in range(0, len(order), WINDOW_ROWS):
        yield np.asarray(array[order[start : start + WINDOW_ROWS]])
