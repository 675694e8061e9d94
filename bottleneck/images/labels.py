"""What the label columns of a table say: a table in, a text or several yes and no for each row out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..paths import order
from ..targets import SEPARATOR, Targets, require_label_names, require_task
from .columns import choose_label_columns, read_classes
from .tabular import Table

# How a yes and a no are written, also by pandas and spreadsheets. Nothing is not a no.
_CELLS = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "": math.nan}
_SHOWN = 3


@dataclass(frozen=True)
class Labels:
    """The labels of rows.

    Attributes
    ----------
    columns : list of str
        Where they stand.
    texts : list of str
        What each row says in one text, empty where it says nothing.
    targets : Targets or None
        Where several columns hold yes or no.
    notes : list of str
    """

    columns: list[str]
    texts: list[str]
    targets: Targets | None
    notes: list[str]

    @property
    def name(self) -> str:
        """What the column is called."""
        return self.columns[0] if self.columns else "value"

    def of(self, row: int) -> str | None:
        """The class of a row; None where it has none, or has targets."""
        return None if self.targets is not None else self.texts[row] or None

    def take(self, rows: Sequence[int]) -> Labels:
        """Those of these rows."""
        targets = self.targets and self.targets.take(np.asarray(rows, np.intp))
        return replace(self, texts=[self.texts[row] for row in rows], targets=targets)


def read_labels(table: Table, label_columns: Sequence[str], task: str) -> Labels:
    """The labels of a table's rows.

    Parameters
    ----------
    table : Table
    label_columns : sequence of str
        As asked, wildcards too; empty finds the column ``label``.
    task : str
        ``auto``, ``classification``, ``multilabel`` or ``regression``. One column is read as texts
        whatever the task, except that one of 0 and 1 alone is a label for ``multilabel``.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If several columns hold anything but 0, 1 and nothing, or the task wants one column.
    """
    require_task(task)
    columns = choose_label_columns(table, label_columns)
    single = len(columns) <= 1
    if single and not (task == "multilabel" and columns and _all_cells(table, columns[0])):
        texts, notes = read_classes(table, columns[0] if columns else None)
        return Labels(columns, texts, None, notes)
    if task in ("classification", "regression"):
        raise InputError(
            f"{len(columns)} label columns for {task}: {', '.join(columns)}",
            expected="one label column; several are labels of the task multilabel",
            where=table.where,
            next="extract once, then fit one label column at a time",
        )
    require_label_names(columns, table.where)
    names = sorted(columns, key=order)
    values = np.array([[_cell(v) for v in table.column(name)] for name in names], np.float64).T
    odd = [i for i in range(len(table.rows)) if np.isinf(values[i]).any()]
    found = sorted({v for name in columns for v in table.column(name) if math.isinf(_cell(v))})
    table.fail(
        f"label columns with {', '.join(map(repr, found[:_SHOWN]))}"
        + (f" and {len(found) - _SHOWN} more values" if len(found) > _SHOWN else ""),
        odd,
        expected="0, 1, or nothing where it is unknown, in each of several label columns",
        next="one --label-column for classes, lists such as car|person or a number",
    )
    texts = [
        ", ".join(f"{name} {cell.strip()}" for name, cell in zip(names, row, strict=True))
        if any(cell.strip() for cell in row)
        else ""
        for row in zip(*(table.column(name) for name in names), strict=True)
    ]
    unknown = int(np.isnan(values).sum())
    notes = [
        f"{table.where}: {len(names)} label columns, 1 is yes and 0 is no"
        + (f"; {unknown} of {values.size} cells are empty, which is unknown." if unknown else ".")
    ]
    return Labels(columns, texts, Targets("multilabel", names, values.astype(np.float32)), notes)


def _all_cells(table: Table, column: str) -> bool:
    return not any(math.isinf(_cell(value)) for value in table.column(column))


def _cell(text: str) -> float:
    """1 and 0, NaN for nothing, and infinity for what is none of these."""
    return _CELLS.get(text.strip().lower(), math.inf)


def as_text(value: Any) -> str:
    """A label from memory as text; a list of labels as ``a|b``, an empty one as ``|``.

    Examples
    --------
    >>> as_text("ant"), as_text(["car", "person"]), as_text([])
    ('ant', 'car|person', '|')
    """
    if not isinstance(value, list | tuple | set | frozenset):
        return str(value)
    each = [str(item) for item in value]
    require_label_names(each, "labels")
    return SEPARATOR.join(sorted(each, key=order)) if len(each) > 1 else "".join(each) + SEPARATOR
