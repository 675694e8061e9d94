"""The linear SVM on features: one fit, or a whole grid in all folds, by Newton where that is faster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .hinge import STACKED, minimise_hinge
from .linear import LinearFit, fit_linear
from .losses import SquaredHinge
from .scaling import fit_scaling
from .scores import expand
from .sweep import Job, Settings, sweep_linear
from .validation import class_weights

# Training rows up to which Newton's method beats L-BFGS. Its systems grow with the cube of the rows
# whatever the features: a grid on 800 x 1,280, ten classes, takes 0.4 s by both on easy data and half of
# L-BFGS's time on hard data; 800 x 512 takes 0.5 and 0.3 s. On 255 x 1,280 it takes a fifth.
_LARGEST = 1000
_SMALL = 200  # rows that are solved at once whatever the features
_SHARED = 4000  # rows of one kernel for all jobs: 128 MB
_STACK = 2**18  # numbers in the systems that are solved as one stack: what a cache holds
_TOL = 1e-10  # the last step is exact anyway
_STEPS = 200


def fit_hinge(
    X: np.ndarray,
    y: np.ndarray,
    C: float,
    n_classes: int,
    *,
    tol: float,
    max_iter: int,
    weights: np.ndarray | None = None,
) -> LinearFit:
    """Fit the linear SVM for one C.

    Parameters
    ----------
    X, y, n_classes, tol, max_iter, weights
        See `linear.fit_linear`, which does the work where L-BFGS is faster; X in float64.
    C : float

    Returns
    -------
    LinearFit
        p is 1.
    """
    n = len(X)

    def by_lbfgs() -> LinearFit:
        return fit_linear(
            X,
            y,
            np.array([C], np.float64),
            SquaredHinge(),
            n_classes,
            tol=tol,
            max_iter=max_iter,
            weights=weights,
        )

    if not _suits(n, X.shape[1]):
        return by_lbfgs()
    # Constant features keep the weight 0, whatever rounding their mean has.
    used = np.flatnonzero((X[:1] != X).any(axis=0))
    mean = X[:, used].mean(axis=0)
    rows = X[:, used] - mean
    targets = _targets(y, n_classes)
    q = len(targets)
    strength = np.full(n, 2 * C) if weights is None else 2 * C * weights
    found = minimise_hinge(
        (rows @ rows.T)[None],
        np.zeros(q, np.intp),
        targets,
        np.tile(strength, (q, 1)),
        tol=tol,
        max_iter=max_iter,
    )
    part = found.beta @ rows
    # Of these very weights: where the rows are many times as long as the margins, beta gives the logits
    # to fewer digits than the weights do.
    missed = np.maximum(1 - targets * (part @ rows.T + found.intercept[:, None]), 0)
    objective = (strength * missed**2).sum() / 2 + (part**2).sum() / 2
    coef = np.zeros((1, q, X.shape[1]))
    coef[0][:, used] = part
    fit = LinearFit(
        coef,
        (found.intercept - part @ mean)[None],
        np.array([objective]),
        np.array([found.converged.all()]),
        np.array([found.iterations.max()]),
    )
    if fit.converged[0] or fit.iterations[0] >= max_iter:
        return fit
    # Rounding stopped it: with C of 1e4 and more, where equal rows have different labels, the betas are as
    # large as C and cancel. The weights themselves do not.
    other = by_lbfgs()
    return other if other.converged[0] or other.objective[0] < fit.objective[0] else fit


def sweep_hinge(
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
    tick: Callable[[], None] = lambda: None,
) -> Iterator[np.ndarray]:
    """Decision scores of the linear SVM for every setting of a grid, in every job.

    Parameters
    ----------
    X, y, jobs, grid, n_classes, scaling, options, seed, device, tick
        See `sweep.sweep_linear`, which also does the work on a GPU and where L-BFGS is faster: for more
        than 1,000 training rows, or more than 200 that are more than the features.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order.
    """
    largest = max((len(job.train) for job in jobs), default=0)
    if device != "cpu" or not _suits(largest, X.shape[1]):
        yield from sweep_linear(
            SquaredHinge(),
            X,
            y,
            jobs,
            grid,
            n_classes=n_classes,
            scaling=scaling,
            options=options,
            seed=seed,
            device=device,
            tick=tick,
        )
        return
    settings = [{"C": 1.0, "class_weight": None, **(options or {}), **each} for each in grid]
    parts = deque(_parts(y, jobs, len(settings)))
    workers = max(1, min(len(parts), os.cpu_count() or 1))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        kernels = _Kernels(X, jobs, scaling)
        running: deque[Future[list[np.ndarray]]] = deque()
        while parts or running:
            while parts and len(running) <= workers:  # not all at once: the scores add up
                running.append(
                    pool.submit(_solve, kernels, y, parts.popleft(), settings, n_classes)
                )
            for scores in running.popleft().result():
                yield scores
                tick()


def _suits(n: int, d: int) -> bool:
    """Whether Newton's method is the faster one."""
    return n <= min(_LARGEST, max(_SMALL, d))


