"""One head on one plan: settings chosen inside each training part, heads fitted on it, rows scored."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from ..heads.fit_many import fit_heads, fits_together
from ..heads.fitted import Fitted
from ..heads.registry import HeadSpec
from ..heads.sweep import Job
from ..heads.temperature import fit_temperature
from .metrics import confusion_matrix
from .plan import Plan
from .selection import RANKED, Choice, choose, log_losses, score_settings
from .splits import copy_weights, group_mean, inner_folds, single_group_classes, stratified_folds
from .wording import names

_INNER = 2  # stream of random numbers, next to the outer folds' 1
_KEPT = 10**6  # number of the part that the kept head is chosen on, whatever the repeats
_STRENGTHS = {"C", "alpha"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Chosen:
    """What was chosen inside one training part.

    Attributes
    ----------
    rows : ndarray of intp
        The part.
    choice : Choice
    temperature : float
        Fitted on the inner folds' scores of the chosen setting.
    known : bool
        Whether there were inner folds to choose and calibrate by.
    confusion : ndarray of shape (k, k), or None
        On the inner folds, of the chosen setting and of the less regularised ones within one standard
        error, in the mean: of a chosen one alone it would be too good. Copies count as one.
    share : float
        Of `rows`, trained on in an inner fold.
    """

    rows: np.ndarray
    choice: Choice
    temperature: float
    known: bool
    confusion: np.ndarray | None = None
    share: float = 0.0


@dataclass(frozen=True)
class HeadRun:
    """What one head did on a plan.

    Attributes
    ----------
    spec : HeadSpec
    params : dict
        Of the kept head.
    parts : list of Chosen
        One for each outer job, in order; last the kept one (of a test set the only one).
    probabilities : ndarray of shape (repeats, m, k), float64
        Of the plan's scored rows, each by a fit that did not see the row.
    fitted : Fitted
        The kept one.
    trained_on : ndarray of intp
    grid : sequence of dict
    metric : str
        What the choice went by.
    notes : list of str
    """

    spec: HeadSpec
    params: dict[str, Any]
    parts: list[Chosen]
    probabilities: np.ndarray
    fitted: Fitted
    trained_on: np.ndarray
    grid: Sequence[Mapping[str, Any]]
    metric: str
    notes: list[str]

    @property
    def inner(self) -> dict[str, Any] | None:
        """What the inner folds of the outer training parts scored; see `measure.measure`."""
        parts = [part for part in self.parts[:-1] if part.confusion is not None]
        confusions = [part.confusion for part in parts if part.confusion is not None]
        if not parts:
            return None
        return {
            "confusion": np.mean(confusions, axis=0),
            "outer_share": np.mean([len(part.rows) for part in parts]) / len(self.kept.rows),
            "inner_share": np.mean([part.share * len(part.rows) for part in parts])
            / len(self.kept.rows),
        }

    @property
    def kept(self) -> Chosen:
        """The choice behind the kept head."""
        return self.parts[-1]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a head: settings to choose from, and how.

    Attributes
    ----------
    spec : HeadSpec
    grid : sequence of dict
    options : dict
        Fixed parameters of the head.
    scaling : str
    metric, select : str
        See `selection`.
    seed : int
    device : str
    refit_all : bool
        With a test set: keep a fit on its rows too.
    """

    spec: HeadSpec
    grid: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    scaling: str
    metric: str = "accuracy"
    select: str = "one-se"
    seed: int = 0
    device: str = "cpu"
    refit_all: bool = False


def run_head(
    wanted: Wanted,
    X: np.ndarray,
    plan: Plan,
    same: np.ndarray,
    progress: Progress | None = None,
) -> HeadRun:
    """Choose, fit and score one head.

    Parameters
    ----------
    wanted : Wanted
    X : ndarray of shape (n, d)
    plan : Plan
    same : ndarray of shape (n,), int
        Equal for the rows of one content (views of an image, identical files): they answer together.
    progress : callable, optional
        Called with (done, total) steps.

    Returns
    -------
    HeadRun
    """
    return _Runner(wanted, X, plan, same, progress).run()


