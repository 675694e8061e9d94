"""What a feature file holds beside its features: `Header` and `Rows`, and the names in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .. import paths
from ..errors import CacheError
from ..recipe import fingerprint
from ..texts import Column, Texts, take

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
    """

    paths: Sequence[str]
    keys: np.ndarray
    labels: np.ndarray
    splits: Sequence[str]
    classes: list[str]
    meta: dict[str, Column] = field(default_factory=dict)
    view: np.ndarray | None = None
    quarantine: list[tuple[str, str]] = field(default_factory=list)

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
        require_equal_counts(counts, where)
        if self.keys.shape != (len(self), 32) or self.keys.dtype != np.uint8:
            raise CacheError(
                f"keys are {self.keys.shape} {self.keys.dtype}",
                expected="(n, 32) uint8",
                where=where,
            )
        require_labels_in_range(self.labels, len(self.classes), where)
        unknown = sorted(set(self.splits) - set(SPLITS))
        if unknown:
            raise CacheError(
                f"unknown split {unknown[0]!r}", expected="train, val, test or empty", where=where
            )
        ordered = [paths.order(name) for name in self.classes]
        if any(a >= b for a, b in pairwise(ordered)):
            raise CacheError("classes are not in byte order, each once", where=where)


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


def encode_name(column: str) -> str:
    """A meta column's name as an HDF5 link name, in which ``/`` and ``.`` have a meaning.

    Examples
    --------
    >>> encode_name("price/kg")
    'price%2Fkg'
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
