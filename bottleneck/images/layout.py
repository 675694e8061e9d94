"""Where files lie says what they are: paths below a root in, samples with split and class out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..paths import escape
from .folders import is_unlisted
from .sample import Sample

File = tuple[str, str | None]  # absolute path, and why it cannot be used if that is known

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
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return escape(name)
    return escape(name) if _ESCAPED.search(name) else name


def read_layout(
    files: Iterable[File],
    root: str,
    *,
    base: str | None = None,
    split: str | None = None,
    beside: Iterable[str] = (),
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
    base : str, optional
        Absolute folder at or above `root` that stored paths are relative to; default `root`.
    split : str, optional
        The split of all these files; then the folders below `root` are classes only.
    beside : iterable of str
        Absolute paths of other images, which also say which folders are split folders.

    Returns
    -------
    samples : list of Sample
        In the order of `files`.
    notes : list of str
        What was taken for granted.
    """
    files = list(files)
    parts = _parts([path for path, _ in files], root)
    splits = {} if split else _split_folders([*parts, *_parts(beside, root)])
    has_train = "train" in splits.values()
    samples, direct, outside = [], 0, dict[str, int]()
    for (path, fault), folders in zip(files, parts, strict=True):
        own, below = split or "", folders[:-1]
        in_split = bool(below) and below[0] in splits
        if in_split:
            own, below = splits[below[0]], below[1:]
        elif splits and below:
            outside[below[0]] = outside.get(below[0], 0) + 1
            own, below = ("", []) if has_train else ("train", below)
        label = as_text(below[0]) if below else None
        # An unlabelled file in no folder of its own: below the root or directly in a split.
        direct += not below and len(folders) <= 1 + in_split and not is_unlisted(fault)
        meta: dict[str, str | float] = {"folder": as_text("/".join(below[1:]))}
        stored = escape(relative(path, root if base is None else base))
        samples.append(Sample(stored, path, label, own, meta, fault))
    if not any(sample.meta["folder"] for sample in samples):
        samples = [Sample(s.path, s.source, s.label, s.split, {}, s.fault) for s in samples]
    notes = _notes(samples, root, splits, has_train, direct, outside)
    if not splits and not split:
        notes += _one_too_high(samples, root)
    return samples, notes


def _parts(paths: Iterable[str], root: str) -> list[list[str]]:
    return [relative(path, root).split(os.sep) for path in paths]


def _split_folders(parts: list[list[str]]) -> dict[str, str]:
    return {p[0]: word for p in parts if len(p) > 1 and (word := split_of(p[0])) is not None}


def _notes(
    samples: list[Sample],
    root: str,
    splits: dict[str, str],
    has_train: bool,
    direct: int,
    outside: dict[str, int],
) -> list[str]:
    notes = []
    images = sum(not is_unlisted(sample.fault) for sample in samples)
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
    if direct and classes:
        verb = "lies" if direct == 1 else "lie"
        notes.append(f"{name}: {_images(direct)} {verb} beside the class folders: unlabelled.")
    elif images and not classes:
        notes.append(f"{name}: no class folders, so {_images(images)} unlabelled.")
    return notes


def _one_too_high(samples: list[Sample], root: str) -> list[str]:
    """What to tell where the only class folder looks like the data set itself."""
    classes = {sample.label for sample in samples} - {None}
    below = {str(sample.meta.get("folder", "")).split("/")[0] for sample in samples}
    if len(classes) != 1 or not any(split_of(folder) for folder in below):
        return []
    name, only = escape(os.path.basename(root) or root), str(next(iter(classes)))
    return [
        f"{name}: all images are of one class, {only}, whose folder has split folders: "
        f"did you mean {name}/{only}?"
    ]


def _images(count: int) -> str:
    return f"{count} image" + ("" if count == 1 else "s")
