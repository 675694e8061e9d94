"""The batched solver reaches scikit-learn's own optimum."""

import warnings

import numpy as np
import pytest
from bottleneck_probe.heads import HEADS, LinearSVMHead, LogisticHead
from bottleneck_probe.heads.linear import fit_linear
from bottleneck_probe.heads.losses import Multinomial, SquaredHinge
from bottleneck_probe.heads.sweep import Job, fit_pipeline, sweep_each, sweep_linear
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC


def features(n, d, k, *, gap=1.5, seed=0):
    """Correlated features with a few strong directions, as networks give them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1)))
    X = StandardScaler().fit_transform(X)
    X[:, :k] += gap * np.eye(k)[y]
    return X, y


def objective(coef, intercept, X, y, C):
    """C * sum(log loss) + |w|^2 / 2, written out."""
    logits = X @ coef.T + intercept
    if logits.shape[1] == 1:
        loss = np.logaddexp(0, -np.where(y == 1, 1, -1) * logits[:, 0]).sum()
    else:
        loss = -log_softmax(logits, axis=1)[np.arange(len(y)), y].sum()
    return C * loss + 0.5 * np.sum(coef**2)


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


@pytest.mark.parametrize("loss", [Multinomial(), SquaredHinge()], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("q", [1, 3])
def test_slope_is_the_derivative_of_the_value(loss, q):
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(2, q, 5)), rng.integers(max(q, 2), size=5)
    slope = loss(logits, y)[1]
    for where in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[where] = 1e-6
        both = [loss(logits + s * step, y)[0][where[0]] for s in (1, -1)]
        assert slope[where] == pytest.approx((both[0] - both[1]) / 2e-6, abs=1e-5)


def test_losses_survive_huge_logits():
    logits = np.array([[[-1e4, 1e4]]])
    for loss in (Multinomial(), SquaredHinge()):
        assert all(np.isfinite(part).all() for part in loss(logits, np.array([1, 0])))
        assert all(
            np.isfinite(part).all()
            for part in loss(np.concatenate([logits, -logits], axis=1), np.array([1, 0]))
        )


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


def jobs_of(n, rng):
    fold = rng.permutation(n) % 4
    return [Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(4)]


@pytest.mark.parametrize("name", ["logistic", "svm", "svm-rbf"])
@pytest.mark.parametrize("k", [2, 3])
def test_batched_sweep_agrees_with_one_pipeline_after_the_other(name, k):
    X, y = features(120, 40, k, gap=2.5)
    X = (5 * X + 3).astype(np.float32)  # not standardised: the sweep has to
    spec = HEADS[name]
    jobs = jobs_of(len(y), np.random.default_rng(0))
    batched = spec.sweep(X, y, jobs, spec.grid, {}, 0)
    alone = sweep_each(lambda s: spec.make(s, {}, 0, keep=False), X, y, jobs, spec.grid)
    for ours, theirs in zip(batched, alone, strict=True):
        assert ours.shape == (len(spec.grid), 30)
        # Of some thousand answers, those at a boundary may differ by the looser tolerance.
        assert np.mean(ours == theirs) > 0.98


def test_sweep_copes_with_a_class_missing_from_a_job():
    X, y = features(30, 5, 3)
    job = Job(np.flatnonzero(y != 1), np.flatnonzero(y == 1))
    (answers,) = sweep_linear(Multinomial(), X, y, [job], [{"C": 1.0}])
    assert set(answers[0]) <= {0, 2}
    (answers,) = sweep_linear(
        Multinomial(), X, y, [Job(np.flatnonzero(y == 2), np.flatnonzero(y == 1))], [{"C": 1.0}]
    )
    assert set(answers[0]) == {2}


def test_sweep_does_not_depend_on_the_number_of_threads(monkeypatch):
    X, y = features(60, 40, 3)
    jobs = jobs_of(len(y), np.random.default_rng(0))
    found = []
    for cpus in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        found.append(sweep_linear(Multinomial(), X, y, jobs, HEADS["logistic"].grid))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_the_scaler_of_a_pipeline_sees_its_own_rows_alone():
    X, y = features(40, 4, 2)
    pipeline = fit_pipeline(LogisticHead(), X, y)
    assert pipeline.named_steps["scale"].mean_ == pytest.approx(X.mean(axis=0))
