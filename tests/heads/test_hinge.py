"""Newton's method on the active set reaches the optimum of the linear SVM, and its sweep the same."""

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, hinge_sweep
from bottleneck_probe.heads.hinge import minimise_hinge
from bottleneck_probe.heads.hinge_sweep import fit_hinge, sweep_hinge
from bottleneck_probe.heads.linear import fit_linear
from bottleneck_probe.heads.losses import SquaredHinge
from bottleneck_probe.heads.sweep import Job, sweep_each
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

GRID = [{"C": 10.0**e} for e in range(-6, 3)]


def features(n, d, k, *, gap=0.5, seed=0):
    """Correlated features of overlapping classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1)))
    X[:, :k] += gap * np.eye(k)[y]
    return X, y


def objective(coef, intercept, X, y, C, weights=1.0):
    """C * sum(weights * squared hinge) + |w|^2 / 2 of all functions, written out."""
    positive = [1] if len(coef) == 1 else range(len(coef))
    total = 0.0
    for w, b, c in zip(coef, intercept, positive, strict=True):
        margin = np.where(y == c, 1, -1) * (X @ w + b)
        total += C * np.sum(weights * np.maximum(0, 1 - margin) ** 2) + 0.5 * w @ w
    return total


def slopes(coef, intercept, X, y, C, weights):
    """Derivatives of the objective by every weight and intercept, and the size of their terms."""
    positive = [1] if len(coef) == 1 else range(len(coef))
    for w, b, c in zip(coef, intercept, positive, strict=True):
        t = np.where(y == c, 1, -1)
        pull = 2 * C * weights * np.maximum(0, 1 - t * (X @ w + b)) * t
        yield (
            np.append(w - X.T @ pull, -pull.sum()),
            np.append(np.abs(X).T @ np.abs(pull), np.abs(pull).sum()),
        )


@st.composite
def odd_problems(draw):
    """Few samples, some features constant or repeated, some rows equal, classes of one sample."""
    n, d = draw(st.integers(2, 90)), draw(st.integers(1, 60))
    k = draw(st.integers(2, min(n, 5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.normal(size=(n, d)) + draw(st.sampled_from([0.0, 3.0]))
    if draw(st.booleans()):
        X[:, : d // 2 + 1] = 4.2
    if draw(st.booleans()):
        X[:, d // 2] = X[:, 0]
    if draw(st.booleans()):
        X = X[rng.integers(0, max(1, n // 2), n)]  # equal rows, of different classes too
    if draw(st.integers(0, 9)) == 0:
        X[:] = X[0]
    rare = draw(st.booleans())  # every class but the first has one sample
    y = np.append(np.arange(k), np.zeros(n - k, int) if rare else rng.integers(0, k, n - k))
    weights = rng.uniform(0.1, 5, k)[y] if draw(st.booleans()) else None
    return X, y, k, 10.0 ** draw(st.integers(-6, 5)), weights


@given(odd_problems())
@settings(deadline=None, max_examples=150)
def test_the_slopes_at_the_solution_vanish(problem):
    X, y, k, C, weights = problem
    found = fit_hinge(X, y, C, k, tol=1e-10, max_iter=200, weights=weights)
    counted = np.ones(len(y)) if weights is None else weights
    if C <= 1e3:  # beyond, equal rows of different labels leave no digits to prove it
        assert found.converged.all()
        assert found.iterations[0] < 60
    # Of a function that curves by L at most, |slope|^2 <= 2 L (its value - the smallest value).
    curves = 1 + 2 * C * np.sum(counted[:, None] * np.append(X, np.ones((len(y), 1)), axis=1) ** 2)
    off = 1e-10 if C <= 1e3 else 1e-6
    for slope, terms in slopes(found.coef[0], found.intercept[0], X, y, C, counted):
        assert np.sum(slope**2) <= 2 * curves * off * found.objective[0] + 1e-20 * terms.max() ** 2
    ours = objective(found.coef[0], found.intercept[0], X, y, C, counted)
    assert found.objective[0] == pytest.approx(ours, rel=1e-9, abs=1e-14)
    assert not found.coef[..., (X[:1] == X).all(axis=0)].any()


@given(odd_problems())
@settings(deadline=None, max_examples=60)
def test_the_objective_is_that_of_lbfgs_or_less(problem):
    X, y, k, C, weights = problem
    ours = fit_hinge(X, y, C, k, tol=1e-10, max_iter=200, weights=weights)
    theirs = fit_linear(
        X, y, np.array([C]), SquaredHinge(), k, tol=1e-10, max_iter=3000, weights=weights
    )
    share = 2e-10 if C <= 1e3 else 1e-6
    assert ours.objective[0] <= theirs.objective[0] * (1 + share) + 1e-14
    if theirs.converged[0]:
        assert ours.objective[0] >= theirs.objective[0] * (1 - share) - 1e-14


@pytest.mark.parametrize("C", [1e-4, 0.1, 100.0])
@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize(("n", "d", "k"), [(90, 12, 2), (90, 12, 3), (40, 80, 3)])
def test_the_objective_is_that_of_liblinear(n, d, k, C, weight):
    X, y = features(n, d, k)
    y[y == 1] = np.where(np.arange((y == 1).sum()) < 5, 1, 0)  # few are left
    head = LinearSVMHead(C=C, class_weight=weight).fit(X, y)
    counted = np.ones(n) if weight is None else (n / (k * np.bincount(y)))[y]
    # liblinear penalises the intercept; a large scaling makes that penalty vanish. Its own `balanced` leaves
    # the rest of one class against the rest as it is.
    theirs = LinearSVC(
        C=C,
        intercept_scaling=300,
        tol=1e-9,
        max_iter=500_000,
        dual=False,
    ).fit(X, y, counted)
    ours = objective(head.coef_, head.intercept_, X, y, C, counted)
    assert head.converged_
    assert head.objective_ == pytest.approx(ours, rel=1e-9)
    best = objective(theirs.coef_, theirs.intercept_, X, y, C, counted)
    assert ours <= best * (1 + 1e-9)
    assert ours == pytest.approx(best, rel=1e-4)


def test_a_start_does_not_change_the_end_nor_the_start():
    X, y = features(70, 30, 2)
    kernels = (X @ X.T)[None]
    targets = np.where(y == 1, 1.0, -1.0)[None]
    which = np.zeros(1, int)
    near = minimise_hinge(kernels, which, targets, np.full((1, 70), 0.2), tol=1e-10, max_iter=99)
    kept = near.beta.copy()
    strength = np.full((1, 70), 2.0)
    alone = minimise_hinge(kernels, which, targets, strength, tol=1e-10, max_iter=99)
    after = minimise_hinge(kernels, which, targets, strength, tol=1e-10, max_iter=99, start=near)
    assert after.beta == pytest.approx(alone.beta, abs=1e-8)
    assert after.iterations[0] < alone.iterations[0]
    assert np.array_equal(near.beta, kept)


def test_a_step_too_long_is_shortened():
    """Whole Newton steps alone may go round in circles; 1,000 problems, some of which need more."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 12, 2)) * 10.0 ** rng.uniform(-2, 2, size=(1000, 12, 1))
    X -= X.mean(axis=1, keepdims=True)
    targets = np.where(rng.random((1000, 12)) < 0.5, -1.0, 1.0)
    targets[:, 0], targets[:, 1] = 1, -1
    found = minimise_hinge(
        X @ X.swapaxes(1, 2),
        np.arange(1000),
        targets,
        np.full((1000, 12), 1e4),
        tol=1e-10,
        max_iter=100,
    )
    assert found.converged.all()
    assert found.iterations.max() < 30


