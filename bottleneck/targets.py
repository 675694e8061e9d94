"""Labels that are not one class: several yes-or-no labels for each image, or a number.

Texts and class indices in, `Targets` out. What is unknown is NaN, which is not the same as "no".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .paths import order

TASKS = ("classification", "multilabel", "regression")
CHOICES = ("auto", *TASKS)
SEPARATOR = "|"

# Plain decimals; float() would also take "nan", "inf", "1_000" and full-width digits.
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
# Above this many different values numbers are rather measured than the names of classes.
_MANY = 20
_SHOWN = 3


@dataclass(frozen=True)
class Targets:
    """What each row is to be answered with, where that is not one class.

    Attributes
    ----------
    task : {'multilabel', 'regression'}
    names : list of str
        Of the k columns: labels in byte order, or the one quantity.
    values : ndarray of shape (n, k), float32
        0 (no) and 1 (yes), or numbers; NaN is unknown.
    """

    task: str
    names: list[str]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Targets:
        """These rows in this order."""
        return Targets(self.task, list(self.names), self.values[rows])

    def known(self) -> np.ndarray:
        """Rows with at least one known value: (n,) bool."""
        return np.asarray(~np.isnan(self.values).all(axis=1))

    def texts(self) -> np.ndarray:
        """Each row as one text, None where nothing is known: (n,) object.

        Examples
        --------
        >>> values = np.array([[1, 1], [0, 0], [np.nan, np.nan]], np.float32)
        >>> Targets("multilabel", ["car", "person"], values).texts().tolist()
        ['car|person', '', None]
        """
        found = np.empty(len(self), dtype=object)
        found[:] = [
            None if not known else self._text(row)
            for row, known in zip(self.values, self.known(), strict=True)
        ]
        return found

    def _text(self, row: np.ndarray) -> str:
        if self.task == "regression":
            return str(row[0])
        return SEPARATOR.join(name for name, v in zip(self.names, row, strict=True) if v == 1)

    def counts(self) -> list[dict[str, Any]]:
        """For each label how many rows have it, have it not, and are unknown."""
        yes, no = (self.values == 1).sum(axis=0), (self.values == 0).sum(axis=0)
        return [
            {
                "label": name,
                "positive": int(a),
                "negative": int(b),
                "unknown": len(self) - int(a + b),
            }
            for name, a, b in zip(self.names, yes, no, strict=True)
        ]


def infer_task(classes: Sequence[str], labels: np.ndarray) -> tuple[str, str]:
    """What kind of labels texts are, and a sentence where that is not plain classes.

    Parameters
    ----------
    classes : sequence of str
        The different texts.
    labels : ndarray of shape (n,), int
        Index into `classes`; -1 is none.

    Returns
    -------
    task : str
        ``multilabel`` where a text holds ``|``; ``regression`` where all are numbers, some with a
        fraction, and more than 20 differ; else ``classification``.
    note : str
        Empty for plain classes. Whole numbers that nearly all differ stay classes, but it is said.
    """
    lists = [name for name in classes if SEPARATOR in name]
    if lists:
        return "multilabel", (
            f"labels such as {lists[0]!r} are taken as lists of labels; --task classification takes "
            "each text as one class"
        )
    if len(classes) > _MANY and all(_NUMBER.fullmatch(name.strip()) for name in classes):
        fractions = sum(not float(name).is_integer() for name in classes)
        if fractions:
            return "regression", (
                f"{len(classes)} different numbers, {fractions} of them with a fraction, are taken as a "
                "quantity; --task classification takes each as a class"
            )
        if len(classes) * 3 > int(np.sum(labels >= 0)):
            return "classification", (
                f"{len(classes)} different whole numbers are taken as {len(classes)} classes; --task "
                "regression takes them as a quantity"
            )
    return "classification", ""


def from_classes(
    task: str, classes: Sequence[str], labels: np.ndarray, *, name: str = "value", where: str = ""
) -> Targets:
    """Targets of labels that were written as one text for each row.

    Parameters
    ----------
    task : {'multilabel', 'regression'}
        ``multilabel``: each text is a list such as ``car|person``, and ``|`` alone an empty list; what
        a list does not name is a no. ``regression``: each text is a number.
    classes : sequence of str
        The different texts.
    labels : ndarray of shape (n,), int
        Index into `classes`; -1 is a row about which nothing is known.
    name : str, default 'value'
        What the number is called.
    where : str, optional
        For messages.

    Returns
    -------
    Targets

    Raises
    ------
    InputError
        If a text is no number, or the lists name no label at all.

    Examples
    --------
    >>> from_classes("multilabel", ["car|person", "car", "|"], np.array([0, 2, 1, -1])).values
    array([[ 1.,  1.],
           [ 0.,  0.],
           [ 1.,  0.],
           [nan, nan]], dtype=float32)
    """
    used = set(np.unique(labels).tolist())
    if task == "regression":
        wrong = [c for i, c in enumerate(classes) if i in used and not _is_number(c)]
        if wrong:
            raise InputError(
                f"labels that are no numbers: {', '.join(map(repr, wrong[:_SHOWN]))}"
                + _more(len(wrong)),
                expected="decimal numbers such as 3.5 or -2e-3, or nothing where it is unknown",
                where=where or "--task regression",
            )
        table = np.array([[float(c)] if i in used else [math.nan] for i, c in enumerate(classes)])
        names = [name]
    else:
        lists = [[p.strip() for p in c.split(SEPARATOR) if p.strip()] for c in classes]
        names = sorted({p for i, each in enumerate(lists) if i in used for p in each}, key=order)
        if not names:
            raise InputError(
                "no row names a label", expected="lists such as car|person", where=where
            )
        table = np.array([[float(n in set(each)) for n in names] for each in lists])
    # The last row is for -1.
    table = np.concatenate([table.reshape(-1, len(names)), np.full((1, len(names)), np.nan)])
    return Targets(task, names, table.astype(np.float32)[labels])


def _is_number(text: str) -> bool:
    # Targets are kept as float32.
    return bool(_NUMBER.fullmatch(text.strip())) and abs(float(text)) <= float(
        np.finfo(np.float32).max
    )


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""


def settle(
    task: str,
    classes: Sequence[str],
    labels: np.ndarray,
    *,
    name: str = "value",
    where: str = "",
    tell: Callable[[str], None] = lambda note: None,
) -> Targets | None:
    """Targets of texts for a `task` that may be ``auto``; None where they are classes.

    Parameters
    ----------
    tell : callable
        Gets a sentence about what was taken for granted.
    task, classes, labels, name, where
        See `from_classes`.
    """
    require_task(task)
    if task == "auto":
        task, note = infer_task(classes, labels)
        if note:
            tell(f"{where}: {note}." if where else f"{note[0].upper()}{note[1:]}.")
    if task == "classification":
        return None
    found = from_classes(task, classes, labels, name=name, where=where)
    if task == "multilabel":
        empty = int(np.sum(labels < 0))
        if empty:
            tell(
                f"{empty} rows without a list are unlabelled; {SEPARATOR!r} alone says that an image has "
                "none of the labels."
            )
    return found


def require_task(task: str) -> None:
    """Raise an InputError unless it is one of `CHOICES`."""
    if task not in CHOICES:
        raise InputError(f"there is no task {task!r}", expected=", ".join(CHOICES), where="--task")


def require_label_names(names: Sequence[str], where: str) -> None:
    """Raise an InputError where a label's name would be read as two, or as none."""
    wrong = [name for name in names if SEPARATOR in name or not name.strip()]
    if wrong:
        raise InputError(
            f"a label is called {wrong[0]!r}",
            expected=f"names without {SEPARATOR!r}, which stands between the labels of an answer",
            where=where,
            next="rename it",
        )


