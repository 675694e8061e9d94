"""Rows of all folds in the coordinates of the solver, where folds can share them.

Where all features are scaled by one number, or each row by its own, what differs between folds is a factor
and a mean. So the rows are rotated once, or where there are fewer of them than features, all inner
products are computed once, and each fold's principal axes follow from its part of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rotation import LARGEST, shared_axes, shares_axes, visible
from .scaling import fit_scaling
from .stacked import Fold, Stack, stacked

SCALINGS = ("scalar", "none", "l2", "l2-vissl")  # folds share the rows' inner products
_PRODUCTS = 2**28  # bytes of the inner products of all rows
_BLOCK = 2**24  # numbers of the rows that are turned into float64 at a time
_FLAT = 1e-10  # variance, as a share of the mean square, below which sums of squares do not tell it


class Rows:
    """Rows of all folds, centred and rotated once, or their inner products; of each fold by its own.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32
    folds : sequence of Fold
    scaling : str
        One of `SCALINGS`.
    """

    def __init__(self, X: np.ndarray, folds: Sequence[Fold], scaling: str) -> None:
        self.X, self.scaling = X, scaling
        rows = X if scaling in ("scalar", "none") else fit_scaling(scaling, X).transform(X)
        varying = np.flatnonzero((rows[:1] != rows).any(axis=0))
        if len(varying) < rows.shape[1]:  # the others, a third behind some ReLUs, decide nothing
            rows = rows[:, varying]
        first = rows[folds[0].train]
        mean = first.mean(axis=0, dtype=np.float64)
        axes = shared_axes(first, min(len(fold.train) for fold in folds)) if len(varying) else None
        self.dtype = rows.dtype
        self.rotated = None if axes is None else (rows - mean.astype(rows.dtype)) @ axes
        self.products = None if axes is not None else _products(rows, mean)
        self.about = float(X.mean(dtype=np.float64)) if scaling == "scalar" else 0.0
        if scaling == "scalar":
            self.sums, self.squares = _sums(X, self.about)

    @staticmethod
    def suit(X: np.ndarray, folds: Sequence[Fold], scaling: str) -> bool:
        """Whether folds may share rows, and what they share has room."""
        if scaling not in SCALINGS or len(folds) < 2:
            return False
        smallest = min(len(fold.train) for fold in folds)
        largest = max(len(fold.train) for fold in folds)
        d = X.shape[1]
        if shares_axes(d, smallest):
            return True
        return min(largest, d) <= LARGEST and 8 * len(X) ** 2 <= _PRODUCTS

    def of(self, folds: Sequence[Fold]) -> Stack:
        """Of these folds."""
        if self.rotated is not None:
            return stacked([self._in_shared_axes(fold) for fold in folds])
        assert self.products is not None
        return self._in_own_axes(folds)

    def _scale(self, fold: Fold) -> float:
        """What the rows of a fold are divided by."""
        if self.scaling != "scalar":
            return 1.0
        count = len(fold.train) * self.X.shape[1]
        mean = self.sums[fold.train].sum() / count
        square = self.squares[fold.train].sum() / count
        variance = square - mean**2
        if not variance > _FLAT * square:
            return float(fit_scaling("scalar", self.X[fold.train]).scale[0])
        return float(np.sqrt(variance))

    def _in_shared_axes(self, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
        assert self.rotated is not None
        scale = self._scale(fold)
        train, test = self.rotated[fold.train], self.rotated[fold.test]
        mean = train.mean(axis=0, dtype=np.float64).astype(self.dtype)
        found = []
        for rows in (train, test):
            wide = np.ones((len(rows), rows.shape[1] + 1), self.dtype)
            np.subtract(rows, mean, out=wide[:, :-1])
            wide[:, :-1] /= scale
            found.append(wide)
        return found[0], found[1]

    def _in_own_axes(self, folds: Sequence[Fold]) -> Stack:
        """The principal axes of each fold's training rows, from their inner products."""
        assert self.products is not None
        n = max(len(fold.train) for fold in folds)
        kernels = np.zeros((len(folds), n, n))
        factors = [self._scale(fold) ** -2 for fold in folds]
        means = []
        there = np.zeros((len(folds), n))
        for kernel, mask, fold, factor in zip(kernels, there, folds, factors, strict=True):
            m = len(fold.train)
            own = self.products[fold.train[:, None], fold.train]
            own *= factor
            mean = own.mean(axis=0)
            means.append(mean)
            own -= mean
            own -= own.mean(axis=1)[:, None]
            kernel[:m, :m] = own
            mask[:m] = 1
        values, vectors = np.linalg.eigh(kernels)
        seen = visible(values, self.dtype)
        # Ascending: what no fold sees, the directions of rows that fill up among it, comes first.
        first = int(np.argmax(seen.any(axis=0))) if seen.any() else n
        values, vectors, seen = values[:, first:], vectors[..., first:], seen[:, first:]
        singular = np.sqrt(np.where(seen, values, 1))
        vectors *= there[..., None] * seen[:, None]
        training = np.empty((*vectors.shape[:2], vectors.shape[2] + 1), self.dtype)
        training[..., :-1] = vectors * singular[:, None]
        training[..., -1] = there
        dual = vectors / singular[:, None]
        tests = []
        for own, mean, fold, factor in zip(dual, means, folds, factors, strict=True):
            # Of the mean's product with the test rows nothing is left: the columns of `own` sum to 0.
            across = self.products[fold.test[:, None], fold.train] * factor - mean
            wide = np.ones((len(fold.test), own.shape[1] + 1), self.dtype)
            wide[:, :-1] = across @ own[: len(fold.train)]
            tests.append(wide)
        return Stack(training, tests)


def _products(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Inner products (n, n) of centred rows, in float64: float32 would hide weak directions."""
    found = np.zeros((len(rows), len(rows)))
    step = max(1, _BLOCK // max(len(rows), 1))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step] - mean[start : start + step]
        found += part @ part.T
    return found


def _sums(X: np.ndarray, about: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the sum of X - about and of its square."""
    sums, squares = np.empty(len(X)), np.empty(len(X))
    step = max(1, _BLOCK // max(X.shape[1], 1))
    for start in range(0, len(X), step):
        part = X[start : start + step].astype(np.float64) - about
        sums[start : start + step] = part.sum(axis=1)
        squares[start : start + step] = np.einsum("nd,nd->n", part, part)
    return sums, squares
