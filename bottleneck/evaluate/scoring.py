"""Score a kept probe on labelled data it has not seen: predictions and labels in, metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FitError
from .measure import measure
from .metrics import confusion_matrix, per_class
from .splits import copy_weights, group_rows
from .wording import copies, images


def score(
    probabilities: np.ndarray,
    y: np.ndarray,
    classes: Sequence[str],
    *,
    keys: np.ndarray | None = None,
    frequencies: np.ndarray | None = None,
    views: int = 1,
) -> dict[str, Any]:
    """Metrics of predictions, with the intervals of a held-out set.

    Parameters
    ----------
    probabilities : ndarray of shape (n, k), float
        Columns in the order of `classes`.
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled (left out).
    classes : sequence of str
    keys : ndarray of shape (n, b), uint8, optional
        Rows with equal keys are copies, and count as one image together.
    frequencies : ndarray of shape (k,), optional
        Share of each class among the training images, which the baseline goes by: it always answers with
        the most frequent one. Default: the shares here.
    views : int, default 1
        Rows that each image has by its framing, with equal keys: counts are of images.

    Returns
    -------
    dict
        ``metrics``, ``baseline`` (always the most frequent class), ``confusion`` (k, k) int64,
        ``per_class``, ``n``, ``notes``. ``confusion``, ``n`` and the ``n`` of a class count rows, copies
        included.

    Raises
    ------
    FitError
        If no row has a label, or there are not as many keys as rows.
    """
    probabilities, y = np.asarray(probabilities), np.asarray(y)
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
    truth, said = y[labelled], probabilities[labelled]
    answers = said.argmax(axis=1)
    if frequencies is None:
        frequencies = np.bincount(truth, weights, k) / weights.sum()
    shared: dict[str, Any] = {
        "images": groups,
        "groups": groups,
        "folds": np.zeros((1, n), np.int32),
        "held_out": True,
    }
    baseline = np.broadcast_to(frequencies, (1, n, k))
    weighted = confusion_matrix(truth, answers, k, weights)
    confusion = confusion_matrix(truth, answers, k) // views
    left_out = len(y) - n
    notes = [f"{left_out} unlabelled {images(left_out)} left out"] if left_out else []
    return {
        "metrics": measure(truth, said[None], **shared),
        "baseline": measure(truth, baseline, **shared),
        "confusion": confusion,
        "per_class": per_class(weighted, list(classes), confusion.sum(axis=1)),
        "n": n // views,
        "notes": notes + copies(n, len(np.unique(groups)), views),
    }
