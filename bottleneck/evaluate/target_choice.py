"""Choice of a setting where the answer is not a class: scores of a grid on inner folds in, one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ..errors import FitError
from ..heads.temperature import fit_temperature
from . import multilabel_metrics
from .regression_metrics import spearman
from .selection import Choice, choose
from .thresholds import label_thresholds

# What a choice may go by; the first is the default. Of a loss the negative, so that larger is better.
CHOICE_METRICS = {
    "multilabel": ("log_loss", "map", "auroc"),
    "regression": ("r2", "mae", "spearman"),
}
_TEMPERATURE_CELLS = 200_000  # more known labels do not change one number


@dataclass(frozen=True)
class ChosenTarget:
    """What was chosen inside one training part.

    Attributes
    ----------
    choice : Choice
    temperature : float
    thresholds : ndarray of shape (k,)
        Empty for regression.
    """

    choice: Choice
    temperature: float
    thresholds: np.ndarray


def metric_of(task: str, wanted: str) -> str:
    """The metric to choose by; a command's default, which is one of classification, means the task's.

    Raises
    ------
    FitError
        For a metric that this task does not have.
    """
    known = CHOICE_METRICS[task]
    if wanted in ("accuracy", "auto"):
        return known[0]
    if wanted not in known:
        raise FitError(
            f"--metric {wanted} says nothing about {task}",
            expected=", ".join(known),
            next=f"leave out --metric, which is then {known[0]}",
        )
    return wanted


def choose_target(
    task: str,
    scores: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    ratio: float,
    *,
    metric: str,
    select: str,
) -> ChosenTarget:
    """Choose a setting, and with it temperature and thresholds.

    Parameters
    ----------
    task : {'multilabel', 'regression'}
    scores : list of ndarray of shape (g, m, k)
        Logits or predictions of each inner fold, from the most to the least regularised setting.
    targets : list of ndarray of shape (m, k)
    weights : list of ndarray of shape (m,)
    ratio : float
        Rows scored by rows trained on, in one fold.
    metric : str
        One of `CHOICE_METRICS` of the task.
    select : {'one-se', 'best'}

    Returns
    -------
    ChosenTarget
    """
    by_fold = np.array(
        [_score(task, metric, s, t, w) for s, t, w in zip(scores, targets, weights, strict=True)]
    )
    if np.isnan(by_fold).any(axis=1).all():
        # No fold can compare by this metric, such as R2 where a fold's numbers are all alike.
        by_fold = np.array(
            [_loss(task, s, t, w) for s, t, w in zip(scores, targets, weights, strict=True)]
        )
    choice = choose(by_fold, ratio, select)
    if task == "regression":
        return ChosenTarget(choice, 1.0, np.zeros(0))
    logits = np.concatenate([s[choice.index] for s in scores]).astype(np.float64)
    Y, w = np.concatenate(targets), np.concatenate(weights)
    temperature = label_temperature(logits, Y, w)
    return ChosenTarget(choice, temperature, label_thresholds(Y, expit(logits / temperature), w))


def label_temperature(logits: np.ndarray, Y: np.ndarray, weights: np.ndarray) -> float:
    """One temperature for the logits (m, k) of all labels; unknown ones say nothing."""
    known = ~np.isnan(Y)
    z, y = logits[known], Y[known].astype(np.intp)
    each = np.broadcast_to(weights[:, None], Y.shape)[known]
    step = -(-len(z) // _TEMPERATURE_CELLS)
    z, y, each = z[::step], y[::step], each[::step]
    return fit_temperature(np.stack([np.zeros_like(z), z], axis=1), y, each)


def _score(
    task: str, metric: str, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Of each setting, (g,), the larger the better."""
    if metric in ("log_loss", "mae"):
        return _loss(task, scores, targets, weights, metric)
    if task == "regression":
        y, W = targets[:, 0], weights[None]
        if metric == "spearman":
            return np.array([spearman(y, s[:, 0], W)[0] for s in scores])
        mean = weights @ y / weights.sum()
        variety = weights @ np.square(y - mean)
        error = np.square(scores[:, :, 0] - y) @ weights
        return 1 - error / variety if variety > 0 else np.full(len(scores), np.nan)
    function = multilabel_metrics.per_label_ranking
    fold = np.zeros(len(targets), np.intp)
    place = 0 if metric == "map" else 1
    each = [function(targets, s, fold, weights[None])[place][0] for s in scores]
    return np.array([np.nanmean(e) if not np.isnan(e).all() else np.nan for e in each])


def _loss(
    task: str,
    scores: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    metric: str = "",
) -> np.ndarray:
    """Negative mean log loss of known labels, or negative mean absolute or squared error: (g,)."""
    if task == "regression":
        error = np.abs(scores[:, :, 0] - targets[:, 0])
        return -np.asarray((error if metric == "mae" else error**2) @ weights / weights.sum())
    known = ~np.isnan(targets)
    sign = np.where(targets == 1, 1, -1)
    losses = np.where(known, np.logaddexp(0, -sign * scores.astype(np.float64)), 0)
    cells = float((weights @ known).sum())
    return -np.einsum("gmk,m->g", losses, weights) / max(cells, 1e-12)
