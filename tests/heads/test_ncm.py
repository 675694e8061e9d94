"""Nearest class mean agrees with scikit-learn's nearest (shrunken) centroid."""

import warnings

import numpy as np
import pytest
from bottleneck_probe.heads import NCMHead
from bottleneck_probe.heads.ncm import sweep_ncm
from bottleneck_probe.heads.sweep import Job
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 4),
    st.integers(2, 30),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.integers(0, 10_000),
)
def test_means_are_the_centroids_of_scikit_learn(k, n, d, threshold, seed):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), np.arange(k), rng.integers(k, size=n)])
    X = rng.normal(size=(len(y), d)) + rng.normal(size=(k, d))[y]
    X[:, : d // 3] = 0.1  # constant columns
    ours = NCMHead("euclidean", shrink_threshold=threshold).fit(X, y)
    if d >= 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constant columns
            theirs = NearestCentroid(shrink_threshold=threshold or None).fit(X, y)
        moved = np.arange(d) >= d // 3
        assert ours.means_[:, moved] == pytest.approx(theirs.centroids_[:, moved], abs=1e-9)
        assert ours.means_[:, ~moved] == pytest.approx(0.1)
    distances = np.square(X[:, None] - ours.means_).sum(axis=2)
    clear = np.diff(np.sort(distances, axis=1)[:, :2]).ravel() > 1e-9
    assert np.array_equal(ours.predict(X)[clear], distances.argmin(axis=1)[clear])


def test_cosine_asks_for_the_angle_alone():
    X = np.array([[1.0, 0.0], [5.0, 0.5], [0.0, 1.0], [0.3, 7.0]])
    head = NCMHead().fit(X, ["x", "x", "y", "y"])
    assert list(head.predict([[100.0, 1.0], [0.001, 0.01]])) == ["x", "y"]
    assert head.decision_function(3 * X) == pytest.approx(head.decision_function(X))


def test_scores_of_three_classes_are_cosines():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    X = rng.normal(size=(30, 5))
    head = NCMHead().fit(X, y)
    for i, c in ((0, 0), (7, 2)):
        cosine = X[i] @ head.means_[c] / np.linalg.norm(X[i]) / np.linalg.norm(head.means_[c])
        assert head.decision_function(X)[i, c] == pytest.approx(cosine)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_sample_a_class_and_equal_rows_give_finite_scores(metric):
    for X in (np.eye(3), np.ones((3, 3)), np.zeros((3, 3))):
        head = NCMHead(metric, shrink_threshold=1.0).fit(X, [0, 1, 2])
        assert np.isfinite(head.decision_function(X)).all()
    head = NCMHead(metric, shrink_threshold=1.0).fit(np.eye(3), [0, 1, 2])
    assert list(head.predict(np.eye(3))) == [0, 1, 2]


def test_shrinking_forgets_features_that_say_nothing():
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 400))
    X[:, 0] += 6 * y
    means = NCMHead("euclidean", shrink_threshold=4.0).fit(X, y).means_
    assert np.flatnonzero(np.abs(means[1] - means[0]) > 1e-9).tolist() == [0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sweep_gives_the_scores_of_single_fits(n_classes):
    rng = np.random.default_rng(2)
    y = np.arange(60) % n_classes
    X = (rng.normal(size=(60, 9)) + y[:, None]).astype(np.float32)
    jobs = [Job(np.flatnonzero(np.arange(60) % 5 != f), np.arange(f, 60, 5)) for f in range(5)]
    grid = [
        {"metric": "euclidean", "shrink_threshold": 2.0},
        {"metric": "cosine"},
        {"metric": "euclidean"},
    ]
    found = sweep_ncm(X, y, jobs, grid, n_classes=n_classes, scaling="none")
    for job, scores in zip(jobs, found, strict=True):
        for setting, own in zip(grid, scores, strict=True):
            head = NCMHead(**setting).fit(X[job.train], y[job.train])
            alone = head.decision_function(X[job.test])
            if n_classes == 2:
                alone = np.stack([np.zeros(len(alone)), alone], axis=1)
            assert own == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("options", [{"metric": "l3"}, {"shrink_threshold": -1.0}])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        NCMHead(**options).fit([[0.0], [1.0]], [0, 1])
