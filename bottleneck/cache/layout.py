"""What a feature file holds beside its features: `Header` and `Rows`, and the names in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .. import paths
from ..errors import CacheError, InputError
from ..recipe import fingerprint
from ..targets import TASKS, Targets, from_classes, require_task
from ..texts import Coded, Column, Texts, take

FORMAT = "bottleneck-features"
FORMAT_VERSION = 1
SPLITS = ("", "train", "val", "test")
STORES: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
# The root attributes in the order in which `checksums/attributes` covers them.
ATTRIBUTES = (
    "format",
    "format_version",
    "recipe",
    "environment",
    "fingerprint",
    "root",
    "created_by",
)


@dataclass(frozen=True)
class Header:
    """Where the features of a file come from.

    Parameters
    ----------
    recipe : dict
        What decides a feature's value; the first of its ``outputs`` is the dataset ``features``.
    environment : dict
        What else was there when they were computed: engine, batch size, device, versions.
    fingerprint : str
        Of `recipe` with its first output; 64 hexadecimal digits.
    root : str
        Absolute folder that the paths are relative to, escaped as they are; empty if there is none.
    store : {'float32', 'float16'}
        Type of the features in the file.
    created_by : str
        Program and version that wrote the file; empty before it is written.
    """

    recipe: dict[str, Any]
    environment: dict[str, Any]
    fingerprint: str
    root: str = ""
    store: str = "float32"
    created_by: str = ""

    def require_sound(self, where: str) -> None:
        """Raise a CacheError if the fingerprint is not that of the recipe, or the store unknown."""
        outputs = self.recipe.get("outputs")
        if not (isinstance(outputs, list) and outputs and isinstance(outputs[0], dict)):
            raise CacheError("the recipe has no outputs", expected="a list of dicts", where=where)
        right = fingerprint(self.recipe, outputs[0])
        if self.fingerprint != right:
            raise CacheError(
                f"the fingerprint {self.fingerprint[:12]}... does not belong to the recipe",
                expected=f"{right[:12]}...",
                where=where,
                next="extract again: it cannot be said what these features are",
            )
        if self.store not in STORES:
            raise CacheError(f"store is {self.store!r}", expected=" or ".join(STORES), where=where)


@dataclass
class Rows:
    """Everything that has one entry for each row of the features, and the lists beside it.

    Parameters
    ----------
    paths : sequence of str
        Stored form (`bottleneck_probe.paths.escape`), n of them: `Texts` where there may be many.
    keys : ndarray of shape (n, 32), uint8
        BLAKE3 of the bytes each feature was computed from.
    labels : ndarray of shape (n,), int32
        Index into `classes`; -1 is none.
    splits : sequence of str
        ``train``, ``val``, ``test`` or empty, n of them.
    classes : list of str
        Ordered by their UTF-8 bytes, each once.
    meta : dict of str to ndarray of float64 or sequence of str
        Further columns by name, n values each; NaN is a number that is missing.
    view : ndarray of shape (n,), int32, optional
        Which view of the image a row is; None means that all are view 0.
    quarantine : list of (path, reason)
        Inputs without a feature, and why.
    phash : ndarray of shape (n,), uint64, optional
        Perceptual hash of the image of each row (`images.phash`); None if not every one is known.
    targets : Targets, optional
        Where the task is not classification; its names are then the `classes`, and no row has a
        label.
    """

    paths: Sequence[str]
    keys: np.ndarray
    labels: np.ndarray
    splits: Sequence[str]
    classes: list[str]
    meta: dict[str, Column] = field(default_factory=dict)
    view: np.ndarray | None = None
    quarantine: list[tuple[str, str]] = field(default_factory=list)
    targets: Targets | None = None
    phash: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> Rows:
        """These rows in this order; classes and quarantine as they are."""
        return Rows(
            paths=take(self.paths, rows),
            keys=self.keys[rows],
            labels=self.labels[rows],
            splits=take(self.splits, rows),
            classes=list(self.classes),
            meta={name: take(column, rows) for name, column in self.meta.items()},
            view=None if self.view is None else self.view[rows],
            quarantine=list(self.quarantine),
            targets=None if self.targets is None else self.targets.take(rows),
            phash=None if self.phash is None else self.phash[rows],
        )

    def views(self) -> np.ndarray:
        """The view of each row: (n,) int32, zeros where the file has none."""
        return np.zeros(len(self), np.int32) if self.view is None else self.view

    def sorted(self) -> np.ndarray:
        """The row numbers in the order of the file: by the bytes of the path, then by view."""
        # By the view first: the order of the paths keeps that of the rows where they are equal.
        by_view = np.argsort(self.views(), kind="stable")
        return by_view[Texts.of(self.paths).take(by_view).argsort()]

    def require_sound(self, where: str) -> None:
        """Raise a CacheError if columns differ in length or type, or hold an impossible value."""
        counts = {"paths": len(self.paths), "keys": len(self.keys), "labels": len(self.labels)}
        counts["splits"] = len(self.splits)
        counts.update({f"meta/{name}": len(column) for name, column in self.meta.items()})
        if self.view is not None:
            counts["view"] = len(self.view)
        if self.phash is not None:
            counts["phash"] = len(self.phash)
        require_equal_counts(counts, where)
        if self.keys.shape != (len(self), 32) or self.keys.dtype != np.uint8:
            raise CacheError(
                f"keys are {self.keys.shape} {self.keys.dtype}",
                expected="(n, 32) uint8",
                where=where,
            )
        if self.phash is not None and self.phash.dtype != np.uint64:
            raise CacheError(f"phash is {self.phash.dtype}", expected="uint64", where=where)
        require_labels_in_range(self.labels, len(self.classes), where)
        found = self.splits.distinct() if isinstance(self.splits, Coded) else set(self.splits)
        unknown = sorted(found - set(SPLITS))
        if unknown:
            raise CacheError(
                f"unknown split {unknown[0]!r}", expected="train, val, test or empty", where=where
            )
        ordered = [paths.order(name) for name in self.classes]
        if any(a >= b for a, b in pairwise(ordered)):
            raise CacheError("classes are not in byte order, each once", where=where)
        if self.targets is not None:
            require_targets(self.targets, self, where)


def require_equal_counts(counts: dict[str, int], where: str) -> None:
    """Raise a CacheError that lists the counts, such as "features 10, keys 9", if they differ."""
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CacheError(
            f"the columns differ in length: {listed}", expected="one entry per row", where=where
        )


def require_labels_in_range(labels: np.ndarray, k: int, where: str) -> None:
    """Raise a CacheError naming the first label that is neither -1 nor an index below `k`."""
    wrong = np.flatnonzero((labels < -1) | (labels >= k))
    if len(wrong):
        raise CacheError(
            f"the label of row {wrong[0]} is {labels[wrong[0]]}, but there are {k} classes",
            expected=f"-1 to {k - 1}",
            where=where,
        )


def for_task(rows: Rows, task: str, name: str, where: str) -> Rows:
    """The same rows with their labels read for a task; see `Features.with_task`."""
    require_task(task)
    own = "classification" if rows.targets is None else rows.targets.task
    if task in ("auto", own):
        return rows
    if rows.targets is not None:
        raise InputError(
            f"the labels are of the task {own}, not {task}",
            expected=f"--task {own}, or auto",
            where=where,
            next=f"extract again with --task {task}, which takes the new labels and computes nothing",
        )
    found = from_classes(task, rows.classes, rows.labels, name=name, where=where)
    nothing = np.full(len(rows), -1, np.int32)
    return replace(rows, labels=nothing, classes=found.names, targets=found)


def require_targets(targets: Targets, rows: Rows, where: str) -> None:
    """Raise a CacheError if targets do not fit the rows, or hold what their task does not know."""
    n, k = len(rows), len(rows.classes)
    values = targets.values
    if targets.task not in TASKS[1:]:
        raise CacheError(
            f"the task is {targets.task!r}", expected=" or ".join(TASKS[1:]), where=where
        )
    if values.shape != (n, k) or values.dtype != np.float32 or targets.names != rows.classes:
        raise CacheError(
            f"targets are {values.shape} {values.dtype}",
            expected=f"({n}, {k}) float32",
            where=where,
        )
    if targets.task == "multilabel":
        wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
    else:
        wrong = np.isinf(values)
    if wrong.any():
        raise CacheError(
            f"the target of row {np.flatnonzero(wrong.any(axis=1))[0]} is {values[wrong][0]}",
            expected="0, 1 or NaN" if targets.task == "multilabel" else "a finite number or NaN",
            where=where,
        )
    if (rows.labels >= 0).any():
        raise CacheError(
            "rows have a class as well as targets", expected="one of them", where=where
        )


def encode_name(column: str) -> str:
    """A meta column's name as an HDF5 link name, in which ``/`` and ``.`` have a meaning.

    Examples
    --------
    >>> encode_name("price/kg"), encode_name("."), encode_name("")
    ('price%2Fkg', '%2E', '%')
    """
    if not column:
        return "%"
    if column == ".":
        return "%2E"
    return column.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def decode_name(link: str) -> str:
    """The column name that `encode_name` was given."""
    if link == "%":
        return ""
    for escaped, plain in (("%2E", "."), ("%2F", "/"), ("%00", "\0"), ("%25", "%")):
        link = link.replace(escaped, plain)
    return link
