"""The choice of a setting: best, or the most regularised one within a standard error."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.selection import choose


def folds(scores):
    """Predictions for 20 samples of class 0 each, right in the shares given: (folds, settings)."""
    truths = [np.zeros(20, int) for _ in scores]
    predictions = [
        np.array([[0] * round(20 * s) + [1] * (20 - round(20 * s)) for s in row]) for row in scores
    ]
    return predictions, truths, [80] * len(scores)


def pick(scores, select):
    return choose(*folds(scores), 2, metric="accuracy", select=select)


def test_best_takes_the_best_and_ties_go_to_the_smaller():
    assert pick([[0.5, 0.8, 0.9, 0.9], [0.5, 0.8, 0.9, 0.9]], "best").index == 2


def test_one_se_takes_the_most_regularised_that_is_not_shown_to_be_worse():
    scores = [[0.5, 0.80, 0.9, 0.7], [0.5, 0.85, 0.8, 0.7], [0.5, 0.80, 0.85, 0.7]]
    found = pick(scores, "one-se")
    # sd of the best (0.9, 0.8, 0.85) is 0.05, corrected by 1/3 + 20/80
    assert found.error == pytest.approx(0.05 * np.sqrt(1 / 3 + 1 / 4))
    assert found.index == 1
    assert pick(scores, "best").index == 2


def test_the_end_of_the_grid_is_told_unless_the_end_is_flat():
    assert pick([[0.5, 0.6, 0.9]] * 2, "best").at_edge == "largest"
    assert pick([[0.9, 0.6, 0.5]] * 2, "best").at_edge == "smallest"
    assert pick([[0.9, 0.9, 0.5]] * 2, "best").at_edge == ""
    assert pick([[0.5, 0.9, 0.5]] * 2, "best").at_edge == ""
