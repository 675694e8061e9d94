"""Which rows are one picture, and which must never stand on both sides: keys, hashes and groups in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from blake3 import blake3

from ..errors import FitError
from .near_copies import NearCopies, connected, near_copies
from .splits import group_rows
from .wording import images as noun

# Sets whose rows the report lists; the largest first.
_LISTED = 20
NOT_LOOKED = "near copies were not looked for: these features have no perceptual hashes"


@dataclass(frozen=True)
class Groups:
    """What belongs together.

    Attributes
    ----------
    images : ndarray of shape (n,), intp
        Equal numbers: one picture (equal keys, or near copies); it counts once.
    groups : ndarray of shape (n,), intp
        Equal numbers never stand on both sides; unions of pictures.
    sides : ndarray of shape (n, b), uint8, or None
        What `--holdout` hashes: the name of the row's own group, else its key. Not that of a union: a
        new image that joins two groups must not make one of them change sides.
    notes : list of str
    report : dict
        JSON data: ``near_copies`` (images beside the first of each set; None if not looked for),
        ``near_copy_sets`` (lists of rows), ``looks`` (sizes of sets that are no copies), ``crossing``
        (sets of near copies that stand in several splits), ``groups`` (their number; None without).
    """

    images: np.ndarray
    groups: np.ndarray
    sides: np.ndarray | None
    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def find_groups(
    X: np.ndarray,
    *,
    keys: np.ndarray | None,
    phash: np.ndarray | None,
    groups: Sequence[object] | np.ndarray | None,
    splits: np.ndarray,
    used: np.ndarray,
) -> Groups:
    """Number pictures and groups.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    keys : ndarray of shape (n, b), uint8, or None
        Rows with equal keys are one picture.
    phash : ndarray of shape (n,), uint64, or None
        Perceptual hashes; None: near copies are not looked for.
    groups : sequence of length n, or None
        Names or numbers; rows of one group never stand on both sides. None or an empty text is no
        group, which only a row that is not `used` may have.
    splits : ndarray of shape (n,), str
    used : ndarray of shape (n,), bool
        Labelled rows: the others neither train nor score.

    Returns
    -------
    Groups

    Raises
    ------
    FitError
        If there are not as many groups as rows, a used row has none, or all have the same.
    """
    same = group_rows(keys, len(X))
    report: dict[str, Any] = {"near_copies": None, "groups": None}
    notes: list[str] = []
    images = same
    # Without a labelled row there is nothing to look at: who deals the rows says so.
    if phash is not None and used.any():
        found, first, of_row = _search(X, np.asarray(phash, np.uint64), same, used)
        images = _numbered(of_row, found)
        report |= _told(found, first, images, splits)
        notes += _notes(found, report, len(first))
    joined, sides = images, keys
    if groups is not None:
        names = _names(groups, used)
        numbers = np.unique(names, return_inverse=True)[1].reshape(-1)
        joined = union(images, numbers)
        sides = _hashed(names)
        report["groups"] = len(np.unique(joined[used]))
        named = len(np.unique(numbers[used]))
        if report["groups"] < named:
            notes.append(
                f"{named} groups are {report['groups']}: some have images in common, and are taken together"
            )
        if report["groups"] == 1:
            raise FitError(
                "all images are of one group",
                expected="2 groups or more, to train on some and score another",
                where="--groups",
                next="another column, or leave out --groups",
            )
    return Groups(images, joined, sides, notes, report)


def _search(
    X: np.ndarray, phash: np.ndarray, same: np.ndarray, used: np.ndarray
) -> tuple[NearCopies, np.ndarray, np.ndarray]:
    """Near copies among pictures of different keys, the first row of each, and each row's picture.

    A picture without a used row has none of its own beside it: its number is past those of all others.
    """
    rows = np.flatnonzero(used)
    numbers, first, of_used = np.unique(same[rows], return_index=True, return_inverse=True)
    first = rows[first]
    vectors = X[first]
    if len(first) < len(rows):  # several views of an image: their mean stands for it
        vectors = np.zeros((len(first), X.shape[1]), np.float64)
        np.add.at(vectors, of_used.reshape(-1), X[rows])
    of_row = np.full(len(X), -1, np.intp)
    place = np.searchsorted(numbers, same).clip(max=len(numbers) - 1)
    known = numbers[place] == same
    of_row[known] = place[known]
    of_row[~known] = len(numbers) + np.unique(same[~known], return_inverse=True)[1].reshape(-1)
    return near_copies(vectors, phash[first]), first, of_row


def _numbered(of_row: np.ndarray, found: NearCopies) -> np.ndarray:
    """The set of each row's picture, from 0 on."""
    n_others = max(0, int(of_row.max()) + 1 - len(found.sets))
    past = int(found.sets.max(initial=-1)) + 1
    sets = np.concatenate([found.sets, past + np.arange(n_others)])
    return np.unique(sets[of_row], return_inverse=True)[1].reshape(-1).astype(np.intp)


