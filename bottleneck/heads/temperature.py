"""One temperature: scores of rows that a fit did not see in, a number out that makes their softmax honest.

Dividing all scores by one number changes no answer and no ranking inside an image, only how sure the
answer looks.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Of log(temperature): with C = 1e-6 scores are about 1e-5, and of an SVM with C = 1e5 about 1e3.
_RANGE = (np.log(1e-8), np.log(1e8))


def fit_temperature(scores: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature with the smallest log loss.

    Parameters
    ----------
    scores : ndarray of shape (n, k)
        Decision scores of samples that the model was not fitted on; -inf for a class that it did not
        know.
    y : ndarray of shape (n,), int
        Class indices.
    weights : ndarray of shape (n,), optional
        How much each sample counts.

    Returns
    -------
    float
        Between 1e-8 and 1e8; 1.0 if there is no sample with a known class.

    Notes
    -----
    Where all answers are right, the loss falls until the temperature is 0, and the first wrong answer
    would then cost any amount. So, as in Platt's method, each sample counts as its own class with
    ``1 - 1 / (n + 2)`` and the rest goes to the other classes.

    References
    ----------
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599. J. Platt,
    "Probabilistic outputs for support vector machines", 1999 (the softened targets).
    """
    rows = np.arange(len(y))
    known = np.isfinite(scores[rows, y]) if len(y) else np.zeros(0, bool)
    if not known.any():
        return 1.0
    scores, y = np.asarray(scores, np.float64)[known], y[known]
    counted = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)[known]
    counted = counted / counted.sum()
    there = np.isfinite(scores)
    soft = 1 / (len(y) + 2)
    targets = np.where(there, soft / np.maximum(there.sum(axis=1, keepdims=True) - 1, 1), 0.0)
    targets[np.arange(len(y)), y] = 1 - soft

    def loss(log_temperature: float) -> float:
        logs = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -float(counted @ np.where(there, targets * np.where(there, logs, 0), 0).sum(axis=1))

    # The loss is convex in 1 / T, so it has one minimum in log T as well.
    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))
