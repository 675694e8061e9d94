"""Score a kept probe on labelled data it has not seen: predictions and labels in, metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FitError
from .intervals import with_intervals
from .metrics import confusion_matrix, most_frequent, per_class
from .splits import copy_weights, group_rows
from .wording import copies, images


def score(
    predicted: np.ndarray,
    y: np.ndarray,
    classes: Sequence[str],
    *,
    keys: np.ndarray | None = None,
    majority: int | None = None,
    views: int = 1,
) -> dict[str, Any]:
    """Metrics of predictions, with the intervals of a held-out set.

    Parameters
    ----------
    predicted : ndarray of shape (n, k), float, or (n,), int
        Probabilities with columns in the order of `classes`, or indices of the predicted classes.
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled (left out).
    classes : sequence of str
    keys : ndarray of shape (n, b), uint8, optional
        Rows with equal keys are copies, and count as one image together.
    majority : int, optional
        Index of the class that the baseline answers with: the most frequent one of the training images, as
        `protocol.Result.majority` has it. Default: the most frequent one here.
    views : int, default 1
        Rows that each image has by its framing, with equal keys: counts are of images.

    Returns
    -------
    dict
        ``metrics``, ``baseline`` (always answering with `majority`), ``confusion`` (k, k) int64,
        ``per_class``, ``n``, ``notes``. ``confusion``, ``n`` and the ``n`` of a class count rows, copies
        included.

    Raises
    ------
    FitError
        If no row has a label, or there are not as many keys as rows.
    """
    predicted, y = np.asarray(predicted), np.asarray(y)
    answers = predicted.argmax(axis=1) if predicted.ndim == 2 else predicted
    labelled = y >= 0
    n, k = int(labelled.sum()), len(classes)
    if not n:
        raise FitError(
            f"none of the {len(y)} images has a label of the probe's classes",
            expected=", ".join(classes),
        )
    if keys is not None:
        keys = np.asarray(keys, np.uint8)
        if len(keys) != len(y):
            raise FitError(
                f"keys {len(keys)}, labels {len(y)}", expected="one of each for every image"
            )
    groups = group_rows(keys, len(y))[labelled]
    weights = copy_weights(groups)
    truth, answers = y[labelled], answers[labelled]
    if majority is None:
        majority = most_frequent(truth, weights)
    baseline = confusion_matrix(truth, np.full(n, majority), k, weights)
    weighted = confusion_matrix(truth, answers, k, weights)
    confusion = confusion_matrix(truth, answers, k) // views
    left_out = len(y) - n
    notes = [f"{left_out} unlabelled {images(left_out)} left out"] if left_out else []
    return {
        "metrics": with_intervals(weighted),
        "baseline": with_intervals(baseline),
        "confusion": confusion,
        "per_class": per_class(weighted, list(classes), confusion.sum(axis=1)),
        "n": n // views,
        "notes": notes + copies(n, len(np.unique(groups)), views),
    }
