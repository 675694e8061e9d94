"""Labels from a table for images found elsewhere: samples and a table in, labelled samples out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..paths import as_name, escape
from .columns import (
    choose_path_column,
    choose_split_column,
    read_meta,
    read_splits,
)
from .labels import read_labels
from .lookup import Readings, stem
from .sample import Sample, Samples
from .tables import once
from .tabular import Table


def join_labels(
    samples: Sequence[Sample],
    table: Table,
    root: str,
    *,
    path_column: str | None,
    label_columns: Sequence[str],
    split_column: str | None,
    task: str = "auto",
) -> tuple[Samples, str, list[str]]:
    """Give samples the labels, splits and other columns of a table that names them.

    Parameters
    ----------
    samples : sequence of Sample
    table : Table
        Its values are paths relative to `root` or absolute, or file names, with or without suffix.
    root : str
        Of the samples.
    path_column, label_columns, split_column, task
        As in `samples_of`.

    Returns
    -------
    samples : Samples
        Same order; a label comes from the table alone, so an image without a row has none.
    name : str
        What the column of labels is called.
    notes : list of str
    """
    by_path: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for sample in samples:
        for spelling in {sample.path, stem(sample.path)}:
            by_path.setdefault(spelling, []).append(sample.path)
        name = sample.path.rpartition("/")[2]
        for spelling in {name, stem(name)}:
            by_name.setdefault(spelling, []).append(sample.path)
    prefix = escape(os.path.join(root, ""))

    def stored(value: str) -> list[str]:
        return by_path.get(value.removeprefix(prefix), [])

    def written(value: str) -> list[str]:
        path = os.path.normpath(as_name(value)) if value else ""
        return stored(escape(path)) or stored(value.replace("%", "%25"))

    find = Readings(written, stored)

    def find_below(value: str) -> list[str]:
        return by_name.get(value) or by_name.get(escape(value), [])

    column, method, values, notes = choose_path_column(table, path_column, find, find_below, root)
    split_column = choose_split_column(table, split_column)
    splits = read_splits(table, split_column)
    labels = read_labels(table, label_columns, task)
    notes += labels.notes
    found = [method(value) for value in values]
    two = [i for i, paths in enumerate(found) if len(paths) > 1]
    if any("%" in values[i] for i in two):
        find.settle(values)
        found = [method(value) for value in values]
        two = [i for i, paths in enumerate(found) if len(paths) > 1]
    table.fail(
        f"two images for one id: {two and found[two[0]]}",
        two,
        expected="one",
        next=f"write the suffix, or the folder, in the column {column}",
    )
    matched = [i for i, paths in enumerate(found) if paths]
    if not matched:
        raise InputError(
            f"none of the table's {len(values)} rows names one of the {len(samples)} images",
            expected=f"paths such as {samples[0].path}",
            where=f"{table.where}, column {column}: {values[0]}",
            next="name the column with --path-column",
        )
    part = Table(
        table.where,
        table.columns,
        [table.rows[i] for i in matched],
        [table.lines[i] for i in matched],
        table.unit,
    )
    names = [found[i][0] for i in matched]
    kept, repeated = once(
        part, names, [labels.texts[i] for i in matched], [splits[i] for i in matched]
    )
    row_of = {names[k]: matched[k] for k in kept}
    used = {column, *labels.columns, split_column}
    others = [name for name in table.columns if name not in used]
    meta = read_meta(table, others)
    empty = {name: math.nan if isinstance(meta[0][name], float) else "" for name in others}
    has_splits = split_column is not None
    joined = []
    for s in samples:
        row = row_of.get(s.path)
        label = None if row is None else labels.of(row)
        split = (splits[row] if row is not None else "") if has_splits else s.split
        extra = {**s.meta, **(meta[row] if row is not None else empty)}
        joined.append(Sample(s.path, s.source, label, split, extra, s.fault))
    notes.append(
        f"{table.where}: {len(row_of)} of {len(samples)} images have a row; "
        f"{len(values) - len(matched)} rows name no image."
    )
    made = Samples.of(joined, root)
    if labels.targets is not None:
        of = np.array([row_of.get(s.path, -1) for s in samples], np.intp)
        taken = np.where(of[:, None] < 0, np.float32(np.nan), labels.targets.values[of])
        made = made.but(targets=replace(labels.targets, values=taken))
    return made, labels.name, notes + repeated
