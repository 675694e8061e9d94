"""Choices and fits of one evaluation: settings chosen inside given training rows, heads fitted on them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ..heads.registry import HeadSpec
from ..heads.sweep import Job, fit_pipeline
from .selection import Choice, choose
from .splits import inner_folds, single_group_classes, stratified_folds
from .wording import names

_INNER = 2  # stream of random numbers, next to the outer folds' 1


class Fitter:
    """A head, its grid and the data of one evaluation; counts steps and collects doubts.

    Parameters
    ----------
    spec : HeadSpec
    grid : sequence of dict
    options : dict
        Fixed parameters of the head.
    X : ndarray of shape (n, d)
    y, groups : ndarray of shape (n,), intp
    metric, select : str
        See `selection.choose`.
    seed : int
    """

    def __init__(
        self,
        spec: HeadSpec,
        grid: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray,
        *,
        metric: str,
        select: str,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.spec, self.grid, self.options = spec, grid, options
        self.X, self.y, self.groups = X, y, groups
        self.metric, self.select, self.seed = metric, select, seed
        self.n_classes = int(y.max()) + 1
        self._progress = progress
        self._done = self._total = 0
        self.unchosen = 0
        self._fits = 0
        self._unconverged: Counter[str] = Counter()  # by setting
        self._doubts: Counter[str] = Counter()  # by what the head warned of

    def choose(self, parts: Sequence[np.ndarray], *, n_fits: int) -> list[Choice]:
        """Choose a setting inside each of several sets of training rows.

        Parameters
        ----------
        parts : sequence of ndarray of intp
            Training rows; each choice sees its own part alone.
        n_fits : int
            Fits that will follow, for the progress.

        Returns
        -------
        list of Choice
        """
        folds = [self._inner(rows, number) for number, rows in enumerate(parts)]
        jobs = [job for of_part in folds for job in of_part]
        self._total = len(jobs) + n_fits
        predictions = iter(
            self.spec.sweep(self.X, self.y, jobs, self.grid, self.options, self.seed, self._tick)
            if jobs
            else []
        )
        return [self._choice(of_part, [next(predictions) for _ in of_part]) for of_part in folds]

    def fit(self, choice: Choice, rows: np.ndarray) -> Pipeline:
        """Scaler and head with the chosen setting, on these rows alone."""
        setting = self.grid[choice.index]
        head = self.spec.make(setting, self.options, self.seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Threads would change the order of sums, so the last bits would depend on the machine.
            with threadpool_limits(1, "blas"):
                pipeline = fit_pipeline(head, self.X[rows], self.y[rows])
        self._fits += 1
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                self._unconverged[_spell(setting)] += 1
            elif warning.category is UserWarning:
                self._doubts[str(warning.message)] += 1
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        self._tick()
        return pipeline

    def predict_proba(self, pipeline: Pipeline, rows: np.ndarray) -> np.ndarray:
        """Probabilities of all classes, (m, k); 0 for a class that the fit did not see."""
        found = np.zeros((len(rows), self.n_classes))
        with threadpool_limits(1, "blas"):
            found[:, pipeline.classes_] = pipeline.predict_proba(self.X[rows])
        return found

    def notes(self, kept: Choice) -> list[str]:
        """What gives reason for doubt, as sentences."""
        notes = []
        if self._unconverged:
            spelled = names([s for s in self._unconverged if s])
            limits = [
                p for p in ("max_iter", "max_epochs") if p in self.spec.factory().get_params()
            ]
            notes.append(
                f"{self._unconverged.total()} of {self._fits} fits stopped before they converged"
                + (f", with {spelled}" if spelled else "")
                + (f"; a larger {limits[0]} gives them more time" if limits else "")
            )
        notes += [
            f"in {count} of {self._fits} fits, {text}" for text, count in self._doubts.items()
        ]
        if self.unchosen:
            notes.append(
                f"too few images to choose among {len(self.grid)} settings in {self.unchosen} "
                f"training parts; took {_spell(self.grid[self.spec.fallback])} there"
            )
        if kept.at_edge:
            end = self.grid[0 if kept.at_edge == "smallest" else -1]
            notes.append(
                f"the best setting, {_spell(end)}, ends the grid; a wider one may be better"
            )
        return notes

    def _inner(self, rows: np.ndarray, number: int) -> list[Job]:
        y, groups = self.y[rows], self.groups[rows]
        scorable = len(np.unique(y)) - len(single_group_classes(y, groups))
        if len(self.grid) == 1 or scorable < 2:
            return []
        rng = np.random.default_rng([self.seed, _INNER, number])
        fold = stratified_folds(y, groups, inner_folds(y), rng)
        return [Job(rows[fold != f], rows[fold == f]) for f in np.unique(fold[fold >= 0])]

    def _choice(self, jobs: list[Job], predictions: list[np.ndarray]) -> Choice:
        if not jobs:
            alone = len(self.grid) == 1
            self.unchosen += not alone
            index = 0 if alone else self.spec.fallback
            return Choice(index, np.full(len(self.grid), np.nan), 0.0, "")
        return choose(
            predictions,
            [self.y[job.test] for job in jobs],
            [len(job.train) for job in jobs],
            self.n_classes,
            metric=self.metric,
            select=self.select,
        )

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _spell(setting: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in setting.items()
    )
