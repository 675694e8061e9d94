"""Who trains and who is scored where the answer is not one class: targets and groups in, a plan out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import FitError
from ..heads.sweep import Job
from .plan import Plan
from .rows import Rows, split_out
from .splits import TRAIN_ONLY, holdout
from .wording import images as noun

_OUTER = 1  # stream of random numbers, next to the inner folds' 2


def label_folds(
    Y: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Deal the rows to folds, so that each label is spread as evenly as its groups allow.

    Parameters
    ----------
    Y : ndarray of shape (n, k)
        1, 0, and NaN for unknown.
    groups : ndarray of shape (n,), int
        Rows of one group share a fold.
    n_folds : int
    rng : numpy Generator

    Returns
    -------
    ndarray of shape (n,), int32
        Fold of each row; none is left out.

    References
    ----------
    K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-label Data", ECML PKDD 2011:
    the label with the fewest groups left is dealt first, to the fold that lacks it most. Here the
    known negatives are dealt in the same way as the positives (an unknown is neither), and of folds
    that lack as much the one with the fewest rows is taken.
    """
    order = rng.permutation(len(np.unique(groups)))
    number = order[np.unique(groups, return_inverse=True)[1].reshape(-1)]
    n_groups = len(order)
    each = np.concatenate([Y == 1, Y == 0], axis=1).astype(np.float64)
    has = np.zeros((n_groups, each.shape[1]))
    np.add.at(has, number, each)
    sizes = np.bincount(number, minlength=n_groups)
    folds = [int(f) for f in rng.permutation(n_folds)]  # else the first would get every odd one
    lacks = np.repeat(has.sum(axis=0)[None] / n_folds, n_folds, axis=0)
    room = np.full(n_folds, len(Y) / n_folds)
    fold_of = np.full(n_groups, -1)
    left = np.ones(n_groups, bool)
    while left.any():
        holders = (has[left] > 0).sum(axis=0)
        if not holders.any():
            column, waiting = None, np.flatnonzero(left)
        else:
            column = int(np.where(holders > 0, holders, n_groups + 1).argmin())
            waiting = np.flatnonzero(left & (has[:, column] > 0))
        # Large groups first: what comes last can still level the folds.
        for group in waiting[np.argsort(-sizes[waiting], kind="stable")].tolist():
            missing = room if column is None else lacks[:, column]
            # A fold that has its share of the rows gets no more as long as another has not.
            fold = max(folds, key=lambda f: (room[f] > 0, missing[f], room[f]))
            fold_of[group] = fold
            lacks[fold] -= has[group]
            room[fold] -= sizes[group]
            left[group] = False
    return fold_of[number].astype(np.int32)


