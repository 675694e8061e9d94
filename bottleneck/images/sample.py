"""What the sources of images hand on: samples, in order, and what was left out and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from ..paths import PLAIN, unescape
from ..targets import Targets
from ..texts import Coded, Column, Texts, take
from .origin import Origin

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to be labelled.

    Attributes
    ----------
    path : str
        The stored path: relative to the root, with ``/``, escaped by
        `bottleneck_probe.paths.escape`. Unique in its `ImageSet`.
    source : str, bytes, ndarray, PIL.Image.Image, torch.Tensor or callable
        Where its pixels come from. `str`: an absolute path for `open`; `bytes`: an encoded
        file; `Origin`: a member of a tar or the like; an array (h, w), (h, w, 3) or (h, w, 4), a
        uint8 tensor (c, h, w), or a PIL image: pixels; a callable without arguments returns one of
        these, when it is needed.
    label : str or None
        Class name; None is unlabelled.
    split : str
        ``train``, ``val``, ``test`` or empty.
    meta : mapping of str to str or float
        The table's other columns; ``folder`` for folders below the class.
    fault : str or None
        Known before reading to be unusable, and why: ``"no such file"``, ``"broken link"``.
    """

    path: str
    source: Any
    label: str | None = None
    split: str = ""
    meta: Mapping[str, str | float] = field(default_factory=dict)
    fault: str | None = None


@runtime_checkable
class Compact(Protocol):
    """Sources that are kept as columns."""

    def take(self, rows: np.ndarray) -> Mapping[int, Any]:
        """Those at `rows`, (m,) int, in that order."""


@dataclass(frozen=True, slots=True)
class Samples(Sequence[Sample]):
    """Samples kept as columns, some 50 bytes each; a `Sample` is made when it is asked for.

    Parameters
    ----------
    root : str
        Absolute folder of the files.
    paths : Texts
        Stored form, n of them.
    labels : ndarray of shape (n,), int32
        Index into `classes`; -1 is none.
    classes : sequence of str
        Each once, in any order.
    splits : Coded
    meta : mapping of str to ndarray of float64 or sequence of str
        Further columns by name, n values each; NaN is a number that is missing.
    faults : mapping of int to str
        Of those that have one, by their place.
    sources : mapping of int to object
        By place, those that are not the file that root and path name: addresses, pixels.
    targets : Targets, optional
        Where the task is not classification; then no sample has a label.
    """

    root: str
    paths: Texts
    labels: np.ndarray
    classes: Sequence[str]
    splits: Coded
    meta: Mapping[str, Column] = field(default_factory=dict)
    faults: Mapping[int, str] = field(default_factory=dict)
    sources: Mapping[int, Any] = field(default_factory=dict)
    targets: Targets | None = None

    @classmethod
    def of(cls, samples: Iterable[Sample], root: str = "") -> Samples:
        """These samples; an instance is returned as it is."""
        if isinstance(samples, Samples):
            return samples
        each = list(samples)
        known: dict[str | None, int] = {None: -1}
        labels = [known.setdefault(sample.label, len(known) - 1) for sample in each]
        names = list(dict.fromkeys(name for sample in each for name in sample.meta))
        made = cls(
            root,
            Texts.of(sample.path for sample in each),
            np.array(labels, np.int32),
            [label for label in known if label is not None],
            Coded.of(sample.split for sample in each),
            {name: _column([sample.meta.get(name) for sample in each]) for name in names},
            {i: sample.fault for i, sample in enumerate(each) if sample.fault is not None},
        )
        sources = {
            i: sample.source
            for i, sample in enumerate(each)
            if not isinstance(sample.source, str) or sample.source != made._file(sample.path)
        }
        return made.but(sources=sources)

    def but(self, **changes: Any) -> Samples:
        """The same with other columns, by name."""
        return replace(self, **changes)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Samples: ...
    def __getitem__(self, place: int | slice) -> Sample | Samples:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        i = index(place)
        i += len(self) if i < 0 else 0
        path, label = self.paths[i], self.labels.item(i)
        return Sample(
            path,
            self.sources[i] if i in self.sources else self._file(path),
            self.classes[label] if label >= 0 else None,
            self.splits[i],
            {name: _value(column, i) for name, column in self.meta.items()} if self.meta else {},
            self.faults.get(i),
        )

    def _file(self, path: str) -> str:
        # Most paths hold nothing that was escaped.
        plain = path if "%" not in path and PLAIN else unescape(path)
        between = "" if not self.root or self.root.endswith(os.sep) else os.sep
        return f"{self.root}{between}{plain}"

    def files(self) -> Iterator[str | Origin | None]:
        """The file of each sample, or its origin, in order; None for those with a fault."""
        prefix = os.path.join(self.root, "")
        for i, path in enumerate(self.paths):
            if i in self.faults:
                yield None
            elif i in self.sources:
                source = self.sources[i]
                yield source if isinstance(source, str | Origin) else None
            else:
                yield prefix + path if "%" not in path and PLAIN else self._file(path)

    def take(self, rows: np.ndarray) -> Samples:
        """Those at `rows`, (m,) int, each once, in that order."""
        place = {}
        compact = isinstance(self.sources, Compact)
        if self.faults or (self.sources and not compact):
            place = {row: i for i, row in enumerate(rows.tolist())}
        sources: Mapping[int, Any] = (
            self.sources.take(rows)
            if isinstance(self.sources, Compact)
            else {place[row]: source for row, source in self.sources.items() if row in place}
        )
        return Samples(
            self.root,
            self.paths.take(rows),
            self.labels[rows],
            self.classes,
            self.splits.take(rows),
            {name: take(column, rows) for name, column in self.meta.items()},
            {place[row]: fault for row, fault in self.faults.items() if row in place},
            sources,
            None if self.targets is None else self.targets.take(rows),
        )


