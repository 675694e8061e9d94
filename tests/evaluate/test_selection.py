"""The choice of a setting: best, or the most regularised one within a standard error."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.selection import choose, log_losses
from scipy.special import softmax
from sklearn.metrics import log_loss


def pick(scores, select):
    return choose(np.array(scores), 20 / 80, select)


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


def losing(*means, spread=0.3, rows=40):
    """Losses (g, m) with these means, whose differences vary by `spread` from row to row."""
    noise = np.random.default_rng(0).normal(size=(len(means), rows)) * spread
    return np.array(means)[:, None] + noise - noise.mean(axis=1, keepdims=True)


def test_a_setting_that_hardly_learns_is_not_taken_for_a_large_standard_error():
    """Of 30 images, 60 and 90 % right lay within one standard error, and C = 1e-6 was kept."""
    scores = np.array([[0.5, 0.6, 0.6, 0.6], [0.8, 1.0, 1.0, 1.0], [0.7, 0.8, 0.9, 0.8]])
    losses = losing(0.69, 0.6, 0.2, 0.25)
    assert choose(scores, 0.5, "one-se").index == 0
    assert choose(scores, 0.5, "one-se", losses).index == 2
    assert choose(scores, 0.5, "one-se", losing(0.69, 0.25, 0.2, 0.2)).index == 1
    assert choose(scores, 0.5, "best", losses).index == 2


def test_copies_of_a_row_do_not_decide():
    scores = np.array([[0.7, 0.7], [0.8, 0.9], [0.7, 0.8]])
    losses = losing(0.5, 0.5, spread=0.1)
    losses[0, 0] += 4  # one row speaks against the first
    copied = np.concatenate([losses, np.repeat(losses[:, :1], 30, axis=1)], axis=1)
    weights = np.concatenate([np.ones(40), np.full(30, 1 / 31)])
    weights[0] = 1 / 31
    assert choose(scores, 0.5, "one-se", losses).index == 0
    assert choose(scores, 0.5, "one-se", copied, weights).index == 0
    assert choose(scores, 0.5, "one-se", copied).index == 1


def test_log_losses_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=(3, 20, 4)).astype(np.float32), rng.integers(0, 3, 20)
    scores[:, :, 3] = -np.inf
    found = log_losses(scores, y)
    for setting, of_one in zip(found, scores, strict=True):
        theirs = log_loss(y, softmax(of_one, axis=1), labels=range(4))
        assert setting.mean() == pytest.approx(theirs, rel=1e-5)
    y[5] = 3
    assert np.all(log_losses(scores, y)[:, 5] == 0)


def test_a_ranking_is_judged_among_settings_that_answer():
    """The strongest penalty orders as well as any, and answers everything alike."""
    scores = np.array([[0.99, 0.985, 0.98]] * 4)
    losses = np.repeat([[0.69], [0.2], [0.19]], 40, axis=1) + 0.05 * np.sin(np.arange(40))
    assert choose(scores, 0.25, "one-se", losses, ranked=True).index == 2
    assert choose(scores, 0.25, "best", losses, ranked=True).index == 0
