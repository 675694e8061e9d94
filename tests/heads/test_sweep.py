"""A grid scored in all folds at once gives what one head after the other gives."""

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, LogisticHead
from bottleneck_probe.heads.losses import Multinomial, SquaredHinge
from bottleneck_probe.heads.path import levels
from bottleneck_probe.heads.sweep import Job, expand, run_jobs, sweep_each, sweep_linear
from hypothesis import given, settings
from hypothesis import strategies as st

GRID = [{"C": float(C)} for C in np.logspace(-6, 1, 8)]
HEADS = {
    "logistic": (LogisticHead, Multinomial()),
    "svm": (LinearSVMHead, SquaredHinge()),
}


def features(n, d, k, *, gap=2.5, seed=0):
    """Correlated features with a few strong directions, one constant, none standardised."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1)))
    X[:, :k] += gap * np.eye(k)[y]
    X[:, -1] = 4
    return (5 * X + 3).astype(np.float32), y


def jobs_of(n, seed=0):
    fold = np.random.default_rng(seed).permutation(n) % 4
    return [Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(4)]


def swept(loss, X, y, jobs, grid=GRID, **options):
    return list(sweep_linear(loss, X, y, jobs, grid, n_classes=int(y.max()) + 1, **options))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("d", [40, 150], ids=["shared axes", "own axes"])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_batched_sweep_agrees_with_one_head_after_the_other(name, k, d, weight):
    X, y = features(120, d, k)
    make, loss = HEADS[name]
    jobs = jobs_of(len(y))
    grid = [{**setting, "class_weight": weight} for setting in GRID]
    alone = sweep_each(lambda s: make(**s), X, y, jobs, grid, n_classes=k)
    for ours, theirs in zip(swept(loss, X, y, jobs, grid), alone, strict=True):
        assert ours.shape == (len(GRID), 30, k)
        assert ours.dtype == np.float32
        off = np.abs(ours - theirs).max(axis=(1, 2)) / np.abs(theirs).max(axis=(1, 2))
        # Where C is large and the samples are separable, the scores hardly change the objective.
        assert off[:7].max() < 0.05
        assert np.mean(ours.argmax(axis=2) == theirs.argmax(axis=2)) > 0.98


@pytest.mark.parametrize("scaling", ["standard", "none", "l2", "scalar"])
def test_scaling_is_fitted_on_the_training_rows_of_each_job(scaling):
    X, y = features(60, 20, 3)
    jobs = jobs_of(60)
    grid = GRID[3:6]
    alone = sweep_each(lambda s: LogisticHead(**s), X, y, jobs, grid, n_classes=3, scaling=scaling)
    batched = swept(Multinomial(), X, y, jobs, grid, scaling=scaling)
    for ours, theirs in zip(batched, alone, strict=True):
        assert ours == pytest.approx(theirs, abs=0.02 * float(np.abs(theirs).max()))


def test_settings_of_one_grid_may_weigh_classes_differently():
    X, y = features(90, 20, 3)
    y[y == 2] = np.where(np.arange((y == 2).sum()) < 24, 0, 2)  # six samples are left
    both = [{"C": C, "class_weight": w} for C in (1e-4, 1.0) for w in (None, "balanced")]
    jobs = jobs_of(90)
    together = swept(Multinomial(), X, y, jobs, both)
    assert np.abs(together[0][2] - together[0][3]).max() > 0.1
    for i, setting in enumerate(both):
        alone = swept(Multinomial(), X, y, jobs, [setting])
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[i] == pytest.approx(theirs[0], abs=0.02 * float(np.abs(theirs).max()))


def test_a_class_without_training_rows_has_no_score():
    X, y = features(30, 5, 3)
    grid = [{"C": 1.0}]
    job = Job(np.flatnonzero(y != 1), np.flatnonzero(y == 1))
    (scores,) = swept(Multinomial(), X, y, [job], grid)
    assert np.isneginf(scores[..., 1]).all()
    assert (scores[..., 0] == 0).all()
    assert np.isfinite(scores[..., 2]).all()
    (scores,) = swept(Multinomial(), X, y, [Job(np.flatnonzero(y == 2), job.test)], grid)
    assert (scores.argmax(axis=2) == 2).all()


def test_two_classes_have_the_columns_zero_and_score():
    scores = expand(np.array([[[1.5], [-2.0]]]), np.array([0, 1]), 2)
    assert scores.tolist() == [[[0, 1.5], [0, -2.0]]]


def test_sweep_does_not_depend_on_the_number_of_threads(monkeypatch):
    X, y = features(60, 40, 3)
    found = []
    for cpus in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        found.append(swept(Multinomial(), X, y, jobs_of(60)))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("d", [40, 150], ids=["shared axes", "own axes"])
def test_pytorch_gives_what_numpy_gives(d):
    X, y = features(80, d, 3)
    here = swept(Multinomial(), X, y, jobs_of(80))
    there = swept(Multinomial(), X, y, jobs_of(80), device="cpu:0")
    for ours, theirs in zip(here, there, strict=True):
        scale = np.abs(ours).max(axis=(1, 2), keepdims=True)
        assert theirs / scale == pytest.approx(ours / scale, abs=0.02)


def test_jobs_come_in_order_and_tick():
    X, y = features(60, 10, 2)
    ticks = []

    def one(train, indices, k, test):
        assert train.mean() == pytest.approx(0, abs=1e-5)
        return test[None, :, :1]

    jobs = jobs_of(60)
    results = list(
        run_jobs(one, X, y, jobs, n_settings=1, n_classes=2, tick=lambda: ticks.append(1))
    )
    assert len(ticks) == len(results) == len(jobs)
    assert all(r.shape == (1, len(job.test), 2) for r, job in zip(results, jobs, strict=True))


@given(st.integers(1, 200))
@settings(deadline=None, max_examples=50)
def test_every_value_of_a_path_is_solved_once(p):
    order = np.concatenate(levels(p))
    assert sorted(order) == list(range(p))
