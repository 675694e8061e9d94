"""Which row of several features counts for a path: the rules of joining, in a few bytes a row.

A row is its path and view. Under one root an equal path with another key is a file that was edited:
the later of the features counts. Under different roots it is another file. `joining` gathers the
rows in memory, `merging` on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any

import numpy as np

from ..errors import CacheError
from ..paths import unescape
from ..remote.urls import is_url
from ..texts import Texts, concatenated
from .features import Features

# What a root begins with: a bucket or web server, a server of Windows, a drive, or nothing.
_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*|//[^/]+|[A-Za-z]:(?=/|$)|(?=/)")


@dataclass(frozen=True)
class Settled:
    """The rows of several features that count, in the order of a file.

    Attributes
    ----------
    root : str
        That their paths are relative to; empty where they share none.
    prefixes : list of str
        What the paths of each of the features begin with now.
    paths : Texts
        Of the n rows.
    place : ndarray of shape (n,), int
        Where each stands in all rows, those of one of the features behind those of the one before.
    part, row : ndarray of shape (n,), int
        The same as number of the features, and row in them.
    classes : list of str
        Of all.
    labels : list of ndarray of int32
        Of each of the features, as index into `classes`.
    repeated, replaced : int
        Rows left out because they stand twice, or because a later one has another key.
    told : (ndarray, ndarray) of shape (m,), int
        Row of the n, and place of another one of its key, which may say what it does not.
    """

    root: str
    prefixes: list[str]
    paths: Texts
    place: np.ndarray
    part: np.ndarray
    row: np.ndarray
    classes: list[str]
    labels: list[np.ndarray]
    repeated: int
    replaced: int
    told: tuple[np.ndarray, np.ndarray]

    def saying(self, known: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """`place`, but where a column has nothing, that of a row of equal key where it has a value.

        Parameters
        ----------
        known : callable
            Whether the column has a value at places (k,): (k,) bool.
        """
        at, other = self.told
        if not len(at):
            return self.place
        use = ~known(self.place[at]) & known(other)
        place = self.place.copy()
        place[at[use][::-1]] = other[use][::-1]  # of several the first
        return place


def settle(several: Sequence[Features], *, apart: bool = False) -> Settled:
    """Decide for each path which row counts; no feature is read.

    Parameters
    ----------
    several : sequence of Features
        At least one.
    apart : bool, default False
        Features of different roots that have no row in common are of different folders, and their
        paths become relative to the folder above, also where no path stands twice.

    Raises
    ------
    CacheError
        If one row has two labels or two splits.
    """
    roots = [part.root for part in several]
    counts = [len(part) for part in several]
    part = np.repeat(np.arange(len(several)), counts)
    keys = np.concatenate([each.keys for each in several])
    views = np.concatenate([each.rows.views() for each in several])
    prefixes = [""] * len(several)
    paths = concatenated(each.rows.paths for each in several)
    order, again = in_runs(paths, views)
    root = roots[0] if len(set(roots)) == 1 else ""
    if not root:
        edited = (keys[order[1:]] != keys[order[:-1]]).any(axis=1) & again
        # Under different roots an equal path is another file, unless all that are equal have one key.
        if edited.any() or (apart and not again.any() and all(roots)):
            root, prefixes = _above(roots)
            paths = _prefixed(prefixes, several)
            order, again = in_runs(paths, views)
        elif apart and again.any():
            root = _one_place(roots)
    classes = sorted({name for each in several for name in each.classes}, key=str.encode)
    labels = _labels(several, classes)
    place, repeated, replaced, told = _chosen(several, order, again, keys, part)
    starts = np.cumsum([0, *counts])
    return Settled(
        root,
        prefixes,
        paths.take(place),
        place,
        part[place],
        place - starts[part[place]],
        classes,
        labels,
        repeated,
        replaced,
        told,
    )


def count(several: Sequence[Features]) -> tuple[int, int]:
    """`repeated` and `replaced` of features of one root, that do not contradict each other."""
    paths = concatenated(each.rows.paths for each in several)
    order, again = in_runs(paths, np.concatenate([each.rows.views() for each in several]))
    keys = np.concatenate([each.keys for each in several])
    edited = int(((keys[order[1:]] != keys[order[:-1]]).any(axis=1) & again).sum())
    return int(again.sum()) - edited, edited


def _prefixed(prefixes: Sequence[str], several: Sequence[Features]) -> Texts:
    return concatenated(
        (prefixed(prefix, path) for path in each.rows.paths)
        for prefix, each in zip(prefixes, several, strict=True)
    )


def prefixed(prefix: str, path: str) -> str:
    """A path with what is before it now; a URL is below no root."""
    return path if is_url(path) else prefix + path


def in_runs(paths: Texts, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All rows by path and view, in their own order where these are equal; which repeat the one before."""
    by_view = np.argsort(views, kind="stable")
    order = by_view[paths.take(by_view).argsort()]
    again = paths.repeats(order) & (views[order[1:]] == views[order[:-1]])
    return order, again


