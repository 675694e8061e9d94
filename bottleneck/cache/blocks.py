"""Blocks of features on their way into a file: of any size in, checked and of equal size out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import CacheError
from . import checksums
from .atomic import require_space
from .outputs import id_of

# A write of 1 MB or more runs at the disk's speed, and what lies in memory stays small for any d.
BLOCK_ROWS = 4096
BLOCK_BYTES = 32 << 20


class Blocks:
    """All rows of one dataset, asked for a block at a time; only one is held in memory.

    Parameters
    ----------
    pieces : iterable of ndarray of shape (m, d), float32
        Of any m; the first one is asked for at once.
    n : int
        Rows that there have to be.
    dtype : dtype
        Of the dataset.
    name : str
        Of the dataset.
    where : str
        File, for messages.

    Raises
    ------
    CacheError
        If there is no row, the first piece has no two axes, or the disk is too small for n rows.
    """

    def __init__(
        self, pieces: Iterable[np.ndarray], n: int, dtype: np.dtype, name: str, where: str
    ) -> None:
        self.n, self.dtype, self.name, self.where = n, dtype, name, where
        self._rest = iter(pieces)
        first = next((piece for piece in self._rest if len(piece)), None)
        if first is None or not n:
            what = "no row to write" if name == "features" else f"{name} has no row to write"
            raise CacheError(what, expected="at least one feature", where=where)
        if first.ndim != 2:
            raise CacheError(f"{name} are {first.shape}", expected="(m, d)", where=where)
        self._first: np.ndarray | None = first
        self.d = first.shape[1]
        require_space(Path(where).absolute().parent, n * (self.d * dtype.itemsize + 64))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Blocks (m, d) of `dtype`, every value finite, n rows in all; the array is used again."""
        start = 0
        for block in self._regrouped(_rows_at_once(self.d)):
            narrow = self._stored(block, start)
            start += len(block)
            yield narrow
        if start != self.n:
            raise CacheError(f"rows differ: {self.name} {start}, keys {self.n}", where=self.where)

    def _regrouped(self, size: int) -> Iterator[np.ndarray]:
        """The same rows in blocks of exactly `size` rows (the last one shorter), float32."""
        buffer = np.empty((min(size, self.n), self.d), np.float32)
        filled = done = 0
        piece, self._first = self._first, None
        while piece is not None:
            if piece.ndim != 2 or piece.shape[1] != self.d:
                raise CacheError(
                    f"{self.name} are {piece.shape}", expected=f"(m, {self.d})", where=self.where
                )
            if done + filled + len(piece) > self.n:
                raise CacheError(
                    f"rows differ: {self.name} over {self.n}, keys {self.n}", where=self.where
                )
            while len(piece):
                step = min(len(piece), len(buffer) - filled)
                buffer[filled : filled + step] = piece[:step]
                filled, piece = filled + step, piece[step:]
                if filled == len(buffer):
                    yield buffer
                    done, filled = done + filled, 0
            piece = next(self._rest, None)
        if filled:
            yield buffer[:filled]

    def _stored(self, block: np.ndarray, start: int) -> np.ndarray:
        """`block` in the type of the file; a value that is not finite is an error naming rows."""
        what = "features" if self.name == "features" else f"output {id_of(self.name)}"
        where = f"{self.where}, {self.name}"
        wrong = start + np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(wrong):
            raise CacheError(
                f"NaN or infinity in the {what} of {_listed(wrong)}",
                expected="finite numbers",
                where=where,
                next="try --precision fp32 or another engine; these images give no usable feature",
            )
        with np.errstate(over="ignore"):  # told below, by row
            narrow = block.astype(self.dtype, copy=False)
        wrong = start + np.flatnonzero(~np.isfinite(narrow).all(axis=1))
        if len(wrong):
            largest = float(np.abs(block).max())
            raise CacheError(
                f"float16 cannot hold the {what} of {_listed(wrong)}: up to {largest:.6g}",
                expected="at most 65504",
                where=where,
                next="leave --store float16 out",
            )
        return narrow


def _rows_at_once(d: int) -> int:
    """Rows in one write: whole blocks of checksums, so that none has to be put together again."""
    fitting = BLOCK_BYTES // (4 * max(d, 1)) // checksums.FEATURE_ROWS * checksums.FEATURE_ROWS
    return int(min(max(fitting, checksums.FEATURE_ROWS), BLOCK_ROWS))


def _listed(rows: np.ndarray) -> str:
    """Row numbers in words, five at most."""
    shown = ", ".join(map(str, rows[:5].tolist()))
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