def _column(values: list[str | float | None]) -> Column:
    """Numbers as float64 with NaN for what is missing, anything else as text."""
    if all(value is None or isinstance(value, float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return Texts.of("" if value is None else str(value) for value in values)


def _value(column: Column, place: int) -> str | float:
    return column.item(place) if isinstance(column, np.ndarray) else column[place]


@dataclass(frozen=True, slots=True)
class ImageSet:
    """All images of one call, ordered by the UTF-8 bytes of their paths.

    Attributes
    ----------
    root : str
        Absolute folder the paths are relative to; empty for images from memory.
    name : str
        What the output is named after by default: the folder, the table's stem, the image's stem.
    samples : sequence of Sample
        Every image seen, those with a `fault` included: `Samples` where they are files.
    ignored : int
        Files that are no images (``.xml``, hidden files), which are counted and left alone.
    notes : list of str
        What was taken for granted, one sentence each, for the user to see.
    order : sequence of int
        ``order[i]`` is the place in the user's own order of ``samples[i]`` (a table's rows, a
        list's entries), so that `predict` can answer in input order.
    entries : sequence of int
        For each entry of the user, in the user's order, the index of its image in `samples`: a
        table's rows, a list's items, the lines of stdin; for a folder its images by path. Entries
        of one path lead to the same sample; files that are ignored have no entry.
    unlike : mapping of str to tuple of int
        Of the ignored files those that had to be opened to see that they are no images: absolute
        path, and status (size, mtime_ns, ctime_ns, inode) before that.
    broken : tuple of str
        Tars that end too early, and where: there were images in them that nobody can see.
    unseen : tuple of str
        How the stored paths of these images begin.
    """

    root: str
    name: str
    samples: Sequence[Sample]
    ignored: int = 0
    notes: list[str] = field(default_factory=list)
    order: Sequence[int] | np.ndarray = ()
    entries: Sequence[int] | np.ndarray = ()
    unlike: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def columns(self) -> Samples:
        """The samples as columns."""
        return Samples.of(self.samples, self.root)
