"""Whether the tensors of a probe fit together, and to what its description says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Unsound(Exception):
    """A part of a probe that is not what it must be; says which."""


def require_tensors(arrays: Mapping[str, np.ndarray], task: str, k: int, d: int) -> None:
    """Raise `Unsound` if a tensor is missing, of another type or shape, or names what is not there.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        As of `probe_format.read`.
    task : str
    k : int
        Number of classes.
    d : int
        Length of a feature.
    """
    keys = _array(arrays, "oof/keys", "u", (None, 32))
    m = len(keys)
    _array(arrays, "train_keys", "u", (None, 32))
    y = _array(arrays, "oof/y", "if", (m,) if task == "classification" else (m, k))
    if task == "classification" and m and not (y.min() >= 0 and y.max() < k):
        raise Unsound("oof/y, which names classes that are not there")
    _array(arrays, "oof/probabilities", "f", (m, k))
    _array(arrays, "oof/folds", "i", (m,))
    if "oof/answers" in arrays:
        _array(arrays, "oof/answers", "i", (None, m) if task == "classification" else (None, m, k))
    for name in ("mean", "scale"):
        _array(arrays, f"pipeline/scale.{name}", "f", (d,))
    for name, array in arrays.items():
        if array.dtype.kind not in "iufb":
            raise Unsound(f"{name}, of type {array.dtype}")
        wide = name.partition(".")[2] in (
            "rows",
            "means",
            "support_vectors",
            "hidden_weight",
            "coef",
        )
        if name.startswith("pipeline/head.") and wide and (not array.ndim or array.shape[-1] != d):
            raise Unsound(f"{name}, which is not about {d} features")
    if task == "multilabel":
        _array(arrays, "pipeline/thresholds", "f", (k,))
    _doubt(arrays, d)
    _neighbours(arrays, k)


def _doubt(arrays: Mapping[str, np.ndarray], d: int) -> None:
    if "extra/novelty_reference" in arrays:
        _array(arrays, "extra/novelty_reference", "f", (None, d))
        if not len(_array(arrays, "extra/novelty_scores", "f", (None,))):
            raise Unsound("extra/novelty_scores, which is empty")
    if "extra/abstain_sure" in arrays:
        shape = _array(arrays, "extra/abstain_sure", "f", (None, None)).shape
        _array(arrays, "extra/abstain_right", "ub", shape)
        _array(arrays, "extra/abstain_weights", "f", shape[1:])


def _neighbours(arrays: Mapping[str, np.ndarray], k: int) -> None:
    """What the k nearest neighbours look up by number."""
    if "pipeline/head.rows" in arrays:
        n = len(arrays["pipeline/head.rows"])
        labels = _array(arrays, "pipeline/head.labels", "i", (n,))
        _array(arrays, "pipeline/head.weights", "f", (n,))
        if not n or not (labels.min() >= 0 and labels.max() < k):
            raise Unsound("pipeline/head.labels, which names classes that are not there")


def _array(
    arrays: Mapping[str, np.ndarray], name: str, kinds: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """An array of these kinds of numbers; None in `shape` is any length."""
    if name not in arrays:
        raise Unsound(f"{name}, which is missing")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted is None or wanted == side for wanted, side in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind not in kinds or not fits:
        raise Unsound(f"{name}, which is {array.shape} {array.dtype}")
    return array
