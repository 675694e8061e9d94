"""Nested stratified subsets of training rows: an order in, whose beginnings are the subsets."""

from __future__ import annotations

import numpy as np

_FEWEST = 10  # images that a curve begins with, where classes are few
_SPAN = 32  # largest size over smallest, at most
_SIZES = 7


def nested_order(
    y: np.ndarray, images: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Put rows into a random order, in which every beginning has the classes in proportion.

    Each class comes once before any comes twice, so that no subset of 2 k images lacks a class that one
    of them could show.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Class indices.
    images, groups : ndarray of shape (n,), int
        Rows of one group (a patient, the copies of an image) come together; equal images count once.
    rng : numpy Generator

    Returns
    -------
    order : ndarray of shape (n,), intp
    counts : ndarray of shape (n,), intp
        Different images in the group of each place and before it: where this is at least m for the first
        time, the subset of m images ends (a group is never cut).

    Examples
    --------
    >>> y = np.array([0] * 6 + [1] * 3)
    >>> order, counts = nested_order(y, np.arange(9), np.arange(9), np.random.default_rng(0))
    >>> sorted(y[order[:3]].tolist()), counts.tolist()
    ([0, 0, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    n_groups = int(group.max()) + 1
    # A group with rows of several classes stands for its rarest.
    frequency = np.bincount(y)
    by_rarity = np.lexsort((frequency[y], group))
    first = by_rarity[np.searchsorted(group[by_rarity], np.arange(n_groups))]
    kind = y[first]
    shuffled = rng.permutation(n_groups)
    place = np.empty(n_groups)
    for label in np.unique(kind):
        of_class = shuffled[kind[shuffled] == label]
        place[of_class] = (np.arange(len(of_class)) + rng.random(len(of_class))) / len(of_class)
        place[of_class[0]] -= 1
    order = np.argsort(place[group], kind="stable")
    new = np.zeros(len(y), bool)
    new[np.unique(images[order], return_index=True)[1]] = True
    counts = np.cumsum(new)
    # What a place counts is its whole group: the count at the group's last row.
    arranged = group[order]
    ends = np.flatnonzero(np.append(arranged[1:] != arranged[:-1], True))
    return order, counts[ends][np.searchsorted(ends, np.arange(len(y)))]


def beginning(order: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """The subset of at least `size` images, ascending; all rows where there are no more."""
    reached = min(int(np.searchsorted(counts, size)), len(counts) - 1)
    return np.sort(order[: int(np.searchsorted(counts, counts[reached], side="right"))])


def curve_sizes(largest: int, n_classes: int) -> list[int]:
    """Numbers of training images to measure at, log-spaced, ascending.

    Parameters
    ----------
    largest : int
        Images that every draw has.
    n_classes : int

    Returns
    -------
    list of int
        Seven, from two images of each class (10 at least, `largest` / 32 at least) to `largest`; fewer
        where there is no room, and one alone where there is none for a curve.

    Examples
    --------
    >>> curve_sizes(320, 2)
    [10, 18, 32, 57, 101, 180, 320]
    """
    smallest = max(2 * n_classes, _FEWEST, round(largest / _SPAN))
    if smallest * 2 > largest:
        return [largest]
    return sorted(set(np.rint(np.geomspace(smallest, largest, _SIZES)).astype(int).tolist()))
