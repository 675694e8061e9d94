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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FitError
from ..heads.registry import get_head, resolve_options
from ..heads.scaling import SCALINGS
from .checks import check_arrays, check_choices, check_finite, constant_notes
from .fitting import HeadRun, Progress, Wanted, run_head
from .groups import find_groups
from .measure import measure, measure_majority
from .metrics import confusion_matrix, most_frequent, per_class
from .plan import Plan, make_plan
from .result import OutOfFold, Result
from .selection import CHOICE_METRICS, SELECT
from .splits import copy_weights, group_rows
from .wording import copies, too_small


@dataclass(frozen=True)
class Problem:
    """Checked features with the plan that all heads share.

    Attributes
    ----------
    X : ndarray of shape (n, d)
    plan : Plan
    same : ndarray of shape (n,), intp
        Equal for rows of one content: copies, and the views of an image.
    views : int
    seed : int
    notes : list of str
        About the rows; those about fits stand with the heads.
    found : dict
        What was found about copies and groups, as JSON data.
    """

    X: np.ndarray
    plan: Plan
    same: np.ndarray
    views: int
    seed: int
    notes: list[str]
    found: dict[str, Any]


def evaluate(
    X: np.ndarray,
    y: np.ndarray,
    *,
    classes: Sequence[str],
    splits: np.ndarray | Sequence[str] | None = None,
    keys: np.ndarray | None = None,
    phash: np.ndarray | None = None,
    groups: np.ndarray | Sequence[Any] | None = None,
    views: int = 1,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    grid: Sequence[Mapping[str, Any]] | None = None,
    class_weight: str = "none",
    scaling: str | None = None,
    folds: int = 5,
    repeats: int | str | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "accuracy",
    select: str = "one-se",
    refit_all: bool = False,
    device: str = "cpu",
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
    phash : ndarray of shape (n,), uint64, optional
        Perceptual hashes: near copies are then treated like equal keys. See `groups.find_groups`.
    groups : sequence of length n, optional
        Rows of one group (a patient, a camera, a day) never stand on both sides; each still counts.
    views : int, default 1
        Rows that each image has by its framing, with equal keys: counts are of images.
    head : str, default "logistic"
        A name of `heads.registry.HEADS`.
    head_options : dict, optional
        Parameters of the head to fix; one that is part of the grid ends the choice.
    grid : sequence of dict, optional
        Settings to choose from instead of the head's own, from the most to the least regularised.
    class_weight : {"none", "balanced", "search"}
        See `heads.registry.resolve_options`.
    scaling : str, optional
        One of `heads.scaling.SCALINGS`; default: the head's own.
    folds : int, default 5
        Outer folds, where there are no splits.
    repeats : int or "auto", optional
        Of the outer folds; default, and ``auto``, 10 below 100 different images, 2 below 1,000, else 1; 1
        for slow heads.
    seed : int, default 0
        Same input and seed, same arrays.
    holdout : float, optional
        Share of a test set taken by hash of the key, or of the group.
    metric : str, default "accuracy"
        What the choice goes by: one of `selection.CHOICE_METRICS`.
    select : {"one-se", "best"}
        The most regularised setting within one standard error of the best, or the best.
    refit_all : bool, default False
        Keep a fit on the scored rows too; then the score belongs to another fit.
    device : str, default "cpu"
        Where heads that can are fitted: ``cpu``, ``cuda`` or ``cuda:N``.
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
    wanted = want(
        head,
        head_options=head_options,
        grid=grid,
        class_weight=class_weight,
        scaling=scaling,
        metric=metric,
        select=select,
        seed=seed,
        device=device,
        refit_all=refit_all,
    )
    problem = make_problem(
        X,
        y,
        classes=classes,
        splits=splits,
        keys=keys,
        phash=phash,
        groups=groups,
        views=views,
        folds=folds,
        repeats=repeats,
        slow=not wanted.spec.repeats,
        seed=seed,
        holdout=holdout,
    )
    return assemble(problem, run_head(wanted, problem.X, problem.plan, problem.same, progress))


def want(
    head: str,
    *,
    head_options: Mapping[str, Any] | None = None,
    grid: Sequence[Mapping[str, Any]] | None = None,
    class_weight: str = "none",
    scaling: str | None = None,
    metric: str = "accuracy",
    select: str = "one-se",
    seed: int = 0,
    device: str = "cpu",
    refit_all: bool = False,
) -> Wanted:
    """What is asked of one head, checked. For the parameters see `evaluate`.

    Raises
    ------
    FitError
    """
    check_choices(metric=metric, metrics=CHOICE_METRICS, select=select, selects=SELECT, seed=seed)
    spec = get_head(head)
    settings, options = resolve_options(spec, head_options or {}, grid, class_weight)
    if scaling is not None and scaling not in SCALINGS:
        raise FitError(f"there is no scaling {scaling!r}", expected=", ".join(SCALINGS))
    return Wanted(
        spec=spec,
        grid=settings,
        options=options,
        scaling=scaling or spec.scaling,
        metric=metric,
        select=select,
        seed=int(seed),
        device=device,
        refit_all=refit_all,
    )


def make_problem(
    X: Any,
    y: Any,
    *,
    classes: Sequence[str],
    splits: Any = None,
    keys: Any = None,
    phash: Any = None,
    groups: Any = None,
    views: int = 1,
    folds: int = 5,
    repeats: int | str | None = None,
    slow: bool = False,
    seed: int = 0,
    holdout: float | None = None,
) -> Problem:
    """Check arrays, find copies and groups, and decide who trains and who is scored.

    Parameters
    ----------
    slow : bool, default False
        Whether to repeat once by default whatever the number of images.
    X, y, classes, splits, keys, phash, groups, views, folds, repeats, seed, holdout
        See `evaluate`.

    Returns
    -------
    Problem

    Raises
    ------
    FitError
    """
    check_choices(folds=folds, repeats=repeats, seed=seed, holdout=holdout)
    # Plain integers: NumPy's would not go into a probe file.
    folds, seed, asked = (
        int(folds),
        int(seed),
        0 if repeats in (None, "auto") else int(repeats or 0),
    )
    X, y, splits, keys = check_arrays(X, y, classes, splits, keys)
    check_finite(X, np.flatnonzero(y >= 0))
    found = find_groups(X, keys=keys, phash=phash, groups=groups, splits=splits, used=y >= 0)
    different = len(np.unique(found.images[y >= 0]))
    plan = make_plan(
        y,
        classes,
        splits=splits,
        images=found.images,
        groups=found.groups,
        sides=found.sides,
        folds=folds,
        repeats=asked or default_repeats(different, slow=slow),
        seed=seed,
        holdout=holdout,
    )
    return Problem(
        X=X,
        plan=plan,
        same=group_rows(keys, len(X)),
        views=views,
        seed=seed,
        notes=[*plan.notes, *found.notes, *constant_notes(X, plan.rows.train)],
        found=found.report,
    )


def assemble(problem: Problem, run: HeadRun) -> Result:
    """Metrics, intervals and everything else that one head's run shows."""
    plan, rows, views = problem.plan, problem.plan.rows, problem.views
    scored, k = plan.scored, len(plan.rows.classes)
    truth, probabilities = rows.y[scored], run.probabilities
    images, groups = rows.images[scored], rows.groups[scored]
    folds = plan.folds[: len(probabilities), scored]
    weights = copy_weights(images)
    answers = probabilities.argmax(axis=2)
    mean = np.mean([confusion_matrix(truth, a, k, weights) for a in answers], axis=0)
    # The views of an image all have its answer.
    shown = confusion_matrix(truth, answers[0], k) // views
    training = rows.y[rows.train], copy_weights(rows.images[rows.train])
    majority = most_frequent(*training)
    shared: dict[str, Any] = {
        "images": images,
        "groups": groups,
        "folds": folds,
        "held_out": plan.held_out,
    }
    metrics = measure(truth, probabilities, inner=run.inner, **shared)
    kept = run.kept.choice
    optimism = {}
    if run.kept.known:
        best = float(np.nanmax(kept.scores))
        optimism = {
            "metric": run.metric,
            "tuned": -best if run.metric == "log_loss" else best,
            "settings": len(run.grid),
        }
    return Result(
        head=run.spec.name,
        params=run.params,
        protocol=plan.protocol,
        fitted=run.fitted,
        classes=rows.classes,
        n_train=len(run.trained_on) // views,
        n_test=len(scored) // views,
        n_unlabelled=rows.n_unlabelled,
        n_dropped=rows.n_dropped,
        majority=majority,
        metrics=metrics,
        baseline=measure_majority(truth, training[0], training[1], k, **shared),
        confusion=shown,
        per_class=per_class(mean, rows.classes, shown.sum(axis=1)),
        oof=OutOfFold(
            rows=scored,
            y=truth.astype(np.int32),
            images=images,
            groups=groups,
            folds=folds[0].astype(np.int32),
            repeat_folds=folds.astype(np.int32),
            repeat_probabilities=probabilities,
        ),
        notes=[
            *problem.notes,
            *copies(len(scored), len(np.unique(images)), views),
            *too_small(mean.sum(axis=1), rows.classes),
            *run.notes,
        ],
        choice=kept.to_dict(run.grid),
        trained_on=run.trained_on,
        frequencies=np.bincount(*training, k) / np.sum(training[1]),
        optimism=optimism,
        extra={"groups": problem.found} if problem.found else {},
    )


def default_repeats(n: int, *, slow: bool = False) -> int:
    """10 below 100 different images, 2 below 1,000, else 1; 1 for heads too slow for more."""
    if slow:
        return 1
    return 10 if n < 100 else 2 if n < 1000 else 1
