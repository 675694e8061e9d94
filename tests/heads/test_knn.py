"""Nearest neighbours agree with scikit-learn's and with DINO's rule, written out as a loop."""

import numpy as np
import pytest
from bottleneck_probe.heads import KNNHead
from bottleneck_probe.heads import knn as module
from bottleneck_probe.heads.knn import nearest, sweep_knn
from bottleneck_probe.heads.sweep import Job
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier


@st.composite
def problems(draw):
    """Rows, class indices and a k; constant columns, equal rows, a row of zeros."""
    n, d, c = draw(st.integers(4, 40)), draw(st.integers(2, 12)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = np.concatenate([np.arange(c), rng.integers(c, size=max(n - c, 0))])
    X = rng.normal(size=(len(y), d))
    X[:, 0] = draw(st.sampled_from([0.1, 5.0]))
    if draw(st.booleans()):
        X[-1] = 0
    return X, y, draw(st.integers(1, 50))


def loop(X, y, queries, k, temperature=0.07):
    """Votes, one row and one neighbour after the other."""
    votes = np.zeros((len(queries), y.max() + 1))
    for i, query in enumerate(queries):
        lengths = np.linalg.norm(X, axis=1) * np.linalg.norm(query)
        cosines = np.where(lengths > 0, X @ query / np.where(lengths > 0, lengths, 1), 0)
        for j in sorted(range(len(X)), key=lambda j: -cosines[j])[:k]:
            votes[i, y[j]] += np.exp(cosines[j] / temperature)
    return votes


@settings(deadline=None, max_examples=60)
@given(problems())
def test_votes_are_those_of_a_plain_loop(problem):
    X, y, k = problem
    queries = np.random.default_rng(1).normal(size=(9, X.shape[1]))
    head = KNNHead(k).fit(X, y)
    votes = loop(X, y, queries, k)
    shares = votes / votes.sum(axis=1, keepdims=True)
    assert head.predict_proba(queries) == pytest.approx(shares, abs=1e-9)
    scores = np.log1p(votes)
    expected = scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores
    assert head.decision_function(queries) == pytest.approx(expected, abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(problems())
def test_answers_are_those_of_scikit_learn(problem):
    X, y, k = problem
    k = min(k, len(X))
    queries = np.random.default_rng(1).normal(size=(9, X.shape[1]))
    theirs = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(X, y)
    shares = theirs.predict_proba(queries)
    ours = KNNHead(k).fit(X, y)
    assert ours.predict_proba(queries) == pytest.approx(shares, abs=1e-6)
    clear = np.diff(np.sort(shares, axis=1)[:, -2:]).ravel() > 1e-6
    assert np.array_equal(ours.predict(queries)[clear], theirs.predict(queries)[clear])


def test_softmax_of_the_scores_is_the_share_of_the_votes():
    rng = np.random.default_rng(2)
    y = np.arange(40) % 3
    X = rng.normal(size=(40, 6)) + 2 * np.eye(3, 6)[y]
    head = KNNHead(40).fit(X, y)
    scores = head.decision_function(X)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    assert head.predict_proba(X) == pytest.approx(shares, abs=1e-4)


def test_a_class_without_a_neighbour_has_a_finite_score():
    X = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    scores = KNNHead(1).fit(X, [0, 1, 2]).decision_function([[1.0, 0.01]])
    assert scores[0, 2] == 0
    assert scores[0, 0] > 10


def test_equal_rows_vote_in_the_order_of_the_data():
    X = np.ones((6, 3))
    assert list(KNNHead(1).fit(X, [2, 1, 0, 0, 0, 0]).predict(X[:1])) == [2]
    assert list(KNNHead(5).fit(X, [2, 1, 0, 0, 0, 1]).predict(X[:1])) == [0]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_nearest_is_a_stable_sort(n, k, seed):
    similarities = np.random.default_rng(seed).integers(0, 4, (5, n)).astype(np.float32)
    k = min(k, n)
    expected = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    assert np.array_equal(nearest(similarities, k), expected)


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(50, 8)), np.arange(50) % 4
    whole = KNNHead(7).fit(X, y).decision_function(X)
    monkeypatch.setattr(module, "_BLOCK", 150)  # three queries at once
    assert KNNHead(7).fit(X, y).decision_function(X) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sweep_gives_the_scores_of_single_fits(n_classes):
    rng = np.random.default_rng(4)
    y = np.arange(60) % n_classes
    X = (rng.normal(size=(60, 9)) + y[:, None]).astype(np.float32)
    jobs = [Job(np.flatnonzero(np.arange(60) % 5 != f), np.arange(f, 60, 5)) for f in range(5)]
    grid = [{"k": 200}, {"k": 10, "class_weight": "balanced"}, {"k": 10}, {"k": 1}]
    found = sweep_knn(
        X, y, jobs, grid, n_classes=n_classes, scaling="none", options={"temperature": 0.1}
    )
    for job, scores in zip(jobs, found, strict=True):
        for setting, own in zip(grid, scores, strict=True):
            head = KNNHead(**setting, temperature=0.1).fit(X[job.train], y[job.train])
            alone = head.decision_function(X[job.test])
            if n_classes == 2:
                alone = np.stack([np.zeros(len(alone)), alone], axis=1)
            assert own == pytest.approx(alone, abs=1e-4)


def test_balanced_votes_lift_the_rare_class():
    rng = np.random.default_rng(5)
    y = (np.arange(200) < 20).astype(int)
    X = rng.normal(size=(200, 5)) + y[:, None] * 0.5
    plain, balanced = (KNNHead(100, class_weight=w).fit(X, y) for w in (None, "balanced"))
    assert balanced.predict(X).sum() > plain.predict(X).sum()


def test_a_small_temperature_overflows_nothing():
    X = np.random.default_rng(6).normal(size=(20, 4))
    scores = KNNHead(5, temperature=1e-4).fit(X, np.arange(20) % 3).decision_function(X)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 1.5}, {"temperature": 0.0}])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        KNNHead(**options).fit([[0.0], [1.0]], [0, 1])
