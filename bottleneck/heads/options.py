"""Values of head options: what a user gave in, a plain value or an error in plain words out."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ..errors import FitError
from .mlp.start import INITS


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high


def _positive(value: Any) -> bool:
    return _number(value, 0, inf) and value > 0


def _count(value: Any) -> bool:
    return isinstance(value, int) and _number(value, 1, inf)


def _share(value: Any) -> bool:
    return _number(value, 0, 1)


_POSITIVE = (_positive, "a number above 0")
_COUNT = (_count, "a whole number, 1 or more")
_SHARE = (_share, "a number from 0 to below 1")

# By name, because a name means the same in every head.
_DOMAINS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "C": _POSITIVE,
    "tol": _POSITIVE,
    "learning_rate": _POSITIVE,
    "max_iter": _COUNT,
    "max_epochs": _COUNT,
    "hidden": _COUNT,
    "patience": _COUNT,
    "dropout": _SHARE,
    "validation_fraction": _SHARE,
    "batch_size": (lambda value: value == "auto" or _count(value), "auto, or a whole number"),
    "gamma": (lambda value: value == "scale" or _positive(value), "scale, or a number above 0"),
    "gamma_factor": _POSITIVE,
    "alpha": (lambda value: value == "loo" or _positive(value), "loo, or a number above 0"),
    "k": _COUNT,
    "temperature": _POSITIVE,
    "metric": (lambda value: value in ("cosine", "euclidean"), "cosine or euclidean"),
    "weight_decay": (lambda value: _number(value, 0, inf), "a number, 0 or more"),
    "init": (lambda value: value in INITS, ", ".join(INITS)),
    "shrink_threshold": (lambda value: _number(value, 0, inf), "a number, 0 or more"),
}


def check_option(head: str, name: str, value: Any) -> Any:
    """The value of an option as plain Python data, so that it can be kept as JSON.

    Parameters
    ----------
    head, name : str
    value : object
        A NumPy scalar counts as the number that it holds.

    Raises
    ------
    FitError
        If the head cannot work with the value.

    Examples
    --------
    >>> check_option("logistic", "C", np.float32(0.5))
    0.5
    """
    plain = value.item() if isinstance(value, np.generic) else value
    fits, expected = _DOMAINS.get(name, (lambda _: True, ""))
    if not fits(plain):
        raise FitError(f"{name} of the head {head} is {value!r}", expected=expected)
    return plain
