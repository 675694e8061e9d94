"""Variances by influence, and what groups cost."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.intervals import wilson
from bottleneck_probe.evaluate.spread import (
    design_effect,
    effective_count,
    equal_groups,
    variance,
)


def test_the_variance_of_a_mean_is_the_usual_one():
    x = np.random.default_rng(0).normal(size=40)
    influence = (x - x.mean()) / 40
    assert variance(influence, np.arange(40)) == pytest.approx(np.var(x, ddof=1) / 40)


def test_the_effective_count_of_a_proportion_is_its_number():
    assert effective_count(0.7, 0.7 * 0.3 / 80, 80) == pytest.approx(80)
    assert effective_count(0.0, 0.0, 80) == pytest.approx(80)
    # A value that varies less than a proportion is worth more images.
    assert effective_count(0.7, 0.7 * 0.3 / 160, 80) > 110


def test_groups_of_one_image_change_nothing():
    influence = np.random.default_rng(0).normal(size=30)
    rows, ones = np.arange(30), np.ones(30)
    assert design_effect(influence, rows, rows + 5, ones) == 1
    copies = np.repeat(np.arange(10), 3)
    assert design_effect(influence, copies, copies, ones / 3) == 1


def test_groups_that_answer_as_one_count_as_one():
    right = np.repeat(np.arange(40) % 2, 10).astype(float)
    influence, groups = (right - 0.5) / 400, np.repeat(np.arange(40), 10)
    found = design_effect(influence, np.arange(400), groups, np.ones(400))
    assert found == pytest.approx(10, rel=0.15)
    # All right: nothing varies, and nobody knows whether the groups differ.
    assert design_effect(np.zeros(400), np.arange(400), groups, np.ones(400)) == pytest.approx(
        10, rel=0.15
    )


def test_groups_of_different_sizes_are_worth_fewer():
    assert equal_groups(np.repeat([0, 1, 2], 5), np.ones(15)) == 3
    assert equal_groups(np.repeat([0, 1, 2], [13, 1, 1]), np.ones(15)) < 1.4


@pytest.mark.parametrize("n_groups", [8, 30])
def test_intervals_of_clustered_answers_hold(n_groups):
    """Patients differ: 95 % claimed; as independent images the same intervals hold in about half."""
    rng = np.random.default_rng(0)
    held = alone = 0
    groups = np.repeat(np.arange(n_groups), 12)
    rows, ones = np.arange(len(groups)), np.ones(len(groups))
    for _ in range(400):
        # A beta distribution with mean 0.75: correlation 0.4 within a patient.
        right = rng.random(len(groups)) < rng.beta(0.75 * 1.5, 0.25 * 1.5, n_groups)[groups]
        value = right.mean()
        effect = design_effect((right - value) / len(rows), rows, groups, ones)
        low, high = wilson(value, len(rows) / effect)
        held += low <= 0.75 <= high
        low, high = wilson(value, len(rows))
        alone += low <= 0.75 <= high
    assert held / 400 >= 0.92
    assert alone / 400 < 0.75
