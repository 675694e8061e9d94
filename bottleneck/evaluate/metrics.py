"""Metrics of a classifier: confusion matrices or probabilities in, numbers out.

In a confusion matrix (..., k, k) rows are true classes, columns predictions. Averages over classes run
over the classes that have a scored image; a class without one has no recall to average.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .calibration import brier, ece, log_loss
from .ranking import one_vs_rest

ANSWERS = ("accuracy", "balanced_accuracy", "macro_f1")
PROBABILITIES = ("log_loss", "auroc", "average_precision", "brier", "ece")
METRICS = (*ANSWERS, *PROBABILITIES)
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
__all__ = [
    "ANSWERS",
    "LOWER_IS_BETTER",
    "METRICS",
    "PROBABILITIES",
    "accuracy",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "confusion_matrix",
    "ece",
    "f1",
    "f1_from_counts",
    "log_loss",
    "macro_f1",
    "most_frequent",
    "per_class",
    "precision",
    "recall",
    "values",
]


def confusion_matrix(
    y: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y, predicted : ndarray of shape (n,), int
        Class indices below `n_classes`.
    n_classes : int
    weights : ndarray of shape (n,), float, optional
        How much each row counts; see `splits.copy_weights`.

    Returns
    -------
    ndarray of shape (k, k), int64, or float64 with `weights`
        Rows are true classes, columns predictions.
    """
    cells = np.asarray(y, np.int64) * n_classes + np.asarray(predicted, np.int64)
    counts = np.bincount(cells, weights, minlength=n_classes**2).reshape(n_classes, n_classes)
    # Ten tenths are one image, to the last bit: a score of 1 must not read 0.9999999999999999.
    return counts if weights is None else np.round(counts, 9)


def most_frequent(y: np.ndarray, weights: np.ndarray) -> int:
    """The class with the most weight; of several, the first."""
    return int(np.round(np.bincount(y, weights), 9).argmax())


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of right answers, (...) float64; nan without a sample."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return _ratio(right, confusion.sum(axis=(-2, -1)))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Share of each class that was found, (..., k) float64; nan for a class without a sample."""
    return _ratio(_hits(confusion), confusion.sum(axis=-1))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Share of the answers of each class that were right, (..., k); nan where there was none."""
    return _ratio(_hits(confusion), confusion.sum(axis=-2))


def f1(confusion: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, (..., k); nan for a class without a sample."""
    return f1_from_counts(_hits(confusion), confusion.sum(axis=-1), confusion.sum(axis=-2))


def f1_from_counts(hits: np.ndarray, actual: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """F1 of counts of any shape: right answers, samples of the class, answers of the class."""
    return np.where(actual > 0, _ratio(2 * hits, actual + answered), np.nan)


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean recall over the classes, (...)."""
    return _mean(recall(confusion))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes, (...)."""
    return _mean(f1(confusion))


def values(confusion: np.ndarray) -> dict[str, float]:
    """Those of `ANSWERS` of one matrix, by name."""
    functions = (accuracy, balanced_accuracy, macro_f1)
    return {name: float(f(confusion)) for name, f in zip(ANSWERS, functions, strict=True)}


def auroc(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes.

    Parameters
    ----------
    y : ndarray of shape (m,), int
    probabilities : ndarray of shape (m, k)
        Or any scores: only their order within a class counts.
    weights : ndarray of shape (m,), float64
        How much each row counts.

    Returns
    -------
    float
        0 to 1, ties half; nan where all rows are of one class.
    """
    return float(_mean(one_vs_rest("auroc", y, probabilities, weights)[0]))


def average_precision(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Average precision, sum of (R_i - R_{i-1}) P_i, mean over the classes that have a row.

    Parameters
    ----------
    y, probabilities, weights
        See `auroc`.
    """
    return float(_mean(one_vs_rest("average_precision", y, probabilities, weights)[0]))


def per_class(
    confusion: np.ndarray, classes: list[str], n: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of scored images of each class.

    Parameters
    ----------
    confusion : ndarray of shape (k, k)
        May hold fractions, as a mean over repeats does.
    classes : list of str
    n : ndarray of shape (k,), int, optional
        Scored images of each class, where the matrix counts copies less than once.

    Returns
    -------
    list of dict
        ``class``, ``precision``, ``recall``, ``f1`` (nan where undefined), ``n`` (int).
    """
    sizes = confusion.sum(axis=-1) if n is None else n
    columns = (precision(confusion), recall(confusion), f1(confusion), sizes)
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "n": round(m)}
        for name, p, r, f, m in zip(classes, *(c.tolist() for c in columns), strict=True)
    ]


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)


def _mean(per_class: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(per_class)
    return _ratio(np.where(defined, per_class, 0).sum(axis=-1), defined.sum(axis=-1))
