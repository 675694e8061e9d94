"""Convex losses of linear heads, for many problems at once: logits in, values and slopes out.

Logits have shape (p, q, n): p problems, q outputs, n samples. The samples come last, so that every
reduction over the outputs runs along memory; with 3 outputs last it took several times as long.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

# value (p,), slope (p, q, n), curvature (p,): see `Loss.__call__`
Evaluated = tuple[np.ndarray, np.ndarray, np.ndarray]


class Loss(Protocol):
    """What `solver.minimise` needs to know about a loss."""

    def outputs(self, n_classes: int) -> int:
        """Number of linear functions, q: one for two classes in most losses, else one a class."""

    def __call__(self, logits: np.ndarray, y: np.ndarray) -> Evaluated:
        """Evaluate all problems.

        Parameters
        ----------
        logits : ndarray of shape (p, q, n)
        y : ndarray of shape (n,), intp
            Class indices.

        Returns
        -------
        value : ndarray of shape (p,), float64
            Sum over the samples.
        slope : ndarray of shape (p, q, n)
            Derivative by the logits, in their dtype.
        curvature : ndarray of shape (p,), float64
            Mean second derivative by one logit; steers the preconditioner only.
        """


class Multinomial:
    """Softmax cross-entropy for three classes or more; for two, the logistic loss of one logit.

    The same objective as scikit-learn's `LogisticRegression`, where two classes share one weight
    vector: a softmax of two would be penalised half as much.
    """

    def outputs(self, n_classes: int) -> int:
        """One logit for two classes, else one a class."""
        return 1 if n_classes == 2 else n_classes

    def __call__(self, logits: np.ndarray, y: np.ndarray) -> Evaluated:
        """See `Loss`."""
        if logits.shape[1] == 1:
            return _binomial(logits, y)
        samples = np.arange(logits.shape[2])
        slope = logits - logits.max(axis=1, keepdims=True)
        own = slope[:, y, samples]
        np.exp(slope, out=slope)
        total = slope.sum(axis=1, keepdims=True)
        value = _total(np.log(total) - own[:, None])
        slope /= total
        squares = np.einsum("pqn,pqn->p", slope, slope)
        curvature = (logits.shape[2] - squares) / (logits.shape[1] * logits.shape[2])
        slope[:, y, samples] -= 1
        return value, slope, curvature.astype(np.float64)


def _binomial(logits: np.ndarray, y: np.ndarray) -> Evaluated:
    sign = np.where(y == 1, 1, -1).astype(logits.dtype)
    margin = logits * sign
    shrunk = np.exp(-np.abs(margin))  # of the modulus, so that it never overflows
    value = _total(np.log1p(shrunk) - np.minimum(margin, 0))
    wrong = np.where(margin >= 0, shrunk, 1) / (1 + shrunk)
    curvature = _total(wrong * (1 - wrong)) / logits[0].size
    return value, -sign * wrong, curvature


class SquaredHinge:
    """Squared hinge loss, one class against the rest: ``max(0, 1 - t z)^2`` with t = -1 or +1."""

    def outputs(self, n_classes: int) -> int:
        """One function for two classes, else one a class."""
        return 1 if n_classes == 2 else n_classes

    def __call__(self, logits: np.ndarray, y: np.ndarray) -> Evaluated:
        """See `Loss`."""
        positive = np.ones(1) if logits.shape[1] == 1 else np.arange(logits.shape[1])
        sign = np.where(y == positive[:, None], 1, -1).astype(logits.dtype)
        short = np.maximum(1 - sign * logits, 0)
        value = _total(np.square(short))
        curvature = 2 * _total(short > 0) / logits[0].size
        return value, -2 * sign * short, curvature


def _total(terms: np.ndarray) -> np.ndarray:
    """Sum of each problem, (p,), in float64 whatever the terms are."""
    return np.asarray(terms.sum(axis=(1, 2), dtype=np.float64))
