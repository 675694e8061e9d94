"""The features of a file as an array that reads only the rows asked for, and checks what it reads.

No handle stays open between reads, so another run can replace the file at any time, on Windows too;
a read after that raises, because rows of the new file may belong to other images.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CacheError
from . import checksums
from .checks import opened
from .lazy import WINDOW_ROWS, LazyRows
from .outputs import SEPARATOR, id_of
from .reading import Stored, identity_of
from .verify import damaged

if TYPE_CHECKING:
    import h5py

# A list of rows is read one by one where fewer than one row in so many is wanted.
SPARSE = 8


class FeatureArray(LazyRows):
    """Rows of a feature file, float32, read when they are asked for.

    Parameters
    ----------
    stored : Stored
        The file, as `reading.read` describes it.
    rows : ndarray of shape (n,), int, optional
        Which rows of the file, in which order; None means all.
    """

    def __init__(self, stored: Stored, rows: np.ndarray | None = None) -> None:
        self.stored = stored
        self._rows = rows
        # Blocks whose checksum was right once are not hashed again.
        count = 0 if stored.digests is None else len(stored.digests)
        self._checked = np.zeros(count, bool)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        n = self.stored.shape[0] if self._rows is None else len(self._rows)
        return n, self.stored.shape[1]

    def __repr__(self) -> str:
        return f"<features of {self._name().name}: {self.shape}, {self.dtype}, read on demand>"

    def _name(self) -> Path:
        """The file, with the output unless that is the first, as `features.open` takes it."""
        if self.stored.dataset == "features":
            return self.stored.path
        return Path(f"{self.stored.path}{SEPARATOR}{id_of(self.stored.dataset)}")

    def take(self, rows: np.ndarray) -> FeatureArray:
        """These rows of the array, still unread."""
        picked = np.arange(len(self))[rows] if self._rows is None else self._rows[rows]
        chosen = FeatureArray(self.stored, picked)
        chosen._checked = self._checked  # shared: the same blocks of the same file
        return chosen

    def _read(self, picked: np.ndarray) -> np.ndarray:
        """Rows `picked` of this array: (m, d) float32."""
        rows = picked if self._rows is None else self._rows[picked]
        result = np.empty((len(rows), self.shape[1]), np.float32)
        if not len(rows):
            return result
        # HDF5 reads ascending rows only, each once.
        ascending = bool((rows[1:] > rows[:-1]).all())
        unique, back = (rows, None) if ascending else np.unique(rows, return_inverse=True)
        target = result if back is None else np.empty((len(unique), self.shape[1]), np.float32)
        with opened(self.stored.path) as h5:
            self._require_same(h5)
            dataset = h5[self.stored.dataset]
            window = self._window()
            edges = np.searchsorted(unique, np.arange(0, self.stored.shape[0] + window, window))
            for low, high in pairwise(edges):
                if high > low:
                    self._read_window(dataset, unique[low:high], target[low:high])
        return result if back is None else np.take(target, back, axis=0, out=result)

    def _window(self) -> int:
        """Rows of one read: whole blocks of checksums, and not much memory for a large d."""
        block = self.stored.block_rows or 1
        fitting = (64 << 20) // (4 * max(self.shape[1], 1))
        return max(1, min(WINDOW_ROWS, fitting) // block) * block

    def _read_window(self, dataset: h5py.Dataset, rows: np.ndarray, target: np.ndarray) -> None:
        """Rows that lie within one window of the file into `target`."""
        block = self.stored.block_rows or 1
        touched = np.unique(rows // block)
        unchecked = self.stored.digests is None or not self._checked[touched].all()
        first, last = int(touched[0]) * block, min((int(touched[-1]) + 1) * block, len(dataset))
        if not unchecked:
            if rows[-1] - rows[0] >= SPARSE * len(rows):
                target[:] = dataset[rows]
                return
            first, last = int(rows[0]), int(rows[-1]) + 1
        try:
            values = dataset[first:last]
        except OSError as error:
            if error.errno:
                raise  # the system's own, which `opened` tells
            # HDF5's, such as a wrong fletcher32.
            raise damaged(self.stored.path, self.stored.dataset, first, last) from error
        if unchecked:
            self._check(values, first)
        target[:] = values if len(values) == len(rows) else values[rows - first]

    def _check(self, values: np.ndarray, first: int) -> None:
        """Compare whole blocks, the first one starting at row `first`, with their checksums."""
        path, name, block = self.stored.path, self.stored.dataset, self.stored.block_rows or 1
        if self.stored.digests is not None:
            number = first // block
            found = checksums.digests(values, block)
            right = (found == self.stored.digests[number : number + len(found)]).all(axis=1)
            if not right.all():
                row = first + int(np.argmin(right)) * block
                raise damaged(path, name, row, min(row + block, first + len(values)))
            self._checked[number : number + len(found)] = True
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise CacheError(
                f"{path}: NaN or infinity in the {name} of row {first + wrong[0]}",
                expected="finite numbers",
                where=f"{path}, {name}",
                next="extract again under another name",
            )

    def _require_same(self, h5: h5py.File) -> None:
        path, name = self.stored.path, self.stored.dataset
        same_shape = name in h5 and h5[name].shape == self.stored.shape
        if not same_shape or identity_of(h5, path) != self.stored.identity:
            raise CacheError(
                f"{path} was replaced after it was opened",
                expected="the file that paths and labels were read from",
                where=str(path),
                next=f"open it again: bp.open({str(self._name())!r})",
            )
