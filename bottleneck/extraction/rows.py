"""The columns of a feature file: samples and how they ended in, row-aligned columns out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from .. import paths
from ..cache.layout import Rows
from ..images.part import Part, Seen
from ..images.sample import Sample, Samples
from ..targets import Targets, join_targets
from ..texts import Coded, Column, concatenated, find_texts
from .pipeline import Outcome


def rows_of(samples: Sequence[Sample], outcome: Outcome, views: int = 1) -> Rows:
    """Columns for the samples that have a feature; the others stand in the quarantine.

    Parameters
    ----------
    samples : sequence of Sample
        Ordered by path.
    outcome : Outcome
        Of these samples.
    views : int, default 1
        Rows of one sample.

    Returns
    -------
    Rows
        In the order of the samples, and of the views within each.
    """
    columns = Samples.of(samples)
    keys = outcome.keys
    if outcome.reasons or views > 1:
        left = np.ones(len(columns), bool)
        left[list(outcome.reasons)] = False
        good = np.repeat(np.flatnonzero(left), views)
        columns, keys = columns.take(good), keys[good]
    labels, classes = _coded(columns.labels, columns.classes)
    if columns.targets is not None:
        classes = columns.targets.names
    return Rows(
        paths=columns.paths,
        keys=keys,
        labels=labels,
        splits=columns.splits,
        classes=classes,
        meta=dict(columns.meta),
        view=None if views == 1 else np.tile(np.arange(views, dtype=np.int32), len(keys) // views),
        quarantine=[(samples[i].path, reason) for i, reason in sorted(outcome.reasons.items())],
        targets=columns.targets,
    )


def with_kept(new: Rows, old: Rows, seen: Sequence[str], part: Part | Seen | None = None) -> Rows:
    """`new` with the rows of `old` whose path is not among the `seen` ones (``--add``).

    Parameters
    ----------
    new, old : Rows
    seen : sequence of str
        Ordered like rows.
    part : Part, optional
        Only those that are of another part.

    Returns
    -------
    Rows
        Ordered by path; a column that only one side has is empty or NaN on the other.
    """
    kept = old.take(staying(old.paths, seen, part is None, part))
    names = list(dict.fromkeys([*new.meta, *kept.meta]))
    both = [(new, len(new)), (kept, len(kept))]
    known = dict.fromkeys([*new.classes, *kept.classes])
    number = {name: i for i, name in enumerate(known)}
    shifted = np.array([*(number[name] for name in kept.classes), -1], np.int32)
    labels, classes = _coded(np.concatenate([new.labels, shifted[kept.labels]]), list(known))
    bad = [path for path, _ in old.quarantine]
    left = [old.quarantine[i] for i in staying(bad, seen, part is None, part).tolist()]
    targets = join_targets([(new.targets, new.labels), (kept.targets, kept.labels)])
    merged = Rows(
        paths=concatenated([new.paths, kept.paths]),
        keys=np.concatenate([new.keys, kept.keys]),
        labels=labels,
        splits=Coded.of(chain(new.splits, kept.splits)),
        classes=classes if targets is None else targets.names,
        targets=targets,
        meta={name: _joined([_values(rows, name, n) for rows, n in both]) for name in names},
        quarantine=sorted([*new.quarantine, *left], key=lambda item: paths.order(item[0])),
        view=None if new.view is None else np.concatenate([new.view, kept.views()]),
    )
    return merged.take(merged.sorted())


def gone(of: Sequence[str], seen: Sequence[str]) -> np.ndarray:
    """The places of the paths that are not among the `seen` ones: (m,) int."""
    return np.flatnonzero(find_texts(of, seen) < 0)


def staying(
    of: Sequence[str], seen: Sequence[str], add: bool, part: Part | Seen | None
) -> np.ndarray:
    """The places of the paths that stay in a file though the run was not given them: (m,) int.

    Parameters
    ----------
    of : sequence of str
        Paths of the file.
    seen : sequence of str
        Those of the run.
    add : bool
        All of them stay (``--add``).
    part : Part or None
        Those of other parts stay.
    """
    left = gone(of, seen)
    if add or part is None:
        return left if add else left[:0]
    return left[~part.holds([of[i] for i in left.tolist()])]


def leaving(of: Sequence[str], seen: Sequence[str], part: Part | Seen | None) -> np.ndarray:
    """The places of the paths that a run without ``--add`` takes out of a file: (m,) int."""
    left = gone(of, seen)
    return left if part is None else left[part.holds([of[i] for i in left.tolist()])]


def same(a: Rows, b: Rows) -> bool:
    """Whether two sets of columns would be written as the same file."""
    return (
        a.paths == b.paths
        and np.array_equal(a.keys, b.keys)
        and np.array_equal(a.views(), b.views())
        and (a.phash is None) == (b.phash is None)
        and (a.phash is None or b.phash is None or np.array_equal(a.phash, b.phash))
        and a.classes == b.classes
        and np.array_equal(a.labels, b.labels)
        and _same_targets(a.targets, b.targets)
        and a.splits == b.splits
        and a.quarantine == b.quarantine
        and a.meta.keys() == b.meta.keys()
        and all(_same_column(a.meta[name], b.meta[name]) for name in a.meta)
    )


def _same_targets(a: Targets | None, b: Targets | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        a.task == b.task
        and a.names == b.names
        and np.array_equal(a.values, b.values, equal_nan=True)
    )


def _same_column(a: Column, b: Column) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    return not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and a == b


def _values(rows: Rows, name: str, n: int) -> Column:
    """A column; NaN for all `n` rows if there is none."""
    column = rows.meta.get(name)
    return np.full(n, np.nan) if column is None else column


def _joined(parts: Sequence[Column]) -> Column:
    """One column below the other: numbers if all are numbers, else text, empty for what is NaN."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return concatenated(_as_texts(part) for part in parts)


def _as_texts(column: Column) -> Iterable[str]:
    if not isinstance(column, np.ndarray):
        return column
    return ("" if np.isnan(value) else str(value) for value in column.tolist())


def _coded(labels: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Labels as indices into the classes that occur, which are ordered by their bytes."""
    used = (np.flatnonzero(np.bincount(labels + 1)[1:])).tolist()
    classes = sorted((names[i] for i in used), key=paths.order)
    if classes == list(names):
        return labels, classes
    place = {name: i for i, name in enumerate(classes)}
    new = np.full(len(names) + 1, -1, np.int32)  # the last one is for -1
    new[used] = [place[names[i]] for i in used]
    return new[labels], classes
