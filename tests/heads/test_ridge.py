"""Ridge heads agree with scikit-learn, and leaving one out with refitting."""

import numpy as np
import pytest
from bottleneck_probe.heads import RidgeHead, RidgeRegressionHead
from bottleneck_probe.heads.ridge import ridge_loo, sweep_ridge
from bottleneck_probe.heads.ridge_path import RidgePath
from bottleneck_probe.heads.sweep import Job
from bottleneck_probe.heads.tridiagonal import Tridiagonal, _forms, _kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

ALPHAS = 10.0 ** np.linspace(-2, 5, 8)


@st.composite
def problems(draw):
    """Rows and class indices: more or fewer rows than features, columns and rows without a spread."""
    n, d, k = draw(st.integers(4, 24)), draw(st.integers(1, 30)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = np.concatenate([np.arange(k), rng.integers(k, size=max(n - k, 0))])
    X = rng.normal(size=(len(y), d)) * draw(st.sampled_from([0.1, 1.0, 30.0])) + rng.normal(size=d)
    X[:, : draw(st.integers(0, d))] = 0.1
    if draw(st.booleans()):
        X[1::2] = X[1]
    return X, y


def refitted(X, Y, alpha, weights=None):
    """Each row predicted by a fit of scikit-learn on all others."""
    found = np.empty(Y.shape)
    for i in range(len(X)):
        rest = np.arange(len(X)) != i
        share = None if weights is None else weights[rest]
        found[i] = Ridge(alpha, solver="svd").fit(X[rest], Y[rest], share).predict(X[i : i + 1])[0]
    return found


@settings(deadline=None, max_examples=40)
@given(problems(), st.sampled_from([0.5, 20.0, 1e4]), st.booleans())
def test_leaving_one_out_is_refitting_without_it(problem, alpha, weighted):
    X, _y = problem
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(len(X), 3))
    weights = rng.uniform(0.2, 3, len(X)) if weighted else None
    found = ridge_loo(X, Y, [1e6, alpha], weights=weights)[1]
    assert found == pytest.approx(refitted(X, Y, alpha, weights), abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("shape", [(30, 50), (80, 20), (12, 1)])
def test_leaving_one_out_holds_to_ten_digits_for_all_strengths(shape):
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=shape) + 3, rng.normal(size=(shape[0], 2))
    found = ridge_loo(X, Y, ALPHAS)
    for alpha, predicted in zip(ALPHAS, found, strict=True):
        assert np.abs(predicted - refitted(X, Y, alpha)).max() < 1e-10


def test_single_precision_is_used_only_where_it_is_fine_enough():
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(60, 200)) * 30).astype(np.float32)
    Y = rng.normal(size=(60, 2))
    for alphas, rough in (([1e4, 1e6], 1e-3), ([1e-3], 1e-9)):
        exact = ridge_loo(X.astype(np.float64), Y, alphas)
        error = np.abs(ridge_loo(X, Y, alphas) - exact).max()
        assert error < rough
    # Not all of these digits are there in float32: the large strengths did run in it.
    assert np.abs(ridge_loo(X, Y, [1e4]) - ridge_loo(X.astype(np.float64), Y, [1e4])).max() > 1e-12


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_weights_from_single_precision_are_those_of_double(shape):
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=shape).astype(np.float32) * 5, rng.normal(size=(shape[0], 3))
    coef, intercept = RidgePath(X, Y, smallest=30.0).coefficients(30.0)
    theirs = Ridge(30.0, solver="svd").fit(X.astype(np.float64), Y)
    assert coef == pytest.approx(theirs.coef_, abs=1e-12)
    assert intercept == pytest.approx(theirs.intercept_, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(problems(), st.sampled_from([0.3, 50.0]), st.sampled_from([None, "balanced"]))
def test_classifier_decides_as_that_of_scikit_learn(problem, alpha, weight):
    X, y = problem
    ours = RidgeHead(alpha, class_weight=weight).fit(X, y)
    theirs = RidgeClassifier(alpha, class_weight=weight, solver="svd").fit(X, y)
    assert ours.decision_function(X) == pytest.approx(theirs.decision_function(X), abs=1e-7)


@settings(deadline=None, max_examples=20)
@given(problems())
def test_regression_chooses_as_refitting_without_each_row(problem):
    """With equal rows and a small strength `RidgeCV`'s own shortcut is off by 4e-6 and more."""
    X, y = problem
    target = y + np.random.default_rng(0).normal(size=len(y))
    ours = RidgeRegressionHead("loo", alphas=ALPHAS).fit(X, target)
    strengths = sorted(ALPHAS, reverse=True)
    errors = np.array([np.mean((target - refitted(X, target, a)) ** 2) for a in strengths])
    assert ours.loo_error_ * target.var() == pytest.approx(errors, rel=1e-4, abs=1e-9)
    if np.diff(np.sort(errors)[:2]) > 1e-3 * errors.max():
        best = strengths[int(errors.argmin())]
        assert ours.alpha_ == pytest.approx(best)
        theirs = Ridge(best, solver="svd").fit(X, target)
        assert ours.predict(X) == pytest.approx(theirs.predict(X), abs=1e-6)


def test_several_targets_share_one_strength_and_keep_their_shape():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(50, 6))
    Y = X @ rng.normal(size=(6, 2)) * [1, 1000] + rng.normal(size=(50, 2)) * [1, 1000]
    head = RidgeRegressionHead().fit(X, Y)
    assert head.predict(X).shape == (50, 2)
    # The unit of a target does not count.
    assert RidgeRegressionHead().fit(X, Y / [1, 1000]).alpha_ == pytest.approx(head.alpha_)
    again = RidgeRegressionHead.from_state(*head.to_state())
    assert np.array_equal(again.predict(X), head.predict(X))


