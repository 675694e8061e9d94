"""The honest score: features and labels in; a fitted pipeline, its metrics and out-of-fold rows out.

The scaler and the hyper-parameters are fitted inside the training part, for every number here. With a
test set, settings are chosen by cross-validation among the training rows and the test rows are scored
once. Without one, cross-validation is nested: the outer folds score, and the choice never saw them.

References
----------
S. Varma, R. Simon, "Bias in error estimation when using cross-validation for model selection", BMC
Bioinformatics 7, 2006. G. Cawley, N. Talbot, "On over-fitting in model selection and subsequent
selection bias in performance evaluation", JMLR 11, 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ..heads.registry import HeadSpec, get_head, resolve_options
from ..heads.sweep import Job
from .checks import check_arrays, check_choices, check_finite, constant_notes
from .fitting import Fitter
from .intervals import CV_SHRINK, Metric, with_intervals
from .metrics import METRICS, confusion_matrix, most_frequent, per_class
from .rows import Rows, assign_rows
from .splits import (
    TRAIN_ONLY,
    copy_weights,
    group_mean,
    single_group_classes,
    stratified_folds,
)
from .wording import copies, names, only_train

SELECT = ("one-se", "best")
_OUTER = 1  # stream of random numbers, next to the inner folds' 2
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for the scored rows, each by a fit that did not see the row.

    Attributes
    ----------
    rows : ndarray of shape (m,), intp
        Index into the input of `evaluate`, ascending.
    y : ndarray of shape (m,), int32
        True class, index into the result's `classes`.
    folds : ndarray of shape (m,), int32
        Outer fold of the first repeat; 0 for a held-out set.
    probabilities : ndarray of shape (m, k), float64
        Averaged over repeats.
    repeat_folds, answers : ndarray of shape (repeats, m), int32
        Outer fold and predicted class in each repeat, which a paired test of two heads goes by.
    """

    rows: np.ndarray
    y: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray
    repeat_folds: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class Result:
    """What `evaluate` found.

    Attributes
    ----------
    head : str
    params : dict
        Hyper-parameters and options of the kept head.
    protocol : str
        ``holdout``, or ``nested-<outer folds>x<repeats>``.
    pipeline : Pipeline
        The kept scaler and head; its classes are indices into `classes`.
    classes : list of str
        Those with a training row.
    n_train, n_test : int
        Images the kept pipeline learned from, and images that were scored, copies included. Under
        cross-validation the scored rows are among the training rows of the kept pipeline, which no number
        here comes from.
    majority : int
        Index into `classes` of the most frequent class of the training rows, copies counted once: what the
        baseline answers.
    n_unlabelled, n_dropped : int
        Rows without a label, and test rows left out as copies of training rows.
    metrics, baseline : dict of str to dict
        ``{"value", "low", "high", "level", "method"}`` by metric, for the head and for always answering with
        `majority`. Copies (equal keys) count as one image together, in the value and in the width.
    confusion : ndarray of shape (k, k), int64
        Scored rows, copies included; rows are true classes; of the first repeat. The metrics are of the
        mean over the repeats.
    per_class : list of dict
        See `metrics.per_class`; of the mean over the repeats, copies counted once, except ``n``, which
        counts rows.
    oof : OutOfFold
    notes : list of str
        What was left out, joined, or gives reason for doubt.
    choice : dict
        Scores of the grid in the choice that was kept: ``grid``, ``scores``, ``standard_error``, ``chosen``.
    """

    head: str
    params: dict[str, Any]
    protocol: str
    pipeline: Pipeline
    classes: list[str]
    n_train: int
    n_test: int
    n_unlabelled: int
    n_dropped: int
    majority: int
    metrics: dict[str, Metric]
    baseline: dict[str, Metric]
    confusion: np.ndarray
    per_class: list[dict[str, Any]]
    oof: OutOfFold
    notes: list[str]
    choice: dict[str, Any]