def _told(
    found: NearCopies, first: np.ndarray, images: np.ndarray, splits: np.ndarray
) -> dict[str, Any]:
    """What the report says of near copies."""
    sizes = np.bincount(found.sets, minlength=1)
    several = np.flatnonzero(sizes > 1)
    largest = several[np.argsort(-sizes[several], kind="stable")][:_LISTED]
    return {
        "near_copies": int((sizes[several] - 1).sum()),
        "near_copy_sets": [
            sorted(first[found.sets == number].tolist()) for number in largest.tolist()
        ],
        "looks": [len(look) for look in found.looks],
        "complete": found.complete,
        "crossing": _crossing(images, first[np.isin(found.sets, several)], splits),
    }


def _crossing(images: np.ndarray, rows: np.ndarray, splits: np.ndarray) -> int:
    """How many of the sets that these rows are of stand in more than one split."""
    pairs = {
        (int(image), str(split)) for image, split in zip(images[rows], splits[rows], strict=True)
    }
    return len(pairs) - len({image for image, _ in pairs})


def _notes(found: NearCopies, report: dict[str, Any], n: int) -> list[str]:
    notes = []
    count, n_sets = report["near_copies"], int((np.bincount(found.sets, minlength=1) > 1).sum())
    if count:
        across = f", {report['crossing']} of them across splits" if report["crossing"] else ""
        notes.append(
            f"{count} of {n} {noun(n)} {'is a near copy' if count == 1 else 'are near copies'} of others, "
            f"saved again, in {n_sets} {'set' if n_sets == 1 else 'sets'}{across}: a set counts as one "
            "image and is never on both sides"
        )
    for look in found.looks:
        notes.append(
            f"{len(look)} images look alike, by hash and features: too many to be copies of one, so they "
            "count one by one; --groups keeps what belongs together on one side"
        )
    if not found.complete:
        notes.append(
            "so many images are alike that not all pairs were looked at for near copies; --groups keeps "
            "what belongs together on one side"
        )
    return notes


def _names(groups: Sequence[object] | np.ndarray, used: np.ndarray) -> np.ndarray:
    """Group names as text, (n,) object; a row without one that is not used gets a name of its own."""
    given = list(groups.tolist() if isinstance(groups, np.ndarray) else groups)
    if len(given) != len(used):
        raise FitError(
            f"{len(given)} groups for {len(used)} rows", expected="one for each", where="groups"
        )
    missing = np.array([is_missing(value) for value in given], bool)
    if (missing & used).any():
        raise FitError(
            f"{int((missing & used).sum())} labelled rows have no group, the first is row "
            f"{int(np.flatnonzero(missing & used)[0])}",
            expected="a name or a number for each",
            where="groups",
        )
    names = np.empty(len(given), object)
    names[:] = [
        f"\0{row}" if gone else as_name(value)
        for row, (value, gone) in enumerate(zip(given, missing, strict=True))
    ]
    return names


def is_missing(value: object) -> bool:
    """Whether a value names no group: None, an empty text, NaN."""
    return value is None or value == "" or value != value


def as_name(value: object) -> str:
    """A group's name: numbers as they are written, 3.0 as ``3``."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _hashed(names: np.ndarray) -> np.ndarray:
    """BLAKE3 of each name: (n, 32) uint8."""
    distinct, place = np.unique(names, return_inverse=True)
    digests = [blake3(name.encode("utf-8", "surrogatepass")).digest() for name in distinct]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)[place.reshape(-1)]


def union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The finest numbering that joins what either of two numberings joins.

    Parameters
    ----------
    a, b : ndarray of shape (n,), int
        Not negative.

    Examples
    --------
    >>> union(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    nodes = int(a.max(initial=-1)) + 1
    links = np.stack([a, nodes + b], axis=1)
    numbers = connected(nodes + int(b.max(initial=-1)) + 1, links)[a]
    return np.unique(numbers, return_inverse=True)[1].reshape(-1).astype(np.intp)
