"""How well scores rank: the area under the ROC curve and average precision, one class against the rest.

Every function gives the value and its *influence*: by how much the value changes when a row counts a
little more. Summed over rows that belong together and squared, influences give the variance that a
bootstrap of those units would find, without the draws (the infinitesimal jackknife).

References
----------
L. Jaeckel, "The infinitesimal jackknife", Bell Laboratories memorandum MM 72-1215-11, 1972. E. DeLong,
D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves", Biometrics 44, 1988 (the same variance, for the area).
"""

from __future__ import annotations

import numpy as np

Valued = tuple[float, np.ndarray]


def area_under_roc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Valued:
    """Probability that a positive scores above a negative, ties half (Mann and Whitney's U).

    Parameters
    ----------
    positive : ndarray of shape (m,), bool
    scores : ndarray of shape (m,)
    weights : ndarray of shape (m,), float64
        How much each row counts.

    Returns
    -------
    value : float
        0 to 1; nan without a positive or without a negative.
    influence : ndarray of shape (m,), float64
        0 throughout where the value is nan.

    Examples
    --------
    >>> area_under_roc(np.array([0, 0, 1, 1]) > 0, np.array([0.1, 0.4, 0.35, 0.8]), np.ones(4))[0]
    0.75
    """
    w_pos, w_neg = np.where(positive, weights, 0.0), np.where(positive, 0.0, weights)
    pos, neg = w_pos.sum(), w_neg.sum()
    if pos <= 0 or neg <= 0:
        return float("nan"), np.zeros(len(scores))
    order, place, starts = _ties(scores)
    neg_in, pos_in = _by_tie(w_neg, order, starts), _by_tie(w_pos, order, starts)
    below = (np.cumsum(neg_in) - neg_in / 2)[place] / neg  # share of negatives that a row beats
    above = 1 - (np.cumsum(pos_in) - pos_in / 2)[place] / pos  # share of positives that beat it
    value = float(w_pos @ below / pos)
    influence = w_pos / pos * (below - value) + w_neg / neg * (above - value)
    return min(max(value, 0.0), 1.0), influence


def average_precision_of(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Valued:
    """Sum of (R_i - R_{i-1}) P_i over the thresholds, from the highest down; nothing interpolated.

    Parameters
    ----------
    positive, scores, weights
        See `area_under_roc`.

    Returns
    -------
    value : float
        0 to 1; nan without a positive.
    influence : ndarray of shape (m,), float64

    Examples
    --------
    >>> value, _ = average_precision_of(
    ...     np.array([0, 0, 1, 1]) > 0, np.array([0.1, 0.4, 0.35, 0.8]), np.ones(4)
    ... )
    >>> round(value, 4)
    0.8333
    """
    w_pos = np.where(positive, weights, 0.0)
    pos = w_pos.sum()
    if pos <= 0:
        return float("nan"), np.zeros(len(scores))
    order, place, starts = _ties(-scores)
    hits, answered = (
        np.cumsum(_by_tie(w_pos, order, starts)),
        np.cumsum(_by_tie(weights, order, starts)),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(answered > 0, hits / answered, 0.0)
        inverse = np.where(answered > 0, 1 / answered, 0.0)
    at = _by_tie(w_pos, order, starts) / pos  # what each threshold adds to the recall
    value = float(at @ precision)
    # A row changes the precision at its own threshold and at every lower one.
    lower = np.cumsum((at * inverse)[::-1])[::-1]
    lower_precision = np.cumsum((at * inverse * precision)[::-1])[::-1]
    own = np.where(positive, (precision[place] - value) / pos, 0.0)
    influence = weights * (own + np.where(positive, lower[place], 0.0) - lower_precision[place])
    return min(max(value, 0.0), 1.0), influence


def average_precision_of_others(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> float:
    """Average precision where a positive's own hit does not count for itself.

    Scores that say nothing give the share of the positives in the mean, while average precision gives
    more, as a positive at rank r finds at least itself: 1/r. So the lower end of an interval goes by this.

    Parameters
    ----------
    positive, scores, weights
        See `area_under_roc`; the rows of an image together weigh 1.

    Returns
    -------
    float
        0 to 1; nan without a positive.
    """
    w_pos = np.where(positive, weights, 0.0)
    pos = w_pos.sum()
    if pos <= 0:
        return float("nan")
    order, place, starts = _ties(-scores)
    # A whole image less: its copies score alike.
    hits = np.cumsum(_by_tie(w_pos, order, starts))[place] - 1
    answered = np.cumsum(_by_tie(weights, order, starts))[place] - 1
    others = answered > 1e-9
    # Alone at the top there is nobody to judge by: it stays a hit.
    precision = np.where(others, np.maximum(hits, 0) / np.where(others, answered, 1), 1.0)
    return float(w_pos @ np.minimum(precision, 1) / pos)


def one_vs_rest(
    measure: str, y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each class against the rest.

    Parameters
    ----------
    measure : {"auroc", "average_precision"}
    y : ndarray of shape (m,), int
    probabilities : ndarray of shape (m, k)
    weights : ndarray of shape (m,), float64

    Returns
    -------
    values : ndarray of shape (k,)
        nan for a class without a positive, or (AUROC) without a negative.
    influences : ndarray of shape (k, m)
    """
    one = area_under_roc if measure == "auroc" else average_precision_of
    values = np.full(probabilities.shape[1], np.nan)
    influences = np.zeros((probabilities.shape[1], len(y)))
    for c in np.unique(y):
        values[c], influences[c] = one(y == c, probabilities[:, c], weights)
    return values, influences


def _ties(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in ascending order, the number of each row's group of ties, and where groups start."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    new = np.ones(len(ranked), bool)
    new[1:] = ranked[1:] != ranked[:-1]
    place = np.empty(len(ranked), np.intp)
    place[order] = np.cumsum(new) - 1
    return order, place, np.flatnonzero(new)


def _by_tie(values: np.ndarray, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values[order], starts)
