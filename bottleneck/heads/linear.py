"""Linear heads for a list of C: scaled features and labels in, coefficients out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backend import alike, index, to_device, to_host
from .losses import Loss
from .path import solve_path
from .rotation import rotate


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
    weights: np.ndarray | None = None,
    device: str = "cpu",
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
    weights : ndarray of shape (n,), optional
        Of the samples in the loss.
    device : str, default "cpu"
        ``cpu`` is NumPy; any other name is PyTorch's, ``cuda`` for instance.

    Returns
    -------
    LinearFit

    Notes
    -----
    The weights are sought in the principal axes of the centred samples, X - mean = U S V' with w = V u:
    the same problem, because V is orthonormal, with nearly orthogonal columns, and with fewer samples than
    features only n of them. Exact: no direction is dropped that a sample sees.
    """
    # Constant features, a quarter of the columns behind some ReLUs, keep the weight 0.
    used = np.flatnonzero((X[:1] != X).any(axis=0))
    varying = to_device(X if len(used) == X.shape[1] else X[:, used], device)
    coordinates = rotate(varying)
    A = coordinates.training
    found = solve_path(
        A,
        index(y, A),
        np.asarray(C),
        loss,
        n_classes,
        tol=tol,
        certified=certified,
        max_iter=max_iter,
        weights=None if weights is None else alike(weights, A),
    )
    part, intercept = coordinates.back(found.weights)
    coef = np.zeros((*part.shape[:2], X.shape[1]), X.dtype)
    coef[..., used] = to_host(part)
    return LinearFit(
        coef,
        np.asarray(to_host(intercept)),
        found.objective,
        found.converged,
        found.iterations,
    )
