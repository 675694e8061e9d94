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
from ..remote.urls import as_path, is_url, name_of, shown
from .color import BadImage
from .formats import suffix
from .limits import MAX_BYTES
from .payload import read

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
SHOWN = 5  # offenders in one message
# Equal values may be stored as one and a count, but paths are not equal: a million numbered names and
# nothing else, the densest table there is, have 1.6 rows to a byte (zstd).
_ROWS_A_BYTE = 100


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
    if not isinstance(source, (str, os.PathLike)):
        return False
    return suffix(name_of(str(source))) in TABLE_SUFFIXES


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
    path = as_path(os.fspath(source))
    where = shown(path)
    parquet = suffix(name_of(path)) == ".parquet"
    try:
        data = read_remote(path) if is_url(path) else read(path)
    except BadImage as error:
        raise InputError(f"the table cannot be read: {error}", where=where) from None
    return _read_parquet(data, where) if parquet else _read_text(data, where)


def read_remote(url: str) -> bytes:
    """The bytes of a table on another machine.

    Raises
    ------
    BadImage
        If it cannot be read.
    """
    from ..remote.door import require as require_protocol
    from ..remote.objects import RemoteObject

    require_protocol(url)
    return RemoteObject(url).read(MAX_BYTES)[0]


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
    delimiter = (
        "\t" if suffix(name_of(path)) == ".tsv" else max(",;\t", key=_outside_quotes(head).count)
    )
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


def _read_parquet(data: bytes, path: str) -> Table:
    arrow = require("pyarrow", purpose="Reading .parquet")
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        _require_content(file.metadata.num_rows, len(data), path)
        table = file.read()
        columns = [column.to_pylist() for column in table.columns]
        names = list(table.column_names)
    # Text that is not UTF-8 and dates beyond those of Python are found when they are asked for.
    except (OSError, ValueError, TypeError, OverflowError, arrow.ArrowException) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"the table cannot be read: {text}", where=path) from error
    return _from_columns(path, names, columns)


def _require_content(n_rows: int, n_bytes: int, path: str) -> None:
    """Refuse a file of a few bytes that stands for more rows than fit into memory."""
    if n_rows > n_bytes * _ROWS_A_BYTE:
        raise InputError(
            f"the table declares {n_rows:,} rows in {n_bytes:,} bytes",
            expected=f"at most {_ROWS_A_BYTE} to a byte: each row names an image of its own",
            where=path,
        )


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
