"""Score a whole grid of hyper-parameters in all folds: features and jobs in, predictions out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from .linear import fit_linear
from .losses import Loss

# Relative distance to the minimum within which settings are compared, and the steps allowed for it;
# the heads that are scored and kept are solved tightly whatever these are.
_SWEEP_TOL = 1e-3
_SWEEP_ITERATIONS = 300

_MEMORY = 4 * 2**30  # bytes that jobs in flight may hold together

Settings = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """One fold: rows to fit on and rows to predict, as indices."""

    train: np.ndarray
    test: np.ndarray


def sweep_linear(
    loss: Loss,
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    tick: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Predictions of a linear head for every C of a grid, in every job.

    All values of C of a job run as one batch, in float32, jobs side by side in threads with one
    BLAS thread each: the result does not depend on how many there are.

    Parameters
    ----------
    loss : Loss
    X : ndarray of shape (n, d)
        Not scaled; each job standardises by its own training rows.
    y : ndarray of shape (n,), intp
    jobs : sequence of Job
    grid : sequence of mappings
        Each with `C`.
    tick : callable
        Called after each job.

    Returns
    -------
    list of ndarray of shape (len(grid), n_test), intp
        For each job.
    """
    C = np.array([setting["C"] for setting in grid], np.float64)

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        found = fit_linear(
            train,
            indices,
            C,
            loss,
            k,
            tol=_SWEEP_TOL,
            certified=False,
            max_iter=_SWEEP_ITERATIONS,
        )
        return test @ np.swapaxes(found.coef, 1, 2) + found.intercept[:, None, :]

    return run_jobs(one, X, y, jobs, tick)


def run_jobs(
    one: Callable[[np.ndarray, np.ndarray, int, np.ndarray], np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    tick: Callable[[], None],
) -> list[np.ndarray]:
    """Standardise each job by its own training rows and run it; jobs side by side, in threads.

    Parameters
    ----------
    one : callable
        Training features (n, d) float32, class indices (n,), number of classes k and test features (m, d)
        to scores (settings, m, q), q = 1 for two classes, else k.
    X, y, jobs, tick
        See `sweep_linear`.

    Returns
    -------
    list of ndarray of shape (settings, m), intp
        Predicted classes.
    """

    def run(job: Job) -> np.ndarray:
        scaler = StandardScaler().fit(X[job.train])
        train, test = (
            scaler.transform(X[rows]).astype(np.float32, copy=False)
            for rows in (job.train, job.test)
        )
        # A class that is not among these rows gets no answer; the others are numbered anew.
        present, indices = np.unique(y[job.train], return_inverse=True)
        scores = one(train, indices, len(present), test)
        index = scores[..., 0] > 0 if scores.shape[2] == 1 else scores.argmax(axis=2)
        return present[index.astype(np.intp)]

    results = []
    copies = 8 * X.shape[0] * X.shape[1]  # bytes of a job's standardised and rotated rows
    workers = max(1, min(len(jobs), os.cpu_count() or 1, _MEMORY // max(copies, 1)))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        for result in pool.map(run, jobs):
            results.append(result)
            tick()
    return results


def sweep_each(
    make: Callable[[Mapping[str, Any]], BaseEstimator],
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    tick: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """The same for any head, one fit after the other.

    Parameters
    ----------
    make : callable
        Setting to an unfitted head.
    """
    results = []
    for job in jobs:
        found = np.empty((len(grid), len(job.test)), np.intp)
        for i, setting in enumerate(grid):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of settings that lose; the kept fit is told
                found[i] = fit_pipeline(make(setting), X[job.train], y[job.train]).predict(
                    X[job.test]
                )
        results.append(found)
        tick()
    return results


def fit_pipeline(head: BaseEstimator, X: np.ndarray, y: np.ndarray) -> Pipeline:
    """Scaler and head, both fitted on these rows alone.

    Parameters
    ----------
    head : estimator
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), two classes or more

    Returns
    -------
    Pipeline
        Steps `scale` and `head`.
    """
    return Pipeline([("scale", StandardScaler()), ("head", head)]).fit(X, y)
