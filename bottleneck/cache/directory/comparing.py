"""Which rows a directory has already: the rows it is to hold and those it holds in, places out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...texts import Coded, Column, Texts, find_texts
from ..layout import Rows

# Rows compared at a time: of all at once, the copies would take as much as the rows.
_BLOCK = 1 << 16


def places(rows: Rows, old: Rows) -> np.ndarray:
    """For each row, where the same one stands in `old`: (n,) int64, -1 where there is none.

    A row is the same if nothing about it differs: path, view, key, label, split, targets, further
    columns, perceptual hash. The rows of one path are the same all together or not at all. A column
    that `old` has not at all has no value there.

    Parameters
    ----------
    rows, old : Rows
        Both in the order of a file.
    """
    at = _same_path(rows, old)
    classes = _classes(rows, old)
    for start in range(0, len(at), _BLOCK):
        found = start + np.flatnonzero(at[start : start + _BLOCK] >= 0)
        at[found[~_same(rows, old, classes, found, at[found])]] = -1
    return _whole(rows, old, at)


def _same(
    rows: Rows, old: Rows, classes: np.ndarray, found: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """Whether rows `found` are rows `there` of `old`, which have their paths: (m,) bool."""
    same: np.ndarray = (rows.keys[found] == old.keys[there]).all(axis=1)
    same &= classes[rows.labels[found]] == old.labels[there]
    same &= _equal(rows.splits, found, old.splits, there)
    same &= _same_targets(rows, old, found, there)
    if rows.phash is not None:
        same &= False if old.phash is None else rows.phash[found] == old.phash[there]
    for name, column in rows.meta.items():
        other = old.meta.get(name)
        if other is None:
            same &= _is_nothing(column, found)
        elif isinstance(column, np.ndarray) != isinstance(other, np.ndarray):
            same &= False
        else:
            same &= _equal(column, found, other, there)
    return same


def first_of_path(rows: Rows) -> np.ndarray:
    """For each row the first row of its path: (n,) int64."""
    here = np.arange(len(rows))
    paths = Texts.of(rows.paths)
    if rows.view is None or paths.ascending():
        return here
    begins = np.concatenate([[True], ~paths.repeats(here)]) if len(here) else here.astype(bool)
    return np.maximum.accumulate(np.where(begins, here, 0))


def _same_path(rows: Rows, old: Rows) -> np.ndarray:
    """The row of `old` with the same path and view, or -1."""
    at = find_texts(rows.paths, old.paths)
    if rows.view is None and old.view is None:
        return at
    # The first of the path, moved by how far the row is from the first of its own.
    found = at >= 0
    at = np.where(found, at + np.arange(len(rows)) - first_of_path(rows), -1)
    inside = found & (at < len(old))
    old_first = first_of_path(old)
    first = find_texts(rows.paths, old.paths)
    there = np.where(inside, at, 0)
    right = inside & (old_first[there] == first) & (old.views()[there] == rows.views())
    return np.where(right, at, -1)


def _whole(rows: Rows, old: Rows, at: np.ndarray) -> np.ndarray:
    """The places, but -1 for all rows of a path where one of them has none, or `old` has more."""
    if rows.view is None and old.view is None:
        return at
    first, old_first = first_of_path(rows), first_of_path(old)
    n_own = np.bincount(first, minlength=len(rows))
    n_old = np.bincount(old_first, minlength=len(old))
    n_same = np.bincount(first, weights=at >= 0, minlength=len(rows))
    equal = n_own[first] == n_same[first]
    equal &= n_old[old_first[np.maximum(at, 0)]] == n_own[first]
    return np.where(equal, at, -1)


def _classes(rows: Rows, old: Rows) -> np.ndarray:
    """For each class of `rows`, and for none at the end, the label it has in `old`; -2 for no such."""
    if rows.targets is not None or old.targets is not None:
        return np.array([*range(len(rows.classes)), -1], np.int32)  # nobody has a label
    known = {name: i for i, name in enumerate(old.classes)}
    return np.array([*(known.get(name, -2) for name in rows.classes), -1], np.int32)


def _same_targets(rows: Rows, old: Rows, found: np.ndarray, there: np.ndarray) -> np.ndarray:
    mine, other = rows.targets, old.targets
    if mine is None or other is None:
        return np.full(len(found), mine is other)
    if (mine.task, mine.names) != (other.task, other.names):
        return np.zeros(len(found), bool)
    a, b = mine.values[found], other.values[there]
    equal: np.ndarray = ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
    return equal


def _equal(a: Column, at: np.ndarray, b: Column, there: np.ndarray) -> np.ndarray:
    """Whether the values of two columns of one kind are equal, place by place: (m,) bool."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        left, right = a[at], b[there]
        return (left == right) | (np.isnan(left) & np.isnan(right))
    if isinstance(a, Coded) and isinstance(b, Coded):
        number = {value: i for i, value in reversed(list(enumerate(b.values)))}
        # A value may stand twice among those of `b`: both codes become the first.
        unified = np.array([number[value] for value in b.values], np.int64)
        mapped = np.array([number.get(value, -1) for value in a.values], np.int64)
        equal: np.ndarray = mapped[a.codes[at]] == unified[b.codes[there]]
        return equal
    return np.fromiter(
        (x == y for x, y in zip(_picked(a, at), _picked(b, there), strict=True)), bool, len(at)
    )


def _is_nothing(column: Column, at: np.ndarray) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return np.isnan(column[at])
    return np.fromiter((not value for value in _picked(column, at)), bool, len(at))


def _picked(column: Column, at: np.ndarray) -> Sequence[str]:
    assert not isinstance(column, np.ndarray)
    return Texts.of(column).take(at)
