"""A control: the same evaluation of shuffled labels, which nothing can predict."""

from __future__ import annotations

from typing import Any

import numpy as np

from .splits import group_rows

_SHUFFLE = 3  # stream of random numbers, next to the outer folds' 1 and the inner folds' 2


def shuffle_labels(y: np.ndarray, keys: np.ndarray | None, seed: int) -> np.ndarray:
    """Deal the labels anew among the labelled images; copies of an image keep one label.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        -1 = unlabelled, which stays.
    keys : ndarray of shape (n, b), uint8, or None
    seed : int

    Returns
    -------
    ndarray of shape (n,), in the dtype of `y`
    """
    rng = np.random.default_rng([seed, _SHUFFLE])
    labelled = np.flatnonzero(y >= 0)
    groups = group_rows(keys, len(y))[labelled]
    _, first, image = np.unique(groups, return_index=True, return_inverse=True)
    dealt = rng.permutation(y[labelled][first])
    shuffled = y.copy()
    shuffled[labelled] = dealt[image.reshape(-1)]
    return shuffled


def judge(metrics: dict[str, Any], n_classes: int) -> dict[str, Any]:
    """Whether a score of shuffled labels holds chance.

    Balanced accuracy is judged: whatever a head answers, chance is 1 / k for it, while the chance of
    accuracy depends on how often each class is answered.

    Parameters
    ----------
    metrics : dict
        Of the evaluation of shuffled labels.
    n_classes : int
        Classes that were scored.

    Returns
    -------
    dict
        ``balanced_accuracy`` (with its interval), ``chance``, ``holds``.
    """
    found, chance = metrics["balanced_accuracy"], 1 / n_classes
    return {
        "balanced_accuracy": found,
        "chance": chance,
        "holds": bool(found["low"] <= chance <= found["high"]),
    }
