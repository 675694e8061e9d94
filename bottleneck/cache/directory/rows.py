"""Columns of many shards as one: `Rows` of each shard in, `Rows` in the order of a file out.

And the features of all shards as one array, which reads from a shard what is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...errors import CacheError
from ...targets import Targets
from ...texts import Coded, Column, Texts, Writer, concatenated
from ..array import FeatureArray
from ..layout import SPLITS, Rows
from ..lazy import GatheredRows
from ..reading import Stored
from .manifest import Manifest, Shard, mended

if TYPE_CHECKING:
    from .reading import Directory


class ShardedRows(GatheredRows):
    """One output of a directory: rows in the order of their paths, each read from its own shard.

    Parameters
    ----------
    parts : sequence of FeatureArray
        That output of each shard.
    part, row : ndarray of shape (n,), int32
        For each row its shard, and where in that.
    directory : Directory
        Where they are from.
    """

    def __init__(
        self,
        parts: Sequence[FeatureArray],
        part: np.ndarray,
        row: np.ndarray,
        directory: Directory,
    ) -> None:
        super().__init__(parts, part, row)
        self.parts = parts
        self.part = part
        self.row = row
        self.directory = directory

    def _read(self, picked: np.ndarray) -> np.ndarray:
        try:
            return super()._read(picked)
        except CacheError as error:
            raise self._named(error) from error

    def _named(self, error: CacheError) -> CacheError:
        """An error about a shard, with what can be done about the directory."""
        name = self.directory.storage.name
        gone = [own.stored.path for own in self.parts if not own.stored.path.exists()]
        if not gone and "was replaced" not in error.what:
            return CacheError(
                error.what, expected=error.expected, where=error.where, next=mended(name)
            )
        lacking = f": {gone[0].name} is not there" if gone else ""
        return CacheError(
            f"{name} was replaced after it was opened{lacking}",
            expected="the directory that paths and labels were read from",
            where=name,
            next=f"open it again: bp.open({name!r})",
        )

    @property
    def shared(self) -> Stored:
        """What each of its shards says about this output: which it is, and whether there are others."""
        return self.parts[0].stored

    def __repr__(self) -> str:
        return f"<features of {len(self.parts)} shards: {self.shape}, {self.dtype}, read on demand>"

    def take(self, rows: np.ndarray) -> ShardedRows:
        """These rows of the array, still unread."""
        return ShardedRows(self.parts, self.part[rows], self.row[rows], self.directory)


class Columns:
    """Takes the rows of one shard after the other and becomes the columns of all.

    Parameters
    ----------
    manifest : Manifest
        What classes and columns there are.
    where : str
        The directory, for messages.
    """

    def __init__(self, manifest: Manifest, where: str) -> None:
        self._manifest = manifest
        self._where = where
        self._class = {name: i for i, name in enumerate(manifest.classes)}
        self._paths = Writer()
        self._keys: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._splits: list[np.ndarray] = []
        self._views: list[np.ndarray | None] = []
        self._hashes: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._meta: dict[str, list[Column]] = {name: [] for name, _ in manifest.meta}
        self._row: list[np.ndarray] = []

    def add(self, shard: Shard, rows: Rows) -> None:
        """Append the rows of a shard that count; raise a CacheError if they are of another kind."""
        counting = living(shard)
        if shard.dead:
            rows = rows.take(counting)
        self._row.append(counting.astype(np.int32))
        for block in Texts.of(rows.paths).blocks():
            self._paths.add_encoded(block)
        self._keys.append(rows.keys)
        self._labels.append(self._own_labels(rows, shard))
        splits = Coded.of(rows.splits)
        place = np.array([SPLITS.index(value) for value in splits.values] or [0], np.uint8)
        self._splits.append(place[splits.codes])
        self._views.append(rows.view)
        if self._manifest.phash:
            if rows.phash is None:
                raise self._other(shard, "has no perceptual hashes")
            self._hashes.append(rows.phash)
        self._add_targets(shard, rows)
        for name, kind in self._manifest.meta:
            column = rows.meta.get(name) if name in shard.meta else None
            if column is not None and isinstance(column, np.ndarray) != (kind == "number"):
                raise self._other(shard, f"has no {kind} in the column {name!r}")
            self._meta[name].append(nothing(kind, len(rows)) if column is None else column)

    def finish(self) -> tuple[Rows, np.ndarray, np.ndarray]:
        """The columns, and for each row its shard and where in that: (n,) int32 both.

        Where a path stands in several shards, its rows in the last of them count.
        """
        part = np.repeat(
            np.arange(len(self._row), dtype=np.int32), [len(each) for each in self._row]
        )
        row = _emptied(self._row)
        paths = self._paths.finish()
        has_views = any(view is not None for view in self._views)
        views = None
        if has_views:
            views = _emptied(
                [
                    np.zeros(len(keys), np.int32) if view is None else view
                    for view, keys in zip(self._views, self._keys, strict=True)
                ]
            )
        order = _order(paths, views, part)
        rows = Rows(
            paths=paths if order is None else paths.take(order),
            keys=_in_order(self._keys, order),
            labels=_in_order(self._labels, order),
            splits=Coded(_in_order(self._splits, order), SPLITS),
            classes=list(self._manifest.classes),
            meta={
                name: _column_in_order(self._meta.pop(name), order)
                for name, _ in self._manifest.meta
            },
            view=views if views is None or order is None else views[order],
            phash=_in_order(self._hashes, order) if self._manifest.phash else None,
        )
        if self._targets:
            values = _in_order(self._targets, order)
            rows.targets = Targets(self._manifest.task, list(self._manifest.classes), values)
        if order is not None:
            part, row = part[order], row[order]
        return rows, part, row

    def _own_labels(self, rows: Rows, shard: Shard) -> np.ndarray:
        """Labels as indices into the classes of the directory."""
        if rows.targets is not None:
            return rows.labels
        place = np.array([*(self._class.get(name, -2) for name in rows.classes), -1], np.int32)
        labels = place[rows.labels]
        if (labels == -2).any():
            raise self._other(shard, "has a class that the manifest does not list")
        return labels

    def _add_targets(self, shard: Shard, rows: Rows) -> None:
        wanted, found = self._manifest.task, rows.targets
        if wanted == "classification" and found is None:
            return
        if found is None or (found.task, found.names) != (wanted, self._manifest.classes):
            raise self._other(shard, f"is not for the task {wanted} with its names")
        self._targets.append(found.values)

    def _other(self, shard: Shard, what: str) -> CacheError:
        return CacheError(
            f"{self._where}: {shard.name} {what}",
            expected="a shard as the manifest describes it",
            where=self._where,
            next="restore the directory from a backup, or extract again under another name",
        )


def living(shard: Shard) -> np.ndarray:
    """The rows of a shard that count: (m,) int64."""
    counts = np.ones(shard.rows, bool)
    for start, stop in shard.dead:
        counts[start:stop] = False
    return np.flatnonzero(counts)


def runs(rows: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Ascending row numbers as runs (first, one past the last).

    Examples
    --------
    >>> runs(np.array([3, 4, 5, 9]))
    ((3, 6), (9, 10))
    """
    if not len(rows):
        return ()
    breaks = np.flatnonzero(np.diff(rows) > 1)
    firsts = rows[np.concatenate([[0], breaks + 1])].tolist()
    lasts = rows[np.concatenate([breaks, [len(rows) - 1]])].tolist()
    return tuple((first, last + 1) for first, last in zip(firsts, lasts, strict=True))


