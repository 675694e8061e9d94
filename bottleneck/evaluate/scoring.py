"""Score a kept probe on labelled data it has not seen: predictions and labels in, metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FitError
from .intervals import with_intervals
from .metrics import confusion_matrix, per_class
from .wording import images


def score(predicted: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of predictions, with the intervals of a held-out set.

    Parameters
    ----------
    predicted : ndarray of shape (n, k), float, or (n,), int
        Probabilities with columns in the order of `classes`, or indices of the predicted classes.
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled (left out).
    classes : sequence of str

    Returns
    -------
    dict
        ``metrics``, ``baseline`` (always answering with the class that is most frequent here), ``confusion``
        (k, k) int64, ``per_class``, ``n``, ``notes``.

    Raises
    ------
    FitError
        If no row has a label.
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
    confusion = confusion_matrix(y[labelled], answers[labelled], k)
    majority = np.full(n, np.bincount(y[labelled]).argmax())
    left_out = len(y) - n
    return {
        "metrics": with_intervals(confusion),
        "baseline": with_intervals(confusion_matrix(y[labelled], majority, k)),
        "confusion": confusion,
        "per_class": per_class(confusion, list(classes)),
        "n": n,
        "notes": [f"{left_out} unlabelled {images(left_out)} left out"] if left_out else [],
    }
