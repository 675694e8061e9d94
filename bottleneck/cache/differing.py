"""What two feature files have in common and what not: recipe, environment, rows, values.

Rows are matched by path and view; those of one key that have another path were moved. Features are
read a window at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backbones.proof import relative_error
from ..recipe import ABSENT, differences
from ..reporter import Reporter, Silent
from ..texts import Texts, find_texts
from .features import Features
from .lazy import WINDOW_ROWS

SHOWN = 20


@dataclass
class Difference:
    """How B differs from A.

    Attributes
    ----------
    recipe, environment : list of (field, value in A, value in B)
        Fields that differ; of an output that both have the rest of the recipe.
    root : tuple of str or None
        Both roots, if they differ.
    outputs : tuple of list of str
        Only in A, only in B.
    rows : tuple of int
        Of A and of B.
    only_a, only_b : list of str
        Paths, without those that were moved.
    moved : list of (str, str)
        Path in A and in B of one key.
    edited : list of str
        Paths with another key.
    changed : dict of str to list of (path, value in A, value in B)
        By column: ``label``, ``split``, a column of a table.
    columns : tuple of list of str
        Only in A, only in B.
    values : dict of str to dict
        By output: how many features of equal key ``differ``, the ``largest`` relative error, its
        ``path``; ``compared`` in all.
    quarantine : tuple of list of str
        Paths only in that of A, only in that of B.
    """

    recipe: list[tuple[str, Any, Any]] = field(default_factory=list)
    environment: list[tuple[str, Any, Any]] = field(default_factory=list)
    root: tuple[str, str] | None = None
    outputs: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    rows: tuple[int, int] = (0, 0)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    changed: dict[str, list[tuple[str, Any, Any]]] = field(default_factory=dict)
    columns: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantine: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]

    @property
    def same(self) -> bool:
        """Whether both say the same of the same images: recipe, rows, values; not where it ran."""
        lists = (self.recipe, self.only_a, self.only_b, self.moved, self.edited, self.changed)
        pairs = (*self.outputs, *self.columns, *self.quarantine)
        return not (
            any(lists)
            or self.root
            or any(pairs)
            or any(each["differ"] for each in self.values.values())
        )

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "same": self.same,
            "recipe": [_fields(each) for each in self.recipe],
            "environment": [_fields(each) for each in self.environment],
            "root": self.root and list(self.root),
            "outputs": {"only_a": list(self.outputs[0]), "only_b": list(self.outputs[1])},
            "rows": list(self.rows),
            "only_a": self.only_a,
            "only_b": self.only_b,
            "moved": [list(each) for each in self.moved],
            "edited": self.edited,
            "changed": {
                name: [{"path": p, "a": a, "b": b} for p, a, b in each]
                for name, each in self.changed.items()
            },
            "columns": {"only_a": list(self.columns[0]), "only_b": list(self.columns[1])},
            "values": self.values,
            "quarantine": {"only_a": list(self.quarantine[0]), "only_b": list(self.quarantine[1])},
        }


def _fields(each: tuple[str, Any, Any]) -> dict[str, Any]:
    name, a, b = each
    return {"field": name, "a": None if a is ABSENT else a, "b": None if b is ABSENT else b}


def diff(a: Features, b: Features, reporter: Reporter | None = None) -> Difference:
    """Compare two features row by row.

    Parameters
    ----------
    a, b : Features
    reporter : Reporter, optional
        Gets progress.

    Returns
    -------
    Difference
        `Difference.same` says whether there is any.
    """
    reporter = reporter or Silent()
    found = Difference(rows=(len(a), len(b)))
    found.recipe = differences(_without_outputs(a.recipe), _without_outputs(b.recipe))
    found.environment = differences(a.environment, b.environment)
    found.root = None if a.root == b.root else (a.root, b.root)
    found.outputs = _only(a.outputs, b.outputs)
    found.quarantine = _only([p for p, _ in a.quarantine], [p for p, _ in b.quarantine])
    there = _matched(a, b)
    mine = np.flatnonzero(there >= 0)
    theirs = there[mine]
    equal = (a.keys[mine] == b.keys[theirs]).all(axis=1)
    found.edited = _paths(a, mine[~equal])
    moved = _moved(a, np.flatnonzero(there < 0), b, _rest(len(b), theirs))
    found.moved = [(a.rows.paths[i], b.rows.paths[j]) for i, j in moved]
    found.only_a = _paths(a, np.setdiff1d(np.flatnonzero(there < 0), [i for i, _ in moved]))
    found.only_b = _paths(b, np.setdiff1d(_rest(len(b), theirs), [j for _, j in moved]))
    _compare_columns(a, b, mine, theirs, found)
    pairs = np.concatenate(
        [np.column_stack([mine, theirs])[equal], np.array(moved, np.intp).reshape(-1, 2)]
    )
    _compare_values(a, b, pairs, found, reporter)
    return found


def _without_outputs(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name != "outputs"}


def _only(a: list[str], b: list[str]) -> tuple[list[str], list[str]]:
    """What stands only in one of the two, in its order."""
    in_a, in_b = set(a), set(b)
    return [x for x in a if x not in in_b], [x for x in b if x not in in_a]


def _matched(a: Features, b: Features) -> np.ndarray:
    """For each row of A the row of B of equal path and view, or -1: (n,) int."""
    if a.rows.view is None and b.rows.view is None:
        return find_texts(a.rows.paths, b.rows.paths)
    # The views of a path follow it, so that path and view in one text keep the order.
    return find_texts(_with_views(a), _with_views(b))


def _with_views(features: Features) -> Texts:
    pairs = zip(features.rows.paths, features.views.tolist(), strict=True)
    return Texts.of(f"{path}\0{view:08}" for path, view in pairs)


def _rest(n: int, taken: np.ndarray) -> np.ndarray:
    left = np.ones(n, bool)
    left[taken] = False
    return np.flatnonzero(left)


def _moved(
    a: Features, rows_a: np.ndarray, b: Features, rows_b: np.ndarray
) -> list[tuple[int, int]]:
    """Rows without a partner whose key and view the other has at another path, each once."""
    places: dict[tuple[bytes, int], list[int]] = {}
    for row in rows_b.tolist():
        places.setdefault((b.keys[row].tobytes(), int(b.views[row])), []).append(row)
    found = []
    views = a.views
    for row in rows_a.tolist():
        left = places.get((a.keys[row].tobytes(), int(views[row])))
        if left:
            found.append((row, left.pop(0)))
    return found


def _paths(features: Features, rows: np.ndarray) -> list[str]:
    """The paths of rows, each once: the views of an image are one."""
    return list(dict.fromkeys(features.rows.paths[row] for row in rows.tolist()))


def _compare_columns(
    a: Features, b: Features, mine: np.ndarray, theirs: np.ndarray, found: Difference
) -> None:
    columns = [{"label": each.labels, "split": each.splits, **each.meta} for each in (a, b)]
    found.columns = _only(list(a.meta), list(b.meta))
    for name, column in columns[0].items():
        if name not in columns[1]:
            continue
        left, right = column[mine], columns[1][name][theirs]
        if left.dtype == right.dtype == np.float64:
            other = (left != right) & ~(np.isnan(left) & np.isnan(right))
        else:
            other = np.array(
                [x != y for x, y in zip(left.tolist(), right.tolist(), strict=True)], bool
            )
        rows = np.flatnonzero(other).tolist()
        if rows:
            found.changed[name] = [
                (a.rows.paths[int(mine[i])], _plain(left[i]), _plain(right[i])) for i in rows
            ]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value


def _compare_values(
    a: Features, b: Features, pairs: np.ndarray, found: Difference, reporter: Reporter
) -> None:
    """Features of equal key, output by output, where both are of one fingerprint."""
    shared = [name for name in a.outputs if name in b.outputs]
    for name in shared:
        left, right = a.output(name), b.output(name)
        if left.fingerprint != right.fingerprint:
            continue
        told: dict[str, Any] = {"compared": len(pairs), "differ": 0, "largest": 0.0, "path": None}
        found.values[name] = told
        if left.features.shape[1] != right.features.shape[1]:
            told.update(differ=len(pairs), largest=float("inf"))
            continue
        with reporter.progress(f"compare {name}", len(pairs)) as bar:
            for start in range(0, len(pairs), WINDOW_ROWS):
                window = pairs[start : start + WINDOW_ROWS]
                x, y = left.features[window[:, 0]], right.features[window[:, 1]]
                other = np.flatnonzero((x != y).any(axis=1))
                bar.advance(len(window))
                if not len(other):
                    continue
                errors = relative_error(y[other], x[other])
                told["differ"] += len(other)
                worst = int(errors.argmax())
                if errors[worst] >= told["largest"]:
                    told["largest"] = float(errors[worst])
                    told["path"] = a.rows.paths[int(window[other[worst], 0])]