def test_too_few_steps_are_told():
    X, y = features(200, 300, 2)
    found = fit_hinge(X, y, 10.0, 2, tol=1e-10, max_iter=2)
    assert not found.converged[0]
    assert found.iterations[0] == 2


def jobs_of(n, folds=4, seed=0):
    fold = np.random.default_rng(seed).permutation(n) % folds
    return [Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(folds)]


@pytest.mark.parametrize("scaling", ["standard", "none", "l2", "l2-vissl", "scalar"])
@pytest.mark.parametrize("n", [50, 120], ids=["stacked", "each"])
@pytest.mark.parametrize("k", [2, 3])
def test_the_sweep_gives_the_scores_of_each_fit(n, k, scaling):
    X, y = features(n, 200, k)
    X = (5 * X + 3).astype(np.float32)
    jobs = jobs_of(n)
    grid = [
        {"C": C, "class_weight": w} for C in (1e-6, 1e-3, 1.0, 100.0) for w in ("balanced", None)
    ]
    y[y == 0] = np.where(np.arange((y == 0).sum()) < 6, 0, 1)
    ticks = []
    swept = list(
        sweep_hinge(X, y, jobs, grid, n_classes=k, scaling=scaling, tick=lambda: ticks.append(1))
    )
    alone = sweep_each(lambda s: LinearSVMHead(**s), X, y, jobs, grid, n_classes=k, scaling=scaling)
    assert len(ticks) == len(jobs)
    for ours, theirs in zip(swept, alone, strict=True):
        assert ours.dtype == np.float32
        scale = np.abs(theirs).max(axis=(1, 2), keepdims=True)
        assert ours / scale == pytest.approx(theirs / scale, abs=1e-3)


