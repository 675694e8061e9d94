"""Log loss, Brier score and calibration error agree with scikit-learn and with a plain loop."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.calibration import (
    brier,
    calibration_error,
    ece,
    error_by_chance,
    log_loss,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference


def made(seed, n=50, k=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, k, n), rng.dirichlet(np.ones(k), n), rng.choice([1.0, 0.5, 0.25], n)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_losses_agree_with_scikit_learn(seed, k):
    y, p, weights = made(seed, k=k)
    classes = list(range(k))
    assert log_loss(y, p, weights) == pytest.approx(
        reference.log_loss(y, p, labels=classes, sample_weight=weights)
    )
    assert brier(y, p, weights) == pytest.approx(
        reference.brier_score_loss(y, p, labels=classes, sample_weight=weights, scale_by_half=False)
    )


def test_a_probability_of_zero_costs_much_and_not_infinitely():
    y, p = np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert log_loss(y, p, np.ones(2)) == pytest.approx(15.9 / 2, abs=0.05)
    assert brier(y, p, np.ones(2)) == 1.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 20))
def test_the_calibration_error_is_that_of_a_plain_loop(seed, bins):
    y, p, weights = made(seed)
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for low, high in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins, strict=True):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            w = weights[inside]
            gap = abs(np.average(right[inside], weights=w) - np.average(sure[inside], weights=w))
            total += gap * w.sum() / weights.sum()
    assert calibration_error(y, p, weights, bins=bins)[0] == pytest.approx(total)


def test_bins_of_equal_mass_hold_as_many():
    y, p, _ = made(0, n=300)
    sure = np.sort(p.max(axis=1)).reshape(10, 30)
    order = np.argsort(p.max(axis=1), kind="stable")
    right = (p.argmax(axis=1) == y)[order].reshape(10, 30)
    expected = np.mean(np.abs(sure.mean(axis=1) - right.mean(axis=1)))
    found = calibration_error(y, p, np.ones(300), bins=10, equal_mass=True)[0]
    assert found == pytest.approx(expected)


def test_the_error_by_chance_is_what_calibrated_probabilities_show():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 150)
    ones, found = np.ones(150), []
    for _ in range(300):
        y = (p.cumsum(axis=1) < rng.random((150, 1))).sum(axis=1)
        found.append(ece(y, p, ones))
    assert error_by_chance(y, p, ones) == pytest.approx(np.mean(found), rel=0.1)
