"""MLPs of all settings in all folds, trained side by side: features and jobs in, decision scores out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..scaling import fit_scaling
from ..scores import expand
from ..sweep import Job, Settings
from .head import MLPHead
from .train import cores, kernel
from .training import Trained, Training

_MEMORY = 4 * 2**30  # bytes of the scaled features of jobs in flight


@dataclass(frozen=True)
class _Prepared:
    """A job's models before training, and the rows that they will score."""

    present: np.ndarray
    trainings: list[Training]
    test: np.ndarray


def sweep_mlp(
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
    """Decision scores of an MLP for every setting of a grid, in every job.

    Each model is the one that `MLPHead` gives when it is fitted alone with these parameters. On a
    processor the models train in threads, one core each; on another device as one batched network.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Not scaled; each job scales by its own training rows.
    y : ndarray of shape (n,), intp
    jobs : sequence of Job
    grid : sequence of mappings
        Parameters of `MLPHead`, any of them.
    n_classes : int
        Columns of the scores.
    scaling : str
        See `scaling.fit_scaling`.
    options : mapping, optional
        Parameters that are the same in all settings.
    seed : int
        The `random_state` where neither has one.
    device : str
        ``cpu``, or a device of PyTorch's.
    tick : callable
        Called after each job.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order; see `sweep.run_jobs`.
    """
    parameters = [{"random_state": seed, **(options or {}), **setting} for setting in grid]

    def prepare(job: Job) -> _Prepared:
        present, indices = np.unique(y[job.train], return_inverse=True)
        if len(present) == 1:  # nothing to fit: there is one answer
            return _Prepared(present, [], np.zeros((len(job.test), 0), np.float32))
        scaler = fit_scaling(scaling, X[job.train])
        train, test = (
            np.ascontiguousarray(scaler.transform(X[rows]), np.float32)
            for rows in (job.train, job.test)
        )
        heads = [MLPHead(**each) for each in parameters]
        return _Prepared(present, [head.prepare(train, indices, present) for head in heads], test)

    def collect(prepared: _Prepared, scores: list[np.ndarray]) -> np.ndarray:
        tick()
        if not scores:
            alone = np.zeros((len(grid), len(prepared.test), 1), np.float32)
            return expand(alone, prepared.present, n_classes)
        return np.stack([expand(each, prepared.present, n_classes) for each in scores])

    run = _on_processor if device == "cpu" and kernel() is not None else _on_device
    return run(jobs, prepare, collect, len(grid), 4 * X.shape[0] * X.shape[1], device)


def _on_processor(
    jobs: Sequence[Job],
    prepare: Callable[[Job], _Prepared],
    collect: Callable[[_Prepared, list[np.ndarray]], np.ndarray],
    settings: int,
    size: int,
    device: str,
) -> Iterator[np.ndarray]:
    """Jobs in order; models in threads, over the ends of the jobs, so that no core waits."""
    train_one = kernel()
    assert train_one is not None

    def score(prepared: Future[_Prepared], i: int) -> np.ndarray | None:
        ready = prepared.result()  # begun before: the pool takes its work in order
        if not ready.trainings:
            return None
        return train_one(ready.trainings[i]).scores(ready.test)

    # Enough models for every core, one job being prepared and one being waited for.
    ahead = max(1, min(2 + 2 * cores() // settings, _MEMORY // max(size, 1)))
    coming = deque(jobs)
    prepared: deque[Future[_Prepared]] = deque()
    running: deque[tuple[Future[_Prepared], list[Future[np.ndarray | None]]]] = deque()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        try:
            while coming or prepared or running:
                while coming and len(prepared) < 2 and len(prepared) + len(running) < ahead + 1:
                    prepared.append(pool.submit(prepare, coming.popleft()))
                while prepared and len(running) < ahead:
                    job = prepared.popleft()
                    running.append((job, [pool.submit(score, job, i) for i in range(settings)]))
                    if coming:
                        prepared.append(pool.submit(prepare, coming.popleft()))
                job, futures = running.popleft()
                scores = [future.result() for future in futures]
                yield collect(job.result(), [s for s in scores if s is not None])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _on_device(
    jobs: Sequence[Job],
    prepare: Callable[[Job], _Prepared],
    collect: Callable[[_Prepared, list[np.ndarray]], np.ndarray],
    settings: int,
    size: int,
    device: str,
) -> Iterator[np.ndarray]:
    """Jobs in order; the models of as many as memory has room for train as one network."""
    from .batch import train_batch

    at_once = max(1, _MEMORY // max(size, 1))
    for begin in range(0, len(jobs), at_once):
        ready = [prepare(job) for job in jobs[begin : begin + at_once]]
        trained: Iterator[Trained] = iter(
            train_batch([t for each in ready for t in each.trainings], device)
        )
        for each in ready:
            yield collect(each, [next(trained).scores(each.test) for _ in each.trainings])
