"""Metrics of several yes-or-no answers for each image: probabilities and labels in, numbers out.

A label that is unknown (NaN) for an image counts nowhere. Average precision is the area under the
steps of precision and recall, sum of (R_i - R_(i-1)) P_i, equal probabilities in one step, as
scikit-learn has it; the VOC rule of 2010 takes the best precision at any higher recall instead, which
is higher. A label without a positive has none, and is left out of every mean.

Under cross-validation average precision is computed over all scored images at once: with one or two
positives in a fold it would be far above what chance gives in the whole (1 positive among 80 images
has an expected average precision of 0.06 at random, its share is 0.0125). AUROC compares pairs of
one fold only, which no shift between folds can disturb, each pair counting the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("map", "auroc", "micro_f1", "macro_f1", "log_loss")
_FLOOR = 1e-15  # of probabilities inside a logarithm


def average_precision(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average precision of one label, for each of several weightings of the rows.

    Parameters
    ----------
    y : ndarray of shape (m,)
        1 and 0; NaN rows are left out.
    p : ndarray of shape (m,)
        The larger, the more likely.
    weights : ndarray of shape (b, m), optional
        Default: one weighting, all ones.

    Returns
    -------
    ndarray of shape (b,)
        nan without a positive.
    """
    y, p, W = _known(y, p, weights)
    order = np.argsort(-p, kind="stable")
    W, ends = W[:, order], _ends(p[order])
    right = np.cumsum(W * (y[order] == 1), axis=1)[:, ends]
    answered = np.cumsum(W, axis=1)[:, ends]
    total = right[:, -1:] if len(ends) else np.zeros((len(W), 1))
    steps = np.diff(right, axis=1, prepend=0)
    found = (steps * _ratio(right, answered, 0)).sum(axis=1)
    return _ratio(found, total[:, 0], np.nan)


