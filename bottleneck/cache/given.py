"""Arrays that a user brings, as header, rows and features; for `Features.from_arrays`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from blake3 import blake3

from ..errors import CacheError, InputError
from ..recipe import fingerprint
from ..targets import Targets, require_label_names, require_task
from .layout import SPLITS, Column, Header, Rows

OUTPUT = {"node": "given", "pooling": "none"}


def arrays(
    X: Any,
    labels: Sequence[Any] | None,
    ids: Sequence[Any] | None,
    splits: Sequence[str] | None,
    meta: Mapping[str, Any] | None,
    recipe: dict[str, Any] | None,
) -> tuple[Header, Rows, np.ndarray]:
    """Header, rows and features (n, d) float32; parameters as of `Features.from_arrays`."""
    features = _features(X)
    n, d = features.shape
    names = [_label(value, row) for row, value in enumerate(_column(labels, n, "labels", None))]
    classes = sorted({name for name in names if name}, key=str.encode)
    index = {name: i for i, name in enumerate(classes)}
    rows = Rows(
        paths=_ids(ids, n),
        keys=keys_of(features),
        labels=np.array([index.get(name, -1) for name in names], np.int32),
        splits=_splits(splits, n),
        classes=classes,
        meta={str(name): _meta(values, n, str(name)) for name, values in (meta or {}).items()},
    )
    told = recipe if recipe is not None else {"modality": "array", "dim": d}
    outputs = told.get("outputs") or [OUTPUT]
    if not isinstance(outputs, list) or not isinstance(outputs[0], dict):
        raise InputError(f"the recipe's outputs are {outputs!r}", expected="a list of dicts")
    # X is one output, whatever else the recipe was for.
    whole = {**told, "outputs": outputs[:1]}
    header = Header(whole, {}, fingerprint(whole, whole["outputs"][0]))
    return header, rows, features


def with_targets(rows: Rows, targets: Any, classes: Sequence[str] | None, task: str) -> Rows:
    """Rows with targets (n, k) or (n,) instead of labels; parameters as of `Features.from_arrays`."""
    require_task(task)
    if task == "auto":
        task = "multilabel" if classes is not None else "regression"
    if task == "classification" or (rows.labels >= 0).any():
        raise InputError("targets were given as well as classes", expected="targets or labels")
    values = np.asarray(targets)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(rows) or values.dtype.kind not in "fiub":
        raise InputError(
            f"targets have shape {values.shape} and dtype {values.dtype}",
            expected=f"numbers of shape ({len(rows)}, k)",
        )
    names = list(classes) if classes is not None else ["value"]
    k = values.shape[1]
    if len(names) != k or len(set(names)) != k or (task == "regression" and k != 1):
        raise InputError(
            f"targets have {k} columns, and the names {names}",
            expected="one different name for each" if task == "multilabel" else "one column",
        )
    require_label_names(names, "classes")
    by_bytes = sorted(range(k), key=lambda i: names[i].encode())
    with np.errstate(over="ignore"):  # becomes infinite, which is told
        chosen = values[:, by_bytes].astype(np.float32)
    found = Targets(task, [names[i] for i in by_bytes], chosen)
    made = replace(rows, classes=found.names, targets=found)
    try:
        made.require_sound("targets")
    except CacheError as error:
        raise InputError(error.what, expected=error.expected, where="targets") from error
    return made


def keys_of(features: np.ndarray) -> np.ndarray:
    """BLAKE3 of each row's dtype, shape and bytes: (n, 32) uint8.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32
    """
    prefix = f"{features.dtype.str}({features.shape[1]},)".encode()
    # 0.0 and -0.0 are equal, so their rows are.
    positive = features + np.float32(0)
    hashes = [blake3(prefix + row.tobytes()).digest() for row in positive]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(len(features), 32)


def _features(X: Any) -> np.ndarray:
    given = np.asarray(X)
    if given.ndim != 2 or given.dtype.kind not in "fiub" or not given.size:
        raise InputError(
            f"X has shape {given.shape} and dtype {given.dtype}",
            expected="numbers of shape (n, d), at least one of each",
            next="X.reshape(len(X), -1) makes rows of anything",
        )
    with np.errstate(over="ignore"):  # becomes infinite, which is told
        features = given.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(wrong):
        raise InputError(
            f"X is NaN, infinite or too large in {len(wrong)} rows, the first is {wrong[0]}",
            expected="finite float32",
            next="leave these rows out: X[np.isfinite(X).all(axis=1)]",
        )
    return features


def _column(values: Any, n: int, name: str, missing: Any) -> list[Any]:
    """`values` as a list of n, or n times `missing` if there are none."""
    if values is None:
        return [missing] * n
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(listed) != n:
        raise InputError(f"{len(listed)} {name} for {n} rows of X", expected=f"{n} {name}")
    return listed


def _label(value: Any, row: int) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return _unicode(value, row, "label")
    if isinstance(value, int | np.integer):
        return str(int(value))
    raise InputError(
        f"the label of row {row} is {value!r}, a {type(value).__name__}",
        expected="a class name, or None for no label",
        next="labels=[str(label) for label in labels]",
    )


def _ids(ids: Sequence[Any] | None, n: int) -> list[str]:
    if ids is None:
        return [f"{row:0{len(str(n - 1))}}" for row in range(n)]
    listed = []
    for row, value in enumerate(_column(ids, n, "ids", "")):
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        listed.append(_unicode(text, row, "id"))
    twice = [name for name, count in Counter(listed).items() if count > 1]
    if twice:
        raise InputError(f"the id {twice[0]!r} stands twice", expected="unique ids")
    return listed


def _splits(splits: Sequence[str] | None, n: int) -> list[str]:
    listed = ["" if value is None else value for value in _column(splits, n, "splits", "")]
    for row, value in enumerate(listed):
        if value not in SPLITS:
            raise InputError(
                f"the split of row {row} is {value!r}", expected="train, val, test or empty"
            )
    return [str(value) for value in listed]


def _meta(values: Any, n: int, name: str) -> Column:
    listed = _column(values, n, f"values of {name}", "")
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    missing = [value is None or (isinstance(value, float) and np.isnan(value)) for value in listed]
    return [
        "" if gone else _unicode(str(value), row, name)
        for row, (value, gone) in enumerate(zip(listed, missing, strict=True))
    ]


def _unicode(text: str, row: int, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"the {what} of row {row} is not Unicode: {text!r}",
            next="escape it with bottleneck_probe.paths.escape",
        ) from None
    if "\0" in text:
        raise InputError(f"the {what} of row {row} holds a NUL character: {text!r}")
    return text
