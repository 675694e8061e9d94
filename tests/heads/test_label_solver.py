"""Sweeps of labels and numbers: each job as a plain fit by scikit-learn, whatever the order of the path."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from bottleneck_probe.heads.label_solver import rotate, solve_path
from bottleneck_probe.heads.sweep import Job
from bottleneck_probe.heads.target_sweep import sweep_labels, sweep_values
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

C = 10.0 ** np.arange(-4, 4)


def problem(n: int, d: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    X[:, 0] = 3.0  # constant
    Y = (X[:, 1:4] + rng.normal(size=(n, 3)) * 3 > 1).astype(float)
    Y[rng.random(Y.shape) < 0.1] = np.nan
    return X, Y


def jobs(n: int) -> list[Job]:
    fold = np.arange(n) % 3
    return [Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(3)]


@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 90)], ids=["n > d", "n < d"])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_every_c_of_every_job_is_scikit_learns_fit(n: int, d: int, weight: str | None):
    X, Y = problem(n, d)
    found = sweep_labels(X, Y, jobs(n), [{"C": c} for c in C], class_weight=weight)
    for scores, job in zip(found, jobs(n), strict=True):
        assert scores.shape == (len(C), len(job.test), 3)
        scaler = StandardScaler().fit(X[job.train])
        for label in range(3):
            rows = job.train[~np.isnan(Y[job.train, label])]
            for i, c in enumerate(C):
                model = LogisticRegression(C=c, tol=1e-9, max_iter=10_000, class_weight=weight)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(scaler.transform(X[rows]), Y[rows, label])
                theirs = model.decision_function(scaler.transform(X[job.test]))
                spread = max(1.0, np.abs(theirs).max())
                assert np.abs(scores[i, :, label] - theirs).max() < 0.02 * spread


@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 90)], ids=["n > d", "n < d"])
def test_every_alpha_of_every_job_is_scikit_learns_ridge(n: int, d: int):
    X, _ = problem(n, d)
    y = X[:, 1:2] + np.random.default_rng(1).normal(size=(n, 1))
    alphas = [1e6, 10.0, 1e-3]
    found = sweep_values(X, y, jobs(n), [{"alpha": a} for a in alphas])
    for scores, job in zip(found, jobs(n), strict=True):
        scaler = StandardScaler().fit(X[job.train])
        for i, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha).fit(scaler.transform(X[job.train]), y[job.train, 0])
            theirs = model.predict(scaler.transform(X[job.test]))
            np.testing.assert_allclose(scores[i, :, 0], theirs, rtol=1e-6, atol=1e-8)


def test_rows_that_are_all_equal_and_labels_of_one_kind_have_an_answer():
    X, Y = np.full((20, 4), 2.0), np.zeros((20, 2))
    Y[:5, 0] = 1
    (scores,) = sweep_labels(X, Y, [Job(np.arange(20), np.arange(3))], [{"C": 1.0}])
    assert scores[0, 0, 0] == pytest.approx(np.log(5 / 15), abs=1e-5)
    assert scores[0, 0, 1] == pytest.approx(np.log(0.5 / 20.5), abs=1e-5)
    (values,) = sweep_values(X, Y[:, :1], [Job(np.arange(20), np.arange(3))], [{"alpha": 0.0}])
    assert values[0, :, 0] == pytest.approx(0.25)


def test_the_order_of_the_path_does_not_matter():
    X, Y = problem(60, 8)
    Z = rotate(X).training
    up = list(solve_path(Z, Y, C, tol=1e-10, max_iter=100))
    down = list(solve_path(Z, Y, C[::-1], tol=1e-10, max_iter=100))[::-1]
    for a, b in zip(up, down, strict=True):
        assert a.converged.all()
        np.testing.assert_allclose(a.objective, b.objective, rtol=1e-9)
        np.testing.assert_allclose(a.weights, b.weights, atol=1e-4 * np.abs(a.weights).max())


def test_coordinates_lead_to_features_and_back():
    for n, d in ((40, 6), (12, 50)):
        X, _ = problem(n, d)
        rotation = rotate(X)
        w = np.random.default_rng(2).normal(size=rotation.training.shape[1])
        np.testing.assert_allclose(rotation.coordinates(X), rotation.training, atol=1e-8)
        np.testing.assert_allclose(
            (X - X.mean(axis=0)) @ rotation.back(w), rotation.training @ w, rtol=1e-6, atol=1e-7
        )
