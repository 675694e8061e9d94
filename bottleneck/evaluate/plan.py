"""Who trains and who is scored, for any head: labels, splits and groups in, jobs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..heads.sweep import Job
from .rows import Rows, assign_rows
from .splits import TRAIN_ONLY, even_folds, single_group_classes, stratified_folds, unscored_classes
from .wording import names, only_train

_OUTER = 1  # stream of random numbers, next to the inner folds' 2


@dataclass(frozen=True)
class Plan:
    """Outer folds, or one test set.

    Attributes
    ----------
    rows : Rows
    repeats : list of list of Job
        Of each repeat, the outer folds; one job where a test set is scored.
    folds : ndarray of shape (repeats, n), int32
        Outer fold of each row in each repeat, `TRAIN_ONLY` for rows that are never scored.
    protocol : str
        ``holdout``, or ``nested-<outer folds>x<repeats>``.
    notes : list of str
    """

    rows: Rows
    repeats: list[list[Job]]
    folds: np.ndarray
    protocol: str
    notes: list[str]

    @property
    def held_out(self) -> bool:
        """Whether one test set is scored."""
        return len(self.rows.test) > 0

    @property
    def jobs(self) -> list[Job]:
        """All outer jobs, repeat after repeat."""
        return [job for repeat in self.repeats for job in repeat]

    @property
    def scored(self) -> np.ndarray:
        """Rows that are scored, ascending."""
        return np.flatnonzero(self.folds[0] != TRAIN_ONLY)

    def only(self, repeats: int) -> Plan:
        """The same with the first so many repeats."""
        if self.held_out or repeats >= len(self.repeats):
            return self
        protocol = f"nested-{len(self.repeats[0])}x{repeats}"
        return Plan(self.rows, self.repeats[:repeats], self.folds[:repeats], protocol, self.notes)


def make_plan(
    y: np.ndarray,
    classes: Sequence[str],
    *,
    splits: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    sides: np.ndarray | None,
    folds: int,
    repeats: int,
    seed: int,
    holdout: float | None = None,
) -> Plan:
    """Decide who trains and who is scored.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled.
    classes : sequence of str
    splits, images, groups, sides, holdout
        See `rows.assign_rows`.
    folds, repeats : int
        Of the cross-validation, where no test set scores.
    seed : int

    Returns
    -------
    Plan

    Raises
    ------
    FitError
        If no honest score can come of it.
    """
    rows = assign_rows(y, classes, splits, images, groups, sides, holdout)
    if len(rows.test):
        fold_of = np.where(np.isin(np.arange(len(rows.y)), rows.test), 0, TRAIN_ONLY)
        job = Job(rows.train, rows.test)
        return Plan(rows, [[job]], fold_of[None].astype(np.int32), "holdout", list(rows.notes))
    jobs, fold_of, more = _outer(rows, folds, repeats, seed)
    protocol = f"nested-{len(jobs[0])}x{repeats}"
    return Plan(rows, jobs, fold_of, protocol, [*rows.notes, *more])


def _outer(
    rows: Rows, folds: int, repeats: int, seed: int
) -> tuple[list[list[Job]], np.ndarray, list[str]]:
    """Jobs of each repeat, the folds (repeats, n), and notes on classes too small."""
    y, groups = rows.y[rows.train], rows.groups[rows.train]
    jobs = []
    fold_of = np.full((repeats, len(rows.y)), TRAIN_ONLY, np.int32)
    # More than there are groups would stay empty, a billion fill the memory.
    dealt = even_folds(y, groups, min(folds, len(np.unique(groups))))
    for repeat in range(repeats):
        fold = stratified_folds(y, groups, dealt, np.random.default_rng([seed, _OUTER, repeat]))
        used = np.unique(fold[fold != TRAIN_ONLY])
        jobs.append([Job(rows.train[fold != f], rows.train[fold == f]) for f in used])
        fold_of[repeat, rows.train] = fold
    alone = single_group_classes(y, groups)
    counts = np.bincount(np.unique(np.stack([y, groups]), axis=1)[0])  # different groups
    small = np.setdiff1d(np.flatnonzero(counts < folds), alone)
    lone = unscored_classes(y, rows.images[rows.train], groups)
    told = only_train(*([rows.classes[c] for c in each] for each in lone))
    notes = [told] if told else []
    if len(small):
        spelled = names([f"{rows.classes[c]} ({counts[c]})" for c in small])
        notes.append(f"fewer images than {folds} folds, spread one to a fold: {spelled}")
    return jobs, fold_of, notes
