"""Likely wrong labels and odd images: out-of-fold probabilities in, a ranked list of suspects out.

Nothing is dropped or relabelled here: the list is for somebody to look at.

References
----------
C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, 2021 (the thresholds, one to a class, and the ranking by the margin).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# No class asks for more. Where nearly all labels are right and easy, a class's mean is 0.99, and an image
# that is of it with 0.95, and labelled otherwise, would pass. (Ours: the paper has no such bound. With a
# tenth of the labels flipped, in four sets of photographs, every mean was below 0.8.)
_CERTAIN = 0.9
KINDS = ("conflict", "label", "outlier")


@dataclass(frozen=True)
class Doubts:
    """Rows to look at, the most suspicious first.

    Attributes
    ----------
    rows : ndarray of shape (s,), intp
        Index into the arrays given to `find_suspects`. A row may stand twice: as a wrong label and as an
        outlier.
    kinds : list of str
        ``conflict`` (a copy of it has another label), ``label`` (the images say another class) or
        ``outlier`` (unlike all others).
    labels, suggested : ndarray of shape (s,), intp
        The class it has, and the most probable other one.
    p_label, p_suggested, margins : ndarray of shape (s,), float64
        Out-of-fold probabilities of both, and ``p_label - p_suggested``.
    novelty : ndarray of shape (s,), float64
        Distance to the other images; NaN where it is not known.
    thresholds : ndarray of shape (k,), float64
        Mean probability of a class over the images that are labelled so, 0.9 at most; NaN for a class
        without one.
    """

    rows: np.ndarray
    kinds: list[str]
    labels: np.ndarray
    suggested: np.ndarray
    p_label: np.ndarray
    p_suggested: np.ndarray
    margins: np.ndarray
    novelty: np.ndarray
    thresholds: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, kind: str) -> int:
        """Suspects of one kind.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        """
        return self.kinds.count(kind)


def find_suspects(
    y: np.ndarray,
    probabilities: np.ndarray,
    *,
    images: np.ndarray | None = None,
    novelty: np.ndarray | None = None,
    novelty_threshold: float = np.inf,
) -> Doubts:
    """Rank the rows whose label is in doubt, then those that are unlike all others.

    A label is in doubt where, of the classes that are at least as probable as they are on average for
    their own images (or 0.9), the most probable one is not the label.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Labels, each 0 to k - 1.
    probabilities : ndarray of shape (n, k)
        Each by a fit that did not see the row.
    images : ndarray of shape (n,), int, optional
        Equal numbers are copies of one image: those with two labels are ``conflict``, and come first.
    novelty : ndarray of shape (n,), optional
        See `novelty.fit_novelty`.
    novelty_threshold : float, optional
        Above it an image is an ``outlier``.

    Returns
    -------
    Doubts

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
    >>> found = find_suspects(np.array([0, 0, 1, 1, 1]), p)
    >>> found.rows.tolist(), found.suggested.tolist(), found.margins.round(2).tolist()
    ([4], [0], [-0.9])
    """
    y = np.asarray(y, np.intp)
    p = np.asarray(probabilities, np.float64)
    n, k = p.shape
    thresholds = np.full(k, np.nan)
    for label in np.unique(y):
        thresholds[label] = min(p[y == label, label].mean(), _CERTAIN)
    own = p[np.arange(n), y]
    others = p.copy()
    others[np.arange(n), y] = -np.inf
    suggested = others.argmax(axis=1)
    best_other = others.max(axis=1)
    # A class without a label of its own (one that only trains) has no threshold, and suspects nobody.
    confident = np.where(p >= np.nan_to_num(thresholds, nan=np.inf), p, -np.inf)
    doubted = (confident.max(axis=1) > -np.inf) & (confident.argmax(axis=1) != y)
    # What the doubt speaks for, which need not be the most probable class.
    suggested = np.where(doubted, confident.argmax(axis=1), suggested)
    best_other = np.where(doubted, p[np.arange(n), suggested], best_other)
    # Equal probabilities say nothing against the label.
    doubted &= best_other > own
    conflict = _conflicting(y, images)
    distance = np.full(n, np.nan) if novelty is None else np.asarray(novelty, np.float64)
    odd = np.nan_to_num(distance, nan=-np.inf) > novelty_threshold
    margin = own - best_other
    ranked: list[tuple[np.ndarray, str]] = []
    for kind, chosen, order in (
        ("conflict", conflict, margin),
        ("label", doubted & ~conflict, margin),
        ("outlier", odd, -distance),
    ):
        rows = np.flatnonzero(chosen)
        ranked.append((rows[np.argsort(order[rows], kind="stable")], kind))
    rows = np.concatenate([rows for rows, _ in ranked])
    return Doubts(
        rows=rows,
        kinds=[kind for rows_of_kind, kind in ranked for _ in rows_of_kind],
        labels=y[rows],
        suggested=suggested[rows],
        p_label=own[rows],
        p_suggested=best_other[rows],
        margins=margin[rows],
        novelty=distance[rows],
        thresholds=thresholds,
    )


def _conflicting(y: np.ndarray, images: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Rows with a copy under another label."""
    if images is None:
        return np.zeros(len(y), bool)
    _, place = np.unique(np.asarray(images), return_inverse=True)
    pairs = np.unique(np.stack([place.reshape(-1), y]), axis=1)[0]
    labels_of_image = np.bincount(pairs)
    return labels_of_image[place.reshape(-1)] > 1