def value_folds(
    values: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Deal the rows to folds, so that low and high values are in each of them.

    Parameters
    ----------
    values : ndarray of shape (n,)
    groups, n_folds, rng
        See `label_folds`.

    Returns
    -------
    ndarray of shape (n,), int32
        Groups ordered by their mean value are dealt in runs of `n_folds`, each run in random order.
    """
    _, number = np.unique(groups, return_inverse=True)
    number = number.reshape(-1)
    sizes = np.bincount(number)
    means = np.bincount(number, values) / sizes
    order = np.lexsort((rng.permutation(len(sizes)), means))
    fold_of = np.empty(len(sizes), np.int32)
    total = np.zeros(n_folds)
    for start in range(0, len(order), n_folds):
        run = order[start : start + n_folds]
        run = run[np.argsort(-sizes[run], kind="stable")]
        # The largest group of a run to the emptiest fold; folds that are as full in random order.
        free = np.lexsort((rng.permutation(n_folds), total))[: len(run)]
        fold_of[run] = free
        total[free] += sizes[run]
    return fold_of[number]


def deal(
    targets: np.ndarray, task: str, groups: np.ndarray, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """`label_folds` or `value_folds`, by the task, to at most as many folds as there are groups."""
    n_folds = min(n_folds, len(np.unique(groups)))
    if task == "multilabel":
        return label_folds(targets, groups, n_folds, rng)
    return value_folds(targets[:, 0], groups, n_folds, rng)


def plan_targets(
    targets: np.ndarray,
    task: str,
    names: Sequence[str],
    *,
    splits: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    sides: np.ndarray | None,
    folds: int,
    repeats: int,
    seed: int,
    holdout_fraction: float | None = None,
) -> Plan:
    """Decide who trains and who is scored.

    Parameters
    ----------
    targets : ndarray of shape (n, k)
        NaN is unknown; a row that knows nothing is left out.
    task : {'multilabel', 'regression'}
    names : sequence of str
        Of the columns.
    splits, images, groups, sides, folds, repeats, seed, holdout_fraction
        See `plan.make_plan`.

    Returns
    -------
    Plan
        Its rows have no classes, and 0 for y where something is known.

    Raises
    ------
    FitError
        If no honest score can come of it.
    """
    labelled = ~np.isnan(targets).all(axis=1)
    notes: list[str] = []
    if not labelled.any():
        raise FitError(
            f"none of the {len(targets)} images has a label",
            expected="a number or labels for some of them",
            next="give --labels TABLE with --label-column",
        )
    if n_without := int(np.sum(~labelled)):
        notes.append(f"{n_without} unlabelled {noun(n_without)} left out")
    if holdout_fraction is not None:
        scored = labelled & _held_out(splits, sides, holdout_fraction)
    else:
        scored = labelled & split_out(splits, labelled, notes)
    train = labelled & ~scored
    related = scored & (np.isin(images, images[train]) | np.isin(groups, groups[train]))
    n_related = int(related.sum())
    if n_related:
        notes.append(
            f"{n_related} test {noun(n_related)} dropped: copies of training images, or of their groups"
        )
        scored &= ~related
    _require_both(scored, train, n_related, groups, holdout_fraction)
    _require_variety(targets, train, task, names)
    rows = Rows(
        train=np.flatnonzero(train),
        test=np.flatnonzero(scored),
        y=np.where(labelled, 0, -1),
        classes=[],
        images=images,
        groups=groups,
        n_unlabelled=n_without,
        n_dropped=n_related,
        notes=notes,
    )
    if scored.any():
        fold_of = np.where(scored, 0, TRAIN_ONLY)[None].astype(np.int32)
        return Plan(rows, [[Job(rows.train, rows.test)]], fold_of, "holdout", notes)
    fold_of = np.full((repeats, len(targets)), TRAIN_ONLY, np.int32)
    jobs = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, _OUTER, repeat])
        fold = deal(targets[rows.train], task, groups[rows.train], folds, rng)
        jobs.append([Job(rows.train[fold != f], rows.train[fold == f]) for f in np.unique(fold)])
        fold_of[repeat, rows.train] = fold
    return Plan(rows, jobs, fold_of, f"nested-{len(jobs[0])}x{repeats}", notes)


def _held_out(splits: np.ndarray, sides: np.ndarray | None, fraction: float) -> np.ndarray:
    if (splits != "").any():
        raise FitError(
            "--holdout takes a test set, but the images already have splits: "
            + ", ".join(sorted(set(splits[splits != ""].tolist()))),
            next="leave out --holdout, or the split folders or column",
        )
    if sides is None:
        raise FitError("--holdout goes by the hash of the key, and these rows have no keys")
    return holdout(sides, fraction)


def _require_both(
    scored: np.ndarray,
    train: np.ndarray,
    n_related: int,
    groups: np.ndarray,
    fraction: float | None,
) -> None:
    """Rows on both sides, or enough groups to make them."""
    if not train.any():
        raise FitError(
            "all labelled images are in the split that scores; none is left to train on",
            next="add a train split, or leave the splits out for cross-validation",
        )
    if not scored.any() and (n_related or fraction is not None):
        raise FitError(
            f"each of the {n_related} test images is a copy of a training image, or of its group"
            if n_related
            else f"--holdout {fraction:g} takes none of {int(train.sum())} images",
            expected="test images of their own",
            next="a larger share, or cross-validation: leave out the splits and --holdout",
        )
    if len(np.unique(groups[train])) < 4:
        raise FitError(
            f"{len(np.unique(groups[train]))} different images or groups to train on",
            expected="4 or more, to choose a setting on some and score it on others",
            next="add labelled images",
        )


def _require_variety(
    targets: np.ndarray, train: np.ndarray, task: str, names: Sequence[str]
) -> None:
    known = targets[train]
    if task == "regression":
        if np.ptp(known[:, 0]) == 0:
            raise FitError(
                f"{names[0]} is {known[0, 0]:g} in all training images",
                expected="different numbers",
            )
        return
    both = (known == 1).any(axis=0) & (known == 0).any(axis=0)
    if not both.any():
        raise FitError(
            "no label is there in some training images and missing in others",
            expected="images with and without it",
            where=", ".join(names[:5]),
            next="add images without the labels: a list column says | for none of them",
        )
