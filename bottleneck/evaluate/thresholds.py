"""From which probability on a label is answered: out-of-fold probabilities in, a threshold each out."""

from __future__ import annotations

import numpy as np

# Below this a label's own best threshold is mostly that of its few positives by chance.
_FEW = 10
_DEFAULT = 0.5


def best_f1(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> float:
    """The threshold with the largest F1, ``p >= threshold`` being a yes.

    Parameters
    ----------
    y : ndarray of shape (m,)
        1 and 0; NaN rows are left out.
    p : ndarray of shape (m,)
        Probabilities of rows that the model was not fitted on.
    weights : ndarray of shape (m,)

    Returns
    -------
    float
        Half-way between the lowest probability that is answered and the next one below it (0.5 without
        a positive). Of equal F1 the highest threshold.

    References
    ----------
    Z. Lipton, C. Elkan, B. Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure",
    ECML PKDD 2014: the best threshold is half of the best F1, so below one half.
    """
    known = ~np.isnan(y)
    y, p, weights = y[known], p[known], weights[known]
    if not (weights[y == 1] > 0).any():
        return _DEFAULT
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(p) - 1)
    right = np.cumsum(weights[order] * (y[order] == 1))[ends]
    answered = np.cumsum(weights[order])[ends]
    best = int((2 * right / (answered + right[-1])).argmax())
    below = ordered[ends[best] + 1] if best + 1 < len(ends) else 0.0
    return float((ordered[ends[best]] + below) / 2)


def label_thresholds(Y: np.ndarray, P: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A threshold for each label; those with few positives share the one best for all labels together.

    Parameters
    ----------
    Y : ndarray of shape (m, k)
        1, 0 and NaN.
    P : ndarray of shape (m, k)
    weights : ndarray of shape (m,)

    Returns
    -------
    ndarray of shape (k,), float64
    """
    each = np.repeat(weights[:, None], Y.shape[1], axis=1)
    shared = best_f1(Y.ravel(), P.ravel(), each.ravel())
    positives = weights @ (Y == 1)
    return np.array(
        [
            best_f1(Y[:, i], P[:, i], weights) if positives[i] >= _FEW else shared
            for i in range(Y.shape[1])
        ]
    )
