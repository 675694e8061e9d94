"""Which rows train, choose and score in a published protocol: labels and splits in, indices out.

Other than `evaluate.rows` this drops no test image that a training image equals: the protocols do
not, and a number for a table has to be of all of them. What crosses is counted and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FitError
from ..evaluate.splits import group_rows, holdout
from ..evaluate.wording import images, names
from .draws import carve

HELD_OUT = 0.2  # share that is taken by hash where no split says what scores


@dataclass(frozen=True)
class Parts:
    """Rows of a protocol.

    Attributes
    ----------
    train, val, test : ndarray of intp
        Ascending. `val` is what the choice may look at besides `train`; empty where there is none.
    y : ndarray of shape (n,), intp
        Indices into `classes`, -1 where there is no label.
    classes : tuple of str
        Those with a row in `train`.
    n_unlabelled : int
    deviations, notes : tuple of str
        Where the split is not the protocol's, and what else has to be said.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    n_unlabelled: int = 0
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_val_from_train(self, share: float, seed: int, deviation: str = "") -> Parts:
        """The same with a part of every class taken from `train` to choose by, where none is given."""
        if len(self.val):
            return self
        taken = carve(self.y[self.train], share, np.random.default_rng(seed))
        return replace(
            self,
            train=self.train[~taken],
            val=self.train[taken],
            deviations=(*self.deviations, *([deviation] if deviation else [])),
        )


def divide(
    y: np.ndarray,
    classes: Sequence[str],
    splits: np.ndarray | Sequence[str] | None,
    keys: np.ndarray | None,
    *,
    share: float | None = None,
) -> Parts:
    """Rows by their split: ``test`` scores, else ``val``; ``val`` beside a ``test`` chooses.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled.
    classes : sequence of str
    splits : sequence of str, or None
        ``train``, ``val``, ``test`` or empty.
    keys : ndarray of shape (n, 32), uint8, or None
        What a test set is taken by where there is no split.
    share : float, optional
        Of that test set; default `HELD_OUT`.

    Returns
    -------
    Parts

    Raises
    ------
    FitError
        If nothing is left to train on or to score.
    """
    y = np.asarray(y, np.intp)
    labelled = y >= 0
    train, val, test, deviations = sides(y, splits, keys, share)
    notes = []
    present = _check(y, train, val, test, classes)
    if n_unlabelled := int(np.sum(~labelled)):
        notes.append(f"{n_unlabelled} unlabelled {images(n_unlabelled)} left out")
    notes += crossing(keys, train | val, test)
    renumbered = np.full(len(classes) + 1, -1)
    renumbered[present] = np.arange(len(present))
    return Parts(
        np.flatnonzero(train),
        np.flatnonzero(val),
        np.flatnonzero(test),
        renumbered[y],
        tuple(classes[i] for i in present),
        n_unlabelled,
        tuple(deviations),
        tuple(notes),
    )


def sides(
    y: np.ndarray,
    splits: np.ndarray | Sequence[str] | None,
    keys: np.ndarray | None,
    share: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Masks (n,) of the rows that train, choose and score, and how that is not the protocol's split.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        -1 = unlabelled; a class that would only be scored stays in training.
    splits, keys, share
        See `divide`.
    """
    labelled = y >= 0
    split = np.full(len(y), "") if splits is None else np.asarray(splits).astype(str)
    scored_by = next((s for s in ("test", "val") if (labelled & (split == s)).any()), "")
    if scored_by and share is not None:
        raise FitError(
            f"--holdout takes a test set, but the split {scored_by} is one",
            next="leave out --holdout, or the split folders or column",
        )
    if scored_by:
        test = labelled & (split == scored_by)
        val = labelled & (split == "val") & ~test
        return labelled & ~test & ~val, val, test, []
    test = _taken_by_hash(y, keys, HELD_OUT if share is None else share)
    deviation = (
        f"split: {int(test.sum())} of {int(labelled.sum())} images were taken here to score, by hash; "
        "the protocol scores a published test set"
    )
    return labelled & ~test, np.zeros(len(y), bool), test, [deviation]


def _taken_by_hash(y: np.ndarray, keys: np.ndarray | None, share: float) -> np.ndarray:
    if keys is None:
        raise FitError(
            "these rows have no split that scores, and no keys to take one by",
            expected="splits: train and test, or val",
        )
    taken = holdout(np.asarray(keys, np.uint8), share) & (y >= 0)
    for label in np.unique(y[y >= 0]):
        if taken[y == label].all():
            taken[y == label] = False  # a class that only scores would be a fault of ours
    return taken


def _check(
    y: np.ndarray, train: np.ndarray, val: np.ndarray, test: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    present = np.unique(y[train])
    if len(present) < 2:
        raise FitError(
            f"{len(present)} classes among the {int(train.sum())} training images; a protocol needs 2",
            expected="labelled training images of 2 classes or more",
        )
    if not test.any():
        raise FitError("no image is left to score", next="add a test split, or more images")
    unknown = np.setdiff1d(y[val | test], present)
    if len(unknown):
        raise FitError(
            f"{names([classes[c] for c in unknown])}: no training image",
            expected="training images of every class that chooses or scores",
            next="move some of them to train, or mend the name if it is a misspelling",
        )
    return present


def crossing(keys: np.ndarray | None, learned: np.ndarray, test: np.ndarray) -> list[str]:
    """A note on test images whose content a training image has."""
    groups = group_rows(None if keys is None else np.asarray(keys, np.uint8), len(test))
    n = int(np.isin(groups[test], groups[learned]).sum())
    if not n:
        return []
    return [
        f"{n} of {int(test.sum())} test images have the same content as training images; "
        "the protocol scores them all the same"
    ]
