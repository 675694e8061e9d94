"""Kernel SVMs agree with scikit-learn; a temperature never changes an answer."""

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, RBFSVMHead
from bottleneck_probe.heads.temperature import apply_temperature, fit_temperature
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.svm import SVC


def data(k, n=60):
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    return rng.normal(size=(n, 5)) + np.eye(k, 5)[y] * 2, y


def test_two_classes_decide_as_the_svm_of_scikit_learn():
    X, y = data(2)
    for gamma in ("scale", 0.3):
        ours = RBFSVMHead(C=2.0, gamma=gamma).fit(X, y)
        theirs = SVC(C=2.0, gamma=gamma).fit(X, y)
        assert ours.decision_function(X) == pytest.approx(theirs.decision_function(X), abs=1e-3)


def test_more_classes_are_one_machine_each():
    X, y = data(3)
    ours = RBFSVMHead(C=2.0).fit(X, y)
    for c in range(3):
        theirs = SVC(C=2.0).fit(X, y == c).decision_function(X)
        assert ours.decision_function(X)[:, c] == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("head", [LinearSVMHead, RBFSVMHead])
def test_probabilities_are_there_only_where_asked(head):
    X, y = data(3)
    assert not hasattr(head(), "predict_proba")
    fitted = head(probability=True).fit(X, y)
    order = fitted.decision_function(X).argsort(axis=1)
    assert np.array_equal(fitted.predict_proba(X).argsort(axis=1), order)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("head", [LinearSVMHead, RBFSVMHead])
def test_one_sample_a_class_leaves_the_temperature_at_one(head):
    X, y = data(3, n=3)
    assert head(probability=True).fit(X, y).temperature_ == 1.0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 5]))
def test_temperature_is_the_best_of_a_fine_grid(seed, k):
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=80)
    scores = rng.normal(size=(80, k)) + np.eye(k)[y] * rng.uniform(0.5, 2)
    found = fit_temperature(scores, y)

    def loss(t):
        return -log_softmax(scores / t, axis=1)[np.arange(80), y].mean()

    assert loss(found) <= min(loss(t) for t in np.geomspace(1e-3, 1e3, 300)) + 1e-4
    assert np.array_equal(apply_temperature(scores, found).argmax(axis=1), scores.argmax(axis=1))
