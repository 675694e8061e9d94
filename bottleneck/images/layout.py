"""Where files lie says what they are: paths below a root in, split and class of each out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..paths import SURROGATES, escape, unescape
from ..paths import as_text as spelled
from .folders import is_unlisted

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


# What `escape` writes: the percent sign, and bytes that are not UTF-8 (all of them above 7F).
_ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")


def split_of(word: str) -> str | None:
    """The split that a word stands for, in any case; None for other words.

    Examples
    --------
    >>> split_of("Validation"), split_of("ants")
    ('val', None)
    """
    return SPLIT_WORDS.get(word.strip().lower())


def relative(path: str, root: str) -> str:
    """The part of a path below its root; both absolute and normalised."""
    return path[len(root) :].lstrip(os.sep)


def as_text(name: str) -> str:
    r"""A folder's name as a class: unchanged where that is safe, else escaped like a path.

    Escaped are names that are not UTF-8, and names that look as if they had been escaped: the
    folder ``bad%FF`` and the folder ``bad`` + byte FF are two classes.

    Examples
    --------
    >>> as_text("50%"), as_text("bad\udcff"), as_text("bad%FF")
    ('50%', 'bad%FF', 'bad%25FF')
    """
    text = spelled(name)
    return escape(text) if SURROGATES.search(text) or _ESCAPED.search(text) else text


class Place(NamedTuple):
    """What the folder that a file lies in says about it."""

    label: str | None
    split: str
    folder: str  # below the class


@dataclass(frozen=True, slots=True)
class Layout:
    """What their folders say about some files.

    Attributes
    ----------
    which : ndarray of shape (n,), int32
        For each file its entry in `places`.
    places : list of Place
        One for each folder, or fewer.
    """

    which: np.ndarray
    places: list[Place]


def read_layout(
    paths: Iterable[str],
    root: str,
    faults: Mapping[int, str] | None = None,
    *,
    split: str | None = None,
    beside: Iterable[str] = (),
) -> tuple[Layout, list[str]]:
    """Give each file the split and class that its folders say.

    The class is the first folder below the split. Split folders count if one of them holds images.
    Folders beside them are classes of the training part where no ``train`` folder holds images
    (``ants/ bees/ test/``); where one does, they are no classes, and their images stay unlabelled.

    Parameters
    ----------
    paths : iterable of str
        Relative to `root`, in stored form.
    root : str
        Absolute folder, for the notes.
    faults : mapping of int to str, optional
        Why a file cannot be used, by its place, where that is known.
    split : str, optional
        The split of all these files; then the folders below `root` are classes only.
    beside : iterable of str
        Paths of other images, likewise, which also say which folders are split folders.

    Returns
    -------
    layout : Layout
        In the order of `paths`.
    notes : list of str
        What was taken for granted.
    """
    which, heads = _folders(paths)
    counts = np.bincount(which, minlength=len(heads)).tolist()
    # A folder that cannot be listed stands for images, but is none.
    images = list(counts)
    for i, fault in (faults or {}).items():
        images[which[i]] -= is_unlisted(fault)
    others = _folders(beside)[1]
    splits = {} if split else _split_folders([*heads, *others])
    has_train = "train" in splits.values()
    places, direct, outside = [], 0, dict[str, int]()
    for folders, count, images_here in zip(heads, counts, images, strict=True):
        own, below = split or "", folders
        in_split = bool(below) and below[0] in splits
        if in_split:
            own, below = splits[below[0]], below[1:]
        elif splits and below:
            outside[below[0]] = outside.get(below[0], 0) + count
            own, below = ("", []) if has_train else ("train", below)
        label = as_text(below[0]) if below else None
        # An unlabelled file in no folder of its own: below the root or directly in a split.
        direct += images_here if not below and len(folders) <= in_split else 0
        places.append(Place(label, own, as_text("/".join(below[1:]))))
    notes = _notes(places, sum(images), root, splits, has_train, direct, outside)
    if not splits and not split:
        notes += _one_too_high(places, root)
    return Layout(which, places), notes


def _folders(paths: Iterable[str]) -> tuple[np.ndarray, list[list[str]]]:
    """For each path the number of its folder, and for each folder the names it is reached by."""
    known: dict[str, int] = {}
    before, number = None, 0

    def number_of(path: str) -> int:
        nonlocal before, number
        head = path.rpartition("/")[0]
        if head != before:  # neighbours are mostly of one folder
            before, number = head, known.setdefault(head, len(known))
        return number

    which = np.fromiter(map(number_of, paths), np.int32)
    return which, [[unescape(name) for name in head.split("/")] if head else [] for head in known]


def _split_folders(heads: list[list[str]]) -> dict[str, str]:
    return {head[0]: word for head in heads if head and (word := split_of(head[0])) is not None}


def _notes(
    places: list[Place],
    images: int,
    root: str,
    splits: dict[str, str],
    has_train: bool,
    direct: int,
    outside: dict[str, int],
) -> list[str]:
    notes = []
    name = escape(os.path.basename(root) or root)
    classes = {place.label for place in places} - {None}
    if outside:
        named = ", ".join(escape(folder) for folder in sorted(outside)[:5])
        named += ", ..." if len(outside) > 5 else ""
        taken = "unlabelled images without a split" if has_train else "classes of the train split"
        notes.append(
            f"{name}: beside the split folders {', '.join(sorted(splits))} lie others "
            f"({named}, {_images(sum(outside.values()))}): taken as {taken}."
        )
    if direct and classes:
        verb = "lies" if direct == 1 else "lie"
        notes.append(f"{name}: {_images(direct)} {verb} beside the class folders: unlabelled.")
    elif images and not classes:
        notes.append(f"{name}: no class folders, so {_images(images)} unlabelled.")
    return notes


def _one_too_high(places: list[Place], root: str) -> list[str]:
    """What to tell where the only class folder looks like the data set itself."""
    classes = {place.label for place in places} - {None}
    below = {place.folder.split("/")[0] for place in places}
    if len(classes) != 1 or not any(split_of(folder) for folder in below):
        return []
    name, only = escape(os.path.basename(root) or root), str(next(iter(classes)))
    return [
        f"{name}: all images are of one class, {only}, whose folder has split folders: "
        f"did you mean {name}/{only}?"
    ]


def _images(count: int) -> str:
    return f"{count} image" + ("" if count == 1 else "s")
