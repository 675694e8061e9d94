"""Score a whole grid of hyper-parameters in all folds: features and jobs in, decision scores out."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from .backend import Array, alike, index, to_device, to_host
from .losses import Loss
from .rotation import rotate, shared_axes
from .scaling import Scaling, fit_scaling
from .scores import as_columns, expand
from .shared_rows import Rows
from .stacked import Fold, Stack, fold_of, solve_stack, stacked, stacks
from .validation import class_weights

# Relative distance to the minimum within which settings are compared, and the steps allowed for it;
# the heads that are scored and kept are solved tightly whatever these are. See `sweep_linear`.
_SWEEP_TOL = 3e-6
_SWEEP_ITERATIONS = 500
_SWEEP_MEMORY = 5

_MEMORY = 4 * 2**30  # bytes that jobs in flight may hold together

Settings = Sequence[Mapping[str, Any]]
# Training features (n, d) float32, class indices (n,), classes k present among them and test features
# (m, d) to scores (settings, m, q), q = 1 for two classes, else k.
One = Callable[[np.ndarray, np.ndarray, int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Job:
    """One fold: rows to fit on and rows to score, as indices."""

    train: np.ndarray
    test: np.ndarray


def _nothing() -> None:
    pass


def sweep_linear(
    loss: Loss,
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    n_classes: int,
    scaling: str = "standard",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    tick: Callable[[], None] = _nothing,
) -> Iterator[np.ndarray]:
    """Decision scores of a linear head for every setting of a grid, in every job.

    All values of C run as one batch, in float32, those of many small jobs together (see `stacked`);
    batches side by side in threads with one BLAS thread each: the result does not depend on how many
    threads there are.

    Parameters
    ----------
    loss : Loss
    X : ndarray of shape (n, d)
        Not scaled; each job scales by its own training rows.
    y : ndarray of shape (n,), intp
    jobs : sequence of Job
    grid : sequence of mappings
        Each with `C`, and with `class_weight` where not all samples count the same.
    n_classes : int
        Columns of the scores.
    scaling : str
        See `scaling.fit_scaling`.
    options : mapping, optional
        Parameters of the estimator that are the same in all settings.
    seed : int
        Not used: the solution is one whatever the start.
    device : str
        ``cpu``, or PyTorch's name of a GPU; X is moved there once, and the jobs run one by one.
    tick : callable
        Called after each job.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order; see `run_jobs`.

    Notes
    -----
    How tightly: of 45 x 240 answers (handwritten digits, one fold, Lite0) 33 differed from the solution in
    float64 at 1e-4 of the objective, 8 at 1e-5 and 3 at 1e-6; of 45 x 400 (textiles) 181, 38 and 9.
    """
    settings = [{"class_weight": None, **(options or {}), **setting} for setting in grid]
    folds = [fold_of(job.train, job.test, y) for job in jobs]
    here = device == "cpu"
    parts = [[number] for number in range(len(folds))]
    if here:
        parts = stacks(folds, loss, len(settings), X.shape[1], n_classes)
    rows = _rows(X, folds, scaling, device)

    def solve(part: list[int]) -> list[np.ndarray]:
        mine = [folds[number] for number in part]
        return _solve(loss, settings, rows, mine, n_classes)

    workers = min(_workers(X, jobs), max(1, len(parts))) if here else 1
    return _in_order(solve, parts, workers, tick)


def _rows(
    X: np.ndarray, folds: Sequence[Fold], scaling: str, device: str
) -> Callable[[Sequence[Fold]], Stack]:
    """Gives the rows of some folds, in the solver's coordinates."""
    with threadpool_limits(1, "blas"):
        if device == "cpu" and Rows.suit(X, folds, scaling):
            return Rows(X, folds, scaling).of
        prepared = _Prepared(X, folds, scaling, device)
    return lambda mine: stacked([prepared.of(fold) for fold in mine])


class _Prepared:
    """Training and test rows of a job, scaled, where the solver works."""

    def __init__(self, X: np.ndarray, jobs: Sequence[Fold], scaling: str, device: str) -> None:
        self.scaling = scaling
        # Features that are the same everywhere, a third of them behind some ReLUs, decide nothing.
        # Only where the scaling takes each feature by itself.
        alone = scaling in ("standard", "none")
        varying = np.flatnonzero((X[:1] != X).any(axis=0)) if alone else np.arange(X.shape[1])
        self.X = X if len(varying) in (0, X.shape[1]) else X[:, varying]
        self.there = to_device(self.X, device)
        self.axes = None
        if len(jobs) > 1:
            train, _ = self.scaled(jobs[0])
            self.axes = shared_axes(train, min(len(job.train) for job in jobs))

    def scaled(self, job: Fold) -> tuple[Array, Array]:
        scaler = fit_scaling(self.scaling, self.X[job.train])
        return _scaled(scaler, self.there, job.train), _scaled(scaler, self.there, job.test)

    def of(self, job: Fold) -> tuple[Array, Array]:
        """Training and test rows in the solver's coordinates, (n, r) and (m, r)."""
        train, test = self.scaled(job)
        coordinates = rotate(train, self.axes)
        return coordinates.training, coordinates.of(test)


def _scaled(scaler: Scaling, X: Array, rows: np.ndarray) -> Array:
    """The rows as float32, scaled where they are."""
    chosen = X[index(rows, X)]
    if isinstance(chosen, np.ndarray):
        return np.asarray(scaler.transform(chosen)).astype(np.float32, copy=False)
    if scaler.kind.startswith("l2"):
        return alike(scaler.transform(to_host(chosen)), chosen).float()
    return ((chosen - alike(scaler.mean, chosen)) / alike(scaler.scale, chosen)).float()


