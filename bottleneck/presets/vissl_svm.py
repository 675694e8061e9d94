"""VISSL's linear SVMs for VOC07: a cost for each class by 3-fold average precision, then mAP.

Source: facebookresearch/vissl, ``vissl/utils/svm_utils/svm_trainer.py``, `SVMTrainer.train_cls`,
`get_best_cost_value` and `test`; costs of ``eval_resnet_8gpu_transfer_voc07_svm.yaml``. Paper:
P. Goyal et al., "Scaling and Benchmarking Self-Supervised Visual Representation Learning", ICCV 2019,
arXiv:1905.01235.

Copied to the letter:

- features in float64, divided by their length plus 1e-5;
- for each class scikit-learn's `LinearSVC` itself: squared hinge, L2, dual, tolerance 1e-4, at most
  2,000 iterations, weights 2 for the class and 1 for the rest, the intercept in the penalty;
- costs 0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000; for each class the one with the best mean of
  scikit-learn's average precision over three stratified folds in row order, of equal ones the first;
- refitted on all training rows; the test's average precision raises each precision to the best one at
  any higher recall. scikit-learn's own AP stands beside it: it is lower.

Traps: a class costs what suits it alone, so the values of two classes are on different scales, and
accuracy, which takes the largest, is no part of the protocol. Labels that are to be ignored (-1) train as
negatives, and are only left out of the test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score

from ..errors import FitError
from ..heads.scaling import fit_scaling
from .base import Outcome, Setup
from .one_vs_rest import (
    SCALING,
    as_head,
    as_it_ends,
    envelope_ap,
    make_svm,
    map_interval,
)

COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)
ENVELOPE = "the test's AP takes the best precision at any higher recall, which raises it"
SEED = "the seed of the machines, which the source leaves to chance"
_FOLDS = 3


@dataclass(frozen=True)
class Machines:
    """One machine for each class.

    Attributes
    ----------
    fitted : list of LinearSVC
    costs : ndarray of shape (k,), float64
    scores : ndarray of shape (k, len(COSTS)), float64
        Mean average precision of the folds.
    """

    fitted: list[Any]
    costs: np.ndarray
    scores: np.ndarray

    def choice(self) -> dict[str, Any]:
        """As `Result.choice` keeps it: the mean over the classes, each of which chose for itself."""
        mean = self.scores.mean(axis=0)
        return {
            "grid": [{"C": cost} for cost in COSTS],
            "scores": mean.tolist(),
            "standard_error": 0.0,
            "chosen": int(np.argmax(mean)),
        }

    def decide(self, X: np.ndarray) -> np.ndarray:
        """Values (m, k) of scaled rows."""
        return np.stack([machine.decision_function(X) for machine in self.fitted], axis=1)


def run(setup: Setup) -> Outcome:
    """Choose a cost for each class, refit, score."""
    parts = setup.parts
    learned = np.sort(np.concatenate([parts.train, parts.val]))
    notes = list(parts.notes)
    if len(parts.val):
        notes.append(
            f"{len(parts.val)} images of the split val train too, as VOC07's trainval does"
        )
    X, y = setup.rows(learned)
    other, truth = setup.rows(parts.test)
    k = len(parts.classes)
    targets = (y[:, None] == np.arange(k)).astype(np.int32)
    scaling = fit_scaling(SCALING, X)
    machines = train(scaling.transform(X), targets, setup)
    values = machines.decide(scaling.transform(other))
    table, headline = report(
        list(parts.classes), truth[:, None] == np.arange(k), values, machines.costs, setup.seed
    )
    costs = machines.costs.tolist()
    return Outcome(
        head="svm",
        params={"C": costs if len(set(costs)) > 1 else costs[0]},
        scaling=SCALING,
        estimator=as_head(machines.fitted, float(np.median(machines.costs))),
        parts=replace(parts, train=learned, notes=tuple(notes)),
        trained_on=learned,
        probabilities=softmax(values, axis=1)[None].astype(np.float32),
        headline=headline,
        table=table,
        traps=[ENVELOPE],
        silent=[SEED],
        choice=machines.choice(),
    )


def train(X: np.ndarray, targets: np.ndarray, setup: Setup) -> Machines:
    """Choose and fit a machine for each class.

    Parameters
    ----------
    X : ndarray of shape (n, d), float64
        Scaled.
    targets : ndarray of shape (n, k), int
        1 for the class, 0 for the rest; -1, to be ignored, counts as the rest, as in the source.
    setup : Setup
        Its seed and tick.

    Raises
    ------
    FitError
        If a class is too small for the folds.
    """

    def score(c: int, cost: float) -> float:
        folds = cross_val_score(
            make_svm(cost, setup.seed), X, labels[c], cv=_FOLDS, scoring="average_precision"
        )
        setup.tick()
        return float(folds.mean())

    k = targets.shape[1]
    setup.expect(k * len(COSTS))
    labels = [np.where(targets[:, c] == 1, 1, -1) for c in range(k)]
    fewest = min(int(min((own == 1).sum(), (own == -1).sum())) for own in labels)
    if fewest < _FOLDS:
        raise FitError(
            f"a class has, or leaves to the others, {fewest} training images",
            expected=f"{_FOLDS} or more on either side: its cost is chosen in {_FOLDS} folds",
            next="add images, or leave --preset out",
        )
    with as_it_ends():
        scores = np.array([[score(c, cost) for cost in COSTS] for c in range(k)])
        costs = np.array(COSTS)[scores.argmax(axis=1)]
        fitted = [make_svm(float(costs[c]), setup.seed).fit(X, labels[c]) for c in range(k)]
    return Machines(fitted, costs, scores)


def report(
    names: list[str],
    positive: np.ndarray,
    values: np.ndarray,
    costs: np.ndarray,
    seed: int,
    known: np.ndarray | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """AP of each class as the source has it, scikit-learn's beside it, and both means.

    Parameters
    ----------
    names : list of str
    positive, known : ndarray of shape (m, k), bool
        Where a class is there, and where that is known: the others take no part in its AP.
    values : ndarray of shape (m, k)
    costs : ndarray of shape (k,)
    seed : int
        Of the bootstrap.

    Returns
    -------
    table, headline : list of dict
        A class without a positive test image has no AP, and is not in the mean.
    """
    known = np.ones(positive.shape, bool) if known is None else known
    table: list[dict[str, Any]] = []
    for c, name in enumerate(names):
        there, scores = positive[known[:, c], c], values[known[:, c], c]
        row: dict[str, Any] = {"class": name, "cost": float(costs[c]), "images": int(there.sum())}
        if there.any():
            row["AP"] = envelope_ap(there, scores)
            row["AP (scikit-learn)"] = float(average_precision_score(there, scores))
        table.append(row)
    low, high = map_interval(positive & known, values, seed, known)
    theirs = [row["AP"] for row in table if "AP" in row]
    plain = [row["AP (scikit-learn)"] for row in table if "AP" in row]
    return table, [
        {"name": "mAP", "value": float(np.mean(theirs)), "low": low, "high": high},
        {"name": "mAP (scikit-learn's AP)", "value": float(np.mean(plain))},
    ]
