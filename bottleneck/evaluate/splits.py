"""Who is scored by whom: labels and groups in, folds out. Small, seeded, and our own.

scikit-learn's `StratifiedGroupKFold` warns or fails where small data starts: a class with fewer
members than folds, or with one.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3

TRAIN_ONLY = -1
# Mixed into each key, so that what goes into the test set is independent of every other use of it.
_HOLDOUT_CONTEXT = "bottleneck-probe 2025 held-out test set, version 1"


def group_rows(keys: np.ndarray | None, n: int) -> np.ndarray:
    """Number the groups of rows with equal keys.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), uint8, or None
        None: each row is a group of its own.
    n : int

    Returns
    -------
    ndarray of shape (n,), intp
    """
    if keys is None:
        return np.arange(n)
    rows = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}")[:, 0]
    return np.unique(rows, return_inverse=True)[1].reshape(-1)


def group_mean(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each row's mean over the rows of its group: what several views of one image say together.

    Parameters
    ----------
    values : ndarray of shape (n, k), float64
    groups : ndarray of shape (n,), int
        Rows of one image have one number.

    Returns
    -------
    ndarray of shape (n, k), float64
        Rows that stand alone are as they were, to the bit.
    """
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if counts.max(initial=1) == 1:
        return values
    total = np.zeros((len(counts), values.shape[1]))
    np.add.at(total, place, values)
    shared = counts[place] > 1
    result = values.copy()
    result[shared] = (total / counts[:, None])[place[shared]]
    return result


def copy_weights(groups: np.ndarray) -> np.ndarray:
    """What each row counts, so that the rows of a group count as one image together.

    Ten copies of an image are answered alike: as ten independent images they would make the score
    lean to that image and its interval far too narrow.

    Parameters
    ----------
    groups : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n,), float64
        1 / size of the row's group.

    Examples
    --------
    >>> copy_weights(np.array([7, 7, 3, 7, 7]))
    array([0.25, 0.25, 1.  , 0.25, 0.25])
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / sizes[group.reshape(-1)]


def single_group_classes(y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Classes whose images are all copies of one: they can train, and never be scored.

    Returns
    -------
    ndarray of intp, sorted
    """
    pairs = np.unique(np.stack([y, groups]), axis=1)
    classes, counts = np.unique(pairs[0], return_counts=True)
    return classes[counts == 1]


def unscored_classes(
    y: np.ndarray, images: np.ndarray, groups: np.ndarray
) -> tuple[list[int], list[int]]:
    """Classes that can train and never be scored: those of one image, those of several in one group.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Class indices.
    images, groups : ndarray of shape (n,), int
        Rows of one picture, and of one group, have one number.
    """
    alone = single_group_classes(y, groups).tolist()
    single = set(single_group_classes(y, images).tolist())
    return [c for c in alone if c in single], [c for c in alone if c not in single]


def stratified_folds(
    y: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Deal the rows to folds, so that each class is spread as evenly as its groups allow.

    A class with fewer groups than folds goes one to a fold; one with a single group only trains.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Class indices.
    groups : ndarray of shape (n,), int
        Rows of one group always share a fold.
    n_folds : int
    rng : numpy Generator

    Returns
    -------
    ndarray of shape (n,), int32
        Fold of each row, `TRAIN_ONLY` for those that are never scored. With little data some folds
        may stay empty.
    """
    y = np.asarray(y, np.intp)
    n_classes = int(y.max()) + 1 if len(y) else 0
    first, groups = np.unique(groups, return_index=True, return_inverse=True)[1:]
    sizes = np.bincount(groups)
    frequency = np.bincount(y, minlength=n_classes)
    # A group with two labels counts for its rarer class, which is harder to spread.
    order = np.lexsort((frequency[y], groups))
    kind = y[order[np.searchsorted(groups[order], np.arange(len(first)))]]
    barred = np.unique(groups[np.isin(y, single_group_classes(y, groups))])
    fold_of_group = np.full(len(first), TRAIN_ONLY, np.int32)
    # Large groups first, then class by class: what comes last can still level the folds.
    shuffled = rng.permutation(len(first))
    shuffled = shuffled[np.lexsort((kind[shuffled], -sizes[shuffled]))]
    of_class = [[0] * n_folds for _ in range(n_classes)]
    total = [0] * n_folds
    start = int(rng.integers(n_folds))  # else fold 0 would always get the odd ones
    folds = [(start + i) % n_folds for i in range(n_folds)]
    for group in shuffled[~np.isin(shuffled, barred)].tolist():
        counts = of_class[kind[group]]
        fold = min(folds, key=lambda f: (counts[f], total[f]))
        counts[fold] += int(sizes[group])
        total[fold] += int(sizes[group])
        fold_of_group[group] = fold
    return fold_of_group[groups]


def inner_folds(y: np.ndarray, groups: np.ndarray) -> int:
    """Folds for a choice of hyper-parameters: 5, or 3 if a class has under 10 rows; see `even_folds`."""
    counts = np.bincount(y)
    return even_folds(y, groups, 3 if counts[counts > 0].min() < 10 else 5)


def even_folds(y: np.ndarray, groups: np.ndarray, n_folds: int) -> int:
    """As many folds as most classes can be spread over.

    Of 10 classes with 3 images each, 5 folds would train on 2 images of the class that is scored and on 3
    of each other one: a head's free intercept then votes against the right answer. Such folds scored 20 to
    30 points too low, and chose settings that answer by frequency alone; with 3 folds, whose training parts
    hold 2 images of every class, the score is 2 to 8 points too low.

    Parameters
    ----------
    y, groups : ndarray of shape (n,), int
    n_folds : int
        At most so many.

    Returns
    -------
    int
        2 or more: the largest number that at least half of the groups' classes have as many groups as. One
        rare class changes nothing.

    Examples
    --------
    >>> even_folds(np.repeat(np.arange(10), 3), np.arange(30), 5)
    3
    >>> even_folds(np.repeat([0, 1], [27, 3]), np.arange(30), 5)
    5
    """
    counts = np.bincount(np.unique(np.stack([y, groups]), axis=1)[0])
    counts = counts[counts > 1]  # a single group is never scored
    for folds in range(n_folds, 2, -1):
        if 2 * counts[counts >= folds].sum() >= counts.sum():
            return folds
    return 2


def holdout(keys: np.ndarray, fraction: float) -> np.ndarray:
    """Take a test set by hash: a row never changes sides when others are added.

    Parameters
    ----------
    keys : ndarray of shape (n, b), uint8
        Equal keys stay together.
    fraction : float
        Expected share of the test set, above 0 and below 1.

    Returns
    -------
    ndarray of shape (n,), bool
        True for the test set. Its share is `fraction` up to chance.
    """
    limit = int(fraction * 2**64)
    rows = np.ascontiguousarray(keys)

    def chosen(key: bytes) -> bool:
        digest = blake3(key, derive_key_context=_HOLDOUT_CONTEXT).digest(length=8)
        return int.from_bytes(digest) < limit

    return np.fromiter((chosen(row.tobytes()) for row in rows), bool, len(rows))
