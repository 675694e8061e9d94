"""The honest score where the answer is not a class: features and targets in, a result out.

The same protocol as `protocol` has for classes: scaling, setting, temperature and thresholds are fitted
inside the training part for every number here, and nested cross-validation scores where there is no
test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit

from ..errors import FitError
from ..heads.scaling import SCALINGS
from ..heads.sweep import Job
from ..heads.target_fitted import TargetFitted, fit_target_head
from ..heads.target_sweep import sweep_labels, sweep_values
from .checks import check_arrays, check_choices, check_finite, constant_notes
from .groups import find_groups
from .intervals import Metric
from .multilabel_metrics import per_label
from .plan import Plan
from .protocol import default_repeats
from .selection import SELECT
from .splits import copy_weights, group_mean, group_rows
from .target_choice import ChosenTarget, choose_target, metric_of
from .target_measure import measure_labels, measure_values
from .target_plan import deal, plan_targets
from .wording import copies, names

HEADS = {"multilabel": "logistic", "regression": "ridge"}
GRIDS: dict[str, tuple[dict[str, float], ...]] = {
    # Half decades: five times the labels of the classes' grid make a finer one slow, not better.
    "multilabel": tuple({"C": float(c)} for c in 10 ** np.linspace(-6, 5, 23)),
    "regression": tuple({"alpha": float(a)} for a in 10 ** np.linspace(7, -2, 37)),
}
# One mean and one spread for all features. With a spread each, a feature that is all but constant among
# the training images becomes huge on a new one: on 240 drawn shapes (docs/many-labels.md) the ridge's R2
# fell from 0.90 to -0.25, on 40 of the ants and bees a logistic probe's log loss rose from 0.16 to 0.28.
_SCALING = "scalar"
FEW_POSITIVES = 20
COVERAGE = 0.9  # of the interval that is printed beside a predicted number
_INNER = 2  # stream of random numbers, next to the outer folds' 1
_KEPT = 10**6  # number of the part that the kept head is chosen on
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TargetOutOfFold:
    """Predictions for the scored rows, each by a fit that did not see the row.

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
    targets : ndarray of shape (m, k), float32
        NaN is unknown.
    images, groups : ndarray of shape (m,), intp
    repeat_folds : ndarray of shape (R, m), int32
    repeat_predictions : ndarray of shape (R, m, k), float32
        Probabilities, or numbers.
    repeat_answers : ndarray of shape (R, m, k), bool
        Labels that were answered, by the thresholds of each fold.
    """

    rows: np.ndarray
    targets: np.ndarray
    images: np.ndarray
    groups: np.ndarray
    repeat_folds: np.ndarray
    repeat_predictions: np.ndarray
    repeat_answers: np.ndarray


@dataclass(frozen=True)
class TargetResult:
    """What `evaluate_targets` found; see `result.Result` for what is called the same.

    Attributes
    ----------
    task : {'multilabel', 'regression'}
    names : list of str
        Of the k columns.
    per_label : list of dict
        See `multilabel_metrics.per_label`; empty for regression.
    """

    task: str
    head: str
    params: dict[str, Any]
    protocol: str
    fitted: TargetFitted
    names: list[str]
    n_train: int
    n_test: int
    n_unlabelled: int
    n_dropped: int
    metrics: dict[str, Metric]
    baseline: dict[str, Metric]
    per_label: list[dict[str, Any]]
    oof: TargetOutOfFold
    notes: list[str]
    choice: dict[str, Any]
    trained_on: np.ndarray
    optimism: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def evaluate_targets(
    X: np.ndarray,
    targets: np.ndarray,
    *,
    task: str,
    names: Sequence[str],
    splits: np.ndarray | Sequence[str] | None = None,
    keys: np.ndarray | None = None,
    phash: np.ndarray | None = None,
    groups: Any = None,
    views: int = 1,
    head: str = "auto",
    grid: Sequence[Mapping[str, Any]] | None = None,
    class_weight: str = "none",
    scaling: str | None = None,
    folds: int = 5,
    repeats: int | str | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "auto",
    select: str = "one-se",
    refit_all: bool = False,
    progress: Progress | None = None,
) -> TargetResult:
    """Choose a setting, score it honestly, and fit the one to keep.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    targets : ndarray of shape (n, k)
        1 and 0 for each label, or one number; NaN is unknown.
    task : {'multilabel', 'regression'}
    names : sequence of str of length k
    head : str
        ``logistic`` for labels, ``ridge`` for a number; ``auto`` takes the one that can.
    grid : sequence of dict, optional
        Settings (``C`` or ``alpha``) from the most to the least regularised.
    class_weight : {'none', 'balanced'}
        For labels; see `OneVsRestLogistic`.
    metric : str
        What the choice goes by: one of `target_choice.CHOICE_METRICS`.
    splits, keys, phash, groups, views, scaling, folds, repeats, seed, holdout, select, refit_all, progress
        See `protocol.evaluate`; the default scaling is ``scalar``.

    Returns
    -------
    TargetResult

    Raises
    ------
    FitError
        If no honest score can be computed, or the head cannot do the task.
    """
    head = require_head(task, head)
    check_choices(
        folds=folds, repeats=repeats, seed=seed, holdout=holdout, select=select, selects=SELECT
    )
    metric = metric_of(task, metric)
    if class_weight not in ("none", "balanced") or (
        task == "regression" and class_weight != "none"
    ):
        raise FitError(
            f"--class-weight {class_weight} is not there for {task}",
            expected="none or balanced" if task == "multilabel" else "none",
        )
    if scaling is not None and scaling not in SCALINGS:
        raise FitError(f"there is no scaling {scaling!r}", expected=", ".join(SCALINGS))
    targets = np.asarray(targets, np.float64)
    nothing = np.where(np.isnan(targets).all(axis=1), -1, 0)
    X, _, splits, keys = check_arrays(X, nothing, ["known"], splits, keys)
    check_finite(X, np.flatnonzero(nothing >= 0))
    found = find_groups(X, keys=keys, phash=phash, groups=groups, splits=splits, used=nothing >= 0)
    different = len(np.unique(found.images[nothing >= 0]))
    asked = 0 if repeats in (None, "auto") else int(repeats or 0)
    plan = plan_targets(
        targets,
        task,
        names,
        splits=splits,
        images=found.images,
        groups=found.groups,
        sides=found.sides,
        folds=int(folds),
        repeats=asked or default_repeats(different),
        seed=int(seed),
        holdout_fraction=holdout,
    )
    settings = tuple(grid) if grid else GRIDS[task]
    fixed = {"class_weight": "balanced"} if class_weight == "balanced" else {}
    runner = _Runner(
        X,
        targets,
        plan,
        group_rows(keys, len(X)),
        task=task,
        grid=settings,
        fixed=fixed,
        scaling=scaling or _SCALING,
        metric=metric,
        select=select,
        seed=int(seed),
        refit_all=refit_all,
        progress=progress,
    )
    run = runner.run()
    notes = [*plan.notes, *found.notes, *constant_notes(X, plan.rows.train), *run.notes]
    return _assemble(runner, run, head, list(names), views, notes, found.report)


def require_head(task: str, head: str) -> str:
    """The head of a task; another one is an error that names it.

    Raises
    ------
    FitError
    """
    own = HEADS[task]
    if head in ("auto", own):
        return own
    raise FitError(
        f"the head {head} cannot do {task}",
        expected=f"--head {own}",
        next="extract again with --task classification, if each image has one class",
    )


@dataclass(frozen=True)
class _Run:
    parts: list[ChosenTarget]
    predictions: np.ndarray
    answers: np.ndarray
    base: np.ndarray
    base_answers: np.ndarray
    fitted: TargetFitted
    trained_on: np.ndarray
    notes: list[str]


class _Runner:
    """One head on one plan: settings chosen inside each training part, rows scored, the kept one fitted."""

    def __init__(
        self,
        X: np.ndarray,
        targets: np.ndarray,
        plan: Plan,
        same: np.ndarray,
        *,
        task: str,
        grid: Sequence[Mapping[str, Any]],
        fixed: dict[str, Any],
        scaling: str,
        metric: str,
        select: str,
        seed: int,
        refit_all: bool,
        progress: Progress | None,
    ) -> None:
        self.X, self.targets, self.plan, self.same = X, targets, plan, same
        self.task, self.grid, self.fixed, self.scaling = task, grid, fixed, scaling
        self.metric, self.select, self.seed, self.refit_all = metric, select, seed, refit_all
        self._progress = progress
        self._done = self._total = 0

    def run(self) -> _Run:
        plan, jobs = self.plan, self.plan.jobs
        trained = [job.train for job in jobs]
        numbers = list(range(len(jobs)))
        if plan.held_out:
            numbers = [_KEPT]
        else:
            trained, numbers = [*trained, plan.rows.train], [*numbers, _KEPT]
        inner = [self._inner(rows, number) for rows, number in zip(trained, numbers, strict=True)]
        self._total = sum(map(len, inner)) + len(jobs) + 1
        swept = self._sweep([job for of_part in inner for job in of_part], self.grid)
        parts = [self._chosen(of_part, swept) for of_part in inner]
        next(swept, None)
        predictions, answers = self._score(jobs, parts)
        base, base_answers = self._baseline(jobs)
        kept, kept_rows, notes = parts[-1], plan.rows.train, list[str]()
        if plan.held_out and self.refit_all:
            kept_rows = np.flatnonzero(plan.rows.y >= 0)
            notes.append("the kept probe was trained on all rows; the score belongs to another fit")
        fitted = fit_target_head(
            self.task,
            {**self.fixed, **self.grid[kept.choice.index]},
            self.X[kept_rows],
            self.targets[kept_rows],
            scaling=self.scaling,
            temperature=kept.temperature,
            thresholds=kept.thresholds,
        )
        self._tick()
        if kept.choice.at_edge:
            end = self.grid[0 if kept.choice.at_edge == "smallest" else -1]
            spelled = ", ".join(f"{name} = {value:.3g}" for name, value in end.items())
            notes.append(f"the best setting, {spelled}, ends the grid; a wider one may be better")
        return _Run(parts, predictions, answers, base, base_answers, fitted, kept_rows, notes)

    def _inner(self, rows: np.ndarray, number: int) -> list[Job]:
        groups = self.plan.rows.groups[rows]
        rng = np.random.default_rng([self.seed, _INNER, number])
        fold = deal(self.targets[rows], self.task, groups, 5 if len(rows) >= 50 else 3, rng)
        return [Job(rows[fold != f], rows[fold == f]) for f in np.unique(fold)]

    def _sweep(
        self, jobs: Sequence[Job], grid: Sequence[Mapping[str, Any]]
    ) -> Iterator[np.ndarray]:
        if self.task == "regression":
            return sweep_values(
                self.X, self.targets, jobs, grid, scaling=self.scaling, tick=self._tick
            )
        return sweep_labels(
            self.X,
            self.targets,
            jobs,
            grid,
            scaling=self.scaling,
            class_weight=self.fixed.get("class_weight"),
            tick=self._tick,
        )

    def _chosen(self, jobs: Sequence[Job], swept: Iterator[np.ndarray]) -> ChosenTarget:
        ratio = float(np.mean([len(j.test) for j in jobs]) / np.mean([len(j.train) for j in jobs]))
        return choose_target(
            self.task,
            [next(swept) for _ in jobs],
            [self.targets[job.test] for job in jobs],
            [copy_weights(self.plan.rows.images[job.test]) for job in jobs],
            ratio,
            metric=self.metric,
            select=self.select,
        )

    def _score(
        self, jobs: Sequence[Job], parts: Sequence[ChosenTarget]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (R, m, k) float32 and answers (R, m, k) bool of the scored rows."""
        settings = [part.choice.index for part in parts[: len(jobs)]]
        raw: dict[int, np.ndarray] = {}
        for index in dict.fromkeys(settings):
            mine = [i for i, setting in enumerate(settings) if setting == index]
            swept = self._sweep([jobs[i] for i in mine], [self.grid[index]])
            raw |= {i: scores[0].astype(np.float64) for i, scores in zip(mine, swept, strict=True)}
        shape = (len(self.plan.repeats), *self.targets.shape)
        predictions, answers = np.zeros(shape, np.float32), np.zeros(shape, bool)
        number = 0
        for repeat, of_repeat in enumerate(self.plan.repeats):
            for job in of_repeat:
                part, p = parts[number], raw[number]
                if self.task == "multilabel":
                    p = expit(p / part.temperature)
                # Views of one image (tiles) answer together, as `predict` lets them.
                p = group_mean(p, self.same[job.test])
                predictions[repeat, job.test] = p
                if self.task == "multilabel":
                    answers[repeat, job.test] = p >= part.thresholds
                number += 1
        return predictions[:, self.plan.scored], answers[:, self.plan.scored]

    def _baseline(self, jobs: Sequence[Job]) -> tuple[np.ndarray, np.ndarray]:
        """What is answered without looking, in the same shapes: the training mean.

        Of labels the set that would have had the best micro F1 in training, for every image.
        """
        shape = (len(self.plan.repeats), *self.targets.shape)
        predictions, answers = np.zeros(shape, np.float32), np.zeros(shape, bool)
        for repeat, of_repeat in enumerate(self.plan.repeats):
            for job in of_repeat:
                known, w = self.targets[job.train], copy_weights(self.plan.rows.images[job.train])
                there = ~np.isnan(known)
                total = np.maximum(w @ there, 1e-12)
                mean = (w @ np.where(there, known, 0)) / total
                predictions[repeat, job.test] = mean
                if self.task == "multilabel":
                    answers[repeat, job.test] = best_constant(mean * total, total)
        return predictions[:, self.plan.scored], answers[:, self.plan.scored]

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def best_constant(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The set of labels, (k,) bool, that has the best micro F1 where every image gets it.

    Parameters
    ----------
    positives, known : ndarray of shape (k,)
        Images with the label, and images for which it is known.

    Examples
    --------
    >>> best_constant(np.array([60.0, 5.0, 50.0]), np.array([100.0, 100.0, 100.0]))
    array([ True, False,  True])
    """
    order = np.argsort(-positives / np.maximum(known, 1e-12), kind="stable")
    right, answered = np.cumsum(positives[order]), np.cumsum(known[order])
    f1 = 2 * right / np.maximum(answered + positives.sum(), 1e-12)
    chosen = np.zeros(len(positives), bool)
    chosen[order[: int(f1.argmax()) + 1]] = True
    return chosen


def _assemble(
    runner: _Runner,
    run: _Run,
    head: str,
    labels: list[str],
    views: int,
    notes: list[str],
    report: dict[str, Any],
) -> TargetResult:
    plan, rows, task = runner.plan, runner.plan.rows, runner.task
    scored = plan.scored
    truth = runner.targets[scored]
    images, groups = rows.images[scored], rows.groups[scored]
    folds = plan.folds[:, scored]
    shared: dict[str, Any] = {
        "images": images,
        "groups": groups,
        "folds": folds,
        "held_out": plan.held_out,
    }
    weights = copy_weights(images)
    table: list[dict[str, Any]] = []
    extra: dict[str, Any] = {"groups": report} if report else {}
    if task == "multilabel":
        metrics = measure_labels(truth, run.predictions, run.answers, **shared)
        baseline = measure_labels(truth, run.base, run.base_answers, **shared)
        thresholds = run.fitted.thresholds
        table = per_label(labels, truth, run.predictions, run.answers, folds, weights, thresholds)
        notes += _label_notes(table, runner.targets[run.trained_on], labels)
    else:
        metrics = measure_values(truth[:, 0], run.predictions[:, :, 0], **shared)
        baseline = measure_values(truth[:, 0], run.base[:, :, 0], **shared)
        # With one number a day, or a patient, the error belongs to the day: one of each is taken.
        extra["residual"] = residual_quantile(truth[:, 0], run.predictions[0, :, 0], groups)
        extra["coverage"] = COVERAGE
    notes += copies(len(scored), len(np.unique(images)), views)
    kept = run.parts[-1].choice
    sign = -1.0 if runner.metric in ("log_loss", "mae") else 1.0
    return TargetResult(
        task=task,
        head=head,
        params={**runner.fixed, **runner.grid[kept.index]},
        protocol=plan.protocol,
        fitted=run.fitted,
        names=labels,
        n_train=len(run.trained_on) // views,
        n_test=len(scored) // views,
        n_unlabelled=rows.n_unlabelled,
        n_dropped=rows.n_dropped,
        metrics=metrics,
        baseline=baseline,
        per_label=table,
        oof=TargetOutOfFold(
            rows=scored,
            targets=truth.astype(np.float32),
            images=images,
            groups=groups,
            repeat_folds=folds.astype(np.int32),
            repeat_predictions=run.predictions,
            repeat_answers=run.answers,
        ),
        notes=notes,
        choice=kept.to_dict(runner.grid),
        trained_on=run.trained_on,
        optimism={
            "metric": runner.metric,
            "tuned": sign * float(np.nanmax(kept.scores)),
            "settings": len(runner.grid),
        },
        extra=extra,
    )


def residual_quantile(y: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> float:
    """Half the width of an interval that holds a new number in `COVERAGE` of all cases.

    The absolute error of rank ceil((n + 1) * 0.9) among n groups, each with its mean error; nan
    where n is below 9, of which no such rank exists.

    References
    ----------
    J. Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 113, 2018.
    """
    _, number = np.unique(groups, return_inverse=True)
    number = number.reshape(-1)
    errors = np.sort(np.bincount(number, np.abs(y - predicted)) / np.bincount(number))
    rank = int(np.ceil((len(errors) + 1) * COVERAGE))
    return float(errors[rank - 1]) if rank <= len(errors) else float("nan")


def _label_notes(table: list[dict[str, Any]], training: np.ndarray, labels: list[str]) -> list[str]:
    notes = []
    few = [
        f"{row['label']} ({row['positives']})"
        for row in table
        if 0 < row["positives"] < FEW_POSITIVES
    ]
    if few:
        notes.append(
            f"fewer than {FEW_POSITIVES} scored images have the label, so its own score may be far off: "
            f"{names(few)}"
        )
    without = [row["label"] for row in table if row["positives"] == 0]
    if without:
        notes.append(
            f"no scored image has the label {names(without)}: not in mAP, AUROC and macro F1"
        )
    constant = [
        name
        for name, column in zip(labels, training.T, strict=True)
        if not ((column == 1).any() and (column == 0).any())
    ]
    if constant:
        notes.append(
            f"all or none of the training images have {names(constant)}: answered with that share"
        )
    return notes
