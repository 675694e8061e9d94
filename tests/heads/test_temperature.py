"""One temperature: honest probabilities, the same answers, no certainty that data cannot give."""

import numpy as np
import pytest
from bottleneck_probe.heads.temperature import fit_temperature
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax


def draw(n, factor, seed=0, k=3):
    """Logits whose softmax are the probabilities of y, multiplied by a factor."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    y = np.array([rng.choice(k, p=p) for p in softmax(logits, axis=1)])
    return factor * logits, y


@pytest.mark.parametrize("factor", [1e-6, 0.05, 1.0, 30.0, 1e4])
def test_scores_that_are_too_sure_by_a_factor_get_that_factor(factor):
    assert fit_temperature(*draw(4000, factor)) == pytest.approx(factor, rel=0.1)


@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_answers_that_are_all_right_do_not_make_certain(n, k, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, k))
    y = scores.argmax(axis=1)
    temperature = fit_temperature(scores, y)
    p = softmax(scores / temperature, axis=1)
    loss = -np.log(p[np.arange(n), y]).mean()
    assert 1e-8 <= temperature <= 1e8
    assert loss < np.log(k) + 1e-9
    # The softened targets put a floor under the mean uncertainty.
    assert (1 - p.max(axis=1)).mean() > 0.05 / (n + 2)


def test_classes_that_a_fit_did_not_know_are_left_out():
    scores, y = draw(400, 4.0)
    scores[:, 2] = -np.inf
    kept = y != 2
    assert fit_temperature(scores, y) == pytest.approx(
        fit_temperature(scores[kept][:, :2], y[kept]), rel=1e-3
    )
    assert fit_temperature(np.full((3, 2), -np.inf), np.zeros(3, int)) == 1.0
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, int)) == 1.0


def test_copies_count_by_their_weight():
    scores, y = draw(60, 3.0)
    heavy = fit_temperature(scores, y, np.where(np.arange(60) < 20, 1.0, 1e-12))
    assert heavy == pytest.approx(fit_temperature(scores, y, np.arange(60) < 20), rel=1e-3)
    assert heavy != pytest.approx(fit_temperature(scores, y), rel=1e-3)
