"""Linear heads for a list of C: scaled features and labels in, coefficients out.

Chooses the coordinates in which `solver.minimise` works, and translates back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from .losses import Loss
from .solver import minimise

# Largest Gram matrix that is decomposed; its cost grows with the cube (0.1 s at 1,000, 3 s at 3,000).
_LARGEST_GRAM = 3000


@dataclass(frozen=True)
class LinearFit:
    """Linear functions for p values of C.

    Attributes
    ----------
    coef : ndarray of shape (p, q, d), in the dtype of the features
    intercept : ndarray of shape (p, q)
    objective : ndarray of shape (p,), float64
    converged : ndarray of shape (p,), bool
    iterations : ndarray of shape (p,), int
    """

    coef: np.ndarray
    intercept: np.ndarray
    objective: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


def fit_linear(
    X: np.ndarray,
    y: np.ndarray,
    C: np.ndarray,
    loss: Loss,
    n_classes: int,
    *,
    tol: float = 1e-10,
    certified: bool = True,
    max_iter: int = 10_000,
) -> LinearFit:
    """Fit one linear head for each C on the same samples.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Decides the precision of the arithmetic.
    y : ndarray of shape (n,), intp
        Class indices, 0 to `n_classes` - 1, each of them present.
    C : ndarray of shape (p,), float64
        Multiplies the summed loss, as in scikit-learn.
    loss : Loss
    n_classes : int
    tol, certified, max_iter
        See `solver.minimise`.

    Returns
    -------
    LinearFit

    Notes
    -----
    The weights are sought in the principal axes of the centred samples, X - mean = U S V' with w = V u:
    the same problem, because V is orthonormal, with nearly orthogonal columns (a third of the steps), and
    with fewer samples than features only n of them. Exact: no direction is dropped that a sample sees.
    """
    mean = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    centred = X - mean
    # Constant features, a quarter of the columns behind some ReLUs, keep the weight 0.
    used = np.flatnonzero(centred.any(axis=0))
    centred = centred[:, used]
    basis = None
    if 0 < min(centred.shape) <= _LARGEST_GRAM:
        centred, basis = _rotate(centred)
    A = np.concatenate([centred, np.ones((len(X), 1), X.dtype)], axis=1)
    found = minimise(
        A, y, np.asarray(C), loss, n_classes, tol=tol, certified=certified, max_iter=max_iter
    )
    weights, intercept = found.weights[..., :-1], found.weights[..., -1]
    coef = np.zeros((*weights.shape[:2], X.shape[1]), X.dtype)
    coef[..., used] = weights if basis is None else weights @ basis
    return LinearFit(
        coef,
        intercept - coef @ mean,
        found.objective,
        found.converged,
        found.iterations,
    )


def _rotate(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, r) of the rows in principal axes, and those axes as rows (r, d)."""
    n, d = centred.shape
    if d <= n:
        _, axes = eigh(centred.T @ centred, driver="evd", check_finite=False)
        return centred @ axes, axes.T
    eigenvalues, left = eigh(centred @ centred.T, driver="evd", check_finite=False)
    # Centring leaves one direction at 0, equal rows more: their axes would be noise.
    seen = eigenvalues > eigenvalues[-1] * n * np.finfo(centred.dtype).eps
    singular = np.sqrt(eigenvalues[seen])
    left = left[:, seen]
    return left * singular, (left / singular).T @ centred
