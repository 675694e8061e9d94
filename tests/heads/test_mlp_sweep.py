"""The sweep gives what each head gives by itself, for every setting in every fold."""

import numpy as np
import pytest
from bottleneck_probe.heads import MLPHead
from bottleneck_probe.heads.fitted import fit_head
from bottleneck_probe.heads.mlp import sweep as mlp_sweep
from bottleneck_probe.heads.mlp.sweep import sweep_mlp
from bottleneck_probe.heads.sweep import Job
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

GRID = (
    {"learning_rate": 1e-3, "dropout": 0.5},
    {"learning_rate": 1e-2, "weight_decay": 0.1, "init": "lecun"},
    {"hidden": 9, "class_weight": "balanced", "random_state": 5},
)
OPTIONS = {"max_epochs": 6}


def problem(k=3, n=66, d=11, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = 5 + 3 * (rng.normal(size=(n, d)) + np.eye(k, d)[y])
    folds = StratifiedKFold(3, shuffle=True, random_state=0).split(X, y)
    return X.astype(np.float32), y, [Job(train, test) for train, test in folds]


def sweep(X, y, jobs, grid=GRID, **more):
    more = {"n_classes": int(y.max()) + 1, "options": OPTIONS, "seed": 2, **more}
    return list(sweep_mlp(X, y, jobs, grid, **more))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("scaling", ["standard", "l2"])
def test_every_fit_alone_gives_the_same_scores(k, scaling):
    X, y, jobs = problem(k)
    found = sweep(X, y, jobs, scaling=scaling)
    assert len(found) == len(jobs)
    for job, scores in zip(jobs, found, strict=True):
        assert scores.shape == (len(GRID), len(job.test), k)
        assert scores.dtype == np.float32
        for setting, one in zip(GRID, scores, strict=True):
            head = MLPHead(**{"random_state": 2, **OPTIONS, **setting})
            alone = fit_head(head, X[job.train], y[job.train], n_classes=k, scaling=scaling)
            assert one == pytest.approx(alone.scores(X[job.test]), abs=1e-4)


def test_equal_bytes_whatever_the_number_of_cores(monkeypatch):
    X, y, jobs = problem()
    first = sweep(X, y, jobs)
    for count in (1, 5):
        monkeypatch.setattr(mlp_sweep, "cores", lambda count=count: count)
        again = sweep(X, y, jobs)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_as_one_network_in_pytorch_the_scores_are_the_same(monkeypatch):
    """What a GPU runs, on the processor."""
    X, y, jobs = problem()
    compiled = sweep(X, y, jobs)
    monkeypatch.setattr(mlp_sweep, "kernel", lambda: None)
    for memory in (mlp_sweep._MEMORY, 1):  # all jobs at once, and one at a time
        monkeypatch.setattr(mlp_sweep, "_MEMORY", memory)
        for a, b in zip(compiled, sweep(X, y, jobs), strict=True):
            assert a == pytest.approx(b, abs=2e-3)


@pytest.mark.parametrize("compiled", [True, False])
def test_classes_without_a_training_row_have_no_score(monkeypatch, compiled):
    X, y, jobs = problem()
    if not compiled:
        monkeypatch.setattr(mlp_sweep, "kernel", lambda: None)
    two = Job(np.flatnonzero(y != 1), np.arange(8))
    one = Job(np.flatnonzero(y == 2), np.arange(5))
    ticks = []
    found = sweep(X, y, [two, one, jobs[0]], tick=lambda: ticks.append(1))
    assert len(ticks) == 3
    assert np.isneginf(found[0][..., 1]).all()
    assert (found[0][..., 0] == 0).all()
    assert np.isfinite(found[0][..., 2]).all()
    assert found[1].shape == (3, 5, 3)
    assert (found[1].argmax(axis=2) == 2).all()
    assert np.isfinite(found[2]).all()


def test_a_consumer_that_leaves_early_ends_the_threads():
    import threading

    X, y, jobs = problem()
    before = threading.active_count()
    results = sweep_mlp(X, y, jobs * 20, GRID, n_classes=3, options=OPTIONS)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_losers_of_the_choice_warn_nobody():
    X, y, jobs = problem()
    sweep(X, y, jobs, ({"max_epochs": 1},), options={})  # warnings are errors here
    with pytest.warns(ConvergenceWarning):
        MLPHead(max_epochs=1).fit(X, y)
