"""One temperature: decision values in, probabilities out, and the same answer as before."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.base import clone

_FOLDS = 5
_LOOSE = 1e-5  # of fits that are read for their spread alone
_RANGE = (np.log(1e-3), np.log(1e3))  # of log(temperature)


def apply_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, k) of decision values (n, k), or (n,) for two classes.

    The most probable class is the one with the largest decision value.

    Parameters
    ----------
    scores : ndarray of shape (n, k) or (n,)
    temperature : float, above 0
        The larger, the nearer to equal probabilities.
    """
    if scores.ndim == 1:
        return np.stack([expit(-scores / temperature), expit(scores / temperature)], axis=1)
    return softmax(scores / temperature, axis=1)


def fit_temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """The temperature with the smallest log loss.

    Parameters
    ----------
    scores : ndarray of shape (n, k) or (n,)
        Decision values of samples that the model was not fitted on.
    y : ndarray of shape (n,), intp
        Class indices.

    Returns
    -------
    float
        Between 0.001 and 1,000.

    References
    ----------
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.
    """
    both = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores

    def loss(log_temperature: float) -> float:
        logs = log_softmax(both / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(y)), y].mean())

    # The loss is convex in 1 / T, so it has one minimum in log T as well.
    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def out_of_fold_temperature(head: Any, X: Any, y: Any) -> float:
    """Fit the head again on folds of its training rows, and the temperature on what it says outside.

    Parameters
    ----------
    head : estimator
        With a `probability` switch, a `random_state` and `decision_function`.
    X : array-like of shape (n, d)
    y : array-like of shape (n,)

    Returns
    -------
    float
        1.0 where no class has two samples to share between a fit and its test.
    """
    # Not at the top: evaluate/ imports the heads.
    from ..evaluate.splits import stratified_folds

    X, y = np.asarray(X), np.asarray(y).ravel()
    classes, indices = np.unique(y, return_inverse=True)
    rng = np.random.default_rng(head.random_state)
    folds = stratified_folds(indices, np.arange(len(y)), _FOLDS, rng)
    scores, truths = [], []
    for fold in np.unique(folds[folds >= 0]):
        train, test = folds != fold, folds == fold
        if len(np.unique(indices[train])) < len(classes):
            continue  # its columns would be others
        fitted = clone(head).set_params(probability=False)
        if "tol" in fitted.get_params():
            fitted.set_params(tol=_LOOSE)
        fitted.fit(X[train], y[train])
        scores.append(fitted.decision_function(X[test]))
        truths.append(indices[test])
    if not scores:
        return 1.0
    return fit_temperature(np.concatenate(scores), np.concatenate(truths))
