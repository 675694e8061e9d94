"""The columns of a feature file: samples and how they ended in, row-aligned columns out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import paths
from ..cache.layout import Column, Rows
from ..images.sample import Sample
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
    good = [i for i in range(len(samples)) if i not in outcome.reasons for _ in range(views)]
    kept = [samples[i] for i in good]
    return _build(
        [sample.path for sample in kept],
        outcome.keys[good].reshape(-1, 32),
        [sample.label for sample in kept],
        [sample.split for sample in kept],
        {name: [sample.meta.get(name) for sample in kept] for name in _columns(kept)},
        [(samples[i].path, reason) for i, reason in sorted(outcome.reasons.items())],
        None if views == 1 else np.tile(np.arange(views, dtype=np.int32), len(good) // views),
    )


def with_kept(new: Rows, old: Rows, seen: set[str]) -> Rows:
    """`new` with the rows of `old` whose path is not among the `seen` ones (``--add``).

    Returns
    -------
    Rows
        Ordered by path; a column that only one side has is empty or NaN on the other.
    """
    left = [i for i, path in enumerate(old.paths) if path not in seen]
    kept = old.take(np.array(left, np.intp))
    names = list(dict.fromkeys([*new.meta, *kept.meta]))
    both = [(new, len(new)), (kept, len(kept))]
    merged = _build(
        [*new.paths, *kept.paths],
        np.concatenate([new.keys, kept.keys]),
        [*labels_of(new), *labels_of(kept)],
        [*new.splits, *kept.splits],
        {name: [value for rows, n in both for value in _values(rows, name, n)] for name in names},
        sorted(
            [*new.quarantine, *(item for item in old.quarantine if item[0] not in seen)],
            key=lambda item: paths.order(item[0]),
        ),
        None if new.view is None else np.concatenate([new.view, kept.views()]),
    )
    return merged.take(merged.sorted())


def labels_of(rows: Rows) -> list[str | None]:
    """Class names, None where there is none."""
    return [rows.classes[i] if i >= 0 else None for i in rows.labels]


def same(a: Rows, b: Rows) -> bool:
    """Whether two sets of columns would be written as the same file."""
    return (
        a.paths == b.paths
        and np.array_equal(a.keys, b.keys)
        and np.array_equal(a.views(), b.views())
        and a.classes == b.classes
        and np.array_equal(a.labels, b.labels)
        and a.splits == b.splits
        and a.quarantine == b.quarantine
        and a.meta.keys() == b.meta.keys()
        and all(_same_column(a.meta[name], b.meta[name]) for name in a.meta)
    )


def _same_column(a: Column, b: Column) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    return isinstance(a, list) and isinstance(b, list) and a == b


def _values(rows: Rows, name: str, n: int) -> list[str | float | None]:
    column = rows.meta.get(name)
    return [None] * n if column is None else list(column)


def _columns(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in sample.meta))


def _build(
    paths_: list[str],
    keys: np.ndarray,
    labels: list[str | None],
    splits: list[str],
    meta: dict[str, list[str | float | None]],
    quarantine: list[tuple[str, str]],
    view: np.ndarray | None,
) -> Rows:
    classes = sorted({label for label in labels if label is not None}, key=paths.order)
    number = {name: i for i, name in enumerate(classes)}
    return Rows(
        paths=paths_,
        keys=keys,
        labels=np.array([-1 if c is None else number[c] for c in labels], np.int32),
        splits=splits,
        classes=classes,
        meta={name: _column(values) for name, values in meta.items()},
        view=view,
        quarantine=quarantine,
    )


def _column(values: list[str | float | None]) -> Column:
    """Numbers as float64 with NaN for what is missing, anything else as text."""
    if all(value is None or isinstance(value, float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return ["" if value is None else str(value) for value in values]
