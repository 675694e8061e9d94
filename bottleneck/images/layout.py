"""Where files lie says what they are: paths below a root in, samples with split and class out."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..paths import escape
from .sample import Sample

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
    """A folder's name as a class: unchanged if it is valid text, else escaped like a path."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return escape(name)
    return name


def read_layout(
    files: Iterable[tuple[str, str | None]], root: str
) -> tuple[list[Sample], list[str]]:
    """Give each file the split and class that its folders say.

    The class is the first folder below the split. Split folders count if one of them holds images.
    Folders beside them are classes of the training part where no ``train`` folder holds images
    (``ants/ bees/ test/``); where one does, they are no classes, and their images stay unlabelled.

    Parameters
    ----------
    files : iterable of (str, str or None)
        Absolute path, and its fault if one is known.
    root : str
        Absolute folder that holds them all.

    Returns
    -------
    samples : list of Sample
        In the order of `files`.
    notes : list of str
        What was taken for granted.
    """
    files = list(files)
    parts = [relative(path, root).split(os.sep) for path, _ in files]
    splits = {p[0]: word for p in parts if len(p) > 1 and (word := split_of(p[0])) is not None}
    has_train = "train" in splits.values()
    samples, beside, outside = [], 0, dict[str, int]()
    for (path, fault), folders in zip(files, parts, strict=True):
        split, below = "", folders[:-1]
        if below and below[0] in splits:
            split, below = splits[below[0]], below[1:]
        elif splits and below:
            outside[below[0]] = outside.get(below[0], 0) + 1
            split, below = ("", []) if has_train else ("train", below)
        label = as_text(below[0]) if below else None
        # An unlabelled file in no folder of its own: below the root or directly in a split.
        beside += not below and len(folders) <= 1 + bool(split)
        meta: dict[str, str | float] = {"folder": as_text("/".join(below[1:]))}
        samples.append(Sample(escape(os.sep.join(folders)), path, label, split, meta, fault))
    if not any(sample.meta["folder"] for sample in samples):
        samples = [Sample(s.path, s.source, s.label, s.split, {}, s.fault) for s in samples]
    return samples, _notes(samples, root, splits, has_train, beside, outside)


def _notes(
    samples: list[Sample],
    root: str,
    splits: dict[str, str],
    has_train: bool,
    beside: int,
    outside: dict[str, int],
) -> list[str]:
    notes = []
    name = escape(os.path.basename(root) or root)
    classes = {sample.label for sample in samples} - {None}
    if outside:
        named = ", ".join(escape(folder) for folder in sorted(outside)[:5])
        named += ", ..." if len(outside) > 5 else ""
        taken = "unlabelled images without a split" if has_train else "classes of the train split"
        notes.append(
            f"{name}: beside the split folders {', '.join(sorted(splits))} lie others "
            f"({named}, {_images(sum(outside.values()))}): taken as {taken}."
        )
    if beside and classes:
        verb = "lies" if beside == 1 else "lie"
        notes.append(f"{name}: {_images(beside)} {verb} beside the class folders: unlabelled.")
    elif samples and not classes:
        notes.append(f"{name}: no class folders, so {_images(len(samples))} unlabelled.")
    if len(classes) == 1 and not splits:
        below = {str(sample.meta.get("folder", "")).split("/")[0] for sample in samples}
        if any(split_of(folder) for folder in below):
            only = str(next(iter(classes)))
            notes.append(
                f"{name}: all images are of one class, {only}, whose folder has split folders: "
                f"did you mean {name}/{only}?"
            )
    return notes


def _images(count: int) -> str:
    return f"{count} image" + ("" if count == 1 else "s")