class _Kernels:
    """Inner products of the scaled, centred rows of a job."""

    def __init__(self, X: np.ndarray, jobs: Sequence[Job], scaling: str) -> None:
        self.X, self.scaling = X, scaling
        self.shared: np.ndarray | None = None
        used = np.zeros(len(X), bool)
        for job in jobs:
            used[job.train] = used[job.test] = True
        if scaling == "standard" or used.sum() > _SHARED:
            return
        # One product for all jobs: what differs between them is a factor, and a mean that the
        # intercept takes up.
        rows = X[used] if scaling == "scalar" else fit_scaling(scaling, X).transform(X[used])
        centred = rows - rows.mean(axis=0, dtype=np.float64)
        self.shared = centred @ centred.T
        self.place = np.cumsum(used) - 1

    def of(self, job: Job) -> tuple[np.ndarray, np.ndarray]:
        """Of the training rows (n, n), and of the test rows with them (m, n), float64."""
        if self.shared is None:
            scaler = fit_scaling(self.scaling, self.X[job.train])
            train, test = (scaler.transform(self.X[rows]) for rows in (job.train, job.test))
            mean = train.mean(axis=0, dtype=np.float64)
            train, test = train - mean, test - mean
            return train @ train.T, test @ train.T
        train, test = self.place[job.train], self.place[job.test]
        within, across = self.shared[train[:, None], train], self.shared[test[:, None], train]
        if self.scaling == "scalar":
            factor = fit_scaling("scalar", self.X[job.train]).scale[0] ** -2
            within *= factor
            across *= factor
        return within, across


def _parts(y: np.ndarray, jobs: Sequence[Job], n_settings: int) -> list[list[Job]]:
    """Jobs that are solved together: small ones, as many as a cache holds."""
    found: list[list[Job]] = []
    room = 0
    for job in jobs:
        n = len(job.train)
        k = len(np.unique(y[job.train]))
        size = n_settings * (1 if k == 2 else k) * n * n
        if n > STACKED or size > room or not found:
            found.append([])
            room = _STACK if n <= STACKED else 0
        found[-1].append(job)
        room -= size
    return found


def _solve(
    kernels: _Kernels, y: np.ndarray, jobs: Sequence[Job], settings: Settings, n_classes: int
) -> list[np.ndarray]:
    """Scores (settings, m, n_classes) of some jobs."""
    n = max(len(job.train) for job in jobs)
    within = np.zeros((len(jobs), n, n))
    across, present, targets, strengths = [], [], [], []
    for number, job in enumerate(jobs):
        m = len(job.train)
        within[number, :m, :m], beside = kernels.of(job)
        across.append(beside)
        classes, indices = np.unique(y[job.train], return_inverse=True)
        present.append(classes)
        signs = _targets(indices, len(classes))
        targets.append(np.pad(signs, ((0, 0), (0, n - m)), constant_values=1.0))
        strength = np.zeros((len(settings), n))  # the padding has none
        for own, setting in zip(strength, settings, strict=True):
            weights = class_weights(setting["class_weight"], indices, classes)
            own[:m] = 2 * setting["C"] * (1 if weights is None else weights)
        strengths.append(strength)
    together = _together if n <= STACKED else _in_turn
    fits = together(within, targets, strengths, settings)
    scores = []
    for job, beside, classes, (beta, intercept) in zip(jobs, across, present, fits, strict=True):
        p, q, _ = beta.shape
        if len(classes) == 1:  # nothing to fit: there is one answer
            scores.append(expand(np.zeros((p, len(job.test), 1), np.float32), classes, n_classes))
            continue
        flat = beside @ beta[..., : len(job.train)].reshape(p * q, -1).T + intercept.reshape(-1)
        scores.append(
            expand(flat.reshape(-1, p, q).swapaxes(0, 1).astype(np.float32), classes, n_classes)
        )
    return scores


Fits = list[tuple[np.ndarray, np.ndarray]]  # of each job: beta (p, q, n), intercept (p, q)


def _together(
    kernels: np.ndarray,
    targets: Sequence[np.ndarray],
    strengths: Sequence[np.ndarray],
    settings: Settings,
) -> Fits:
    """All settings of all jobs as one batch."""
    p, n = strengths[0].shape
    sizes = [p * len(signs) for signs in targets]
    found = minimise_hinge(
        kernels,
        np.repeat(np.arange(len(kernels)), sizes),
        np.concatenate([np.tile(signs, (p, 1)) for signs in targets]),
        np.concatenate(
            [np.repeat(own, len(signs), 0) for own, signs in zip(strengths, targets, strict=True)]
        ),
        tol=_TOL,
        max_iter=_STEPS,
    )
    ends = np.cumsum(sizes)[:-1]
    return [
        (beta.reshape(p, -1, n), intercept.reshape(p, -1))
        for beta, intercept in zip(
            np.split(found.beta, ends), np.split(found.intercept, ends), strict=True
        )
    ]


def _in_turn(
    kernels: np.ndarray,
    targets: Sequence[np.ndarray],
    strengths: Sequence[np.ndarray],
    settings: Settings,
) -> Fits:
    """The settings of one job by ascending C, each from the one before: half the steps."""
    (signs,), (strength,) = targets, strengths
    p, n = strength.shape
    beta, intercept = np.empty((p, len(signs), n)), np.empty((p, len(signs)))
    before, found = None, None
    for i in sorted(range(p), key=lambda i: (str(settings[i]["class_weight"]), settings[i]["C"])):
        if settings[i]["class_weight"] != before:
            before, found = settings[i]["class_weight"], None
        found = minimise_hinge(
            kernels,
            np.zeros(len(signs), np.intp),
            signs,
            np.tile(strength[i], (len(signs), 1)),
            tol=_TOL,
            max_iter=_STEPS,
            start=found,
        )
        beta[i], intercept[i] = found.beta, found.intercept
    return [(beta, intercept)]


def _targets(indices: np.ndarray, n_classes: int) -> np.ndarray:
    """-1 and +1, a row for each class, of two classes for the second alone."""
    positive = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    return np.where(indices == positive[:, None], 1.0, -1.0)
