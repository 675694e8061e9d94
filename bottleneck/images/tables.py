"""Tables of images: a table in, a sample for each row out; nothing is read but the table."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import InputError
from ..paths import escape, unescape
from .address import address_of, may_name_image
from .columns import (
    choose_path_column,
    choose_split_column,
    read_meta,
    read_splits,
)
from .folders import file_fault
from .labels import Labels, read_labels
from .layout import relative
from .lookup import Lookup, Readings
from .sample import Sample
from .tabular import Table


def samples_of(
    table: Table,
    base: str,
    *,
    path_column: str | None,
    label_columns: Sequence[str],
    split_column: str | None,
    task: str = "auto",
    home: str | None = None,
) -> tuple[list[Sample], str, list[int], list[int], Labels, list[str]]:
    """Read a table's rows as samples.

    Parameters
    ----------
    table : Table
    base : str
        Absolute folder that relative paths start from.
    path_column, label_columns, split_column, task
        As the options of the command; None and empty find the columns by their names.
    home : str, optional
        The URL of the table's folder, where that is on another machine: paths are relative to it.

    Returns
    -------
    samples : list of Sample
        In the order of the rows.
    root : str
        `base`, or the common parent where paths leave it.
    rows : list of int
        Which row each sample came from.
    entries : list of int
        Which sample each row leads to.
    labels : Labels
        Of the samples; what they say is in `samples` too, unless it is targets.
    notes : list of str

    Raises
    ------
    InputError
        If columns, splits or labels contradict each other, or one id names two files.
    """
    lookup = Lookup(base)

    def find_file(value: str) -> list[str]:
        if address_of(value, home):
            return [value] if home is None or may_name_image(value) else []
        return lookup.find(value)

    readings = Readings(find_file, lambda value: find_file(unescape(value)))
    column, find, values, notes = choose_path_column(
        table, path_column, readings, lookup.find_below, base
    )
    split_column = choose_split_column(table, split_column)
    splits = read_splits(table, split_column)
    labels = read_labels(table, label_columns, task)
    notes += labels.notes
    table.fail(
        f"rows without a value in the column {column}",
        [i for i, value in enumerate(values) if not value],
        expected="a path in each row",
    )
    addresses = [address_of(value, home) for value in values]
    found = [[] if a else find(value) for a, value in zip(addresses, values, strict=True)]
    two = [i for i, files in enumerate(found) if len(files) > 1]
    if any("%" in values[i] for i in two):
        readings.settle(values)
        found = [[] if a else find(value) for a, value in zip(addresses, values, strict=True)]
        two = [i for i, files in enumerate(found) if len(files) > 1]
    table.fail(
        f"two files for one id: {two and found[two[0]]}",
        two,
        expected="one",
        next=f"write the suffix, or the folder, in the column {column}",
    )
    paths = [
        address.name if address else files[0] if files else lookup.absolute(value)
        for address, files, value in zip(addresses, found, values, strict=True)
    ]
    root = _root([p for p, a in zip(paths, addresses, strict=True) if not a], base, table)
    if root != base:
        notes.append(f"{table.where}: paths leave {base}, so they are relative to {root}.")
    rows, repeated = once(table, paths, labels.texts, splits)
    notes += repeated
    used = {column, *labels.columns, split_column}
    meta = read_meta(table, [name for name in table.columns if name not in used])
    samples = []
    for i in rows:
        address = addresses[i]
        fault = address.fault if address else None if found[i] else "no such file"
        if found[i] and os.path.islink(paths[i]):
            fault = file_fault(paths[i])
        below = f"{home}/"
        name = paths[i].removeprefix(below) if address else relative(paths[i], root)
        source = (address.source if address else None) or paths[i]
        samples.append(Sample(escape(name), source, labels.of(i), splits[i], meta[i], fault))
    place = {paths[row]: i for i, row in enumerate(rows)}
    return samples, root, rows, [place[path] for path in paths], labels.take(rows), notes


def _root(paths: list[str], base: str, table: Table) -> str:
    inside = os.path.join(base, "")
    if all(path.startswith(inside) for path in paths):
        return base
    try:
        return os.path.commonpath([base, *(os.path.dirname(path) for path in paths)])
    except ValueError as error:  # Windows: several drives
        raise InputError(
            "the paths lie on several drives",
            expected="one folder that holds them all",
            where=table.where,
            next="split the table by drive",
        ) from error


def once(
    table: Table, paths: list[str], labels: list[str], splits: list[str]
) -> tuple[list[int], list[str]]:
    """Pick the rows that count, each path's first; rows that contradict each other are an error."""
    first: dict[str, int] = {}
    again = 0
    for i, path in enumerate(paths):
        j = first.setdefault(path, i)
        again += j != i
        for kind, values in (("labels", labels), ("splits", splits)):
            if values[j] != values[i]:
                table.fail(
                    f"one path with two {kind}, {values[j]!r} and {values[i]!r}: {path}",
                    [j, i],
                    expected="one",
                    next="delete the wrong row",
                )
    rows = "1 row repeats" if again == 1 else f"{again} rows repeat"
    note = f"{table.where}: {rows} the path of another; each path counts once."
    return list(first.values()), [note] if again else []