def nothing(kind: str, n: int) -> Column:
    """A column in which no row has a value."""
    return np.full(n, np.nan) if kind == "number" else Coded(np.zeros(n, np.uint8), ("",))


def _order(paths: Texts, views: np.ndarray | None, part: np.ndarray) -> np.ndarray | None:
    """The rows that count in the order of a file; None if that is all of them as they are."""
    if paths.ascending():
        return None
    if views is None:
        order = paths.argsort()
    else:
        by_view = np.argsort(views, kind="stable")
        order = by_view[paths.take(by_view).argsort()]
    repeats = paths.repeats(order)
    if repeats.any():
        # Rows of one path follow each other; those of the last shard that has it count.
        group = np.concatenate([[0], np.cumsum(~repeats)])
        last = np.zeros(int(group[-1]) + 1, np.int32)
        np.maximum.at(last, group, part[order])
        order = order[part[order] == last[group]]
    return order


def _in_order(parts: list[np.ndarray], order: np.ndarray | None) -> np.ndarray:
    """One column below the other, in an order; the list is emptied."""
    whole = _emptied(parts)
    return whole if order is None else whole[order]


def _column_in_order(parts: list[Column], order: np.ndarray | None) -> Column:
    """`_in_order` of numbers or texts."""
    numbers = [part for part in parts if isinstance(part, np.ndarray)]
    texts = [part for part in parts if not isinstance(part, np.ndarray)]
    parts.clear()
    if numbers:
        return _in_order(numbers, order)
    whole = concatenated(texts)
    return whole if order is None else whole.take(order)


def _emptied(parts: list[np.ndarray]) -> np.ndarray:
    """One below the other; the list is emptied, so that no column is in memory twice for long."""
    whole: np.ndarray = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return whole
