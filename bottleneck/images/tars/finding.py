"""Tars as IMAGES: their locations in, an `ImageSet` out whose samples are read where they lie."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import InputError
from ...paths import escape, order
from ...targets import Targets
from ...texts import Coded, Texts, Writer
from ..labels import read_labels
from ..layout import split_of
from ..sample import ImageSet, Samples
from ..tabular import Table
from .contents import Contents, list_tar
from .folders import Inside
from .locations import Location, locate
from .members import Places
from .names import key_and_suffix
from .readers import is_url
from .said import CLS, JSON_LABELS, Said, Seen, Wanted

TWICE = "two members of this name in the tar"


@dataclass(slots=True)
class _Rows:
    """The images of all tars so far, as columns."""

    paths: Writer = field(default_factory=Writer)
    places: Places = field(default_factory=Places)
    faults: dict[int, str] = field(default_factory=dict)
    # By wanted column, for each row a number of `_Codes`.
    texts: list[_Codes] = field(default_factory=list)
    splits: _Codes = field(default_factory=lambda: _Codes())


class _Codes:
    """Texts that come one after the other, most of them again and again."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._codes = array("i")

    def add(self, value: str) -> None:
        """Append one."""
        self._codes.append(self._numbers.setdefault(value, len(self._numbers)))

    def finish(self) -> Coded:
        """All of them."""
        return Coded(np.frombuffer(self._codes, np.intc).copy(), list(self._numbers))


def find_tars(
    tars: Sequence[str],
    base: str | None = None,
    *,
    label_columns: Sequence[str] = (),
    split_column: str | None = None,
    task: str = "auto",
) -> tuple[ImageSet, str]:
    """The images of tars, with what their members and folders say.

    Parameters
    ----------
    tars : sequence of str
        Absolute paths, or URLs.
    base : str, optional
        Absolute folder that holds them all, which stored paths are relative to; by default the
        deepest one.
    label_columns : sequence of str
        Suffixes of text members or keys of JSON members; by default ``.cls``, else the key
        ``label``, ``class`` or ``cls``. Several hold 0 or 1 each.
    split_column : str, optional
        Likewise; by default the key ``split``, else the tar's folder or name (``train/0001.tar``).
    task : str
        As `find.find` has it.

    Returns
    -------
    found : ImageSet
    column : str
        What the labels are called.

    Raises
    ------
    InputError
        If a tar cannot be read or is none, or nothing in the tars has a label that was asked for.
    """
    locations, root, name = locate(tars, base)
    wanted = Wanted(tuple(label_columns), split_column)
    rows, inside, seen = _Rows(texts=[_Codes() for _ in wanted.labels or (None,)]), Inside(), Seen()
    ignored, others = 0, Counter[str]()
    broken: list[str] = []
    unseen: list[str] = []
    for location, found in zip(locations, _listed(locations, wanted), strict=True):
        _add(rows, inside, location, found, wanted)
        ignored += found.ignored
        others += found.others
        if found.end is not None:
            broken.append(f"{location.shown}, {found.end}")
            unseen.append(escape(location.name) + "/")
        for names, more in ((seen.suffixes, found.seen.suffixes), (seen.keys, found.seen.keys)):
            for each in more:
                seen.add(names, each)
    paths = rows.paths.finish()
    if not len(paths):
        instead = ", ".join(f"{count} {what}" for what, count in others.most_common(5))
        raise InputError(
            f"0 images in {_some([location.shown for location in locations])}",
            expected="members that are images by suffix or content",
            where=f"{ignored} other members: {instead}" if ignored else "",
        )
    samples, notes, column = _samples(rows, paths, inside, seen, wanted, root, name, task)
    order, again = _once(samples.paths)
    faults = dict(samples.faults) | {int(row): TWICE for row in again}
    samples = samples.but(faults=faults).take(order)
    notes += [f"{each}; what precedes is read." for each in broken]
    entries = np.arange(len(samples), dtype=np.int32)
    whole = ImageSet(root, name, samples, ignored, notes, entries, entries)
    return replace(whole, broken=tuple(broken), unseen=tuple(unseen)), column


def _listed(locations: Sequence[Location], wanted: Wanted) -> Iterator[Contents]:
    """The tars' contents, in order; those on other machines some at a time."""
    if not any(is_url(each.location) for each in locations):
        for each in locations:
            yield list_tar(each.location, each.shown, wanted)
        return
    from ...remote.ahead import in_order

    yield from in_order(lambda each: list_tar(each.location, each.shown, wanted), locations)


