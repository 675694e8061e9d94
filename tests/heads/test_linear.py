"""The batched solver reaches scikit-learn's own optimum."""

import warnings

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, LogisticHead
from bottleneck_probe.heads.linear import fit_linear
from bottleneck_probe.heads.losses import Multinomial
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight


def features(n, d, k, *, gap=1.5, seed=0):
    """Correlated features with a few strong directions, as networks give them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1)))
    X = StandardScaler().fit_transform(X)
    X[:, :k] += gap * np.eye(k)[y]
    return X, y


def objective(coef, intercept, X, y, C, weights=1.0):
    """C * sum(weights * log loss) + |w|^2 / 2, written out."""
    logits = X @ coef.T + intercept
    if logits.shape[1] == 1:
        loss = np.logaddexp(0, -np.where(y == 1, 1, -1) * logits[:, 0])
    else:
        loss = -log_softmax(logits, axis=1)[np.arange(len(y)), y]
    return C * np.sum(weights * loss) + 0.5 * np.sum(coef**2)


def reference(X, y, C):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # newton-cg at 1e-10: rounding
        return LogisticRegression(C=C, tol=1e-10, max_iter=5000, solver="newton-cg").fit(X, y)


@pytest.mark.parametrize("C", [1e-6, 1e-3, 1.0, 100.0, 1e5])
@pytest.mark.parametrize(
    ("n", "d", "k", "gap"),
    [(60, 20, 3, 1.5), (60, 20, 2, 1.5), (40, 90, 3, 1.5), (60, 8, 4, 6.0)],
    ids=["n>d", "two classes", "n<d, separable", "nearly separable"],
)
def test_logistic_reaches_the_optimum_of_scikit_learn(n, d, k, gap, C):
    X, y = features(n, d, k, gap=gap)
    head = LogisticHead(C=C).fit(X, y)
    theirs = reference(X, y, C)
    assert head.converged_
    ours = objective(head.coef_, head.intercept_, X, y, C)
    assert head.objective_ == pytest.approx(ours, rel=1e-9)
    assert ours == pytest.approx(objective(theirs.coef_, theirs.intercept_, X, y, C), rel=1e-6)
    assert np.array_equal(head.predict(X), theirs.predict(X))
    assert head.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-3)


@pytest.mark.parametrize("k", [2, 3])
def test_linear_svm_reaches_the_optimum_of_liblinear(k):
    X, y = features(50, 12, k)
    head = LinearSVMHead(C=0.1).fit(X, y)
    # liblinear penalises the intercept; a large scaling makes that penalty vanish.
    theirs = LinearSVC(C=0.1, intercept_scaling=1e3, tol=1e-8, max_iter=200_000, dual=False)
    theirs.fit(X, y)
    assert head.coef_ == pytest.approx(theirs.coef_, abs=1e-4)
    assert np.array_equal(head.predict(X), theirs.predict(X))


def test_a_batch_gives_what_each_problem_gives_alone():
    X, y = features(40, 30, 3)
    C = np.array([1e-4, 1e-2, 1.0, 100.0])
    batch = fit_linear(X, y, C, Multinomial(), 3)
    for i in range(len(C)):
        alone = fit_linear(X, y, C[i : i + 1], Multinomial(), 3)
        assert batch.objective[i] == pytest.approx(alone.objective[0], rel=1e-9)
        assert batch.coef[i] == pytest.approx(alone.coef[0], abs=1e-4)


def test_too_few_steps_are_told():
    X, y = features(60, 20, 3)
    with pytest.warns(ConvergenceWarning, match="2 iterations"):
        head = LogisticHead(C=100.0, max_iter=2).fit(X, y)
    assert not head.converged_


def test_equal_rows_with_different_labels_have_an_optimum():
    X, y = np.zeros((6, 3)), np.array([0, 0, 0, 1, 1, 2])
    head = LogisticHead(C=1e5).fit(X, y)
    assert head.predict_proba(X[:1])[0] == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=1e-4)


@st.composite
def odd_problems(draw):
    """Few samples, some features constant or repeated, some rows equal, classes of one sample."""
    n, d, k = draw(st.integers(3, 25)), draw(st.integers(1, 30)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    y = np.concatenate([np.arange(k), rng.integers(0, draw(st.integers(1, k)), size=n)])
    X = rng.normal(size=(len(y), d)) + draw(st.floats(0, 3)) * rng.normal(size=(k, d))[y]
    kind = draw(st.sampled_from(["plain", "constant columns", "equal rows", "repeated columns"]))
    if kind == "constant columns":
        X[:, : d // 2 + 1] = 7.0
    elif kind == "equal rows":
        X[:] = X[0]
    elif kind == "repeated columns":
        X[:, d // 2 :] = X[:, :1]
    weight = draw(st.sampled_from([None, "balanced"]))
    return X, y, float(10.0 ** draw(st.integers(-6, 3))), weight


@given(odd_problems())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_odd_problems_reach_the_optimum_of_scikit_learn(problem):
    X, y, C, weight = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = LogisticRegression(
            C=C, tol=1e-10, max_iter=5000, solver="newton-cg", class_weight=weight
        ).fit(X, y)
    head = LogisticHead(C=C, class_weight=weight).fit(X, y)
    each = np.ones(len(y)) if weight is None else compute_sample_weight(weight, y)
    ours = objective(head.coef_, head.intercept_, X, y, C, each)
    best = objective(theirs.coef_, theirs.intercept_, X, y, C, each)
    assert head.converged_
    assert head.objective_ == pytest.approx(ours, rel=1e-8, abs=1e-12)
    # Not above theirs; theirs may stop short of it.
    assert ours <= best * (1 + 1e-6) + 1e-12
    assert ours >= best * (1 - 1e-4) - 1e-9
    margins = np.sort(np.atleast_2d(theirs.predict_proba(X)), axis=1)
    clear = margins[:, -1] - margins[:, -2] > 1e-3  # ties go either way
    assert np.array_equal(head.predict(X)[clear], theirs.predict(X)[clear])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(bad):
    X, y = features(20, 5, 2)
    X[3, 2] = bad
    for head in (LogisticHead(), LinearSVMHead()):
        with pytest.raises(ValueError, match=r"infinity|NaN"):
            head.fit(X, y)


def test_a_class_weight_counts_like_repeated_samples():
    X, y = features(30, 6, 3)
    again = np.repeat(np.arange(30), np.where(y == 2, 3, 1))
    for make in (LogisticHead, LinearSVMHead):
        weighted = make(C=0.1, class_weight={2: 3.0}).fit(X, y)
        repeated = make(C=0.1).fit(X[again], y[again])
        assert weighted.coef_ == pytest.approx(repeated.coef_, abs=1e-5)
        assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-9)


def test_pytorch_gives_what_numpy_gives():
    X, y = features(40, 60, 3)
    C = np.array([1e-3, 1.0, 100.0])
    here = fit_linear(X, y, C, Multinomial(), 3)
    there = fit_linear(X, y, C, Multinomial(), 3, device="cpu:0")
    assert there.objective == pytest.approx(here.objective, rel=1e-9)
    assert there.coef == pytest.approx(here.coef, abs=1e-4)
    assert isinstance(there.coef, np.ndarray)
