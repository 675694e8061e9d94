"""Areas and average precisions agree with scikit-learn, and influences with a jackknife."""

import numpy as np
import pytest
from bottleneck_probe.evaluate import metrics
from bottleneck_probe.evaluate.ranking import (
    area_under_roc,
    average_precision_of,
    average_precision_of_others,
    one_vs_rest,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

# Scores on a coarse grid tie often.
ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from([1.0, 0.5, 0.25])),
    min_size=2,
    max_size=30,
).filter(lambda rows: 0 < sum(r[0] for r in rows) < len(rows))


@settings(deadline=None, max_examples=150)
@given(ROWS)
def test_both_agree_with_scikit_learn(rows):
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    auc, _ = area_under_roc(positive, scores, weights)
    ap, _ = average_precision_of(positive, scores, weights)
    assert auc == pytest.approx(
        reference.roc_auc_score(positive, scores, sample_weight=weights), abs=1e-12
    )
    assert ap == pytest.approx(
        reference.average_precision_score(positive, scores, sample_weight=weights), abs=1e-12
    )


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([area_under_roc, average_precision_of]))
def test_the_influence_is_the_derivative_by_the_weight(rows, function):
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    influence = function(positive, scores, weights)[1]
    for i in range(len(rows)):
        step = np.zeros(len(rows))
        step[i] = 1e-6 * weights[i]
        up, down = (function(positive, scores, weights + s)[0] for s in (step, -step))
        assert influence[i] == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_without_a_positive_or_a_negative_there_is_no_value():
    scores, ones = np.arange(3.0), np.ones(3)
    for positive in (np.zeros(3, bool), np.ones(3, bool)):
        value, influence = area_under_roc(positive, scores, ones)
        assert np.isnan(value)
        assert not influence.any()
    assert np.isnan(average_precision_of(np.zeros(3, bool), scores, ones)[0])
    assert np.isnan(average_precision_of_others(np.zeros(3, bool), scores, ones))


def test_the_mean_over_classes_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 60), rng.dirichlet(np.ones(4), 60)
    ones = np.ones(60)
    assert metrics.auroc(y, p, ones) == pytest.approx(
        reference.roc_auc_score(y, p, multi_class="ovr", average="macro")
    )
    assert metrics.average_precision(y, p, ones) == pytest.approx(
        reference.average_precision_score(np.eye(4)[y], p, average="macro")
    )
    values, _ = one_vs_rest("auroc", np.where(y == 3, 0, y), p, ones)
    assert np.isnan(values[3])
    assert np.isfinite(metrics.auroc(np.where(y == 3, 0, y), p, ones))


def test_scores_that_say_nothing_have_the_precision_of_chance_in_the_mean():
    """Average precision has 0.26 there, of 3 positives in 20 rows."""
    rng = np.random.default_rng(0)
    positive, ones = np.arange(20) < 3, np.ones(20)
    scores = rng.random((3000, 20))
    usual = np.mean([average_precision_of(positive, s, ones)[0] for s in scores])
    others = np.mean([average_precision_of_others(positive, s, ones) for s in scores])
    assert usual > 0.22
    assert others == pytest.approx(2 / 19, abs=0.05)
    assert average_precision_of_others(positive, -np.arange(20.0), ones) == 1