def evaluate(
    X: np.ndarray,
    y: np.ndarray,
    *,
    classes: Sequence[str],
    splits: np.ndarray | Sequence[str] | None = None,
    keys: np.ndarray | None = None,
    views: int = 1,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    folds: int = 5,
    repeats: int | str | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "accuracy",
    select: str = "one-se",
    refit_all: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Choose a head's settings, score it honestly, and fit the one to keep.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Features, not normalised.
    y : ndarray of shape (n,), int32
        Index into `classes`, -1 = unlabelled (left out).
    classes : sequence of str
    splits : sequence of str of length n, optional
        ``train``, ``val``, ``test`` or ``""``. Test scores, else val; everything else trains.
    keys : ndarray of shape (n, 32), uint8, optional
        Rows with equal keys never stand on both sides, and count as one image in every score.
    views : int, default 1
        Rows that each image has by its framing, with equal keys: counts are of images.
    head : str, default "logistic"
        A name of `heads.registry.HEADS`.
    head_options : dict, optional
        Parameters of the head to fix; one that is part of the grid ends the choice.
    folds : int, default 5
        Outer folds, where there are no splits.
    repeats : int or "auto", optional
        Of the outer folds; default, and ``auto``, 10 below 100 different images, 2 below 1,000, else 1; 1
        for slow heads.
    seed : int, default 0
        Same input and seed, same arrays.
    holdout : float, optional
        Share of a test set taken by hash of the key.
    metric : str, default "accuracy"
        What the choice goes by.
    select : {"one-se", "best"}
        The most regularised setting within one standard error of the best, or the best.
    refit_all : bool, default False
        Keep a fit on the scored rows too; then the score belongs to another fit.
    progress : callable, optional
        Called with (done, total) steps.

    Returns
    -------
    Result

    Raises
    ------
    FitError
        If no honest score can be computed.
    """
    spec = get_head(head)
    grid, options = resolve_options(spec, head_options or {})
    check_choices(folds, repeats, seed, holdout, metric, METRICS, select, SELECT)
    # Plain integers: NumPy's would not go into a probe file.
    folds, seed, asked = int(folds), int(seed), 0 if repeats in (None, "auto") else int(repeats)
    X, y, splits, keys = check_arrays(X, y, classes, splits, keys)
    rows = assign_rows(y, classes, splits, keys, holdout)
    check_finite(X, np.flatnonzero(rows.y >= 0))
    notes = [*rows.notes, *constant_notes(X, rows.train)]
    held_out = len(rows.test) > 0
    if held_out:
        outer = [[Job(rows.train, rows.test)]]
        fold_of = np.where(np.isin(np.arange(len(y)), rows.test), 0, TRAIN_ONLY)
        protocol = "holdout"
    else:
        repeats = asked or default_repeats(spec, len(np.unique(rows.groups[rows.train])))
        outer, fold_of, more = _outer_jobs(rows, folds, repeats, seed)
        notes += more
        protocol = f"nested-{len(outer[0])}x{repeats}"

    fitter = Fitter(
        spec,
        grid,
        options,
        X,
        rows.y,
        rows.groups,
        metric=metric,
        select=select,
        seed=seed,
        progress=progress,
    )
    jobs = [job for repeat in outer for job in repeat]
    # The last choice is the kept one. With a test set it is the only one, made on the training rows.
    parts = [job.train for job in jobs] + ([] if held_out else [rows.train])
    refit = refit_all or not held_out
    choices = fitter.choose(parts, n_fits=len(jobs) + refit)
    scored = np.flatnonzero(fold_of != TRAIN_ONLY)
    k = len(rows.classes)
    truth, weights = rows.y[scored], copy_weights(rows.groups[scored])
    notes += copies(len(scored), len(np.unique(rows.groups[scored])), views)
    total = np.zeros((len(y), k))
    confusions, shown = [], np.zeros((k, k), np.int64)
    repeat_folds, answers = np.zeros((2, len(outer), len(scored)), np.int32)
    by_job = iter(choices)
    for number, repeat in enumerate(outer):
        predicted, dealt = np.zeros((2, len(y)), np.intp)
        for fold, job in enumerate(repeat):
            pipeline = fitter.fit(next(by_job), job.train)
            # Views of one image (tiles) answer together, as `predict` lets them.
            probabilities = group_mean(
                fitter.predict_proba(pipeline, job.test), rows.groups[job.test]
            )
            predicted[job.test] = probabilities.argmax(axis=1)
            dealt[job.test] = fold
            total[job.test] += probabilities
        repeat_folds[number], answers[number] = dealt[scored], predicted[scored]
        confusions.append(confusion_matrix(truth, predicted[scored], k, weights))
        if number == 0:
            # The views of an image all have its answer.
            shown = confusion_matrix(truth, predicted[scored], k) // views

    kept, kept_rows = choices[-1], rows.train
    if held_out and refit_all:
        kept_rows = np.flatnonzero(rows.y >= 0)
        notes.append("the kept probe was trained on all rows; the score belongs to another fit")
    if refit:
        pipeline = fitter.fit(kept, kept_rows)
    notes += fitter.notes(kept)
    mean = np.mean(confusions, axis=0)
    shrink = 1.0 if held_out else CV_SHRINK
    majority = most_frequent(rows.y[rows.train], copy_weights(rows.groups[rows.train]))
    baseline = confusion_matrix(truth, np.full(len(scored), majority), k, weights)
    return Result(
        head=head,
        params={**options, **grid[kept.index]},
        protocol=protocol,
        pipeline=pipeline,
        classes=rows.classes,
        n_train=len(kept_rows) // views,
        n_test=len(scored) // views,
        n_unlabelled=rows.n_unlabelled,
        n_dropped=rows.n_dropped,
        majority=majority,
        metrics=with_intervals(mean, shrink=shrink),
        baseline=with_intervals(baseline, shrink=shrink),
        confusion=shown,
        per_class=per_class(mean, rows.classes, shown.sum(axis=1)),
        oof=OutOfFold(
            rows=scored,
            y=truth.astype(np.int32),
            folds=fold_of[scored].astype(np.int32),
            probabilities=total[scored] / len(outer),
            repeat_folds=repeat_folds,
            answers=answers,
        ),
        notes=notes,
        choice=kept.to_dict(grid),
    )


def default_repeats(spec: HeadSpec, n: int) -> int:
    """10 below 100 different images, 2 below 1,000, else 1; 1 for heads too slow for more."""
    if not spec.repeats:
        return 1
    return 10 if n < 100 else 2 if n < 1000 else 1


def _outer_jobs(
    rows: Rows, folds: int, repeats: int, seed: int
) -> tuple[list[list[Job]], np.ndarray, list[str]]:
    """Jobs of each repeat, the folds (n,) of the first one, and notes on classes too small."""
    y, groups = rows.y[rows.train], rows.groups[rows.train]
    jobs = []
    fold_of = np.full(len(rows.y), TRAIN_ONLY)
    dealt = min(folds, len(np.unique(groups)))  # more would stay empty, a billion fill the memory
    for repeat in range(repeats):
        fold = stratified_folds(y, groups, dealt, np.random.default_rng([seed, _OUTER, repeat]))
        used = np.unique(fold[fold != TRAIN_ONLY])
        jobs.append([Job(rows.train[fold != f], rows.train[fold == f]) for f in used])
        if repeat == 0:
            fold_of[rows.train] = fold
    alone = single_group_classes(y, groups)
    counts = np.bincount(np.unique(np.stack([y, groups]), axis=1)[0])  # different images
    small = np.setdiff1d(np.flatnonzero(counts < folds), alone)
    notes = [only_train([rows.classes[c] for c in alone])] if len(alone) else []
    if len(small):
        spelled = names([f"{rows.classes[c]} ({counts[c]})" for c in small])
        notes.append(f"fewer images than {folds} folds, spread one to a fold: {spelled}")
    return jobs, fold_of, notes
