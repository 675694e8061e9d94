"""Which rows train, which score, which are left out: labels, splits and keys in, indices out.

Every row ends in exactly one place: training, scored, unlabelled, or dropped as a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import FitError
from .splits import holdout, single_group_classes, unscored_classes
from .wording import images as noun
from .wording import names, only_train


@dataclass
class Rows:
    """Where each row goes.

    Attributes
    ----------
    train : ndarray of intp
        Rows the kept probe learns from, in input order.
    test : ndarray of intp
        Held-out rows; empty where cross-validation scores.
    y : ndarray of shape (n,), intp
        Indices into `classes`, -1 for unlabelled rows.
    classes : list of str
        Those with a training row, in the order given.
    images : ndarray of shape (n,), intp
        Equal numbers: one picture, that is equal keys or near copies. They count as one image together.
    groups : ndarray of shape (n,), intp
        Equal numbers never stand on both sides: one picture, one patient, one camera.
    n_unlabelled, n_dropped : int
    notes : list of str
    """

    train: np.ndarray
    test: np.ndarray
    y: np.ndarray
    classes: list[str]
    images: np.ndarray
    groups: np.ndarray
    n_unlabelled: int
    n_dropped: int
    notes: list[str] = field(default_factory=list)


def assign_rows(
    y: np.ndarray,
    classes: Sequence[str],
    splits: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    sides: np.ndarray | None,
    holdout_fraction: float | None,
) -> Rows:
    """Decide for every row.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled.
    classes : sequence of str
    splits : ndarray of shape (n,), str
        ``""``, ``train``, ``val`` or ``test``. Test scores if it has labelled rows, else val; everything else
        trains.
    images, groups : ndarray of shape (n,), int
        See `Rows`.
    sides : ndarray of shape (n, b), uint8, or None
        What is hashed to tell a row's side: its key, or what stands for its group.
    holdout_fraction : float or None
        Share of a test set by hash of `sides`, where there are no splits.

    Returns
    -------
    Rows

    Raises
    ------
    FitError
        If no honest score can come of it.
    """
    y = np.asarray(y, np.intp)
    notes: list[str] = []
    labelled = y >= 0
    if not labelled.any():
        raise FitError(
            f"none of the {len(y)} images has a label",
            expected="labels of 2 classes or more",
            next="put the images into a folder for each class, or give --labels TABLE",
        )
    _check_classes(y[labelled], groups[labelled], classes)
    if n_without := int(np.sum(~labelled)):
        notes.append(f"{n_without} unlabelled {noun(n_without)} left out")
    if clashes := _conflicts(y[labelled], images[labelled]):
        notes.append(f"{clashes} {noun(clashes)} stand under two labels, with the same content")

    if holdout_fraction is not None:
        scored = labelled & _held_out(
            y, images, groups, splits, sides, holdout_fraction, classes, notes
        )
    else:
        scored = labelled & split_out(splits, labelled, notes)
    train = labelled & ~scored
    _check_training(y, train, scored, classes, holdout_fraction)
    copies = scored & np.isin(images, images[train])
    n_copies = int(copies.sum())
    related = scored & ~copies & np.isin(groups, groups[train])
    n_related = int(related.sum())
    if n_copies or n_related:
        scored &= ~(copies | related)
        if not scored.any():
            why = (
                "is a copy of a training image"
                if not n_related
                else "is of a training image's group"
            )
            raise FitError(
                f"each of the {n_copies + n_related} test images {why}",
                expected="test images of their own",
                next="keep copies and groups on one side, or fit without splits: they then stay together",
            )
    if n_copies:
        notes.append(
            f"{n_copies} test {noun(n_copies)} dropped, because training images have the same content"
        )
    if n_related:
        notes.append(
            f"{n_related} test {noun(n_related)} dropped, because training images are of their group"
        )
    present = np.unique(y[train])
    unused = [classes[i] for i in range(len(classes)) if i not in set(present.tolist())]
    if unused:
        notes.append(f"no labelled image of {names(unused)}; the probe does not know it")
    renumbered = np.full(len(classes) + 1, -1)
    renumbered[present] = np.arange(len(present))
    return Rows(
        train=np.flatnonzero(train),
        test=np.flatnonzero(scored),
        y=renumbered[y],
        classes=[classes[i] for i in present],
        images=images,
        groups=groups,
        n_unlabelled=n_without,
        n_dropped=n_copies + n_related,
        notes=notes,
    )


def _check_classes(y: np.ndarray, groups: np.ndarray, classes: Sequence[str]) -> None:
    present, counts = np.unique(y, return_counts=True)
    if len(present) == 1:
        raise FitError(
            f"1 class: {classes[present[0]]}; needs 2",
            expected="labelled images of 2 classes or more",
            next="add images of another class",
        )
    alone = set(single_group_classes(y, groups).tolist())
    if len(present) - len(alone) < 2:
        raise FitError(
            "fewer than 2 classes have 2 different images: "
            + names([f"{classes[c]} {n}" for c, n in zip(present, counts, strict=True)]),
            expected="2 different images or more in each of 2 classes, to train on one and score another",
            next="add images",
        )


def _held_out(
    y: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    splits: np.ndarray,
    sides: np.ndarray | None,
    fraction: float,
    classes: Sequence[str],
    notes: list[str],
) -> np.ndarray:
    if (splits != "").any():
        raise FitError(
            "--holdout takes a test set, but the images already have splits: "
            + ", ".join(sorted(set(splits[splits != ""].tolist()))),
            next="leave out --holdout, or the split folders or column",
        )
    if sides is None:
        raise FitError("--holdout goes by the hash of the key, and these rows have no keys")
    alone = single_group_classes(y[y >= 0], groups[y >= 0])
    # A class with one image can only train. Copies of it under another label go with it.
    barred = np.isin(groups, groups[np.isin(y, alone)])
    if len(alone):
        lone = unscored_classes(y[y >= 0], images[y >= 0], groups[y >= 0])
        notes.append(only_train(*([classes[c] for c in each] for each in lone)))
    chosen = holdout(sides, fraction) & ~barred & (y >= 0)
    if not chosen.any():
        raise FitError(
            f"--holdout {fraction:g} takes none of {int(np.sum(y >= 0))} images",
            next="a larger share, or leave out --holdout for cross-validation",
        )
    return chosen


def split_out(splits: np.ndarray, labelled: np.ndarray, notes: list[str]) -> np.ndarray:
    """The rows of the split that scores; none where cross-validation does."""
    known = {"", "train", "val", "test"}
    if strange := sorted(set(splits.tolist()) - known):
        raise FitError(
            f"unknown split {names(strange)}", expected="train, val, test, or empty for none"
        )
    for name in ("test", "val"):
        rows = splits == name
        if (rows & labelled).any():
            break
        if rows.any():
            notes.append(f"the split {name} has no label, so it scores nothing")
    else:
        if (splits == "train").any():
            notes.append("there is only a train split: scored by cross-validation")
        return np.zeros(len(splits), bool)
    if name == "test" and (extra := int(np.sum(labelled & (splits == "val")))):
        notes.append(f"{extra} val {noun(extra)} joined the training rows; test scores")
    if extra := int(np.sum(labelled & (splits == ""))):
        notes.append(f"{extra} {noun(extra)} without a split joined the training rows")
    return rows


def _check_training(
    y: np.ndarray,
    train: np.ndarray,
    scored: np.ndarray,
    classes: Sequence[str],
    fraction: float | None,
) -> None:
    hashed = fraction is not None
    smaller = "a smaller share, or leave out --holdout for cross-validation"
    if not train.any():
        raise FitError(
            f"--holdout {fraction:g} takes all {scored.sum()} images; none is left to train on"
            if hashed
            else "all labelled images are in the split that scores; none is left to train on",
            next=smaller
            if hashed
            else "add a train split, or leave the splits out for cross-validation",
        )
    only_scored = np.setdiff1d(y[scored], y[train])
    if len(only_scored):
        where = "the held-out set" if hashed else "the split that scores"
        raise FitError(
            f"{names([classes[c] for c in only_scored])}: all images are in {where}",
            expected="training images of every class that is scored",
            next=f"{smaller}, which spreads small classes"
            if hashed
            else "move some of them to train, remove them, or mend the name if it is a misspelling",
        )
    present = np.unique(y[train])
    if len(present) == 1:
        raise FitError(
            f"1 class among the training rows: {classes[present[0]]}; needs 2",
            next=smaller if hashed else "add training images of another class",
        )


def _conflicts(y: np.ndarray, groups: np.ndarray) -> int:
    pairs = np.unique(np.stack([groups, y]), axis=1)[0]
    _, counts = np.unique(pairs, return_counts=True)
    return int(np.sum(counts > 1))
