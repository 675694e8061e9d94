"""Convex losses of linear heads, for many problems at once: logits in, values and slopes out.

Logits have shape (p, q, n): p problems, q outputs, n samples. The samples come last, so that every
reduction over the outputs runs along memory; with 3 outputs last it took several times as long.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .backend import Array, alike, namespace, to_host

# value (p,) and curvature (p,) on the host, slope (p, q, n): see `Loss.__call__`
Evaluated = tuple[np.ndarray, Array, np.ndarray]


class Loss(Protocol):
    """What `solver.minimise` needs to know about a loss."""

    def outputs(self, n_classes: int) -> int:
        """Number of linear functions, q: one for two classes in most losses, else one a class."""

    def __call__(self, logits: Array, y: Array, weights: Array | None = None) -> Evaluated:
        """Evaluate all problems.

        Parameters
        ----------
        logits : array of shape (p, q, n)
        y : array of shape (n,) or (p, n), intp
            Class indices, of all problems or of each.
        weights : array of shape (n,) or (p, n), optional
            Of the samples; all 1 by default.

        Returns
        -------
        value : ndarray of shape (p,), float64
            Sum over the samples.
        slope : array of shape (p, q, n)
            Derivative by the logits, in their dtype.
        curvature : ndarray of shape (p,), float64
            Mean second derivative along one direction of the logits; steers the preconditioner only.
        """


class Multinomial:
    """Softmax cross-entropy for three classes or more; for two, the logistic loss of one logit.

    The same objective as scikit-learn's `LogisticRegression`, where two classes share one weight
    vector: a softmax of two would be penalised half as much.
    """

    def outputs(self, n_classes: int) -> int:
        """One logit for two classes, else one a class."""
        return 1 if n_classes == 2 else n_classes

    def __call__(self, logits: Array, y: Array, weights: Array | None = None) -> Evaluated:
        """See `Loss`."""
        if logits.shape[1] == 1:
            return _binomial(logits, y, weights)
        xp = namespace(logits)
        own = _own(logits, y)
        slope = logits - xp.amax(logits, axis=1, keepdims=True)
        lead = slope[own]  # over the largest logit, 0 at most
        xp.exp(slope, out=slope)
        mine = slope[own]
        slope[own] = 0
        # The other classes apart: where a sample is all but certain, 1 - p of its own class would be
        # rounding alone (with a large C in float32, 6 of 240 answers were wrong by it).
        others = xp.sum(slope, axis=1)
        total = others + mine
        terms = xp.where(lead == 0, xp.log1p(others), xp.log(total) - lead)
        slope /= total[:, None]
        share = others / total
        squares = _per_sample(slope) + (1 - share) ** 2
        slope[own] = -share
        q = logits.shape[1]
        # Slopes sum to 0 over the classes, and so do all steps: one direction less.
        spread = xp.clip(1 - squares, 0, None) / (q - 1)
        if weights is not None:
            slope *= weights[..., None, :]
        return _total(terms, weights), slope, _total(spread, weights) / logits.shape[2]


def _binomial(logits: Array, y: Array, weights: Array | None) -> Evaluated:
    xp = namespace(logits)
    sign = alike(2 * (y[..., None, :] == 1) - 1, logits)
    margin = logits * sign
    shrunk = xp.exp(-xp.abs(margin))  # of the modulus, so that it never overflows
    terms = xp.log1p(shrunk) - xp.clip(margin, None, 0)
    # In place of a `where` with two scalars, which would turn float32 into float64.
    wrong = xp.where(margin >= 0, shrunk, xp.ones_like(shrunk)) / (1 + shrunk)
    slope = -sign * wrong
    if weights is not None:
        slope = slope * weights[..., None, :]
    curvature = _total((wrong * (1 - wrong))[:, 0], weights) / logits.shape[2]
    return _total(terms[:, 0], weights), slope, curvature


class SquaredHinge:
    """Squared hinge loss, one class against the rest: ``max(0, 1 - t z)^2`` with t = -1 or +1."""

    def outputs(self, n_classes: int) -> int:
        """One function for two classes, else one a class."""
        return 1 if n_classes == 2 else n_classes

    def __call__(self, logits: Array, y: Array, weights: Array | None = None) -> Evaluated:
        """See `Loss`."""
        xp = namespace(logits)
        q, n = logits.shape[1:]
        first = 1 if q == 1 else 0  # one function stands for the second of two classes
        positive = xp.arange(first, first + q, device=logits.device)
        sign = alike(2 * (y[..., None, :] == positive[:, None]) - 1, logits)
        short = xp.clip(1 - sign * logits, 0, None)
        slope = -2 * sign * short
        if weights is not None:
            slope = slope * weights[..., None, :]
        active = xp.sum(short > 0, axis=1)
        return (
            _total(_per_sample(short), weights),
            slope,
            2 * _total(alike(active, short), weights) / (q * n),
        )


def _own(logits: Array, y: Array) -> tuple[Any, Array, Array]:
    """Index of each sample's own class, for (p, n) values."""
    xp = namespace(logits)
    p, _, n = logits.shape
    samples = xp.arange(n, device=logits.device)
    if y.ndim == 1:
        return slice(None), y, samples
    return xp.arange(p, device=logits.device)[:, None], y, samples


def _per_sample(terms: Array) -> Array:
    """Sum of squares over the outputs, (p, n)."""
    return namespace(terms).einsum("pqn,pqn->pn", terms, terms)


def _total(terms: Array, weights: Array | None) -> np.ndarray:
    """Sum over the samples of each problem, (p, n) to (p,), in float64 whatever the terms are."""
    xp = namespace(terms)
    weighted = terms if weights is None else terms * weights
    return np.asarray(to_host(xp.sum(weighted, axis=1, dtype=xp.float64)))
