"""Score a grid in all folds where the answer is not a class: features, targets and jobs in, scores out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from .label_solver import rotate, solve_path
from .one_vs_rest import balanced
from .scaling import fit_scaling
from .sweep import Job

# As close to the optimum as a choice needs; a head that is scored or kept is solved tightly.
_TOL = 1e-3
_MAX_ITER = 100

Settings = Sequence[Mapping[str, float]]
Tick = Callable[[], None]


def _nothing() -> None:
    pass


def sweep_labels(
    X: np.ndarray,
    Y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    scaling: str = "standard",
    class_weight: str | None = None,
    tick: Tick = _nothing,
) -> Iterator[np.ndarray]:
    """Logits of one-vs-rest logistic regression for each C of a grid, in every job.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Not scaled; each job scales by its own training rows.
    Y : ndarray of shape (n, k)
        1, 0, and NaN for unknown.
    jobs : sequence of Job
    grid : sequence of mappings
        Each with ``C``, ascending.
    scaling : str
        See `scaling.fit_scaling`.
    class_weight : {None, "balanced"}
        See `OneVsRestLogistic`.
    tick : callable
        Called after each job.

    Yields
    ------
    ndarray of shape (len(grid), n_test, k), float32
    """
    C = [setting["C"] for setting in grid]

    def one(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
        rotation = rotate(train)
        weights = balanced(targets) if class_weight else None
        there = rotation.coordinates(test)
        found = np.empty((len(C), len(test), targets.shape[1]), np.float32)
        fits = solve_path(
            rotation.training, targets, C, tol=_TOL, max_iter=_MAX_ITER, sample_weight=weights
        )
        for place, fit in zip(found, fits, strict=True):
            place[:] = there @ fit.weights.T + fit.intercept
        return found

    return _in_threads(one, X, Y, jobs, np.float32, scaling, tick)


def sweep_values(
    X: np.ndarray,
    Y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    scaling: str = "standard",
    tick: Tick = _nothing,
) -> Iterator[np.ndarray]:
    """Predictions of ridge regression for each alpha of a grid, in every job, from one decomposition.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    Y : ndarray of shape (n, k)
        Numbers, none of them NaN in the rows of a job.
    grid : sequence of mappings
        Each with ``alpha``, the penalty of the squared weights beside the summed squared error.
    jobs, scaling, tick
        See `sweep_labels`.

    Yields
    ------
    ndarray of shape (len(grid), n_test, k), float64
    """
    alphas = np.array([setting["alpha"] for setting in grid], np.float64)

    def one(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
        rotation = rotate(train, whatever_size=True)
        mean = targets.mean(axis=0)
        # In the principal axes the columns are orthogonal, so each weight has a closed form.
        squares = np.square(rotation.training).sum(axis=0)
        together = rotation.training.T @ (targets - mean)
        # Not divided where alpha and the column are both nothing: that weight stays 0.
        below = squares + alphas[:, None]
        share = np.divide(1, below, out=np.zeros_like(below), where=below > 0)
        return rotation.coordinates(test) @ (share[:, :, None] * together) + mean

    return _in_threads(one, X, Y, jobs, np.float64, scaling, tick)


def _in_threads(
    one: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    X: np.ndarray,
    Y: np.ndarray,
    jobs: Sequence[Job],
    dtype: type[np.floating],
    scaling: str,
    tick: Tick,
) -> Iterator[np.ndarray]:
    """Jobs side by side with one BLAS thread each, so that no bit depends on how many there are."""

    def run(job: Job) -> np.ndarray:
        fitted = fit_scaling(scaling, X[job.train])
        train, test = (
            fitted.transform(X[rows]).astype(dtype, copy=False) for rows in (job.train, job.test)
        )
        return one(train, Y[job.train].astype(np.float64), test)

    workers = max(1, min(len(jobs), os.cpu_count() or 1))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        for result in pool.map(run, jobs):
            tick()
            yield result
