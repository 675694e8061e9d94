"""All metrics of scored rows, with intervals: labels and probabilities in, one table out.

Repeats of a cross-validation are measured one by one and averaged: the average of their probabilities
would be an ensemble, which is better than the one fit that is kept. Copies count as one image together.
AUROC and average precision compare scores of one fit, so they are taken in each fold and averaged.

The baseline always answers with the most frequent class of the training rows, and its probabilities are
the frequencies there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import metrics as _metrics
from .calibration import calibration_error, error_by_chance, mean_of, row_brier, row_log_loss
from .intervals import (
    CV_SHRINK,
    LEVEL,
    Metric,
    Z,
    learning_gain,
    least_gain,
    log_interval,
    method_suffix,
    wilson,
    with_intervals,
)
from .metrics import ANSWERS, METRICS, confusion_matrix, f1, most_frequent, recall
from .ranking import average_precision_of_others, one_vs_rest
from .splits import TRAIN_ONLY, copy_weights
from .spread import design_effect, effective_count, variance

_SCALE = {"brier": 2.0}  # upper ends of the ranges that are not 1


def measure(
    y: np.ndarray,
    probabilities: np.ndarray,
    *,
    images: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    held_out: bool,
    metrics: Sequence[str] = METRICS,
    answers: np.ndarray | None = None,
    inner: Mapping[str, Any] | None = None,
) -> dict[str, Metric]:
    """Metrics with 95 % intervals.

    Parameters
    ----------
    y : ndarray of shape (m,), int
        True classes, below k.
    probabilities : ndarray of shape (R, m, k), float
        Of each repeat; R = 1 for one test set.
    images, groups : ndarray of shape (m,), int
        Equal numbers: the same picture; rows that never stand on both sides, as of one patient.
    folds : ndarray of shape (R, m), int
        Outer fold of each row in each repeat.
    held_out : bool
        One test set that nothing was fitted on: intervals are those of independent images.
    metrics : sequence of str, default METRICS
    answers : ndarray of shape (R, m), int, optional
        Predicted classes; default: the most probable ones.
    inner : dict, optional
        What the folds inside the training parts scored, for the slope of the learning curve:
        ``confusion`` (k, k), and ``outer_share`` and ``inner_share`` of `intervals.learning_gain`.

    Returns
    -------
    dict of str to dict
        By metric ``{"value", "low", "high", "level", "method"}``: accuracy, balanced_accuracy, macro_f1,
        auroc, average_precision and ece on the scale 0 to 1, brier 0 to 2, log_loss from 0 up (natural
        logarithm). Where a metric is undefined, value and bounds are nan.
    """
    table = _Table(y, probabilities, images, groups, folds, held_out, answers)
    found: dict[str, Metric] = {}
    if set(metrics) & set(ANSWERS):
        found |= table.of_answers(inner)
    for name in metrics:
        if name not in found:
            found[name] = table.of_probabilities(name)
    return {name: found[name] for name in metrics}


def measure_majority(
    y: np.ndarray,
    y_train: np.ndarray,
    weights_train: np.ndarray,
    n_classes: int,
    *,
    images: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    held_out: bool,
    metrics: Sequence[str] = METRICS,
) -> dict[str, Metric]:
    """The same for the baseline: always the most frequent class of the training rows.

    Parameters
    ----------
    y_train : ndarray of shape (n,), int
    weights_train : ndarray of shape (n,), float
        How much each training row counts.
    n_classes : int
    y, images, groups, folds, held_out, metrics
        See `measure`.
    """
    frequencies = np.bincount(y_train, weights_train, n_classes) / np.sum(weights_train)
    majority = most_frequent(y_train, weights_train)
    return measure(
        y,
        np.broadcast_to(frequencies, (1, len(y), n_classes)),
        images=images,
        groups=groups,
        folds=folds[:1],
        held_out=held_out,
        metrics=metrics,
        answers=np.full((1, len(y)), majority),
    )


class _Table:
    """The scored rows, and what several metrics need of them."""

    def __init__(
        self,
        y: np.ndarray,
        probabilities: np.ndarray,
        images: np.ndarray,
        groups: np.ndarray,
        folds: np.ndarray,
        held_out: bool,
        answers: np.ndarray | None,
    ) -> None:
        self.y, self.probabilities, self.folds = y, probabilities, folds
        self.images, self.groups = images, groups
        self.answers = probabilities.argmax(axis=2) if answers is None else answers
        self.k = probabilities.shape[2]
        self.weights = copy_weights(images)
        self.shrink = 1.0 if held_out else CV_SHRINK

    def of_answers(self, inner: Mapping[str, Any] | None) -> dict[str, Metric]:
        repeats = [confusion_matrix(self.y, a, self.k, self.weights) for a in self.answers]
        confusion = np.mean(repeats, axis=0)
        found = _metrics.values(confusion)
        design = {
            name: design_effect(influence, self.images, self.groups, self.weights)
            for name, influence in self._influences(confusion).items()
        }
        gain: dict[str, float] = {}
        if inner is not None and self.shrink != 1:
            before = _metrics.values(np.asarray(inner["confusion"], np.float64))
            shares = float(inner["outer_share"]), float(inner["inner_share"])
            sizes = confusion.sum(axis=1)
            sizes = shares[0] * sizes[sizes > 0]
            # Accuracy goes by the usual class, the means over classes by the small ones.
            typical = {"accuracy": float(sizes.mean())}
            rarer = float(1 / np.mean(1 / sizes))
            gain = {
                name: max(
                    learning_gain(found[name], before[name], *shares),
                    least_gain(found[name], shares[0], typical.get(name, rarer)),
                )
                for name in found
            }
        return with_intervals(confusion, shrink=self.shrink, design=design, gain=gain)

    def _influences(self, confusion: np.ndarray) -> dict[str, np.ndarray]:
        """Each row's influence on the metrics of the answers; means over the repeats."""
        sizes, answered = confusion.sum(axis=1), confusion.sum(axis=0)
        scored = int(np.sum(sizes > 0))
        right = np.mean(self.answers == self.y, axis=0)
        recalls, f1s = np.nan_to_num(recall(confusion)), np.nan_to_num(f1(confusion))
        total = np.maximum(sizes + answered, 1e-12)
        # A row is one more image of its class and one more answer; both lower an F1, a hit raises it.
        taken = np.where(sizes > 0, f1s / total, 0.0)
        false = np.mean(taken[self.answers], axis=0)
        own = (2 * right - f1s[self.y]) / total[self.y]
        return {
            "accuracy": self.weights / sizes.sum() * (right - _metrics.accuracy(confusion)),
            "balanced_accuracy": self.weights
            * (right - recalls[self.y])
            / (sizes[self.y] * scored),
            "macro_f1": self.weights * (own - false) / scored,
        }

    def of_probabilities(self, name: str) -> Metric:
        value, influence, most = self._valued(name)
        if np.isnan(value):
            why = "undefined: one class is scored"
            return {"value": value, "low": value, "high": value, "level": LEVEL, "method": why}
        if name == "log_loss":
            return self._log_loss(value, influence)
        scale = _SCALE.get(name, 1.0)
        share, influence = min(value / scale, 1.0), influence / scale
        spread = variance(influence, self.images)
        design = design_effect(influence, self.images, self.groups, self.weights)
        counted = 1 / (self.shrink * design)
        if name == "ece":
            # Next to 0 it varies as much as elsewhere, unlike a proportion.
            reach = Z * np.sqrt(spread / counted) + 1 / (2 * most * counted)
            low = max(share - reach - self._error_by_chance() / np.sqrt(counted), 0.0)
            high = min(share + reach, 1.0)
            method = "normal, less the error by chance"
        else:
            low, high = (
                float(bound)
                for bound in wilson(share, effective_count(share, spread, most) * counted)
            )
            method = "wilson, effective n"
            if name == "average_precision":
                unbiased = self._average_precision_of_others()
                n = effective_count(unbiased, spread, most) * counted
                low = min(low, float(wilson(unbiased, n)[0]))
        return {
            "value": value,
            "low": float(min(low * scale, value)),
            "high": float(max(high * scale, value)),
            "level": LEVEL,
            "method": method + method_suffix(self.shrink, design),
        }

    def _log_loss(self, value: float, influence: np.ndarray) -> Metric:
        # What the groups do to the spread does not depend on the scale.
        scaled = influence / max(np.abs(influence).max(), 1e-300)
        design = design_effect(scaled, self.images, self.groups, self.weights)
        spread = variance(influence, self.images)
        n = float(self.weights.sum()) / (self.shrink * design)
        low, high = log_interval(value, spread * self.shrink * design, n, float(np.log(self.k)))
        return {
            "value": value,
            "low": low,
            "high": high,
            "level": LEVEL,
            "method": "student t of the logarithm" + method_suffix(self.shrink, design),
        }

    def _valued(self, name: str) -> tuple[float, np.ndarray, float]:
        """Value, influences, and the number of images where nothing varies."""
        repeats = len(self.probabilities)
        n = float(self.weights.sum())
        if name in ("auroc", "average_precision"):
            value, influence = self._by_fold(name)
            if name == "average_precision":
                # Its classes' sizes are the protocol's, not chance: images are drawn within classes.
                influence = self._within_classes(influence)
            return value, influence, self._most(name)
        total, influence = 0.0, np.zeros(len(self.y))
        for p in self.probabilities:
            if name == "ece":
                one, part = calibration_error(self.y, p, self.weights)
            else:
                losses = (row_log_loss if name == "log_loss" else row_brier)(self.y, p)
                one, part = mean_of(losses, self.weights)
            total += one / repeats
            influence += part / repeats
        return total, influence, n

    def _error_by_chance(self) -> float:
        return float(
            np.mean([error_by_chance(self.y, p, self.weights) for p in self.probabilities])
        )

    def _average_precision_of_others(self) -> float:
        """Like `_by_fold`, of `ranking.average_precision_of_others`."""
        values = np.array(
            [
                [
                    average_precision_of_others(self.y[rows] == c, p[rows, c], self.weights[rows])
                    for c in range(self.k)
                ]
                for p, rows in self._fits()
            ]
        )
        defined = ~np.isnan(values)
        counts = defined.sum(axis=0)
        sums = np.where(defined, values, 0).sum(axis=0)
        return float(np.mean(sums[counts > 0] / counts[counts > 0]))

    def _fits(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Probabilities of each repeat, with the rows that one fit scored."""
        for p, folds in zip(self.probabilities, self.folds, strict=True):
            for fold in np.unique(folds[folds != TRAIN_ONLY]):
                yield p, np.flatnonzero(folds == fold)

    def _by_fold(self, name: str) -> tuple[float, np.ndarray]:
        """For each class the mean over the folds where it is defined; the mean over the classes."""
        parts = [
            (rows, *one_vs_rest(name, self.y[rows], p[rows], self.weights[rows]))
            for p, rows in self._fits()
        ]
        values = np.array([each for _, each, _ in parts])
        defined = ~np.isnan(values)
        counts = defined.sum(axis=0)
        present = counts > 0
        if not present.any():
            return float("nan"), np.zeros(len(self.y))
        share = np.where(present, 1 / np.maximum(counts, 1), 0) / present.sum()
        influence = np.zeros(len(self.y))
        for rows, _, each in parts:
            influence[rows] += share @ each
        return float(np.where(defined, values, 0).sum(axis=0) @ share), influence

    def _most(self, name: str) -> float:
        """Images that a perfect ranking is worth; see `spread.effective_count`."""
        sizes = np.bincount(self.y, self.weights, self.k)
        sizes = sizes[sizes > 0]
        total = sizes.sum()
        own = (
            np.sum(1 / sizes) / len(sizes) ** 2
        )  # the positives of the classes are different images
        if name == "auroc":
            # Near 1 an area varies like a proportion of 4 / (1 / positives + 1 / negatives) images
            # (Newcombe 2006, equation 5); all classes share their negatives.
            own = own / 4 + np.mean(1 / np.maximum(total - sizes, 1e-9)) / 4
        return float(min(1 / own, total))

    def _within_classes(self, influence: np.ndarray) -> np.ndarray:
        sizes = np.bincount(self.y, self.weights, self.k)
        means = np.bincount(self.y, influence, self.k) / np.maximum(sizes, 1e-12)
        return influence - self.weights * means[self.y]