def _add(rows: _Rows, inside: Inside, location: Location, found: Contents, wanted: Wanted) -> None:
    """Take over one tar's images, so that the rest of what was kept for it can go."""
    found.said.close()
    rows.places.tars.append(found.tar)
    start = len(rows.places)
    prefix = escape(location.name) + "/"
    rows.paths.add([prefix + name for name in found.names])
    inside.begin(len(prefix), location.split)
    nothing = Said()
    for i, name in enumerate(found.names):
        key, _ = key_and_suffix(name)
        said = found.said.get(key) or nothing
        fault = found.faults.get(i) or said.fault
        if fault is not None:
            rows.faults[start + i] = fault
        rows.places.add(found.offsets[i], found.sizes[i], found.checks[i])
        if wanted.labels:
            for column, each in zip(rows.texts, wanted.labels, strict=True):
                column.add(said.first([each]))
        else:
            rows.texts[0].add(said.label(wanted))
        rows.splits.add(said.first([wanted.split or "split"]))
        inside.add(name)


def _samples(
    rows: _Rows,
    paths: Texts,
    inside: Inside,
    seen: Seen,
    wanted: Wanted,
    root: str,
    name: str,
    task: str,
) -> tuple[Samples, list[str], str]:
    """What was found as columns, in the order of the tars."""
    labelled = _require_columns(seen, wanted, name)
    notes: list[str] = []
    said_splits, columns = rows.splits.finish(), [each.finish() for each in rows.texts]
    targets, column = None, (wanted.labels or (CLS,))[0]
    places, which, told = inside.read(paths, root)
    if labelled:
        if len(columns) > 1:
            labels, targets, notes = _several(columns, wanted, name, task)
        else:
            labels = columns[0]
        if not wanted.labels:
            what = [f".{CLS}"] if CLS in seen.suffixes else []
            what += [f"{key!r} in .json" for key in JSON_LABELS if key in seen.keys]
            notes.append(f"{name}: labels are those of {' or '.join(what)} members.")
    else:
        notes += told
        if seen.keys or seen.suffixes:
            known = ", ".join([*seen.keys, *seen.suffixes])
            notes.append(f"{name}: --label-column takes labels from {known}.")
        labels = Coded.of(places[i].label or "" for i in which.tolist())
    classes = sorted({value for value in labels.values if value}, key=order)
    number = {value: i for i, value in enumerate(classes)}
    of_code = np.array([number.get(value, -1) for value in labels.values] or [-1], np.int32)
    below = Coded.of(places[i].folder for i in which.tolist())
    with_folder = not labelled and any(below.values[code] for code in np.unique(below.codes))
    samples = Samples(
        root,
        paths,
        of_code[labels.codes],
        classes,
        _splits(said_splits, (places[i].split for i in which.tolist()), name, wanted),
        {"folder": below} if with_folder else {},
        rows.faults,
        rows.places.finish(),
        targets,
    )
    return samples, notes, column


def _require_columns(seen: Seen, wanted: Wanted, name: str) -> bool:
    """Whether members say labels; an error where such were asked for and are nowhere."""
    for column, option in (
        *((each, "--label-column") for each in wanted.labels),
        *([(wanted.split, "--split-column")] if wanted.split else []),
    ):
        if not seen.any([column]):
            known = ", ".join([*(f".{each}" for each in seen.suffixes), *seen.keys])
            raise InputError(
                f"no member says {column}",
                expected=f"members *.{column}, or {column!r} in members *.json",
                where=f"{name}, {option}",
                next=f"name one of {known}" if known else "",
            )
    return bool(wanted.labels) or CLS in seen.suffixes or seen.any(JSON_LABELS)


def _several(
    columns: Sequence[Coded], wanted: Wanted, name: str, task: str
) -> tuple[Coded, Targets | None, list[str]]:
    """Several label columns, read as those of a table are."""
    lines = list(range(len(columns[0])))
    rows = [list(row) for row in zip(*columns, strict=True)]
    table = Table(name, list(wanted.labels), rows, lines, "sample")
    labels = read_labels(table, wanted.labels, task)
    texts = Coded.of(labels.texts if labels.targets is None else [""] * len(lines))
    return texts, labels.targets, labels.notes


def _splits(said: Coded, by_place: Iterable[str], name: str, wanted: Wanted) -> Coded:
    """What members say, else what the tar's place says."""
    words = {word: split_of(word) if word.strip() else "" for word in said.values}
    odd = sorted(word for word, split in words.items() if split is None)
    # The key `split` may mean something else, unless it was named.
    if odd and wanted.split:
        raise InputError(
            f"unknown split: {', '.join(odd[:5])}",
            expected="train, val, test (training, valid, validation, dev, testing) or nothing",
            where=f"{name}, --split-column",
        )
    if odd:
        return Coded.of(by_place)
    return Coded.of(words[one] or other for one, other in zip(said, by_place, strict=True))


def _once(paths: Texts) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the order of their paths, each path once; and the rows whose path comes again."""
    order = paths.argsort()
    again = np.flatnonzero(paths.repeats(order)) + 1 if len(order) > 1 else np.empty(0, np.intp)
    kept = np.ones(len(order), bool)
    kept[again] = False
    # Of equal paths the first one stays, for all of them.
    first = np.maximum.accumulate(np.where(kept, np.arange(len(order)), 0))
    return order[kept], order[np.unique(first[again])]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