def _above(roots: list[str]) -> tuple[str, list[str]]:
    """The folder above all roots, and each root relative to it with a slash behind."""
    places = [_place(root) for root in roots]
    start = places[0][0]
    if all(roots) and all(own == start for own, _ in places):
        folders = [names for _, names in places]
        levels = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
        shared = [level[0] for level in levels]
        prefixes = ["".join(f"{name}/" for name in names[len(shared) :]) for names in folders]
        above = "/".join([start, *shared])
        # A drive without a slash is the folder that is the current one there.
        return above if shared or "//" in start else f"{above}/", prefixes
    # What has no root is images from memory, of which nobody knows whether they are the same.
    known = list(dict.fromkeys(root or number for number, root in enumerate(roots)))
    return "", [f"{known.index(root or number)}/" for number, root in enumerate(roots)]


def _place(root: str) -> tuple[str, list[str]]:
    """What no folder lies above, such as a drive, a server or a bucket, and the folders below it."""
    match = _START.match(root)
    start = match[0] if match else root  # a relative one, which is below nothing that is known
    return start, [name for name in root[len(start) :].split("/") if name]


def _one_place(roots: list[str]) -> str:
    """Of one folder that lay in several places the one where it is now; empty if that is not clear."""
    there = {root for root in roots if root and os.path.isdir(unescape(root))}
    return there.pop() if len(there) == 1 else ""


def _labels(several: Sequence[Features], classes: list[str]) -> list[np.ndarray]:
    index = {name: i for i, name in enumerate(classes)}
    found = []
    for part in several:
        mapping = np.array([*(index[name] for name in part.classes), -1], np.int32)
        found.append(mapping[part.y])
    return found


def _chosen(
    several: Sequence[Features],
    order: np.ndarray,
    again: np.ndarray,
    keys: np.ndarray,
    part: np.ndarray,
) -> tuple[np.ndarray, int, int, tuple[np.ndarray, np.ndarray]]:
    """The row that counts of each run of equal path and view; the counts and `Settled.told`."""
    first = np.flatnonzero(np.concatenate([[True], ~again])) if len(order) else np.empty(0, np.intp)
    place = order[first]
    lengths = np.diff([*first.tolist(), len(order)])
    many = np.flatnonzero(lengths > 1)
    at: list[int] = []
    other_places: list[int] = []
    if not len(many):
        return place, 0, 0, _pairs(at, other_places)
    starts = np.cumsum([0, *(len(each) for each in several)])
    splits = list(chain.from_iterable(each.rows.splits for each in several))
    tables = _Told(several, starts, part, splits)
    repeated = replaced = 0
    for run in many.tolist():
        members = order[first[run] : first[run] + lengths[run]].tolist()
        chosen = members[0]
        alike = [chosen]
        for other in members[1:]:
            if (keys[other] != keys[chosen]).any():
                chosen = other
                alike = [chosen]
                replaced += 1
                continue
            for one in alike:
                tables.require_equal(one, other)
            alike.append(other)
            repeated += 1
            if tables.known(other) > tables.known(chosen):
                chosen = other
        place[run] = chosen
        others = [each for each in alike if each != chosen]
        at += [run] * len(others)
        other_places += others
    return place, repeated, replaced, _pairs(at, other_places)


def _pairs(at: list[int], other_places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(at, np.int64), np.array(other_places, np.int64)


class _Told:
    """What rows say beside their feature: labels and splits, by their place in all rows."""

    def __init__(
        self,
        several: Sequence[Features],
        starts: np.ndarray,
        part: np.ndarray,
        splits: list[str],
    ) -> None:
        self._several = several
        self._starts = starts
        self._part = part
        self._splits = splits

    def label(self, place: int) -> Any:
        """Of a row: its class, its targets as one text, or None."""
        number = int(self._part[place])
        each, row = self._several[number], place - int(self._starts[number])
        if each.rows.targets is not None:
            return each.rows.targets.take(np.array([row])).texts()[0]
        label = int(each.y[row])
        return each.classes[label] if label >= 0 else None

    def known(self, place: int) -> int:
        """How much a row says: both, a label, a split."""
        return 2 * int(self.label(place) is not None) + bool(self._splits[place])

    def require_equal(self, a: int, b: int) -> None:
        """Raise a CacheError if one row has two labels or splits; one and none do not contradict."""
        # No split is empty; an empty text among the labels says that none of several applies.
        labels = self.label(a), self.label(b)
        splits = self._splits[a], self._splits[b]
        if None not in labels and labels[0] != labels[1]:
            self._fail("labels", labels, a, b)
        if all(splits) and splits[0] != splits[1]:
            self._fail("splits", splits, a, b)

    def _fail(self, what: str, values: tuple[Any, Any], a: int, b: int) -> None:
        numbers = [int(self._part[place]) for place in (a, b)]
        each = self._several[numbers[0]]
        path = each.rows.paths[a - int(self._starts[numbers[0]])]
        files = [str(self._several[i].file or f"features {i}") for i in numbers]
        raise CacheError(
            f"{path} has two {what}: {values[0]!r} in {files[0]}, {values[1]!r} in {files[1]}",
            expected="one",
            where=" and ".join(files),
            next="extract the older one again, which takes the new labels and computes nothing",
        )
