"""A symmetric matrix made tridiagonal once, and solved with any number of shifts: K + alpha I for all alphas.

All that ridge regression wants of an eigendecomposition (solutions and leverages for many strengths) needs
the first half of one only: K = Q T Q' with T tridiagonal. Then each alpha costs a pass over a few
vectors. On 1,200 rows and one core it took half the time of the whole decomposition, and three quarters
less where Q itself is not needed.

References
----------
L. Elden, "Algorithms for the regularization of ill-conditioned least squares problems", BIT 17, 1977, for
the idea, on bidiagonal matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs


class Tridiagonal:
    """K = Q T Q'.

    Parameters
    ----------
    K : ndarray of shape (r, r), float32 or float64
        Symmetric, positive semidefinite; decides the precision. Its lower triangle is read.
    """

    def __init__(self, K: np.ndarray) -> None:
        names = ("sytrd", "sytrd_lwork", "orgqr", "ormqr", "pttrf", "pttrs")
        found = get_lapack_funcs(names, dtype=K.dtype)
        sytrd, size, self._orgqr, self._ormqr, self._pttrf, self._pttrs = found
        self.dtype, self._r = K.dtype, len(K)
        work = int(size(len(K), lower=1)[0].real)
        # K' is K, and in the order of memory that LAPACK reads.
        packed, self.diagonal, self.beside, self._tau, info = sytrd(K.T, lower=1, lwork=work)
        _check(info, "sytrd")
        self._reflectors = np.asfortranarray(packed[1:, :-1])

    def vectors(self) -> np.ndarray:
        """Q, (r, r)."""
        Q = np.zeros((self._r, self._r), self.dtype, order="F")
        Q[0, 0] = 1
        if self._r > 1:
            inner, _, info = self._orgqr(self._reflectors, self._tau, lwork=64 * self._r)
            _check(info, "orgqr")
            Q[1:, 1:] = inner
        return Q

    def turn(self, M: np.ndarray) -> np.ndarray:
        """M Q, for M of shape (m, r)."""
        return self._times(M, "T")

    def turn_back(self, M: np.ndarray) -> np.ndarray:
        """M Q', for M of shape (m, r)."""
        return self._times(M, "N")

    def _times(self, M: np.ndarray, transposed: str) -> np.ndarray:
        turned = np.array(M, self.dtype)
        if self._r > 1:
            # LAPACK reads columns: it sees M', and Q M' is (M Q')'.
            rest = np.asfortranarray(turned[:, 1:].T)
            rest, _, info = self._ormqr(
                "L", transposed, self._reflectors, self._tau, rest, 64 * len(M), overwrite_c=1
            )
            _check(info, "ormqr")
            turned[:, 1:] = rest.T
        return turned

    def solve(self, alphas: np.ndarray, B: np.ndarray) -> np.ndarray:
        """(T + alpha I)^-1 B for each alpha, (p, r, t), for B of shape (r, t)."""
        found = np.empty((len(alphas), *B.shape), self.dtype)
        for i, (pivots, lower) in enumerate(self._factors(alphas)):
            if self._r == 1:
                found[i] = B / pivots
                continue
            x, info = self._pttrs(pivots, lower, np.asfortranarray(B, self.dtype))
            _check(info, "pttrs")
            found[i] = x
        return found

    def forms(self, alphas: np.ndarray, M: np.ndarray) -> np.ndarray:
        """m (T + alpha I)^-1 m' for each row m of M (n, r) and each alpha, (p, n)."""
        factors = self._factors(alphas)
        pivots = np.array([pivot for pivot, _ in factors], self.dtype)
        lower = np.zeros_like(pivots)
        lower[:, 1:] = [beside for _, beside in factors]
        found = np.zeros((len(factors), len(M)), self.dtype)
        _kernel()(np.ascontiguousarray(M.T, self.dtype), lower, 1 / pivots, found)
        return found

    def _factors(self, alphas: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """L D L' of T + alpha I: the pivots (r,) and what stands below the ones of L (r - 1,)."""
        factors = []
        for alpha in alphas:
            shifted = self.diagonal + self.dtype.type(alpha)
            if self._r == 1:
                factors.append((shifted, np.empty(0, self.dtype)))
                continue
            pivots, lower, info = self._pttrf(shifted, self.beside)
            _check(info, "pttrf")
            factors.append((pivots, lower))
        return factors


def _forms(columns: np.ndarray, lower: np.ndarray, inverse: np.ndarray, found: np.ndarray) -> None:
    """Sum z^2 / pivot along z = L^-1 m, for all columns m.

    Parameters
    ----------
    columns : ndarray of shape (r, n)
    lower, inverse : ndarray of shape (p, r)
        Below the diagonal of L, shifted down by one; 1 / pivots.
    found : ndarray of shape (p, n)
        Zeros; is filled.
    """
    for p in range(len(lower)):
        z = np.zeros_like(columns[0])
        for column, below, scale in zip(columns, lower[p], inverse[p], strict=True):
            z = column - below * z
            found[p] += z * z * scale


_LANES = (
    128  # columns that a pass takes at once: they stay in the first cache with what they become
)


def _forms_by_tiles(
    columns: np.ndarray, lower: np.ndarray, inverse: np.ndarray, found: np.ndarray
) -> None:
    """`_forms` for numba: the innermost loop runs along memory and becomes vectors."""
    r, n = columns.shape
    z = np.empty(_LANES, columns.dtype)
    total = np.empty(_LANES, columns.dtype)
    tile = np.empty((r, _LANES), columns.dtype)
    for begin in range(0, n, _LANES):
        width = min(_LANES, n - begin)
        for i in range(r):
            for j in range(_LANES):
                tile[i, j] = columns[i, begin + j] if j < width else 0
        for p in range(len(lower)):
            z[:] = 0
            total[:] = 0
            for i in range(r):
                below, scale = lower[p, i], inverse[p, i]
                for j in range(_LANES):
                    value = tile[i, j] - below * z[j]
                    z[j] = value
                    total[j] += value * value * scale
            for j in range(width):
                found[p, begin + j] = total[j]


@cache
def _kernel() -> Callable[..., None]:
    """The fastest form of `_forms` here; without numba it takes 10 times as long."""
    try:
        import numba
    except Exception:  # numba refuses a NumPy or a Python too new for it, in many ways
        return _forms
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "fastmath": {"contract"}}
    one = np.ones((1, 1))
    try:
        compiled = numba.njit(cache=True, **options)(_forms_by_tiles)
        compiled(one, one, one, np.zeros((1, 1)))
    except Exception:  # no place for its cache, or a broken one
        compiled = numba.njit(**options)(_forms_by_tiles)
    kernel: Callable[..., None] = compiled
    return kernel


def _check(info: int, routine: str) -> None:
    if info:
        raise np.linalg.LinAlgError(
            f"LAPACK's {routine} stopped with {info}; the rows hold values that it cannot work with "
            "(not finite, or above 1e19 in float32)"
        )