def test_jobs_of_any_size_and_classes_run_together():
    X, y = features(40, 60, 3)
    X = X.astype(np.float32)
    rest = np.flatnonzero(y != 1)
    jobs = [
        Job(np.arange(30), np.arange(30, 40)),
        Job(rest, np.flatnonzero(y == 1)),
        Job(np.flatnonzero(y == 2), np.arange(5)),
        Job(np.arange(4), np.arange(4, 6)),
    ]
    found = list(sweep_hinge(X, y, jobs, GRID, n_classes=3, scaling="scalar"))
    assert [len(scores[0]) for scores in found] == [10, len(y) - len(rest), 5, 2]
    assert np.isneginf(found[1][..., 1]).all()
    assert (found[1][..., 0] == 0).all()
    assert (found[2] == [-np.inf, -np.inf, 0]).all()
    for job, scores in zip(jobs, found, strict=True):
        (alone,) = sweep_hinge(X, y, [job], GRID, n_classes=3, scaling="scalar")
        known = np.isfinite(alone)
        assert scores[known] == pytest.approx(alone[known], abs=1e-5)


@pytest.mark.parametrize("scaling", ["none", "l2", "scalar"])
def test_many_rows_share_no_kernel(monkeypatch, scaling):
    """A kernel of all rows has the square of their number: jobs of a few among 50,000 need none."""
    X, y = features(60, 90, 3)
    X, jobs = X.astype(np.float32) + 3, jobs_of(50)  # ten rows are not used
    shared = list(sweep_hinge(X, y, jobs, GRID, n_classes=3, scaling=scaling))
    monkeypatch.setattr(hinge_sweep, "_SHARED", 49)
    apart = list(sweep_hinge(X, y, jobs, GRID, n_classes=3, scaling=scaling))
    for ours, theirs in zip(apart, shared, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3 * float(np.abs(theirs).max()))


def test_where_lbfgs_takes_over_the_scores_stay(monkeypatch):
    X, y = features(60, 90, 3)
    X, jobs = X.astype(np.float32), jobs_of(60)
    newton = list(sweep_hinge(X, y, jobs, GRID[:5], n_classes=3, scaling="scalar"))
    fit = fit_hinge(X.astype(float), y, 0.1, 3, tol=1e-10, max_iter=1000)
    monkeypatch.setattr(hinge_sweep, "_LARGEST", 10)
    lbfgs = list(sweep_hinge(X, y, jobs, GRID[:5], n_classes=3, scaling="scalar"))
    for ours, theirs in zip(newton, lbfgs, strict=True):
        assert ours / np.abs(ours).max() == pytest.approx(theirs / np.abs(ours).max(), abs=0.05)
    again = fit_hinge(X.astype(float), y, 0.1, 3, tol=1e-10, max_iter=1000)
    assert again.coef == pytest.approx(fit.coef, abs=1e-4)
    assert again.iterations[0] > fit.iterations[0]


def test_the_sweep_does_not_depend_on_the_number_of_threads(monkeypatch):
    X, y = features(60, 90, 3)
    found = []
    for cpus in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        found.append(list(sweep_hinge(X.astype(np.float32), y, jobs_of(60), GRID, n_classes=3)))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