def test_choice_by_leaving_one_out_finds_signal_and_gives_up_on_noise():
    rng = np.random.default_rng(5)
    y = np.arange(80) % 2
    noise = rng.normal(size=(80, 300))
    clear = noise + 3 * (y[:, None] - 0.5) * (np.arange(300) < 40)
    chosen = {name: RidgeHead().fit(X, y) for name, X in (("noise", noise), ("clear", clear))}
    assert chosen["clear"].loo_accuracy_.max() > 0.95
    assert chosen["clear"].alpha_ < chosen["noise"].alpha_


def test_balanced_weights_lift_the_rare_class():
    rng = np.random.default_rng(6)
    y = (np.arange(200) < 20).astype(int)
    X = rng.normal(size=(200, 3)) + y[:, None]
    plain, balanced = (RidgeHead(1.0, class_weight=w).fit(X, y) for w in (None, "balanced"))
    assert balanced.predict(X).sum() > 3 * plain.predict(X).sum() > 0


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_sweep_gives_the_scores_of_single_fits(n_classes, scaling):
    rng = np.random.default_rng(7)
    y = np.arange(60) % n_classes
    X = (rng.normal(size=(60, 90)) + y[:, None]).astype(np.float32)
    jobs = [Job(np.flatnonzero(np.arange(60) % 5 != f), np.arange(f, 60, 5)) for f in range(5)]
    grid = [
        {"alpha": 1e5},
        {"alpha": 3.0, "class_weight": "balanced"},
        {"alpha": 3.0},
        {"alpha": "loo"},
    ]
    found = list(sweep_ridge(X, y, jobs, grid, n_classes=n_classes, scaling=scaling))
    for job, scores in zip(jobs, found, strict=True):
        train, test = X[job.train].astype(float), X[job.test].astype(float)
        if scaling == "standard":
            mean, scale = train.mean(axis=0), train.std(axis=0)
            train, test = (train - mean) / scale, (test - mean) / scale
        for setting, own in zip(grid, scores, strict=True):
            alone = RidgeHead(**setting).fit(train, y[job.train]).decision_function(test)
            if n_classes == 2:
                alone = np.stack([np.zeros(len(test)), alone], axis=1)
            assert own == pytest.approx(alone, abs=2e-3)


def test_a_class_that_a_job_never_saw_cannot_be_answered():
    y = np.array([0, 0, 0, 1, 1, 1, 2])
    X = np.random.default_rng(8).normal(size=(7, 4)).astype(np.float32)
    (scores,) = sweep_ridge(
        X, y, [Job(np.arange(6), np.arange(6, 7))], [{"alpha": 1.0}], n_classes=3
    )
    assert scores.shape == (1, 1, 3)
    assert np.isneginf(scores[0, 0, 2])
    assert np.isfinite(scores[0, 0, :2]).all()


@pytest.mark.parametrize("alpha", [0.0, -1, np.inf, "all", True])
def test_strengths_that_mean_nothing_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        RidgeHead(alpha).fit([[0.0], [1.0]], [0, 1])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 1000))
def test_tridiagonal_solves_what_a_dense_solver_solves(r, seed):
    rng = np.random.default_rng(seed)
    A, B, alphas = rng.normal(size=(r, r + 2)), rng.normal(size=(r, 2)), np.array([0.1, 10.0])
    K = A @ A.T
    found = Tridiagonal(K)
    Q = found.vectors()
    assert np.abs(Q.T @ Q - np.eye(r)).max() < 1e-12
    assert found.turn(B.T) == pytest.approx(B.T @ Q, abs=1e-10)
    assert found.turn_back(B.T) == pytest.approx(B.T @ Q.T, abs=1e-10)
    for alpha, x, form in zip(
        alphas, found.solve(alphas, Q.T @ B), found.forms(alphas, Q), strict=True
    ):
        inverse = np.linalg.inv(K + alpha * np.eye(r))
        assert Q @ x == pytest.approx(inverse @ B, abs=1e-8)
        assert form == pytest.approx(np.diag(inverse), abs=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_machine_code_sums_what_plain_numpy_sums(dtype):
    rng = np.random.default_rng(9)
    columns = rng.normal(size=(30, 300)).astype(dtype)
    lower, inverse = (rng.uniform(-0.5, 1, (4, 30)).astype(dtype) for _ in range(2))
    found = [np.zeros((4, 300), dtype) for _ in range(2)]
    for kernel, out in zip((_forms, _kernel()), found, strict=True):
        kernel(columns, lower, inverse, out)
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-4)
    assert np.abs(found[0]).min() > 0
