"""Whether description and tensors of a probe are what every user of a probe takes them for.

A digest says that nobody has damaged a probe since it was written, not who wrote it. A probe from a
stranger, or an old one without a digest, must not lead to anything but a plain error, now or later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .errors import RecipeError
from .probe_tensors import Unsound, require_tensors
from .recipe import fingerprint
from .targets import TASKS

# The metric that stands for a probe, by its task.
FIRST = {"classification": "accuracy", "multilabel": "map", "regression": "r2"}
_PER_CLASS = {
    "classification": ("precision", "recall", "f1", "n"),
    "multilabel": (
        *("average_precision", "auroc", "precision", "recall", "f1", "threshold"),
        *("positives", "n"),
    ),
    "regression": (),
}
_NAMED = {"classification": "class", "multilabel": "label"}
_LARGEST = 2**53  # integers that every reader of JSON has
_DEPTH = 12


def require_sound(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `Unsound` if a part is missing, of another type or length, or contradicts another.

    Parameters
    ----------
    description : mapping
        As of `probe_format.read`.
    arrays : mapping of str to ndarray
    """
    _require_json(description, "description", 0)
    task = _member(description, "task", _text, default="classification")
    if task not in TASKS:
        raise Unsound(f"the task {task!r}")
    classes = _member(description, "classes", _texts)
    k = len(classes)
    if len(set(classes)) != k or k < {"classification": 2, "regression": 1}.get(task, 1):
        raise Unsound("the classes")
    for name in ("head", "protocol", "majority", "fingerprint"):
        _member(description, name, _text)
    for name in ("n_train", "n_test", "n_features"):
        _member(description, name, _count)
    _member(description, "seed", _whole)
    _member(description, "notes", _texts)
    _member(description, "params", _mapping)
    _metrics(description, FIRST[task])
    _per_class(_member(description, "per_class", _list), task)
    _confusion(description, k if task == "classification" else 0)
    _recipe(description)
    if "frequencies" in description:
        shares = _member(description, "frequencies", _list)
        if len(shares) != k or not all(map(_is_number, shares)):
            raise Unsound("the frequencies")
    _optimism(_member(description, "optimism", _mapping, default={}))
    _extra(_member(description, "extra", _mapping, default={}), task)
    _pipeline(_member(description, "pipeline", _mapping), task, k)
    require_tensors(arrays, task, k, description["n_features"])


def _require_json(value: Any, where: str, depth: int) -> None:
    """Numbers that Python's floats hold, and no endless nesting."""
    if depth > _DEPTH:
        raise Unsound(f"{where}, which is nested too deep")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise Unsound(f"{where}, a number of {len(hex(value)) // 2} bytes")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unsound(f"{where}, which is infinite")
    if isinstance(value, dict):
        for name, item in value.items():
            _require_json(item, name[:60], depth + 1)
    if isinstance(value, list):
        for item in value:
            _require_json(item, where, depth + 1)


_MISSING: Any = object()


def _member(
    mapping: Mapping[str, Any], name: str, right: Callable[[Any], bool], default: Any = _MISSING
) -> Any:
    value = mapping.get(name, default)
    if value is _MISSING:
        raise Unsound(f"{name}, which is missing")
    if not right(value):
        raise Unsound(f"{name}, which is {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 50 else f"{type(value).__name__} {text[:40]}..."


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _known(value: Any) -> bool:
    """A number, or null for what is undefined."""
    return value is None or _is_number(value)


def _metrics(description: Mapping[str, Any], first: str) -> None:
    found = {name: _member(description, name, _mapping) for name in ("metrics", "baseline")}
    for which, metrics in found.items():
        for name, metric in metrics.items():
            if not isinstance(metric, dict):
                raise Unsound(f"{which}, {name}")
            for part in ("value", "low", "high"):
                _member(metric, part, _known)
            _member(metric, "level", _known)
            _member(metric, "method", _text)
    if first not in found["metrics"] or found["metrics"].keys() - found["baseline"].keys():
        raise Unsound("the metrics, which lack some")


def _per_class(per_class: list[Any], task: str) -> None:
    for each in per_class:
        if not isinstance(each, dict):
            raise Unsound("per_class")
        if task in _NAMED:
            _member(each, _NAMED[task], _text)
        for name in _PER_CLASS[task]:
            _member(each, name, _count if name in ("n", "positives") else _known)


def _confusion(description: Mapping[str, Any], k: int) -> None:
    rows = _member(description, "confusion", _list)
    if len(rows) != k or not all(
        isinstance(row, list) and len(row) == k and all(map(_count, row)) for row in rows
    ):
        raise Unsound(f"the confusion matrix, which is not {k} x {k} counts")


def _recipe(description: Mapping[str, Any]) -> None:
    recipe = _member(description, "recipe", _mapping)
    outputs = _member(recipe, "outputs", _list)
    if not outputs or not all(isinstance(output, dict) for output in outputs):
        raise Unsound("the recipe's outputs")
    try:
        right = fingerprint(recipe, outputs[0]) == description["fingerprint"]
    except RecipeError:
        right = False
    if not right:
        raise Unsound("the fingerprint, which is not that of the recipe")
    if recipe.get("modality") == "image":
        for name in ("backbone", "weights_sha256"):
            _member(recipe, name, _text)
        _member(recipe, "preprocessing", _mapping)


def _optimism(found: Mapping[str, Any]) -> None:
    if found:
        _member(found, "tuned", _known)
        _member(found, "settings", _whole)
        _member(found, "metric", _text)


def _extra(extra: Mapping[str, Any], task: str) -> None:
    groups = _member(extra, "groups", lambda value: value is None or _mapping(value), default=None)
    if groups:
        _member(
            groups, "groups", lambda value: value is None or isinstance(value, str | dict | int)
        )
    if "novelty" in extra:
        kept = _member(extra, "novelty", _mapping)
        _member(kept, "neighbours", lambda value: _whole(value) and value > 0)
        _member(kept, "alpha", lambda value: _is_number(value) and 0 < value < 1)
        _member(kept, "threshold", _known, default=None)
    if "abstain" in extra:
        kept = _member(extra, "abstain", _mapping)
        _member(kept, "effect", lambda value: _is_number(value) and value > 0)
    if task == "regression":
        _member(extra, "residual", _known)
        _member(extra, "coverage", _is_number)


def _pipeline(state: Mapping[str, Any], task: str, k: int) -> None:
    from .heads.scaling import SCALINGS

    head = _member(state, "head", _mapping)
    _member(head, "class", _text)
    _member(head, "options", _mapping)
    if (state.get("task") or "classification") != task:
        raise Unsound("the pipeline's task")
    if _member(state, "scaling", _text, default="standard") not in SCALINGS:
        raise Unsound(f"the scaling {state['scaling']!r}")
    for holder in (state, head):
        _member(holder, "temperature", lambda value: _is_number(value) and value > 0, default=1.0)
    if task != "regression":
        known = _member(head, "classes", _list)
        if (
            not known
            or sorted(set(known)) != known
            or not all(map(_count, known))
            or known[-1] >= k
        ):
            raise Unsound("the head's classes")
