"""Which column of a table says what: a table in, its paths, labels, splits and the rest out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from ..errors import InputError
from .layout import split_of
from .tabular import Table

# Plain numbers: 007, 1_000, nan and +5 are spellings that text would lose as float64.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def choose_label_columns(table: Table, label_columns: Sequence[str]) -> list[str]:
    """The columns of labels: as asked, wildcards too, else ``label`` if there is one."""
    chosen: list[str] = []
    for wanted in label_columns:
        pattern = wanted not in table.columns and any(c in wanted for c in "*?[")
        matches = [name for name in table.columns if pattern and fnmatchcase(name, wanted)]
        chosen += matches or [table.named(wanted, "--label-column")]
    if not label_columns and (name := table.default("label", "--label-column")) is not None:
        chosen = [name]
    return list(dict.fromkeys(chosen))


def choose_split_column(table: Table, wanted: str | None) -> str | None:
    """The column of splits: as asked, else ``split`` if there is one."""
    if wanted is not None:
        return table.named(wanted, "--split-column")
    return table.default("split", "--split-column")


def read_classes(table: Table, column: str | None) -> tuple[list[str], list[str]]:
    """The label of each row as it is written, empty for none; and what to tell about labels."""
    if column is None:
        return [""] * len(table.rows), [
            f"{table.where}: no column is called label, so no image is labelled; "
            f"--label-column names one of {', '.join(table.columns)}."
        ]
    labels = [value if value.strip() else "" for value in table.column(column)]
    spellings: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        spellings.setdefault(label.strip(), []).append(label)
    alike = [repr(label) for group in spellings.values() if len(group) > 1 for label in group]
    if not alike:
        return labels, []
    named = ", ".join(alike[:6]) + (", ..." if len(alike) > 6 else "")
    return labels, [
        f"{table.where}: these classes differ only by spaces around them, and are kept apart: "
        f"{named}."
    ]


Find = Callable[[str], list[str]]


def choose_path_column(
    table: Table, wanted: str | None, find: Find, find_below: Find, base: str
) -> tuple[str, Find, list[str], list[str]]:
    """Choose the column that names images, and how its values are to be read.

    Parameters
    ----------
    table : Table
    wanted : str or None
        The column's name if it was given.
    find : callable, str -> list of str
        Which images a value names as a path.
    find_below : callable, str -> list of str
        Which images a value names wherever they lie; asked only if no value is a path.
    base : str
        Where was looked, for messages.

    Returns
    -------
    column : str
    find : callable
        One of the two, or both in turn.
    values : list of str
        The column without the spaces around paths, but where a file is really called so.
    notes : list of str
    """
    column, below, notes = _choose(table, wanted, _lenient(find), _lenient(find_below), base)

    def anywhere(value: str) -> list[str]:
        return find(value) or find_below(value)

    method = anywhere if below else find
    written = table.column(column)
    values = [v if v == v.strip() or method(v) else v.strip() for v in written]
    count = sum(a != b for a, b in zip(values, written, strict=True))
    if count:
        notes.append(
            f"{table.where}: spaces around the path in {count} of {len(values)} rows of the column "
            f"{column} are left out."
        )
    return column, method, values, notes


def _lenient(find: Find) -> Find:
    """`find` for the value as it is written, or else without the spaces around it."""

    def found(value: str) -> list[str]:
        bare = value.strip()
        return find(value) or (find(bare) if bare and bare != value else [])

    return found


def _choose(
    table: Table, wanted: str | None, find: Find, find_below: Find, base: str
) -> tuple[str, bool, list[str]]:
    """The column, whether its values are looked for in all folders, and what to tell."""

    def anywhere(value: str) -> list[str]:
        return find(value) or find_below(value)

    if wanted is not None:
        column: str | None = table.named(wanted, "--path-column")
    else:
        column = table.default("path", "--path-column")
    if column is not None:
        # One path that works is enough to know that the values are paths: the search below the
        # root reads every folder there, and could take another folder's file of the same name.
        if any(find(value) for value in table.column(column)):
            return column, False, []
        hits = sum(bool(find_below(value)) for value in table.column(column))
        if not hits:
            return column, False, []
        return column, True, [_told(table, column, hits, base)]
    for below, method in ((False, find), (True, anywhere)):
        shares = {name: _share(table.column(name), method) for name in table.columns}
        likely = [name for name, share in shares.items() if share > 0.5]
        if len(likely) > 1:
            raise InputError(
                f"several columns name files: {', '.join(likely)}",
                expected="one",
                where=table.where,
                next="choose it with --path-column",
            )
        if likely:
            hits = sum(bool(method(value)) for value in table.column(likely[0]))
            return likely[0], below, [_told(table, likely[0], hits, base)]
    raise InputError(
        f"found: {', '.join(table.columns)}; expected: path",
        expected=f"a column path, or one whose values name images below {base}",
        where=table.where,
        next="name the column with --path-column, and the images' folder with --root",
    )


def _told(table: Table, column: str, hits: int, base: str) -> str:
    return (
        f"{table.where}: images are named by the column {column} "
        f"({hits} of {len(table.rows)} values found below {base})."
    )


def _share(values: list[str], find: Find) -> float:
    sample = [value for value in dict.fromkeys(values[:1000]) if value]
    hits = sum(any(not os.path.isdir(file) for file in find(value)) for value in sample)
    return hits / len(sample) if sample else 0.0


def read_splits(table: Table, column: str | None) -> list[str]:
    """The split of each row: ``train``, ``val``, ``test`` or empty."""
    if column is None:
        return [""] * len(table.rows)
    words = table.column(column)
    splits = [split_of(word) if word.strip() else "" for word in words]
    wrong = [i for i, split in enumerate(splits) if split is None]
    table.fail(
        f"unknown split in the column {column}: {', '.join(sorted({words[i] for i in wrong})[:5])}",
        wrong,
        expected="train, val, test (training, valid, validation, dev, testing) or nothing",
    )
    return [split or "" for split in splits]


def read_meta(table: Table, columns: Sequence[str]) -> list[Mapping[str, str | float]]:
    """The other columns of each row: float where all values are plain numbers, else text."""
    converted: dict[str, Sequence[str | float]] = {}
    for name in columns:
        values = table.column(name)
        known = [value for value in values if value]
        plain = all(_NUMBER.fullmatch(value) for value in known)
        # Beyond 2**53 neighbouring ids would become one number.
        if known and plain and all(abs(float(value)) <= 2**53 for value in known):
            converted[name] = [float(value) if value else math.nan for value in values]
        else:
            converted[name] = values
    return [{name: converted[name][i] for name in columns} for i in range(len(table.rows))]
