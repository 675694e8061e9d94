"""Choice of hyper-parameters: predictions of a grid on inner folds in, one setting out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics as _metrics


@dataclass(frozen=True)
class Choice:
    """A setting of a grid, and the scores that spoke for it.

    Attributes
    ----------
    index : int
        Position in the grid.
    scores : ndarray of shape (g,), float64
        Mean over the inner folds, by setting; nan where nothing could be compared.
    error : float
        Corrected standard error of the best setting's score.
    at_edge : str
        ``""``, or ``"smallest"`` or ``"largest"`` where the best setting ends the grid.
    """

    index: int
    scores: np.ndarray
    error: float
    at_edge: str

    def to_dict(self, grid: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As JSON data."""
        return {
            "grid": [dict(setting) for setting in grid],
            "scores": self.scores.tolist(),
            "standard_error": self.error,
            "chosen": self.index,
        }


def choose(
    predictions: list[np.ndarray],
    truths: list[np.ndarray],
    n_train: list[int],
    n_classes: int,
    *,
    metric: str,
    select: str,
) -> Choice:
    """Take the best setting, or the most regularised one that is not shown to be worse.

    Parameters
    ----------
    predictions : list of ndarray of shape (g, n_test), int
        For each inner fold; settings from the most to the least regularised.
    truths : list of ndarray of shape (n_test,), int
    n_train : list of int
        Training rows of each fold.
    n_classes : int
    metric : str
        One of `metrics.METRICS`.
    select : {"one-se", "best"}

    Returns
    -------
    Choice

    Notes
    -----
    One standard error (Breiman et al., 1984), corrected for folds that share training rows as in
    C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003:
    ``s * sqrt(1/J + n_test/n_train)``. Ties go to the more regularised setting.
    """
    function = getattr(_metrics, metric)
    scores = np.array(
        [
            [float(function(_metrics.confusion_matrix(y, row, n_classes))) for row in predicted]
            for predicted, y in zip(predictions, truths, strict=True)
        ]
    )
    mean = scores.mean(axis=0)
    # Equal up to rounding is equal: a mean of fifths may differ in its last bit.
    best = int(np.flatnonzero(mean >= mean.max() - 1e-12)[0])
    folds = len(scores)
    error = 0.0
    if folds > 1:
        ratio = np.mean([len(y) for y in truths]) / np.mean(n_train)
        error = float(np.std(scores[:, best], ddof=1) * np.sqrt(1 / folds + ratio))
    index = best
    if select == "one-se":
        index = int(np.flatnonzero(mean >= mean[best] - error - 1e-12)[0])
    edge = {0: "smallest", len(mean) - 1: "largest"}.get(best, "") if len(mean) > 1 else ""
    # Flat to the end is no reason to widen the grid.
    if edge and np.isclose(mean[best], mean[1 if best == 0 else -2]):
        edge = ""
    return Choice(index, mean, error, edge)
