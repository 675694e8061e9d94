"""Arrays at the door: shapes, types and finite values, before the long work starts."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..errors import FitError
from .wording import names

_LARGEST = 1e15
_BLOCK = 8192  # rows looked at together, so that a large file needs no second copy of itself


def check_arrays(
    X: Any,
    y: Any,
    classes: Sequence[str],
    splits: Any,
    keys: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Arrays of equal length, of the kinds the evaluation counts on.

    Returns
    -------
    X : ndarray of shape (n, d), float32 or float64
    y : ndarray of shape (n,), intp
    splits : ndarray of shape (n,), str
    keys : ndarray of shape (n, b), uint8, or None

    Raises
    ------
    FitError
    """
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind != "f" or not X.shape[1]:
        raise FitError(
            f"the features have shape {X.shape} and type {X.dtype}",
            expected="(n, d) floating-point numbers, d at least 1",
        )
    if X.dtype == np.float16:
        X = X.astype(np.float32)  # sums of squares overflow in half precision
    return X, *check_rows(len(X), y, classes, splits, keys)


def check_rows(
    n: int, y: Any, classes: Sequence[str], splits: Any, keys: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The same of what belongs to `n` rows, without the features.

    Returns
    -------
    y, splits, keys
        See `check_arrays`.

    Raises
    ------
    FitError
    """
    y = np.asarray(y)
    splits = np.full(n, "") if splits is None else np.asarray(splits).astype(str)
    lengths = {"features": n, "labels": len(y), "splits": len(splits)}
    if keys is not None:
        keys = np.asarray(keys, np.uint8)
        lengths["keys"] = len(keys)
    if len(set(lengths.values())) > 1 or y.ndim != 1 or splits.ndim != 1:
        raise FitError(
            ", ".join(f"{name} {count}" for name, count in lengths.items()),
            expected="one row each for every image",
        )
    if y.dtype.kind not in "iu" or (n and not -1 <= y.min() <= y.max() < len(classes)):
        raise FitError(
            f"labels of type {y.dtype}"
            + (f" from {y.min()} to {y.max()}" if n and y.dtype.kind in "iuf" else ""),
            expected=f"integers from -1 (none) to {len(classes) - 1}, an index into the classes",
        )
    return y.astype(np.intp), splits, keys


def check_choices(
    *,
    folds: Any = 5,
    repeats: Any = None,
    seed: Any = 0,
    holdout: Any = None,
    metric: Any = None,
    metrics: Sequence[str] = (),
    select: Any = None,
    selects: Sequence[str] = (),
) -> None:
    """Refuse options that are no numbers, or out of range, or not among what there is.

    Raises
    ------
    FitError
    """
    if not _whole(folds, 2):
        raise FitError(f"--folds is {folds}", expected="a whole number, 2 or more")
    if repeats not in (None, "auto") and not _whole(repeats, 1):
        raise FitError(f"--repeats is {repeats}", expected="a whole number, 1 or more, or auto")
    if not _whole(seed, 0):
        raise FitError(f"--seed is {seed}", expected="a whole number, 0 or more")
    if holdout is not None and not (isinstance(holdout, float | np.floating) and 0 < holdout < 1):
        raise FitError(f"--holdout is {holdout}", expected="a share above 0 and below 1, as 0.2")
    if metrics and metric not in metrics:
        raise FitError(f"there is no metric {metric!r}", expected=", ".join(metrics))
    if selects and select not in selects:
        raise FitError(f"--select is {select!r}", expected=" or ".join(selects))


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_finite(X: np.ndarray, rows: np.ndarray) -> None:
    """Refuse NaN and infinity in the rows that are used.

    Raises
    ------
    FitError
        With the numbers of the rows.
    """
    bad: list[int] = []
    large: list[int] = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        bad += block[~np.isfinite(X[block]).all(axis=1)].tolist()
        large += block[(np.abs(X[block]) > _LARGEST).any(axis=1)].tolist()
    if bad:
        raise FitError(
            f"NaN or infinity in the features of {len(bad)} rows",
            expected="finite numbers",
            where=f"rows {names(bad)}",
            next="bottleneck verify FILE.h5, then extract these images again",
        )
    if large:
        raise FitError(
            f"features above {_LARGEST:g} in {len(large)} rows",
            expected="numbers whose squares can be added up",
            where=f"rows {names(large)}",
            next="divide them all by one number",
        )


def constant_notes(X: np.ndarray, rows: np.ndarray) -> list[str]:
    """A warning where features cannot tell anything apart."""
    constant = np.ones(X.shape[1], bool)
    for start in range(0, len(rows), _BLOCK):
        constant &= (X[rows[start : start + _BLOCK]] == X[rows[0]]).all(axis=0)
    if constant.all():
        return ["all images have the same features: no head can do better than the baseline"]
    if constant.any():
        return [f"{constant.sum()} of {len(constant)} features are constant in the training rows"]
    return []
