"""Heads fitted on parts of the same data, those of few rows together: 50 fits of 24 rows in one batch.

Tightly, as `LogisticHead.fit` does it: float64, with the same bound on the distance to the minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .fitted import Fitted, fit_head
from .linear import LinearFit
from .logistic import LogisticHead
from .rotation import LARGEST, rotate
from .scaling import fit_scaling
from .solver import minimise
from .stacked import fold_of, stacked, stacks
from .validation import check_positive, check_training, class_weights


def fits_together(
    heads: Sequence[Any], y: np.ndarray, rows: Sequence[np.ndarray], n_features: int
) -> list[list[int]]:
    """Which of some fits `fit_heads` does best in one call, as positions.

    Parameters
    ----------
    heads : sequence of estimators, unfitted
    y : ndarray of shape (n,), int
    rows : sequence of ndarray
        What each head is fitted on.
    n_features : int

    Returns
    -------
    list of list of int
        Logistic heads with the same number of classes and few rows together, all others alone.
    """
    alone = [[number] for number in range(len(heads))]
    settings = {
        (head.tol, head.max_iter) if isinstance(head, LogisticHead) else None for head in heads
    }
    if len(settings) != 1 or None in settings:
        return alone
    if max(min(len(own), n_features) for own in rows) > LARGEST:
        return alone
    folds = [fold_of(own, own[:0], y) for own in rows]
    return stacks(folds, LogisticHead._loss, 1, n_features, 1)


def fit_heads(
    heads: Sequence[Any],
    X: np.ndarray,
    y: np.ndarray,
    rows: Sequence[np.ndarray],
    *,
    n_classes: int,
    scaling: str = "standard",
    temperatures: Sequence[float] | None = None,
) -> list[Fitted]:
    """Fit scalings and heads, each on its own rows alone; as `fitted.fit_head` one after the other.

    Parameters
    ----------
    heads : sequence of estimators, unfitted
        Several only as `fits_together` puts them.
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), int
        Class indices below `n_classes`; two or more of them are in each part.
    rows : sequence of ndarray
        For each head.
    n_classes : int
    scaling : str
    temperatures : sequence of float, optional

    Returns
    -------
    list of Fitted
    """
    temperatures = temperatures or [1.0] * len(heads)
    if len(heads) == 1:
        (head,), (own,), (temperature,) = heads, rows, temperatures
        return [
            fit_head(
                head, X[own], y[own], n_classes=n_classes, scaling=scaling, temperature=temperature
            )
        ]
    scalings = [fit_scaling(scaling, X[own]) for own in rows]
    fits = _fit(
        heads, [(s.transform(X[own]), y[own]) for s, own in zip(scalings, rows, strict=True)]
    )
    return [
        Fitted(scaling_, head._keep(fit, stacklevel=3), n_classes, temperature)
        for scaling_, head, fit, temperature in zip(
            scalings, heads, fits, temperatures, strict=True
        )
    ]


def _fit(
    heads: Sequence[LogisticHead], samples: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[LinearFit]:
    """The minimum of each head on its samples, as one batch."""
    checked = [check_training(head, *sample) for head, sample in zip(heads, samples, strict=True)]
    for head in heads:
        check_positive(C=head.C, tol=head.tol)
    coordinates = [rotate(X) for X, _ in checked]
    A = stacked([(own.training, own.training[:0]) for own in coordinates]).training
    y, weights = np.zeros(A.shape[:2], np.intp), np.zeros(A.shape[:2])
    for row, counts, head, (_, indices) in zip(y, weights, heads, checked, strict=True):
        row[: len(indices)] = indices
        given = class_weights(head.class_weight, indices, head.classes_)
        counts[: len(indices)] = 1 if given is None else given
    found = minimise(
        A,
        y,
        np.array([head.C for head in heads], np.float64),
        LogisticHead._loss,
        len(heads[0].classes_),
        tol=heads[0].tol,
        certified=True,
        max_iter=heads[0].max_iter,
        weights=None if (weights == 1).all() else weights,
        owner=np.arange(len(heads)),
    )
    fits = []
    for i, own in enumerate(coordinates):
        inner = own.training.shape[1] - 1
        solution = found.weights[i : i + 1]
        coef, intercept = own.back(np.concatenate([solution[..., :inner], solution[..., -1:]], 2))
        fits.append(
            LinearFit(
                coef,
                intercept,
                found.objective[i : i + 1],
                found.converged[i : i + 1],
                found.iterations[i : i + 1],
            )
        )
    return fits
