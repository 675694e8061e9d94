"""The path along C ends where each value alone would, in the order that was asked for."""

import numpy as np
import pytest
from bottleneck_probe.heads.losses import Multinomial, SquaredHinge
from bottleneck_probe.heads.path import solve_path
from bottleneck_probe.heads.rotation import rotate, shared_axes
from bottleneck_probe.heads.solver import minimise


def problem(n=50, d=20, k=3, *, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return (rng.normal(size=(n, d)) + rng.normal(size=(k, d))[y]).astype(dtype), y


@pytest.mark.parametrize("loss", [Multinomial(), SquaredHinge()], ids=lambda x: type(x).__name__)
def test_a_path_ends_at_the_minimum_of_each_value(loss):
    X, y = problem()
    A = rotate(X).training
    C = np.logspace(-6, 2, 17)
    options = {"tol": 1e-10, "certified": True, "max_iter": 5000}
    path = solve_path(A, y, C, loss, 3, **options)
    alone = minimise(A, y, C, loss, 3, **options)
    assert path.converged.all()
    assert path.objective == pytest.approx(alone.objective, rel=1e-9)


def test_a_path_takes_a_fraction_of_the_steps():
    X, y = problem(dtype=np.float32)
    A = rotate(X).training
    C = np.logspace(-6, 5, 45)
    options = {"tol": 1e-5, "certified": False, "max_iter": 5000}
    path = solve_path(A, y, C, Multinomial(), 3, **options)
    alone = minimise(A, y, C, Multinomial(), 3, **options)
    assert path.converged.all()
    assert path.iterations.sum() < 0.3 * alone.iterations.sum()


def test_a_path_keeps_the_order_and_repeats_of_its_values():
    X, y = problem()
    A = rotate(X).training
    options = {"tol": 1e-10, "certified": True, "max_iter": 5000}
    path = solve_path(A, y, np.array([1.0, 0.01, 1.0, 100.0]), Multinomial(), 3, **options)
    alone = minimise(A, y, np.array([1.0, 0.01, 1.0, 100.0]), Multinomial(), 3, **options)
    assert path.objective == pytest.approx(alone.objective, rel=1e-9)
    assert np.array_equal(path.weights[0], path.weights[2])


def test_a_bad_start_is_not_used():
    X, y = problem()
    A = rotate(X).training
    options = {"tol": 1e-10, "certified": True, "max_iter": 1000}
    plain = minimise(A, y, np.ones(1), Multinomial(), 3, **options)
    wild = np.full((1, 3, A.shape[1]), 1e6)
    found = minimise(A, y, np.ones(1), Multinomial(), 3, start=wild, **options)
    assert found.objective == pytest.approx(plain.objective, rel=1e-12)
    assert found.iterations == plain.iterations


def test_a_start_at_the_minimum_takes_no_step():
    X, y = problem()
    A = rotate(X).training
    options = {"certified": True, "max_iter": 1000}
    best = minimise(A, y, np.ones(1), Multinomial(), 3, tol=1e-12, **options)
    again = minimise(A, y, np.ones(1), Multinomial(), 3, tol=1e-9, start=best.weights, **options)
    assert again.iterations == [0]


@pytest.mark.parametrize("shape", [(50, 20), (20, 50)], ids=["n > d", "n < d"])
def test_coordinates_keep_lengths_and_lead_back(shape):
    X, _ = problem(*shape)
    coordinates = rotate(X)
    A = coordinates.training
    centred = X - X.mean(axis=0)
    assert A.shape[1] == min(shape[0] - 1, shape[1]) + 1
    assert A[:, :-1] @ A[:, :-1].T == pytest.approx(centred @ centred.T, abs=1e-9)
    assert coordinates.of(X) == pytest.approx(A, abs=1e-9)
    weights = np.random.default_rng(1).normal(size=(2, 3, A.shape[1]))
    coef, intercept = coordinates.back(weights)
    ours = np.einsum("pqd,nd->pqn", coef, X) + intercept[..., None]
    assert ours == pytest.approx(np.einsum("pqr,nr->pqn", weights, A), abs=1e-9)
    # Orthonormal axes: the penalty is the same in both coordinates.
    assert np.sum(coef**2) == pytest.approx(np.sum(weights[..., :-1] ** 2))


def test_axes_of_one_fold_serve_another():
    X, y = problem(60, 30)
    axes = shared_axes(X[:40], 40)
    options = {"tol": 1e-12, "certified": True, "max_iter": 5000}
    own, shared = (
        minimise(rotate(X[20:], a).training, y[20:], np.ones(1), Multinomial(), 3, **options)
        for a in (None, axes)
    )
    assert shared.objective == pytest.approx(own.objective, rel=1e-11)


def test_weak_directions_are_kept_in_float32():
    """A direction 3,000 times weaker than the strongest decides here; float32 products hide it."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = np.concatenate(
        [3000 * rng.normal(size=(40, 1)), (2.0 * y - 1)[:, None], np.zeros((40, 60))], axis=1
    ).astype(np.float32)
    A = rotate(X).training
    found = minimise(
        A, y, np.array([10.0]), Multinomial(), 2, tol=1e-5, certified=False, max_iter=500
    )
    logits = A @ found.weights[0, 0]
    assert ((logits > 0) == (y == 1)).all()
