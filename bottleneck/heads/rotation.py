"""Coordinates in which linear heads are solved: samples in, samples in principal axes out.

An L2 penalty does not see an orthogonal change of coordinates, so the problem stays the same; but its
columns become nearly orthogonal, which takes a third of the steps, and where there are fewer
samples than features only so many columns are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .backend import Array, eigh, epsilon, namespace

# Largest matrix that is decomposed; its cost grows with the cube (0.1 s at 1,000, 3 s at 3,000).
LARGEST = 3000
# Up to so many features a sample, all folds share one full set of axes: a third more columns cost
# less than a decomposition in every fold.
_SHARED = 1.5


@dataclass(frozen=True)
class Coordinates:
    """Centred training samples in axes of their own.

    Attributes
    ----------
    mean : array of shape (d,)
    training : array of shape (n, r + 1)
        The last column is all ones, for the intercept.
    axes : tuple of arrays
        Their product is the axes, (d, r), orthonormal columns; none: the features as they are.
    """

    mean: Array
    training: Array
    axes: tuple[Array, ...] = ()

    def of(self, X: Array) -> Array:
        """Other samples (m, d) in the same coordinates, (m, r + 1)."""
        found = X - self.mean
        for factor in self.axes:
            found = found @ factor
        return _with_ones(found)

    def back(self, weights: Array) -> tuple[Array, Array]:
        """Weights (p, q, r + 1) as coefficients of the features (p, q, d) and intercepts (p, q)."""
        coef = weights[..., :-1]
        for factor in reversed(self.axes):
            coef = coef @ factor.T
        return coef, weights[..., -1] - coef @ self.mean


def shared_axes(X: Array, n_smallest: int) -> Array | None:
    """Axes (d, d) that serve all folds of some samples, or None where each fold needs its own.

    Any orthonormal axes give the exact solution; these make the columns of a fold nearly orthogonal,
    because its samples are mostly the same.

    Parameters
    ----------
    X : array of shape (n, d)
        Training samples of one fold, scaled.
    n_smallest : int
        Training samples of the smallest fold.
    """
    if not shares_axes(X.shape[1], n_smallest) or not shares_axes(X.shape[1], len(X)):
        return None
    centred = X - _mean(X)
    axes: Array = eigh(centred.T @ centred)[1]
    return axes


def shares_axes(d: int, n: int) -> bool:
    """Whether full axes of d features are worth their width to a fold of n samples."""
    return d <= min(_SHARED * n, LARGEST)


def visible(eigenvalues: Array, dtype: Any) -> Array:
    """Which of the eigenvalues (..., n) of samples' inner products, ascending, are directions.

    Centring leaves one direction at 0, equal rows more: their axes would be noise. What the dtype of the
    samples can tell from noise is kept.
    """
    xp = namespace(eigenvalues)
    largest = xp.clip(eigenvalues[..., -1:], 0, None)
    share = eigenvalues.shape[-1] * epsilon(eigenvalues)
    if dtype != xp.float64:
        share = max(share, (10 * float(xp.finfo(dtype).eps)) ** 2)
    return eigenvalues > largest * share


def rotate(X: Array, axes: Array | None = None) -> Coordinates:
    """Coordinates of training samples.

    Parameters
    ----------
    X : array of shape (n, d), float32 or float64
    axes : array of shape (d, d), optional
        From `shared_axes`; by default the principal axes of these samples, or none where both n and d
        are above 3,000.
    """
    xp = namespace(X)
    mean = _mean(X)
    centred = X - mean
    n, d = X.shape
    if axes is None and not 0 < min(n, d) <= LARGEST:
        return Coordinates(mean, _with_ones(centred))
    if axes is None and d <= n:
        axes = eigh(centred.T @ centred)[1]
    if axes is not None:
        return Coordinates(mean, _with_ones(centred @ axes), (axes,))
    # In float64: products of float32 would hide directions below a hundredth of the largest.
    double = xp.asarray(centred, dtype=xp.float64)
    eigenvalues, left = eigh(double @ double.T)
    seen = visible(eigenvalues, X.dtype)
    singular = eigenvalues[seen] ** 0.5
    left, dual = (
        xp.asarray(part, dtype=X.dtype)
        for part in (left[:, seen] * singular, left[:, seen] / singular)
    )
    # The axes are X' U / S; multiplied out they would cost more than all that is asked of them.
    return Coordinates(mean, _with_ones(left), (centred.T, dual))


def _mean(X: Array) -> Array:
    xp = namespace(X)
    mean = xp.mean(X, axis=0, dtype=xp.float64)
    return xp.asarray(mean, dtype=X.dtype)


def _with_ones(A: Array) -> Array:
    xp = namespace(A)
    ones = xp.ones((len(A), 1), dtype=A.dtype, device=A.device)
    return xp.concatenate([A, ones], axis=1)