def pairs(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a positive and a negative that are in the right order, ties half, and all pairs.

    Parameters
    ----------
    y, p, weights
        See `average_precision`.

    Returns
    -------
    right, all : ndarray of shape (b,)
        Their ratio is the AUROC (Mann and Whitney).
    """
    y, p, W = _known(y, p, weights)
    if not len(p):
        return np.zeros(len(W)), np.zeros(len(W))
    order = np.argsort(p, kind="stable")
    starts = np.concatenate([[0], _ends(p[order])[:-1] + 1])
    positive = np.add.reduceat(W[:, order] * (y[order] == 1), starts, axis=1)
    negative = np.add.reduceat(W[:, order] * (y[order] == 0), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return (positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1)


def all_metrics(
    Y: np.ndarray,
    P: np.ndarray,
    answers: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """Every metric for each of several weightings, mean over the repeats.

    Parameters
    ----------
    Y : ndarray of shape (m, k)
        1, 0 and NaN.
    P : ndarray of shape (R, m, k)
        Probabilities in each repeat.
    answers : ndarray of shape (R, m, k), bool
    folds : ndarray of shape (R, m), int
    weights : ndarray of shape (b, m)

    Returns
    -------
    dict of str to ndarray of shape (b,)
        The `METRICS`.
    """
    each = [_one_repeat(Y, p, a, f, weights) for p, a, f in zip(P, answers, folds, strict=True)]
    return {name: np.mean([found[name] for found in each], axis=0) for name in METRICS}


def _one_repeat(
    Y: np.ndarray, P: np.ndarray, answers: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    precision, area = per_label_ranking(Y, P, folds, weights)
    right, wrong, missed = counts(Y, answers, weights)
    f1 = _ratio(2 * right, 2 * right + wrong + missed, np.nan)
    f1 = np.where(right + missed > 0, f1, np.nan)
    losses, known = log_losses(Y, P)
    together = [c.sum(axis=1) for c in (right, wrong, missed)]
    micro = _ratio(2 * together[0], 2 * together[0] + together[1] + together[2], np.nan)
    return {
        "map": _mean(precision),
        "auroc": _mean(area),
        "micro_f1": np.where(together[0] + together[2] > 0, micro, np.nan),
        "macro_f1": _mean(f1),
        "log_loss": _ratio((weights @ losses).sum(axis=1), (weights @ known).sum(axis=1), np.nan),
    }


def per_label_ranking(
    Y: np.ndarray, P: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision over all rows, and AUROC inside the folds: (b, k) each, nan where undefined."""
    precision = np.empty((len(weights), Y.shape[1]))
    area = np.empty_like(precision)
    of_fold = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    for label in range(Y.shape[1]):
        y, p = Y[:, label], P[:, label]
        precision[:, label] = average_precision(y, p, weights)
        found = [pairs(y[rows], p[rows], weights[:, rows]) for rows in of_fold]
        area[:, label] = _ratio(sum(a for a, _ in found), sum(b for _, b in found), np.nan)
    return precision, area


def counts(
    Y: np.ndarray, answers: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right yeses, wrong yeses, and positives that were missed, of each label: (b, k) each."""
    yes = answers.astype(np.float64)
    right = weights @ ((Y == 1) * yes)
    return right, weights @ ((Y == 0) * yes), weights @ ((Y == 1) * (1 - yes))


def log_losses(Y: np.ndarray, P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log loss of each cell, 0 where the label is unknown, and whether it is known: (m, k) each."""
    known = ~np.isnan(Y)
    likely = np.where(Y == 1, P, 1 - P).astype(np.float64)
    return np.where(known, -np.log(np.clip(likely, _FLOOR, 1)), 0), known.astype(np.float64)


def per_label(
    names: list[str],
    Y: np.ndarray,
    P: np.ndarray,
    answers: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
    thresholds: np.ndarray,
) -> list[dict[str, Any]]:
    """One row for each label, mean over the repeats.

    Returns
    -------
    list of dict
        ``label``, ``n`` (scored images for which it is known), ``positives``, ``average_precision``,
        ``auroc``, ``precision``, ``recall``, ``f1`` (nan where undefined), ``threshold``.
    """
    W = weights[None]
    found = []
    for p, a, f in zip(P, answers, folds, strict=True):
        ranking = per_label_ranking(Y, p, f, W)
        right, wrong, missed = counts(Y, a, W)
        f1 = np.where(
            right + missed > 0, _ratio(2 * right, 2 * right + wrong + missed, np.nan), np.nan
        )
        precision = _ratio(right, right + wrong, np.nan)
        found.append([*ranking, precision, _ratio(right, right + missed, np.nan), f1])
    columns = np.array(found)[:, :, 0]
    defined = ~np.isnan(columns)
    means = _ratio(np.where(defined, columns, 0).sum(axis=0), defined.sum(axis=0), np.nan)
    keys = ("average_precision", "auroc", "precision", "recall", "f1")
    return [
        {
            "label": name,
            "n": round(float(weights @ ~np.isnan(Y[:, i]))),
            "positives": round(float(weights @ (Y[:, i] == 1))),
            **{key: float(value) for key, value in zip(keys, means[:, i], strict=True)},
            "threshold": float(thresholds[i]),
        }
        for i, name in enumerate(names)
    ]


def _known(
    y: np.ndarray, p: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = ~np.isnan(y)
    W = np.ones((1, len(y))) if weights is None else weights
    return (y, p, W) if known.all() else (y[known], p[known], W[:, known])


def _ends(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values ends."""
    if not len(ordered):
        return np.zeros(0, np.intp)
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


def _ratio(a: Any, b: Any, empty: float) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    # Sums of tenths may leave a rounding where there is nothing.
    there = b > 1e-12
    return np.divide(a, b, out=np.full(a.shape, float(empty)), where=there)


def _mean(columns: np.ndarray) -> np.ndarray:
    """Mean over the labels that have one, (b,)."""
    defined = ~np.isnan(columns)
    return _ratio(np.where(defined, columns, 0).sum(axis=1), defined.sum(axis=1), np.nan)
