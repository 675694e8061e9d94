"""Metrics with their intervals where the answer is not a class: answers and truths in, metrics out.

Whole images (or groups, where there are any) are drawn; on a held-out set the interval is BCa's. Across
folds that is too narrow, and on the wrong side: a draw of the images says nothing of what other images
to train on would have changed, and BCa corrects for a bias that the draws have and the score has not. There
it is the value and 1.96 standard errors of the draws on either side, times the root of `CV_WIDEN`. With u
units Student's t with u - 1 degrees stands for the normal distribution.

The factors are measured on simulated populations (64 correlated features; the truth is the kept probe's
score on the rest). Of 60 draws of 60 images with four labels the intervals held mAP and macro F1 in 90 %,
micro F1 and AUROC in 97 %, log loss in all; what they miss is a score that is better than was said: nested
mAP was 0.05 too low there. With BCa's draws and a factor of 1.5 they held mAP in 64 %. Of 100 draws of 40
images R2 in 96 %, MAE 98, RMSE 95, Spearman 95 %; of 60 of 120 in 98, 95, 95 and 100 %. R2 needs more than
RMSE because it divides by the spread of the same images: its draws so vary less than its fits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import t as student

from . import multilabel_metrics, regression_metrics
from .intervals import LEVEL, Metric, clopper_pearson, wilson
from .splits import copy_weights
from .unit_bootstrap import Statistic, unit_intervals

_RANGE = {
    "map": (0, 1),
    "auroc": (0, 1),
    "micro_f1": (0, 1),
    "macro_f1": (0, 1),
    "log_loss": (0, np.inf),
    "r2": (-np.inf, 1),
    "mae": (0, np.inf),
    "rmse": (0, np.inf),
    "spearman": (-1, 1),
}
# Variance across folds relative to that of as many independent images.
CV_WIDEN = {
    "map": 3.0,
    "auroc": 2.0,
    "micro_f1": 2.5,
    "macro_f1": 3.0,
    "log_loss": 2.0,
    "r2": 3.0,
    "mae": 1.75,
    "rmse": 1.75,
    "spearman": 2.0,
}
_SHARES = ("map", "auroc", "micro_f1", "macro_f1")
_FEW = 3.0  # images' worth of error below which resampling misses most of what could have been
_Z = 1.959963984540054


def measure_labels(
    Y: np.ndarray,
    P: np.ndarray,
    answers: np.ndarray,
    *,
    images: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    held_out: bool,
) -> dict[str, Metric]:
    """The metrics of several labels.

    Parameters
    ----------
    Y : ndarray of shape (m, k)
        1, 0, and NaN for unknown.
    P : ndarray of shape (R, m, k)
        Probabilities in each repeat.
    answers : ndarray of shape (R, m, k), bool
    images, groups : ndarray of shape (m,), int
        Equal numbers: one picture, which counts once; what is drawn together.
    folds : ndarray of shape (R, m), int
    held_out : bool
        Whether one test set is scored.

    Returns
    -------
    dict of str to dict
        ``value, low, high, level, method`` of each of `multilabel_metrics.METRICS`.
    """

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return multilabel_metrics.all_metrics(Y, P, answers, folds, weights)

    weights = copy_weights(images)
    positives = weights @ (Y == 1)
    there = positives[positives > 0]
    # As many images as would tell a mean over labels with these numbers of positives as exactly.
    size = min(len(there) ** 2 / np.sum(1 / there), weights.sum()) if len(there) else 1.0
    sizes = {name: float(size) for name in multilabel_metrics.METRICS}
    sizes["micro_f1"] = float(weights @ (Y == 1).any(axis=1))  # a mean over answers, not labels
    return _measured(statistic, weights, groups, held_out, len(P) * Y.shape[1], sizes)


def measure_values(
    y: np.ndarray,
    predicted: np.ndarray,
    *,
    images: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    held_out: bool,
) -> dict[str, Metric]:
    """The metrics of predicted numbers.

    Parameters
    ----------
    y : ndarray of shape (m,)
    predicted : ndarray of shape (R, m)
    images, groups, folds, held_out
        See `measure_labels`.

    Returns
    -------
    dict of str to dict
        Of each of `regression_metrics.METRICS`.
    """

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return regression_metrics.all_metrics(y, predicted, folds, weights)

    weights = copy_weights(images)
    return _measured(statistic, weights, groups, held_out, 3 * len(predicted), {})


def _measured(
    statistic: Statistic,
    weights: np.ndarray,
    groups: np.ndarray,
    held_out: bool,
    work: int,
    sizes: Mapping[str, float],
) -> dict[str, Metric]:
    units = len(np.unique(groups))
    small = student.ppf(0.5 + LEVEL / 2, max(units - 1, 1)) / _Z
    exact = float(small**2 * units / max(units - 1, 1))
    across = dict.fromkeys(CV_WIDEN, 1.0) if held_out else CV_WIDEN
    widen = {name: exact * factor for name, factor in across.items()}
    found = unit_intervals(
        statistic, weights, groups, widen=widen, symmetric=not held_out, work=work
    )
    drawn = "images" if units == round(weights.sum()) else "groups"
    return {
        name: _metric(
            name,
            *bounds,
            f"bca bootstrap of {drawn}"
            if held_out
            else f"bootstrap of {drawn} (1.96 SE x sqrt({across[name]:g}), cross-validated)",
            sizes.get(name, 1.0) / across[name],
            units,
        )
        for name, bounds in found.items()
    }


def _metric(
    name: str, value: float, low: float, high: float, method: str, size: float, units: int
) -> Metric:
    if not np.isfinite(value):
        nothing = float("nan")
        return {
            "value": nothing,
            "low": nothing,
            "high": nothing,
            "level": LEVEL,
            "method": "undefined",
        }
    if name in _SHARES and (size * min(value, 1 - value) < _FEW or low == high):
        # Nothing, or next to nothing, went wrong: resampling what there is shows no width.
        n = max(size, 1.0)
        wider = [
            tuple(float(b) for b in wilson(value, n)),
            clopper_pearson(min(max(value, 0), 1), n),
        ]
        low, high = min(low, *(w[0] for w in wider)), max(high, *(w[1] for w in wider))
        method += ", joined with wilson and clopper-pearson"
    elif low == high:
        low, high = value - abs(value) / units - 1e-9, value + abs(value) / units + 1e-9
    least, most = _RANGE[name]
    low, high = max(min(low, value), least), min(max(high, value), most)
    return {"value": value, "low": low, "high": high, "level": LEVEL, "method": method}
