"""Abstaining: the accuracy that was asked for is reached, as often as it is claimed."""

import math

import numpy as np
import pytest
from bottleneck_probe.evaluate.doubts.abstain import Evidence, gather
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom


def world(n, rng):
    """Two classes: probabilities that are somewhat too sure of themselves."""
    sure = 0.5 + 0.5 * rng.beta(5, 1, n)
    right = rng.random(n) < sure - 0.03
    return np.stack([sure, 1 - sure], axis=1), (~right).astype(int)


@pytest.mark.parametrize(("n", "accuracy"), [(100, 0.85), (400, 0.9), (400, 0.93)])
def test_the_promise_is_broken_in_at_most_one_of_twenty_draws(n, accuracy):
    rng = np.random.default_rng(0)
    p, y = world(400_000, rng)
    order = np.argsort(-p[:, 0])
    sure, correct = p[order, 0], np.cumsum(y[order] == 0)
    draws, broken, covered = 120, 0, []
    for _ in range(draws):
        rule = gather(*world(n, rng)).rule(accuracy)
        covered.append(rule.coverage)
        if rule.threshold is not None:
            answered = np.searchsorted(-sure, -rule.threshold, side="right")
            broken += correct[answered - 1] / answered < accuracy
    # 95 % claimed: so many failures would be one chance in a thousand.
    assert broken <= binom.ppf(0.999, draws, 0.05)
    assert np.mean(covered) > 0.1  # it is no promise to answer nothing


def test_taking_the_best_of_all_thresholds_would_break_it():
    """Why the order of the tests matters. Here 89 % are right whatever the probability: 90 % never holds."""
    from scipy.stats import beta

    rng = np.random.default_rng(1)
    draws, named = 400, {"ours": 0, "best": 0}
    for _ in range(draws):
        sure = np.sort(0.5 + rng.random(400) / 2)[::-1]
        right = rng.random(400) < 0.89
        rule = gather(np.stack([sure, 1 - sure], axis=1), (~right).astype(int)).rule(0.9)
        named["ours"] += rule.threshold is not None
        k, n = np.cumsum(right), np.arange(1, 401)
        named["best"] += bool((beta.ppf(0.05, k, n - k + 1) >= 0.9).any())
    assert named["ours"] <= binom.ppf(0.999, draws, 0.05)
    assert named["best"] > binom.ppf(0.999, draws, 0.05)


def test_the_first_threshold_that_fails_ends_the_search():
    """200 are right, the next 60 wrong, the rest right: 80 % holds at the end again, but not before."""
    sure = np.linspace(0.99, 0.6, 400)
    wrong = (np.arange(400) >= 200) & (np.arange(400) < 260)
    rule = gather(np.stack([sure, 1 - sure], axis=1), wrong.astype(int)).rule(0.8)
    assert 0.4 < rule.coverage < 0.65


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(5, 300), st.floats(0.5, 0.99))
def test_coverage_and_error_are_those_of_the_threshold(seed, n, accuracy):
    rng = np.random.default_rng(seed)
    p, y = world(n, rng)
    p = np.round(p, 2)  # ties
    rule = gather(p, y).rule(accuracy)
    if rule.threshold is None:
        assert rule.reason
        assert rule.coverage == 0
        assert math.isnan(rule.error)
        return
    answered = p.max(axis=1).astype(np.float32) >= np.float32(rule.threshold)
    assert rule.coverage == pytest.approx(answered.mean(), abs=1e-6)
    assert rule.error == pytest.approx((p.argmax(axis=1) != y)[answered].mean(), abs=1e-6)
    assert rule.error <= 1 - accuracy


def test_more_is_asked_fewer_are_answered():
    p, y = world(1000, np.random.default_rng(2))
    evidence = gather(p, y)
    coverages = [evidence.rule(a).coverage for a in (0.7, 0.8, 0.9, 0.93, 0.95, 0.97)]
    assert coverages == sorted(coverages, reverse=True)


def test_copies_count_once():
    p, y = world(120, np.random.default_rng(3))
    once = gather(p, y).rule(0.85)
    copied = gather(np.repeat(p, 5, 0), np.repeat(y, 5), images=np.repeat(np.arange(120), 5))
    again = copied.rule(0.85)
    assert (again.threshold, again.n) == (once.threshold, once.n)
    assert (again.coverage, again.error) == pytest.approx((once.coverage, once.error), rel=1e-4)
    # As images of their own they would promise more.
    least = gather(np.repeat(p, 5, 0), np.repeat(y, 5)).rule(0.9).coverage
    assert least > gather(p, y).rule(0.9).coverage


def test_errors_that_come_together_cost_coverage():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(40), 10)
    p, _ = world(400, rng)
    bad = rng.random(40) < 0.1
    y = bad[groups].astype(int)  # whole patients are wrong
    alone, together = gather(p, y), gather(p, y, groups=groups)
    assert together.effect > 5
    assert alone.effect == 1
    assert together.rule(0.85).coverage < alone.rule(0.85).coverage


def test_images_unlike_the_training_ones_are_not_answered():
    p, y = world(500, np.random.default_rng(5))
    usable = np.arange(500) % 5 > 0
    rule = gather(p, y, usable=usable).rule(0.8)
    assert 0 < rule.coverage < 0.801
    assert gather(p, np.zeros(500, int), usable=usable).rule(0.5).coverage == pytest.approx(0.8)


def test_too_few_images_say_how_many_it_takes():
    p = np.tile([0.9, 0.1], (58, 1))
    rule = gather(p, np.zeros(58, int)).rule(0.95)
    assert rule.threshold is None
    assert "59" in rule.reason
    assert gather(np.tile([0.9, 0.1], (59, 1)), np.zeros(59, int)).rule(0.95).threshold == 0


def test_the_area_is_the_mean_error_where_the_order_says_nothing():
    rng = np.random.default_rng(6)
    right = rng.random((1, 20_000)) < 0.8
    blind = Evidence(rng.random((1, 20_000)), right, np.ones(20_000)).aurc()
    assert blind == pytest.approx(0.2, abs=0.02)
    knowing = Evidence(right + rng.random((1, 20_000)), right, np.ones(20_000)).aurc()
    assert knowing < 0.03


def test_state_round_trip():
    evidence = gather(*world(50, np.random.default_rng(7)))
    again = Evidence.from_state(evidence.state(), evidence.effect)
    assert again.rule(0.7) == evidence.rule(0.7)