class _Runner:
    def __init__(
        self,
        wanted: Wanted,
        X: np.ndarray,
        plan: Plan,
        same: np.ndarray,
        progress: Progress | None,
    ) -> None:
        self.wanted, self.spec, self.grid = wanted, wanted.spec, wanted.grid
        self.X, self.plan, self.same = X, plan, same
        self.y, self.rows = plan.rows.y, plan.rows
        self.n_classes = len(plan.rows.classes)
        self._progress = progress
        self._done = self._total = 0
        self._unchosen = 0
        self._fits = 0
        self._unconverged: Counter[str] = Counter()  # by setting
        self._doubts: Counter[str] = Counter()  # by what the head warned of

    def run(self) -> HeadRun:
        plan, jobs = self.plan, self.plan.jobs
        trained = [job.train for job in jobs]
        numbers = list(range(len(jobs)))
        if plan.held_out:
            numbers = [_KEPT]  # the one choice, made on the training rows
        else:
            trained, numbers = [*trained, plan.rows.train], [*numbers, _KEPT]
        folds = [self._inner(rows, i) for rows, i in zip(trained, numbers, strict=True)]
        refit = self.wanted.refit_all or not plan.held_out
        self._total = sum(map(len, folds)) + len(jobs) + refit
        parts = self._choose(trained, folds)
        probabilities, fits = self._score(jobs, parts)
        notes = []
        kept = parts[-1]
        kept_rows = kept.rows
        if plan.held_out and self.wanted.refit_all:
            kept_rows = np.flatnonzero(self.y >= 0)
            notes.append("the kept probe was trained on all rows; the score belongs to another fit")
        fitted = fits[-1]
        if refit or fitted is None:
            fitted = self._fit([(kept, kept_rows)])[0]
        return HeadRun(
            spec=self.spec,
            params={**self.wanted.options, **self.grid[kept.choice.index]},
            parts=parts,
            probabilities=probabilities,
            fitted=fitted,
            trained_on=kept_rows,
            grid=self.grid,
            metric=self.wanted.metric,
            notes=[*notes, *self._notes(kept)],
        )

    @property
    def _fallback(self) -> int:
        """Position of the setting that is taken where nothing can be compared."""
        return min(self.spec.fallback, len(self.grid) - 1)

    def _inner(self, rows: np.ndarray, number: int) -> list[Job]:
        y, groups = self.y[rows], self.rows.groups[rows]
        scorable = len(np.unique(y)) - len(single_group_classes(y, groups))
        if scorable < 2:
            return []
        rng = np.random.default_rng([self.wanted.seed, _INNER, number])
        fold = stratified_folds(y, groups, inner_folds(y, groups), rng)
        return [Job(rows[fold != f], rows[fold == f]) for f in np.unique(fold[fold >= 0])]

    def _sweep(self, jobs: Sequence[Job], grid: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
        w = self.wanted
        return self.spec.sweep(
            self.X,
            self.y,
            jobs,
            grid,
            w.options,
            w.seed,
            n_classes=self.n_classes,
            scaling=w.scaling,
            device=w.device,
            tick=self._tick,
        )

    def _choose(
        self, trained: Sequence[np.ndarray], folds: Sequence[Sequence[Job]]
    ) -> list[Chosen]:
        """Part by part, so that the scores of one part are in memory at a time."""
        jobs = [job for of_part in folds for job in of_part]
        swept = self._sweep(jobs, self.grid) if jobs else iter(())
        parts = []
        for rows, of_part in zip(trained, folds, strict=True):
            scores = [next(swept) for _ in of_part]
            parts.append(self._chosen(rows, of_part, scores))
        # Generators that run threads end them only when they are asked for more than there is.
        next(swept, None)
        return parts

    def _chosen(
        self, rows: np.ndarray, jobs: Sequence[Job], scores: Sequence[np.ndarray]
    ) -> Chosen:
        if not jobs:
            self._unchosen += len(self.grid) > 1
            index = self._fallback
            nothing = np.full(len(self.grid), np.nan)
            return Chosen(rows, Choice(index, nothing, 0.0, "", np.zeros(0)), 1.0, False)
        weights = [copy_weights(self.rows.images[job.test]) for job in jobs]
        by_fold = np.stack(
            [
                score_settings(s, self.y[job.test], w, self.wanted.metric)
                for s, job, w in zip(scores, jobs, weights, strict=True)
            ]
        )
        ratio = float(np.mean([len(j.test) for j in jobs]) / np.mean([len(j.train) for j in jobs]))
        losses = None
        if self.wanted.select == "one-se":
            losses = np.concatenate(
                [log_losses(s, self.y[job.test]) for s, job in zip(scores, jobs, strict=True)],
                axis=1,
            )
        choice = choose(
            by_fold,
            ratio,
            self.wanted.select,
            losses,
            np.concatenate(weights),
            ranked=self.wanted.metric in RANKED,
        )
        temperature = fit_temperature(
            np.concatenate([s[choice.index] for s in scores]),
            np.concatenate([self.y[job.test] for job in jobs]),
            np.concatenate(weights),
        )
        confusion = sum(
            _mean_confusion(s[_not_worse(choice)], self.y[job.test], w, self.n_classes)
            for s, job, w in zip(scores, jobs, weights, strict=True)
        )
        share = float(np.mean([len(job.train) for job in jobs]) / len(rows))
        return Chosen(rows, choice, temperature, True, np.asarray(confusion), share)

    def _score(
        self, jobs: Sequence[Job], parts: Sequence[Chosen]
    ) -> tuple[np.ndarray, list[Fitted | None]]:
        """Probabilities (repeats, m, k) of the scored rows, and the fits where there were any."""
        found: list[np.ndarray] = []
        fits: list[Fitted | None] = [None] * len(jobs)
        if self.spec.outer:
            settings = [part.choice.index for part in parts[: len(jobs)]]
            by_job: dict[int, np.ndarray] = {}
            for index in dict.fromkeys(settings):
                mine = [i for i, setting in enumerate(settings) if setting == index]
                swept = self._sweep([jobs[i] for i in mine], [self.grid[index]])
                by_job |= {i: next(swept)[0].astype(np.float64) for i in mine}
                next(swept, None)
            for i, part in enumerate(parts[: len(jobs)]):
                found.append(softmax(by_job[i] / part.temperature, axis=1))
        else:
            work = [(part, part.rows) for part in parts[: len(jobs)]]
            fits = list(self._fit(work))
            for fitted, job in zip(fits, jobs, strict=True):
                assert fitted is not None
                found.append(fitted.predict_proba(self.X[job.test]))
        total = np.zeros((len(self.plan.repeats), len(self.y), self.n_classes))
        by_repeat = iter(zip(jobs, found, strict=True))
        for number, repeat in enumerate(self.plan.repeats):
            for _ in repeat:
                job, p = next(by_repeat)
                # Views of one image (tiles) answer together, as `predict` lets them.
                total[number, job.test] = group_mean(p, self.same[job.test])
        return total[:, self.plan.scored], fits

    def _fit(self, work: Sequence[tuple[Chosen, np.ndarray]]) -> list[Fitted]:
        """Scaling and head with the chosen setting, each on its own rows alone."""

        heads = [
            self.spec.make(self.grid[part.choice.index], self.wanted.options, self.wanted.seed)
            for part, _ in work
        ]
        rows = [each for _, each in work]

        def fit(members: Sequence[int]) -> list[Fitted]:
            return fit_heads(
                [heads[i] for i in members],
                self.X,
                self.y,
                [rows[i] for i in members],
                n_classes=self.n_classes,
                scaling=self.wanted.scaling,
                temperatures=[work[i][0].temperature for i in members],
            )

        together = fits_together(heads, self.y, rows, self.X.shape[1])
        fits: dict[int, Fitted] = {}
        # Threads inside BLAS would change the order of sums, so the last bits would depend on the
        # machine; threads over fits do not.
        workers = max(1, min(len(together), os.cpu_count() or 1))
        with (
            warnings.catch_warnings(record=True) as caught,
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(workers) as pool,
        ):
            warnings.simplefilter("always")
            for members, made in zip(together, pool.map(fit, together), strict=True):
                for i, fitted in zip(members, made, strict=True):
                    fits[i] = fitted
                    self._fits += 1
                    if not getattr(fitted.head, "converged_", True):
                        self._unconverged[_spell(self.grid[work[i][0].choice.index])] += 1
                    self._tick()
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                continue  # counted above, with its setting
            if "number of unique classes" in str(warning.message):
                continue  # of scikit-learn, which takes many small classes for numbers
            if warning.category is UserWarning:
                self._doubts[str(warning.message)] += 1
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        return [fits[i] for i in range(len(work))]

    def _notes(self, kept: Chosen) -> list[str]:
        """What a reader should know about the fits."""
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
        if self._unchosen:
            notes.append(
                f"too few images to choose among {len(self.grid)} settings in {self._unchosen} "
                f"training parts; took {_spell(self.grid[self._fallback])} there, and probabilities as the "
                "head gives them"
            )
        if not kept.known:
            notes.append("too few images to calibrate: probabilities are as the head gives them")
        # Of strengths; kinds of distance and numbers of neighbours have no "wider".
        taken_end = kept.choice.index in (0, len(self.grid) - 1)
        if kept.choice.at_edge and taken_end and _STRENGTHS & set(self.grid[0]):
            end = self.grid[0 if kept.choice.at_edge == "smallest" else -1]
            notes.append(
                f"the best setting, {_spell(end)}, ends the grid; a wider one may be better"
            )
        return notes

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _not_worse(choice: Choice) -> np.ndarray:
    """The chosen setting, and those less regularised within one standard error of the best."""
    near = choice.scores >= np.nanmax(choice.scores) - choice.error - 1e-12
    near[choice.index] = True
    near[: choice.index] = False
    return np.flatnonzero(near)


def _mean_confusion(
    scores: np.ndarray, y: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Confusion matrix of several settings' scores (g, m, k), in the mean."""
    times = len(scores)
    answers = scores.argmax(axis=2).ravel()
    return confusion_matrix(np.tile(y, times), answers, n_classes, np.tile(weights / times, times))


def _spell(setting: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:.3g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in setting.items()
    )
