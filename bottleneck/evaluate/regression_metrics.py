"""Metrics of predicted numbers: predictions and truths in, numbers out, for any weighting of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("r2", "mae", "rmse", "spearman")


def all_metrics(
    y: np.ndarray, predicted: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric for each of several weightings, mean over the repeats.

    Parameters
    ----------
    y : ndarray of shape (m,)
    predicted : ndarray of shape (R, m)
        In each repeat.
    folds : ndarray of shape (R, m), int
    weights : ndarray of shape (b, m)

    Returns
    -------
    dict of str to ndarray of shape (b,)
        ``r2``: 1 - squared error / squared distance to the mean of the scored rows, below 0 for what is
        worse than answering that mean. ``mae`` and ``rmse``: in the unit of the quantity. ``spearman``:
        correlation of ranks inside each fold, mean over the folds by their rows; nan where all answers
        are alike.
    """
    each = [_one_repeat(y, p, f, weights) for p, f in zip(predicted, folds, strict=True)]
    return {name: np.mean([found[name] for found in each], axis=0) for name in METRICS}


def _one_repeat(
    y: np.ndarray, p: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    total = weights.sum(axis=1)
    mean = weights @ y / total
    squared = weights @ np.square(y - p)
    # Around the mean of all first: the difference of two large squares would lose its digits.
    centre = y.mean()
    variety = weights @ np.square(y - centre) - total * np.square(mean - centre)
    correlation, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds):
        rows = folds == fold
        found = spearman(y[rows], p[rows], weights[:, rows])
        size = weights[:, rows].sum(axis=1)
        defined = ~np.isnan(found)
        correlation += np.where(defined, found * size, 0)
        counted += np.where(defined, size, 0)
    return {
        "r2": 1 - _ratio(squared, variety),
        "mae": weights @ np.abs(y - p) / total,
        "rmse": np.sqrt(squared / total),
        "spearman": _ratio(correlation, counted),
    }


def spearman(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation for each weighting, (b,); nan where one side does not vary."""
    total = weights.sum(axis=1, keepdims=True)
    centred = []
    for values in (y, p):
        ranks = _ranks(values, weights)
        centred.append(
            ranks - (weights * ranks).sum(axis=1, keepdims=True) / np.maximum(total, 1e-12)
        )
    a, b = centred
    above = (weights * a * b).sum(axis=1)
    below = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    # Ranks that do not vary leave rounding, relative to squares of up to the total.
    below = np.where(below > 1e-9 * np.maximum(total[:, 0], 1) ** 2, below, 0)
    return np.clip(_ratio(above, below), -1, 1)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Midranks of rows that are there as often as their weight says: (b, m)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(sizes, axis=1) - sizes / 2
    run = np.empty(len(values), np.intp)
    run[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return middle[:, run]


def _ratio(a: Any, b: Any) -> np.ndarray:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)
