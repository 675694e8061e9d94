"""Kernel SVMs agree with scikit-learn; probes of 0.1 still open."""

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, RBFSVMHead
from bottleneck_probe.heads.svm import squared_distances, sweep_rbf
from bottleneck_probe.heads.sweep import Job
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC


def data(k, n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(size=(n, d)) + np.eye(k, d)[y] * 2, y


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


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 25),
    st.integers(1, 30),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.sampled_from([None, "balanced"]),
    st.integers(0, 10_000),
)
def test_any_problem_of_two_classes_decides_as_scikit_learn(n, d, C, weight, seed):
    rng = np.random.default_rng(seed)
    y = np.concatenate([[0, 1], rng.integers(2, size=n)])
    X = rng.normal(size=(len(y), d)) + y[:, None]
    X[:, : d // 2] = 0.1
    X[-1] = X[0]
    ours = RBFSVMHead(C, class_weight=weight).fit(X, y)
    theirs = SVC(C=C, class_weight=weight).fit(X, y)
    # libsvm stops within 1e-3 of the optimality conditions.
    scale = max(1.0, float(np.abs(theirs.decision_function(X)).max()))
    assert ours.decision_function(X) == pytest.approx(theirs.decision_function(X), abs=5e-3 * scale)


def test_equal_rows_are_at_no_distance():
    X = np.full((5, 300), 0.1) + np.random.default_rng(0).normal(size=300) * 1e4
    distances = squared_distances(X, X)
    assert (np.diag(distances) == 0).all()
    assert (distances >= 0).all()
    A, B = np.random.default_rng(1).normal(size=(2, 6, 4))
    expected = np.square(A[:, None] - B).sum(axis=2)
    assert squared_distances(A, B) == pytest.approx(expected)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_sweep_gives_the_scores_of_single_fits(n_classes, scaling):
    X, y = data(n_classes, d=9)
    X = (X * np.arange(1, 10)).astype(np.float32)
    jobs = [Job(np.flatnonzero(np.arange(60) % 5 != f), np.arange(f, 60, 5)) for f in range(5)]
    grid = [
        {"C": 0.1, "gamma_factor": 0.3},
        {"C": 10.0, "gamma_factor": 2.0},
        {"C": 10.0, "gamma_factor": 0.3, "class_weight": "balanced"},
        {"C": 10.0, "gamma": 0.05, "gamma_factor": 2.0},
        {"C": 10.0, "gamma": 0.05, "gamma_factor": 1.0},
    ]
    found = sweep_rbf(X, y, jobs, grid, n_classes=n_classes, scaling=scaling)
    for job, scores in zip(jobs, found, strict=True):
        assert scores.shape == (len(grid), len(job.test), n_classes)
        train, test = X[job.train].astype(float), X[job.test].astype(float)
        if scaling == "standard":
            mean, scale = train.mean(axis=0), train.std(axis=0)
            train, test = (train - mean) / scale, (test - mean) / scale
        for setting, own in zip(grid, scores, strict=True):
            alone = RBFSVMHead(**setting).fit(train, y[job.train]).decision_function(test)
            if n_classes == 2:
                alone = np.stack([np.zeros(len(test)), alone], axis=1)
            # float32 rows in the sweep, and libsvm stops within 1e-3 of the optimality conditions.
            assert own == pytest.approx(alone, abs=5e-3)


def test_a_factor_multiplies_scale_and_leaves_a_number_alone():
    X, y = data(2)
    scale = RBFSVMHead().fit(X, y).gamma_
    assert RBFSVMHead(gamma_factor=0.5).fit(X, y).gamma_ == pytest.approx(0.5 * scale)
    assert RBFSVMHead(gamma=0.2, gamma_factor=0.5).fit(X, y).gamma_ == 0.2


@pytest.mark.parametrize("head", [LinearSVMHead, RBFSVMHead])
def test_a_state_of_0_1_opens_without_its_probabilities(head):
    X, y = data(3)
    fitted = head().fit(X, y)
    params, arrays = fitted.to_state()
    old = {"probability": True, "random_state": 0}
    old_params = {**params, "options": {**params["options"], **old}, "temperature": 0.7}
    again = head.from_state(old_params, arrays)
    assert np.array_equal(again.decision_function(X), fitted.decision_function(X))
    assert not hasattr(again, "predict_proba")


@pytest.mark.parametrize("options", [{"C": 0}, {"gamma": -1.0}, {"gamma_factor": np.inf}])
def test_options_that_mean_nothing_are_refused(options):
    X, y = data(2)
    with pytest.raises(ValueError, match=next(iter(options))):
        RBFSVMHead(**options).fit(X, y)