def _solve(
    loss: Loss,
    settings: Settings,
    rows: Callable[[Sequence[Fold]], Stack],
    folds: Sequence[Fold],
    n_classes: int,
) -> list[np.ndarray]:
    """Scores (settings, m, n_classes) of some folds with the same number of classes."""
    q = loss.outputs(len(folds[0].present))
    scores = [np.zeros((len(settings), len(fold.test), q), np.float32) for fold in folds]
    weightings = {str(setting["class_weight"]): setting["class_weight"] for setting in settings}
    if len(folds[0].present) == 1:  # nothing to fit: there is one answer
        weightings = {}
    else:
        stack = rows(folds)
    for weighting in weightings.values():
        chosen = [i for i, each in enumerate(settings) if each["class_weight"] == weighting]
        found = solve_stack(
            stack,
            folds,
            np.array([settings[i]["C"] for i in chosen], np.float64),
            loss,
            [class_weights(weighting, fold.indices, fold.present) for fold in folds],
            tol=_SWEEP_TOL,
            certified=False,
            max_iter=_SWEEP_ITERATIONS,
            memory=_SWEEP_MEMORY,
        )
        p, _, r = found.weights.shape[1:]
        for own, test, weights in zip(scores, stack.test, found.weights, strict=True):
            flat = to_host(test @ weights.reshape(p * q, r).T)
            own[chosen] = flat.reshape(len(test), p, q).swapaxes(0, 1)
    return [expand(own, fold.present, n_classes) for own, fold in zip(scores, folds, strict=True)]


def run_jobs(
    one: One,
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    *,
    n_settings: int,
    n_classes: int,
    scaling: str = "standard",
    tick: Callable[[], None] = _nothing,
) -> Iterator[np.ndarray]:
    """Scale each job by its own training rows and run it; jobs side by side, in threads.

    Parameters
    ----------
    one : callable
        See `One`; called in several threads at once, and never with a single class.
    n_settings : int
        How many it answers for.
    X, y, jobs, n_classes, scaling, tick
        See `sweep_linear`.

    Yields
    ------
    ndarray of shape (settings, m, n_classes), float32
        For each job, in order. Two classes have the columns 0 and z; a class without a training row
        in the job has -inf.
    """

    def scaled(job: Job, indices: np.ndarray, present: np.ndarray) -> np.ndarray:
        scaler = fit_scaling(scaling, X[job.train])
        train, test = (_scaled(scaler, X, rows) for rows in (job.train, job.test))
        return one(train, indices, len(present), test)

    return _run(scaled, y, jobs, n_settings, n_classes, _workers(X, jobs), tick)


def _workers(X: np.ndarray, jobs: Sequence[Job]) -> int:
    copies = 8 * X.shape[0] * X.shape[1]  # bytes of a job's scaled and rotated rows
    return max(1, min(len(jobs), os.cpu_count() or 1, _MEMORY // max(copies, 1)))


def _run(
    one: Callable[[Job, np.ndarray, np.ndarray], np.ndarray],
    y: np.ndarray,
    jobs: Sequence[Job],
    n_settings: int,
    n_classes: int,
    workers: int,
    tick: Callable[[], None],
) -> Iterator[np.ndarray]:
    """Run jobs side by side and give their scores in order, as columns of all classes."""

    def run(job: Job) -> np.ndarray:
        present, indices = np.unique(y[job.train], return_inverse=True)
        if len(present) == 1:  # nothing to fit: there is one answer
            scores = np.zeros((n_settings, len(job.test), 1))
        else:
            scores = one(job, indices, present)
        return expand(scores.astype(np.float32, copy=False), present, n_classes)

    return _in_order(
        lambda part: [run(jobs[number]) for number in part],
        [[number] for number in range(len(jobs))],
        workers,
        tick,
    )


def _in_order(
    solve: Callable[[list[int]], list[np.ndarray]],
    parts: Sequence[list[int]],
    workers: int,
    tick: Callable[[], None],
) -> Iterator[np.ndarray]:
    """Solve parts side by side, and give what they find for each number, ascending."""
    waiting, found = deque(parts), dict[int, np.ndarray]()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        # Not all at once: scores of thousands of rows in hundreds of classes add up.
        running: deque[tuple[list[int], Future[list[np.ndarray]]]] = deque()
        for number in range(sum(map(len, parts))):
            while number not in found:
                while waiting and len(running) <= workers:
                    part = waiting.popleft()
                    running.append((part, pool.submit(solve, part)))
                part, future = running.popleft()
                found.update(zip(part, future.result(), strict=True))
            yield found.pop(number)
            tick()


def sweep_each(
    make: Callable[[Mapping[str, Any]], BaseEstimator],
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    n_classes: int,
    scaling: str = "standard",
    tick: Callable[[], None] = _nothing,
) -> Iterator[np.ndarray]:
    """The same for any head with a `decision_function`, one fit after the other.

    Parameters
    ----------
    make : callable
        Setting to an unfitted head.
    X, y, jobs, grid, n_classes, scaling, tick
        See `sweep_linear`.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        See `run_jobs`.
    """
    for job in jobs:
        scaler = fit_scaling(scaling, X[job.train])
        train, test = scaler.transform(X[job.train]), scaler.transform(X[job.test])
        present = np.unique(y[job.train])
        found = np.zeros((len(grid), len(job.test), n_classes), np.float32)
        for i, setting in enumerate(grid):
            if len(present) == 1:  # no head can be fitted, and there is one answer
                found[i] = expand(np.zeros((len(job.test), 1)), present, n_classes)
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of settings that lose; the kept fit is told
                scores = make(setting).fit(train, y[job.train]).decision_function(test)
            found[i] = expand(as_columns(scores), present, n_classes)
        yield found
        tick()
