"""Choice of hyper-parameters: scores of a grid on inner folds in, one setting out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from . import metrics as _metrics

SELECT = ("one-se", "best")
_BY_ANSWERS = ("accuracy", "balanced_accuracy", "macro_f1")
RANKED = ("auroc", "average_precision")
CHOICE_METRICS = (*_BY_ANSWERS, "auroc", "average_precision", "log_loss")


@dataclass(frozen=True)
class Choice:
    """A setting of a grid, and the scores that spoke for it.

    Attributes
    ----------
    index : int
        Position in the grid.
    scores : ndarray of shape (g,), float64
        Mean over the inner folds, by setting, the larger the better; nan where nothing could be compared.
    error : float
        Corrected standard error of the best setting's score.
    at_edge : str
        ``""``, or ``"smallest"`` or ``"largest"`` where the best setting ends the grid.
    folds : ndarray of shape (J,), float64
        The chosen setting's score in each inner fold.
    """

    index: int
    scores: np.ndarray
    error: float
    at_edge: str
    folds: np.ndarray

    def to_dict(self, grid: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As JSON data."""
        return {
            "grid": [dict(setting) for setting in grid],
            "scores": self.scores.tolist(),
            "standard_error": self.error,
            "chosen": self.index,
        }


def score_settings(
    scores: np.ndarray, y: np.ndarray, weights: np.ndarray, metric: str
) -> np.ndarray:
    """One fold's score of each setting, (g,) float64, the larger the better.

    Parameters
    ----------
    scores : ndarray of shape (g, m, k)
        Decision scores; -inf for a class that the fit did not know.
    y : ndarray of shape (m,), int
    weights : ndarray of shape (m,)
        How much each row counts.
    metric : str
        One of `CHOICE_METRICS`; of the log loss the negative.
    """
    k = scores.shape[2]
    if metric in _BY_ANSWERS:
        cells = y * k + scores.argmax(axis=2)
        offsets = np.arange(len(scores))[:, None] * k * k
        counts = np.bincount(
            (cells + offsets).ravel(), np.tile(weights, len(scores)), len(scores) * k * k
        )
        function = getattr(_metrics, metric)
        return np.asarray(function(np.round(counts, 9).reshape(len(scores), k, k)))
    function = getattr(_metrics, metric)
    sign = -1.0 if metric == "log_loss" else 1.0
    return np.array([sign * function(y, softmax(s, axis=1), weights) for s in scores], np.float64)


def log_losses(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log loss of each setting's own scores, (g, m) float64.

    Parameters
    ----------
    scores, y
        See `score_settings`. A row whose class the fit did not know has a loss of 0 in every setting: it
        says nothing of them.
    """
    rows = np.arange(len(y))
    known = np.isfinite(scores[0, rows, y])
    found = np.zeros(scores.shape[:2])
    kept = scores[:, known]
    found[:, known] = logsumexp(kept, axis=2) - kept[:, np.arange(known.sum()), y[known]]
    return found


def choose(
    scores: np.ndarray,
    ratio: float,
    select: str,
    losses: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    *,
    ranked: bool = False,
) -> Choice:
    """Take the best setting, or the most regularised one that is not shown to be worse.

    Parameters
    ----------
    scores : ndarray of shape (J, g)
        Of each inner fold and setting, the larger the better; settings from the most to the least
        regularised. A fold where the metric is undefined (nan) is left out.
    ratio : float
        Rows scored by rows trained on, in one fold.
    select : {"one-se", "best"}
    losses : ndarray of shape (g, m), optional
        Log loss of each setting and row, for ``one-se``.
    weights : ndarray of shape (m,), optional
        How much each of these rows counts.
    ranked : bool, default False
        The metric goes by the order of scores alone, which the strongest penalty hardly changes while its
        answers are all alike: with ``one-se`` only settings of good log loss are compared.

    Returns
    -------
    Choice

    Notes
    -----
    One standard error (Breiman et al., 1984), corrected for folds that share training rows as in
    C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003:
    ``s * sqrt(1/J + ratio)``. Ties go to the more regularised setting.

    Right and wrong of a few dozen images cannot tell a good setting from one that hardly learns: its
    standard error is 10 points and more. The log loss can, image by image. So a more regularised setting
    must also lose no more than the setting of least loss, up to one standard error of the difference.
    Logistic regression so kept answered more of the other images right than with the first condition
    alone, in 12 draws each: digits of 30 images 59.1 instead of 55.9 %, of 100 81.0 instead of 76.7 %,
    textiles of 30 and 100 0.4 points more, an easy pair of classes of 30 97.9 instead of 96.7 %.
    """
    defined = ~np.isnan(scores).any(axis=1)
    scores = scores[defined]
    if not len(scores):
        raise ValueError("no fold has a score to choose by")
    mean = scores.mean(axis=0)
    # Equal up to rounding is equal: a mean of fifths may differ in its last bit.
    folds = len(scores)
    sound = np.ones(len(mean), bool)
    if select == "one-se" and losses is not None and folds > 1:
        sound = _small_losses(losses, weights, folds * ratio)
    top = mean[sound].max() if ranked and sound.any() else mean.max()
    best = int(np.flatnonzero((mean >= top - 1e-12) & (sound | (not ranked)))[0])
    error = 0.0
    if folds > 1:
        error = float(np.std(scores[:, best], ddof=1) * np.sqrt(1 / folds + ratio))
    index = best
    if select == "one-se":
        near = mean >= mean[best] - error - 1e-12
        near &= sound
        near[best] = True
        index = int(np.flatnonzero(near)[0])
    edge = {0: "smallest", len(mean) - 1: "largest"}.get(best, "") if len(mean) > 1 else ""
    # Flat to the end is no reason to widen the grid.
    if edge and np.isclose(mean[best], mean[1 if best == 0 else -2]):
        edge = ""
    return Choice(index, mean, error, edge, scores[:, index])


def _small_losses(losses: np.ndarray, weights: np.ndarray | None, shared: float) -> np.ndarray:
    """Settings whose log loss is within one standard error of the least, (g,) bool.

    The standard error is of the differences row by row, enlarged by `shared` (folds times rows scored by
    rows trained on) for folds that share training rows.
    """
    counted = np.ones(losses.shape[1]) if weights is None else weights
    total = counted.sum()
    lost = losses - losses[(losses @ counted).argmin()]
    more = lost @ counted / total
    spread = (lost - more[:, None]) ** 2 @ counted / total
    return np.asarray(more <= np.sqrt(spread * (1 + shared) / total) + 1e-12)
