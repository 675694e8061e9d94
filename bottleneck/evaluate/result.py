"""What an evaluation found, as plain data: arrays, numbers and sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..heads.fitted import Fitted
from .intervals import Metric


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for the scored rows, each by a fit that did not see the row.

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
        Index into the input of `evaluate`, ascending.
    y : ndarray of shape (m,), int32
        True class, index into the result's `classes`.
    images, groups : ndarray of shape (m,), intp
        Equal numbers: the same picture; rows that never stand on both sides. See `plan.Plan`.
    folds : ndarray of shape (m,), int32
        Outer fold of the first repeat; 0 for a held-out set.
    repeat_folds : ndarray of shape (repeats, m), int32
        Outer fold in each repeat, -1 where the row was not scored.
    repeat_probabilities : ndarray of shape (repeats, m, k), float64
        Calibrated, in each repeat: what the metrics go by. The mean of several fits would be better than
        the one fit that is kept.
    """

    rows: np.ndarray
    y: np.ndarray
    images: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    repeat_folds: np.ndarray
    repeat_probabilities: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """Mean over the repeats, (m, k) float64."""
        return self.repeat_probabilities.mean(axis=0)

    @property
    def answers(self) -> np.ndarray:
        """Predicted class in each repeat, (repeats, m) int32."""
        return self.repeat_probabilities.argmax(axis=2).astype(np.int32)


@dataclass(frozen=True)
class Result:
    """What `protocol.evaluate` found.

    Attributes
    ----------
    head : str
    params : dict
        Hyper-parameters and options of the kept head.
    protocol : str
        ``holdout``, or ``nested-<outer folds>x<repeats>``; a preset has its own name.
    fitted : Fitted
        The kept scaling, head and temperature; its classes are indices into `classes`.
    classes : list of str
        Those with a training row.
    n_train, n_test : int
        Images the kept head learned from, and images that were scored, copies included. Under
        cross-validation the scored rows are among the training rows of the kept head, which no number
        here comes from.
    majority : int
        Index into `classes` of the most frequent class of the training rows, copies counted once: what the
        baseline answers.
    n_unlabelled, n_dropped : int
        Rows without a label, and test rows left out as copies of training rows.
    metrics, baseline : dict of str to dict
        ``{"value", "low", "high", "level", "method"}`` by metric, for the head and for always answering with
        `majority`. Copies count as one image together, in the value and in the width.
    confusion : ndarray of shape (k, k), int64
        Scored rows, copies included; rows are true classes; of the first repeat. The metrics are of the
        mean over the repeats.
    per_class : list of dict
        See `metrics.per_class`; of the mean over the repeats, copies counted once, except ``n``, which
        counts rows.
    oof : OutOfFold
    notes : list of str
        What was left out, joined, or gives reason for doubt.
    choice : dict
        Scores of the grid in the choice that was kept: ``grid``, ``scores``, ``standard_error``, ``chosen``.
    trained_on : ndarray of intp
        Rows that the kept head learned from.
    frequencies : ndarray of shape (k,), float64
        Share of each class among the training rows, copies counted once: the baseline's probabilities.
    optimism : dict
        ``metric``, ``tuned`` (what the best of the grid scored on the folds that chose it: usually reported,
        and too good), ``settings`` (of how many it was the best).
    extra : dict
        Further findings, as JSON data: kept in the probe and printed by ``--json``.
    arrays : dict of str to ndarray
        Further arrays that the probe keeps.
    """

    head: str
    params: dict[str, Any]
    protocol: str
    fitted: Fitted
    classes: list[str]
    n_train: int
    n_test: int
    n_unlabelled: int
    n_dropped: int
    majority: int
    metrics: dict[str, Metric]
    baseline: dict[str, Metric]
    confusion: np.ndarray
    per_class: list[dict[str, Any]]
    oof: OutOfFold
    notes: list[str]
    choice: dict[str, Any]
    trained_on: np.ndarray
    frequencies: np.ndarray
    optimism: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def held_out(self) -> bool:
        """Whether one test set was scored, which the choice never saw."""
        return not self.protocol.startswith("nested")

    @property
    def temperature(self) -> float:
        """Of the kept head's probabilities."""
        return self.fitted.temperature
