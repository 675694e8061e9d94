"""Ridge regression for many strengths from one decomposition: rows and targets in, leave-one-out out.

Minimises ``sum_i w_i |y_i - x_i b - c|^2 + alpha |b|^2`` with a free intercept c, for every alpha at once.

References
----------
G. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a good ridge
parameter", Technometrics 21, 1979. D. M. Allen, "The relationship between variable selection and data
augmentation and a method for prediction", Technometrics 16, 1974 (the leave-one-out residual).
"""

from __future__ import annotations

import numpy as np

from .tridiagonal import Tridiagonal

# float32 serves where its rounding of the matrix is at most this share of the smallest alpha. Then no
# residual left out moves by a larger share, and mostly by a thousandth of that.
_ROUNDING = 1e-2
_REFINEMENTS = 20  # of a solution in float32, at most; each one makes its error 100 times smaller


class RidgePath:
    """Centred, weighted rows, decomposed once.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        float32 rows are decomposed in float32 where `smallest` allows it, else in float64.
    Y : ndarray of shape (n, t), float64
        Targets.
    smallest : float
        The smallest alpha that will be asked for.
    weights : ndarray of shape (n,), float64, optional
        How much each sample counts; positive. All 1 by default.

    Notes
    -----
    With A and B the rows and targets, centred and times sqrt(w), the solution is ``b = A'(AA' + alpha)^-1 B``
    or ``(A'A + alpha)^-1 A'B``: the smaller of the two matrices is decomposed.
    """

    def __init__(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        smallest: float,
        weights: np.ndarray | None = None,
    ) -> None:
        w = np.ones(len(X)) if weights is None else np.asarray(weights, np.float64)
        self._share = w / w.sum()
        self._root = np.sqrt(w)
        self.mean = self._share @ X.astype(np.float64, copy=False)
        self.target_mean = self._share @ Y
        self._Y = Y
        self._B = (Y - self.target_mean) * self._root[:, None]
        self._X = X
        self.dual = len(X) <= X.shape[1]
        self._A = self._centred(X)
        K = self._gram()
        if X.dtype == np.float32 and np.finfo(np.float32).eps * _norm(K) > _ROUNDING * smallest:
            self._A = self._centred(X.astype(np.float64))
            K = self._gram()
        self._lift = 0.0
        if self.dual:
            # Centring makes sqrt(share) a null vector. Its part of every leverage is known; lifted to the
            # size of the others it is subtracted without a loss of digits, however small alpha is.
            self._lift = float(np.trace(K)) / len(K) or 1.0
            null = np.sqrt(self._share)
            K += (self._lift * np.outer(null, null)).astype(K.dtype)
        self._decomposed = Tridiagonal(K)
        right = self._B if self.dual else self._A.T @ self._B.astype(self._A.dtype)
        self._turned = self._decomposed.turn(right.T).T

    def coefficients(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (t, d) and intercepts (t,), float64 whatever the decomposition is."""
        alphas = np.array([alpha])
        A = self._A if self._A.dtype == np.float64 else self._centred(self._X.astype(np.float64))
        right = self._B if self.dual else A.T @ self._B
        x = np.zeros_like(right)
        left, size = right, np.inf
        for _ in range(_REFINEMENTS):
            step = self._decomposed.solve(alphas, self._decomposed.turn(left.T).T)[0]
            x += self._decomposed.turn_back(step.T).T
            times = A @ (A.T @ x) if self.dual else A.T @ (A @ x)
            left = right - times - alpha * x
            before, size = size, float(np.abs(left).max())
            if self._A.dtype == np.float64 or not 0 < size < before / 2:
                break
        coef = (A.T @ x).T if self.dual else x.T
        return coef, self.target_mean - coef @ self.mean

    def predict(self, X: np.ndarray, alphas: np.ndarray) -> np.ndarray:
        """Predictions of other rows for each alpha, (p, m, t), in the precision of the decomposition."""
        centred = (X - self.mean).astype(self._A.dtype)
        rows = centred @ self._A.T if self.dual else centred
        solved = self._decomposed.solve(alphas, self._turned)
        return _each(self._decomposed.turn(rows), solved) + self.target_mean.astype(rows.dtype)

    def leave_one_out(self, alphas: np.ndarray) -> np.ndarray:
        """What each sample would be predicted as by a fit on all others, (p, n, t) float64.

        The weights stay as they are while a sample is out.
        """
        alphas = np.asarray(alphas, np.float64)
        column = alphas[:, None]
        solved = self._decomposed.solve(alphas, self._turned)
        if self.dual:
            Q = self._decomposed.vectors()
            residual = _each(Q, solved) * column[..., None]
            left = column * self._decomposed.forms(alphas, Q)
            left = left - column / (self._lift + column) * self._share
        else:
            turned = self._decomposed.turn(self._A)
            residual = self._B - _each(turned, solved)
            left = 1 - self._share - self._decomposed.forms(alphas, turned)
        left = np.maximum(left, np.finfo(self._A.dtype).eps)
        found: np.ndarray = self._Y - residual / (left * self._root)[..., None]
        return found

    def _centred(self, X: np.ndarray) -> np.ndarray:
        A = X - self.mean.astype(X.dtype)
        A *= self._root[:, None].astype(X.dtype)
        return A

    def _gram(self) -> np.ndarray:
        return self._A @ self._A.T if self.dual else self._A.T @ self._A


def _each(left: np.ndarray, solved: np.ndarray) -> np.ndarray:
    """(n, r) times each of (p, r, t), as one product: (p, n, t)."""
    p, r, t = solved.shape
    flat = left @ solved.transpose(1, 0, 2).reshape(r, p * t)
    return flat.reshape(len(left), p, t).transpose(1, 0, 2)


def _norm(K: np.ndarray) -> float:
    """The largest eigenvalue of a positive semidefinite matrix, or a little less: a few powers."""
    v = np.ones(len(K), K.dtype)
    size = 0.0
    for _ in range(6):
        v = K @ (v / max(float(np.linalg.norm(v)), np.finfo(K.dtype).tiny))
        size = float(np.linalg.norm(v))
    return size
