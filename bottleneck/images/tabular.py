"""Tables as text: a .csv, .tsv or .parquet file or a DataFrame in, rows of text out.

Nothing is guessed from the values: ``NA``, ``007`` and ``1.0`` stay what was written.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..extras import require
from .color import BadImage
from .formats import suffix
from .payload import read

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
SHOWN = 5  # offenders in one message


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text.

    Attributes
    ----------
    where : str
        The file, for messages; ``DataFrame`` for one from memory.
    columns : list of str
        Unique names.
    rows : list of list of str
        One value a column; empty is none.
    lines : list of int
        Where each row stands: the line of a text file, else the row's number from 0.
    unit : str
        ``line`` or ``row``.
    """

    where: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    unit: str = "line"

    def column(self, name: str) -> list[str]:
        """All values of one column."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def named(self, name: str, option: str) -> str:
        """`name` if there is such a column, else an error that names the near miss."""
        if name in self.columns:
            return name
        near = difflib.get_close_matches(name, self.columns, n=1)
        raise InputError(
            f"found: {', '.join(self.columns)}; expected: {name}",
            where=f"{self.where}, {option}",
            next=f"did you mean {near[0]}?" if near else f"name one of its columns with {option}",
        )

    def default(self, name: str, option: str) -> str | None:
        """The column that is called `name`, exactly or else in other letter case; None if none."""
        if name in self.columns:
            return name
        near = [column for column in self.columns if column.strip().lower() == name]
        if len(near) > 1:
            raise InputError(
                f"several columns are called {name}: {', '.join(near)}",
                expected="one",
                where=self.where,
                next=f"choose it with {option}",
            )
        return near[0] if near else None

    def fail(self, what: str, rows: Sequence[int], *, expected: str = "", next: str = "") -> None:
        """Raise an error that shows up to `SHOWN` rows, if there are any."""
        if rows:
            numbers = ", ".join(str(self.lines[row]) for row in rows[:SHOWN])
            more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            unit = self.unit + ("s" if len(rows) > 1 else "")
            raise InputError(
                what, expected=expected, where=f"{self.where}, {unit} {numbers}{more}", next=next
            )


def is_table(source: Any) -> bool:
    """Whether something is a path with the suffix of a table."""
    return isinstance(source, (str, os.PathLike)) and suffix(str(source)) in TABLE_SUFFIXES


def is_data_frame(source: Any) -> bool:
    """Whether something is a pandas DataFrame, told without importing pandas."""
    return any(
        cls.__name__ == "DataFrame" and cls.__module__.partition(".")[0] == "pandas"
        for cls in type(source).__mro__
    )


def read_table(source: Any) -> Table:
    """Read a table as text.

    Parameters
    ----------
    source : str, path or DataFrame
        ``.csv`` and ``.tsv`` in UTF-8, with or without BOM, LF or CRLF, delimited by comma,
        semicolon or tab; ``.parquet`` with pyarrow.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If it cannot be read, is empty, or its rows differ in length.
    """
    if is_data_frame(source):
        columns = [str(name) for name in source.columns]
        values = [
            [None if null else value for value, null in zip(column, nulls, strict=True)]
            for column, nulls in (
                (source.iloc[:, i].tolist(), source.iloc[:, i].isna().tolist())
                for i in range(len(columns))
            )
        ]
        return _from_columns("DataFrame", columns, values)
    path = os.fspath(source)
    if suffix(path) == ".parquet":
        return _read_parquet(path)
    try:
        data = read(path)
    except BadImage as error:
        raise InputError(f"the table cannot be read: {error}", where=path) from error
    return _read_text(data, path)


def _read_text(data: bytes, path: str) -> Table:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError("the table is UTF-16", **_utf8(path))
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise InputError("a NUL byte (read as UTF-8)", **_utf8(f"{path}, line {line}"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"byte {data[error.start]:02X} is not UTF-8"
        raise InputError(what, **_utf8(f"{path}, line {line}")) from error
    head = next((line for line in text.splitlines() if line.strip()), "")
    if not head:
        raise InputError("the table is empty", expected="a line of column names", where=path)
    delimiter = "\t" if suffix(path) == ".tsv" else max(",;\t", key=_outside_quotes(head).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines, start = [], [], 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"the table cannot be read: {error}",
            where=f"{path}, from line {start} on",
            next="check the quotes there: each that opens must close",
        ) from error
    columns = _columns([name.strip() for name in rows[0]], path)
    table = Table(path, columns, rows[1:], lines[1:])
    ragged = [i for i, row in enumerate(table.rows) if len(row) != len(columns)]
    counts = ", ".join(str(len(table.rows[i])) for i in ragged[:SHOWN])
    table.fail(
        f"rows with another number of values than there are columns: {counts}",
        ragged,
        expected=f"{len(columns)}: {', '.join(columns)}",
        next="quote values that contain the delimiter",
    )
    return _not_empty(table)


def _utf8(where: str) -> dict[str, str]:
    return {"expected": "UTF-8", "where": where, "next": "save the table as CSV in UTF-8"}


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _read_parquet(path: str) -> Table:
    arrow = require("pyarrow", purpose="Reading .parquet")
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"the table cannot be read: {text}", where=path) from error
    columns = [column.to_pylist() for column in table.columns]
    return _from_columns(path, list(table.column_names), columns)


def _from_columns(where: str, columns: list[str], values: list[list[Any]]) -> Table:
    texts = [_texts(column) for column in values]
    rows = [list(row) for row in zip(*texts, strict=True)]
    return _not_empty(
        Table(where, _columns(columns, where), rows, list(range(len(rows))), unit="row")
    )


def _texts(values: list[Any]) -> list[str]:
    known = [value for value in values if value is not None and value == value]
    # A column of whole numbers becomes float as soon as one is missing; the numbers were 1, 2, 3.
    whole = len(known) < len(values) and all(
        isinstance(value, float) and value.is_integer() for value in known
    )
    return [_text(value, whole) for value in values]


def _text(value: Any, whole: bool) -> str:
    if value is None or value != value:
        return ""
    if whole:
        return str(int(value))
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else str(value)


def _columns(names: list[str], where: str) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"columns of one name: {', '.join(twice)}", expected="each once", where=where
        )
    return names


def _not_empty(table: Table) -> Table:
    if not table.rows:
        raise InputError(
            f"the table has no rows; its columns are {', '.join(table.columns)}",
            expected="a row for each image",
            where=table.where,
        )
    return table
