"""The honest score where the features do not fit into memory: one test set, logistic regression from disk.

The same rows, copies, metrics and intervals as `protocol.evaluate`; what differs is how the head is fitted
and chosen. Features are read in slices, and only those of the held-out part are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FitError
from ..heads.fitted import Fitted
from ..heads.logistic import LogisticHead
from ..heads.scores import as_columns, expand
from ..heads.stream import StreamedLogistic, working_bytes
from ..heads.stream.rows import PASS, Sliceable
from ..heads.temperature import fit_temperature
from .checks import check_choices, check_rows
from .fitting import Chosen, HeadRun, Wanted
from .groups import find_groups
from .plan import Plan, make_plan
from .protocol import Problem, assemble
from .result import Result
from .selection import Choice
from .splits import TRAIN_ONLY, copy_weights, group_mean, group_rows
from .wording import names

HOLDOUT = 0.2  # where no split and no share is given
VALUES = (1e-3, 1e-2, 1e-1, 1.0)  # of C
# Held out of the training rows, to choose, to stop and for the temperature: so many, within these shares.
_ENOUGH, _SHARES = 4000, (0.02, 0.1)
_SCORED = 4  # stream of random numbers, next to those of the folds
# Numbers of the scored rows' probabilities at most, 512 MiB: the probe keeps them. 50,000 images of 1,000
# classes are 5e7.
_MOST_NUMBERS = 2**26
_COPIES = 6  # of the probabilities, in metrics and in the file's content


@dataclass(frozen=True)
class Asked:
    """What is asked of a fit from disk.

    Attributes
    ----------
    wanted : Wanted
        Of the head logistic; its grid are the values of C.
    limit : int
        Bytes of memory.
    tick : callable
        Called with the number of rows that were read.
    """

    wanted: Wanted
    limit: int
    tick: Callable[[int], None] = lambda n: None


def make_streamed_problem(
    X: Sliceable,
    y: Any,
    *,
    classes: Sequence[str],
    splits: Any,
    keys: Any,
    groups: Any = None,
    views: int = 1,
    seed: int = 0,
    holdout: float | None = None,
    limit: int,
) -> Problem:
    """Decide who trains and who is scored; nothing is read from `X`.

    Parameters
    ----------
    limit : int
        Bytes of memory: more test rows than their probabilities fit into are not scored.
    X, y, classes, splits, keys, groups, views, seed, holdout
        See `protocol.evaluate`. Without a split that scores, and without `holdout`, a fifth is held out.

    Raises
    ------
    FitError
    """
    check_choices(seed=seed, holdout=holdout)
    n = X.shape[0]
    y, splits, keys = check_rows(n, y, classes, splits, keys)
    # Near copies are looked for by features in memory; equal keys need none.
    found = find_groups(
        np.empty((n, 0)), keys=keys, phash=None, groups=groups, splits=splits, used=y >= 0
    )
    given = bool((np.isin(splits, ["test", "val"]) & (y >= 0)).any())
    notes = []
    automatic = holdout is None and not given
    if automatic:
        holdout, splits = HOLDOUT, np.full(n, "")
        notes.append(
            "no split scores, and cross-validation would read the file again for each fold: "
            f"{HOLDOUT:.0%} of the images, by hash of their bytes, are the test set, as with "
            f"--holdout {HOLDOUT:g}"
        )
    try:
        plan = make_plan(
            y,
            classes,
            splits=splits,
            images=found.images,
            groups=found.groups,
            sides=found.sides,
            folds=2,
            repeats=1,
            seed=seed,
            holdout=holdout,
        )
    except FitError as error:
        if "cross-validation" not in error.next:
            raise
        raise FitError(
            error.what,
            expected=error.expected,
            where="--holdout" if automatic else error.where,
            next="another share; or splits of your own, by folders or a column, with training images of "
            "every class",
        ) from error
    plan, told = _fitting(plan, min(_MOST_NUMBERS, limit // (8 * _COPIES)), seed)
    return Problem(
        X=X,  # type: ignore[arg-type]
        plan=plan,
        same=group_rows(keys, n),
        views=views,
        seed=seed,
        notes=[*notes, *plan.notes, *found.notes, *told],
        found=found.report,
    )


def _fitting(plan: Plan, numbers: int, seed: int) -> tuple[Plan, list[str]]:
    """The plan with so few test rows that their probabilities are so many numbers, and what to say."""
    rows = plan.rows
    most = max(1, numbers // len(rows.classes))
    if len(rows.test) <= most:
        return plan, []
    groups = np.unique(rows.groups[rows.test], return_inverse=True)[1].reshape(-1)
    order = np.random.default_rng([seed, _SCORED]).permutation(groups.max() + 1)
    taken = np.cumsum(np.bincount(groups)[order]) <= most
    test = rows.test[np.isin(groups, order[taken])]
    if not len(test):
        raise FitError(
            f"the probabilities of {len(rows.test):,} test images do not fit into memory",
            where="--max-memory",
            next="more memory",
        )
    scored = np.isin(np.arange(len(rows.y)), test)
    folds = np.where(scored, 0, TRAIN_ONLY)[None].astype(np.int32)
    job = replace(plan.jobs[0], test=test)
    note = (
        f"{len(test):,} of {len(rows.test):,} test rows, drawn by chance, are scored, because the "
        "probabilities of all are too much for memory and for a probe; a smaller test set would leave more "
        "to train on"
    )
    return replace(plan, rows=replace(rows, test=test), repeats=[[job]], folds=folds), [note]


def evaluate_from_disk(problem: Problem, asked: Asked) -> Result:
    """Fit, choose, calibrate and score.

    Parameters
    ----------
    problem : Problem
        Of `make_streamed_problem`.
    asked : Asked

    Returns
    -------
    Result
        Of the head ``logistic``; ``extra["streamed"]`` says how it was fitted.

    Raises
    ------
    FitError
        If even this does not fit into memory, or a feature is not finite.
    """
    X, plan, wanted = problem.X, problem.plan, asked.wanted
    values = [float(setting["C"]) for setting in wanted.grid]
    k = len(plan.rows.classes)
    needed = working_bytes(X.shape[1], k, len(values), n_rows=X.shape[0])
    if needed > asked.limit:
        raise FitError(
            f"{len(values)} values of C, {k:,} classes and {X.shape[1]:,} features take "
            f"{needed / 1e9:.3g} GB even from disk",
            expected=f"{asked.limit / 1e9:.3g} GB at most",
            where="--max-memory",
            next="more memory" + (', or one value: head_options={"C": 0.01}' if values[1:] else ""),
        )
    head, temperature = _train(problem, asked, plan.rows.train, values)
    fitted = as_fitted(head, k, temperature)
    test = plan.scored
    p = group_mean(_probabilities(fitted, X, test, asked.tick), problem.same[test])
    kept_rows, notes = plan.rows.train, []
    if wanted.refit_all:
        kept_rows = np.flatnonzero(plan.rows.y >= 0)
        again, temperature = _train(problem, asked, kept_rows, [head.C_])
        fitted = as_fitted(again, k, temperature)
        notes.append("the kept probe was trained on all rows; the score belongs to another fit")
    choice = _choice(head)
    run = HeadRun(
        spec=wanted.spec,
        params={"C": head.C_},
        parts=[Chosen(plan.rows.train, choice, temperature, len(head.held_out_rows_) > 0)],
        probabilities=p[None],
        fitted=fitted,
        trained_on=kept_rows,
        grid=[{"C": value} for value in head.values_.tolist()],
        metric="accuracy",
        notes=[*notes, *_notes(head, choice, problem.views)],
    )
    result = assemble(problem, run)
    result.extra["streamed"] = _report(head, asked.limit)
    return result


def rows_to_read(n: int, wanted: Wanted) -> int:
    """How often rows are read in all, at most: what the calls of `Asked.tick` add up to."""
    passes = StreamedLogistic().max_epochs + 1
    return n * (passes * (1 + wanted.refit_all) + 1)


def as_fitted(head: StreamedLogistic, n_classes: int, temperature: float) -> Fitted:
    """What a fit in memory would keep: the scaling, and a `LogisticHead` on scaled features."""
    scaling = head.scaling_
    state: dict[str, Any] = {
        "options": LogisticHead(C=head.C_).get_params(deep=False),
        "classes": head.classes_.tolist(),
        "n_iter": head.n_iter_,
        "converged": head.converged_,
    }
    arrays = {
        "coef": head.coef_ * scaling.scale,
        "intercept": head.intercept_ + head.coef_ @ scaling.mean,
    }
    return Fitted(scaling, LogisticHead.from_state(state, arrays), n_classes, temperature)


def _train(
    problem: Problem, asked: Asked, rows: np.ndarray, values: Sequence[float]
) -> tuple[StreamedLogistic, float]:
    """A head on these rows, and the temperature by the part that it held out."""
    y, wanted = problem.plan.rows.y, asked.wanted
    taking = np.zeros(len(y), bool)
    taking[rows] = True
    head = StreamedLogistic(
        values,
        scaling=wanted.scaling,
        max_bytes=asked.limit,
        held_out=float(np.clip(_ENOUGH / len(rows), *_SHARES)),
        random_state=wanted.seed,
    )
    try:
        head.fit(problem.X, y, rows=taking, groups=problem.plan.rows.groups, tick=asked.tick)
    except ValueError as error:
        raise FitError(str(error), next="bottleneck verify FILE.h5") from error
    some = head.calibration_rows_
    scores = expand(
        as_columns(head.held_out_logits_), head.classes_, len(problem.plan.rows.classes)
    )
    weights = copy_weights(problem.plan.rows.images[some])
    return head, fit_temperature(scores, y[some], weights)


def _probabilities(
    fitted: Fitted, X: Sliceable, rows: np.ndarray, tick: Callable[[int], None]
) -> np.ndarray:
    """Of these rows, ascending, read block by block: (m, k) float64."""
    found = np.empty((len(rows), fitted.n_classes))
    for start in range(0, X.shape[0], PASS):
        low, high = np.searchsorted(rows, [start, start + PASS])
        if high > low:
            first, last = int(rows[low]), int(rows[high - 1]) + 1
            block = np.asarray(X[first:last])[rows[low:high] - first]
            if block.dtype == np.float16:
                block = block.astype(np.float32)
            found[low:high] = fitted.predict_proba(block)
        tick(min(PASS, X.shape[0] - start))
    return found


def _choice(head: StreamedLogistic) -> Choice:
    """The value of C that was kept, as if the held-out part were one inner fold."""
    scores, n = head.accuracies_, max(len(head.held_out_rows_), 1)
    index = int(np.flatnonzero(head.values_ == head.C_)[0])
    best = float(scores[index])
    edge = {0: "smallest", len(scores) - 1: "largest"}.get(index, "") if len(scores) > 1 else ""
    return Choice(index, scores, float(np.sqrt(best * (1 - best) / n)), edge, scores[[index]])


def _notes(head: StreamedLogistic, choice: Choice, views: int) -> list[str]:
    held = len(head.held_out_rows_) // views
    told = [
        f"{held:,} of the training images do not train: they decided when to stop, "
        + (f"which of {len(head.values_)} values of C to keep, " if len(head.values_) > 1 else "")
        + "and how sure the probabilities are"
    ]
    passes = "1 pass" if head.n_iter_ == 1 else f"{head.n_iter_} passes"
    told.append(
        f"as near to the solution in memory as {passes} of stochastic gradients come: "
        + (
            f"the last {head.patience} lowered the held-out log loss by less than {head.tol:.1%} each"
            if head.converged_
            else "the held-out log loss was still falling when they ended"
        )
    )
    if choice.at_edge:
        told.append(
            f"C = {head.C_:g} ends the values that were tried, {names([f'{v:g}' for v in head.values_])}; "
            "another one may be better"
        )
    if head.constant_.all():
        told.append("all images have the same features: no head can do better than the baseline")
    elif head.constant_.any():
        told.append(
            f"{head.constant_.sum()} of {len(head.constant_)} features are constant in the training rows"
        )
    return told


def _report(head: StreamedLogistic, limit: int) -> dict[str, Any]:
    """How it was fitted, as JSON data."""
    return {
        "epochs": head.n_iter_,
        "converged": head.converged_,
        "n_held_out": len(head.held_out_rows_),
        "held_out_loss": head.losses_.tolist(),
        "max_memory_gb": limit / 1e9,
    }
