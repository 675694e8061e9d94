"""What a protocol gives back: the fit that is kept, the scored probabilities, and its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluate.intervals import wilson
from .parts import Parts


@dataclass(frozen=True)
class Setup:
    """What a protocol works on.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Features, not normalised.
    parts : Parts
    metric : str
        What a protocol with a choice of its own chooses by: ``accuracy`` or ``balanced_accuracy``.
    seed : int
        For draws that the source leaves to chance.
    expect : callable
        Called with the number of steps once it is known.
    tick : callable
        Called after each step, from several threads.
    """

    X: np.ndarray
    parts: Parts
    metric: str = "accuracy"
    seed: int = 0
    expect: Callable[[int], None] = field(default=lambda steps: None)
    tick: Callable[[], None] = field(default=lambda: None)

    def rows(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features in float64 and class indices of some rows."""
        return self.X[which].astype(np.float64), self.parts.y[which]


@dataclass
class Outcome:
    """What a protocol found.

    Attributes
    ----------
    head, params, scaling : str, dict, str
        Of the kept fit.
    estimator : estimator
        Fitted on scaled rows `trained_on`.
    parts : Parts
        As the protocol used them; its deviations and notes have grown.
    trained_on : ndarray of intp
    probabilities : ndarray of shape (repeats, m, k), float32
        Of the scored rows, one repeat for each draw of training rows.
    headline : list of dict
        The numbers for a table: ``name``, ``value`` (0 to 1), and ``low``, ``high`` where there is an
        interval, or ``sd`` where the protocol gives a spread.
    table : list of dict
        One row for each k or number of shots.
    traps : list of str
        What the source does and an honest score would not, copied all the same.
    silent : list of str
        Where the source is silent, and what was done here.
    choice : dict
        See `protocol.Result.choice`.
    """

    head: str
    params: dict[str, Any]
    scaling: str
    estimator: Any
    parts: Parts
    trained_on: np.ndarray
    probabilities: np.ndarray
    headline: list[dict[str, Any]]
    table: list[dict[str, Any]] = field(default_factory=list)
    traps: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)


def top_hits(scores: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the k best scores, (n,) bool; of equal scores the first counts.

    Examples
    --------
    >>> top_hits(np.array([[0.5, 0.3, 0.2]]), np.array([1]), 2)
    array([ True])
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray((best == y[:, None]).any(axis=1))


def share(name: str, right: np.ndarray) -> dict[str, Any]:
    """A share of test images with its interval, as a line of the headline."""
    value = float(right.mean())
    low, high = wilson(value, len(right))
    return {"name": name, "value": value, "low": float(low), "high": float(high)}


def top_1_and_5(scores: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """Top-1 and, from five classes on, top-5."""
    return [
        share(f"top-{k}", top_hits(scores, y, k)) for k in (1, 5) if k == 1 or scores.shape[1] >= k
    ]


def score(metric: str, y: np.ndarray, answers: np.ndarray) -> float:
    """Top-1, or the mean over the classes that are there, by which a protocol chooses."""
    right = y == answers
    if metric == "accuracy":
        return float(right.mean())
    return float(np.mean([right[y == label].mean() for label in np.unique(y)]))


def grid_choice(
    name: str, values: np.ndarray, scores: np.ndarray, chosen: int
) -> Mapping[str, Any]:
    """A choice as `Result.choice` keeps it."""
    return {
        "grid": [{name: float(value)} for value in values],
        "scores": [float(s) for s in scores],
        "standard_error": 0.0,
        "chosen": int(chosen),
    }
