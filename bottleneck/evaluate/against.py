"""A new probe against an old one, on the same images: who is right where, and is the new one worse?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import CV_SHRINK, LEVEL, Metric
from .paired import accuracy_interval, exact_mcnemar
from .splits import copy_weights


@dataclass(frozen=True)
class Against:
    """Paired difference of two probes.

    Attributes
    ----------
    difference : dict
        ``{"value", "low", "high", "level", "method"}``: accuracy of the new probe less that of the old one.
    p : float
        Exact McNemar, two-sided.
    n : int
        Images that both answered without having been trained on them.
    mended, broken : ndarray of intp
        Rows (of those given) that only the new or only the old probe answers right.
    new, old : float
        Accuracy of each on these images.
    """

    difference: Metric
    p: float
    n: int
    mended: np.ndarray
    broken: np.ndarray
    new: float
    old: float

    @property
    def worse(self) -> bool:
        """Whether the new probe is shown to be worse: the whole interval lies below 0."""
        return self.difference["high"] < 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, without the rows."""
        return {
            "difference": self.difference,
            "p": self.p,
            "n": self.n,
            "mended": len(self.mended),
            "broken": len(self.broken),
            "new": self.new,
            "old": self.old,
            "worse": self.worse,
        }


def against(
    y: np.ndarray,
    new: np.ndarray,
    old: np.ndarray,
    images: np.ndarray,
    *,
    held_out: bool,
) -> Against:
    """Compare two probes' answers to the same rows.

    Parameters
    ----------
    y : ndarray of shape (m,), int
        True classes.
    new : ndarray of shape (repeats, m), int
        Answers of the new probe in each repeat of its cross-validation; one row for a held-out set.
    old : ndarray of shape (repeats of the old one, m), int
        Answers of the old one; a number that no class has where it cannot know the class. Repeats are
        paired in turn.
    images : ndarray of shape (m,), int
        Equal for copies of an image, which count once.
    held_out : bool
        Whether the images are one test set; across folds n counts less (see `intervals`).

    Returns
    -------
    Against

    Notes
    -----
    Exact McNemar and Newcombe's interval, joined with the exact conditional one, as in `compare`: the
    interval holds 0 just where p is 0.05 or more. The rows that flipped are those of the first repeat.
    """
    weights = copy_weights(images)
    shrink = 1.0 if held_out else CV_SHRINK
    repeats = np.arange(max(len(new), len(old)))
    right_new, right_old = (
        each[repeats % len(each)] == y for each in (np.atleast_2d(new), np.atleast_2d(old))
    )
    pairs = (
        right_new & right_old,
        right_new & ~right_old,
        ~right_new & right_old,
        ~right_new & ~right_old,
    )
    both, only_new, only_old, neither = (float(np.mean(cell @ weights)) / shrink for cell in pairs)
    n = both + only_new + only_old + neither
    value = (only_new - only_old) / n
    low, high = accuracy_interval(both, only_new, only_old, neither)
    suffix = "" if held_out else f" (n / {shrink:g}, cross-validated)"
    return Against(
        difference={
            "value": value,
            "low": min(low, value),
            "high": max(high, value),
            "level": LEVEL,
            "method": "newcombe or exact conditional, the wider" + suffix,
        },
        p=exact_mcnemar(only_new, only_old),
        n=len(np.unique(images)),
        mended=np.flatnonzero(pairs[1][0]),
        broken=np.flatnonzero(pairs[2][0]),
        new=(both + only_new) / n,
        old=(both + only_old) / n,
    )