def join_targets(parts: Sequence[tuple[Targets | None, np.ndarray]]) -> Targets | None:
    """The rows of several below each other; a label that one of them lacks is unknown there.

    Parameters
    ----------
    parts : sequence of (Targets or None, ndarray of shape (n,), int)
        And the class of each row, -1 is none: where there are no targets there may be classes.

    Returns
    -------
    Targets or None
        None if all are None.

    Raises
    ------
    InputError
        If they are of different tasks, classes among them, or measure different quantities.
    """
    there = [targets for targets, _ in parts if targets is not None]
    if not there:
        return None
    classified = any(targets is None and (labels >= 0).any() for targets, labels in parts)
    tasks = sorted({*(targets.task for targets in there), *["classification"] * classified})
    names = sorted({name for targets in there for name in targets.names}, key=order)
    if len(tasks) > 1 or (tasks == ["regression"] and len(names) > 1):
        raise InputError(
            f"different labels: {' and '.join(tasks if len(tasks) > 1 else names)}",
            expected="one task, and one quantity",
            next="extract one of the two again with the other's --task or --label-column",
        )
    place = {name: i for i, name in enumerate(names)}
    rows = [np.full((len(labels), len(names)), np.nan, np.float32) for _, labels in parts]
    for values, (targets, _) in zip(rows, parts, strict=True):
        if targets is not None:
            values[:, [place[name] for name in targets.names]] = targets.values
    return Targets(tasks[0], names, np.concatenate(rows))
