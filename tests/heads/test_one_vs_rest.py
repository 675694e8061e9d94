"""One logistic regression for each label: scikit-learn's optimum, unknown labels, and its checks."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from bottleneck_probe.heads.one_vs_rest import OneVsRestLogistic, balanced
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks


@parametrize_with_checks([OneVsRestLogistic()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def problem(seed: int, n: int, d: int, k: int, unknown: float = 0.2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    Y = (X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k)) > 0.5).astype(float)
    Y[rng.random((n, k)) < unknown] = np.nan
    return X, Y


def objective(w: np.ndarray, b: float, X: np.ndarray, y: np.ndarray, C: float) -> float:
    margin = (2 * y - 1) * (X @ w + b)
    return C * np.logaddexp(0, -margin).sum() + 0.5 * w @ w


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 40),
    d=st.integers(1, 60),
    C=st.sampled_from([1e-6, 1e-3, 1.0, 100.0]),
    constant=st.booleans(),
    weight=st.sampled_from([None, "balanced"]),
)
def test_each_label_is_where_scikit_learn_is(seed, n, d, C, constant, weight):
    """Alone, on the samples for which the label is known."""
    X, Y = problem(seed, n, d, 3)
    if constant:
        X[:, 0] = 5.0
    head = OneVsRestLogistic(C=C, class_weight=weight).fit(X, Y)
    for label in range(3):
        known = ~np.isnan(Y[:, label])
        y = Y[known, label]
        if len(set(y)) < 2:
            assert not head.coef_[label].any()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=C, tol=1e-10, max_iter=20_000, class_weight=weight)
            theirs = model.fit(X[known], y)
        counts = balanced(Y)[known, label] if weight else np.ones(known.sum())
        values = []
        for w, b in (
            (head.coef_[label], head.intercept_[label]),
            (theirs.coef_[0], theirs.intercept_[0]),
        ):
            margin = (2 * y - 1) * (X[known] @ w + b)
            values.append(C * counts @ np.logaddexp(0, -margin) + 0.5 * w @ w)
        assert values[0] <= values[1] * (1 + 1e-6) + 1e-12
        assert head.objective_[label] == pytest.approx(values[0], rel=1e-6)


def test_an_unknown_label_says_nothing_about_itself_and_still_trains_the_others():
    X, Y = problem(1, 40, 5, 2, unknown=0)
    whole = OneVsRestLogistic().fit(X, Y)
    Y[:10, 0] = np.nan
    some = OneVsRestLogistic().fit(X, Y)
    np.testing.assert_allclose(some.coef_[1], whole.coef_[1], atol=1e-6)
    left = OneVsRestLogistic().fit(X[10:], Y[10:])
    np.testing.assert_allclose(some.coef_[0], left.coef_[0], atol=1e-6)
    assert np.abs(some.coef_[0] - whole.coef_[0]).max() > 1e-3


def test_a_label_that_all_or_none_have_gets_its_log_odds():
    X, Y = problem(2, 20, 3, 2, unknown=0)
    Y[:, 1] = 1
    head = OneVsRestLogistic().fit(X, Y)
    assert not head.coef_[1].any()
    assert head.predict_proba(X)[:, 1] == pytest.approx(20.5 / 21)


def test_columns_of_other_numbers_are_refused():
    X, Y = problem(3, 20, 3, 2)
    Y[4, 1] = 2
    with pytest.raises(ValueError, match="found 2"):
        OneVsRestLogistic().fit(X, Y)


def test_it_comes_back_from_its_state():
    X, Y = problem(4, 30, 4, 3)
    head = OneVsRestLogistic(C=0.3).fit(X, Y)
    params, arrays = head.to_state()
    back = OneVsRestLogistic.from_state(json.loads(json.dumps(params)), arrays)
    np.testing.assert_array_equal(back.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), head.predict(X))
    assert back.get_params() == head.get_params()
