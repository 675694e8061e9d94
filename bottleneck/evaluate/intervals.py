"""95 % intervals of the metrics: a confusion matrix in, (low, high) and the method's name out.

Every interval lies inside [0, 1], holds the value, and has a width, also where all or none are right.

Cross-validated scores get wider ones. An image is in one test fold and in K - 1 training sets, so the
folds depend on each other and an interval for n independent images is too narrow. Counting n / 1.5
images instead, the interval held the kept probe's accuracy in 98 to 100 % of 120 draws each of 60 and
300 images of overlapping classes; where all but 1 or 2 % is right, in 89 % (60 images) and 95 % (300).
Balanced accuracy: 94 to 100 %, there 86 and 95 %. So where fewer than 3 of the counted answers are wrong
(or right) it is joined with Clopper and Pearson's exact one: on 194 other draws of 60 images, of which
1 to 4 % were hard, with a fixed C, that raised 95.4 to 98.5 % and the width by 3 to 6 % (n / 2: 20 %).

References
----------
E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987 (BCa). Zou and Donner's MOVER over the
classes was tried for balanced accuracy: with 10 classes of 2 to 15 images it held in 86 to 90 % of draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, norm

from .metrics import METRICS, f1_from_counts, recall, values

LEVEL = 0.95
CV_SHRINK = 1.5  # images that count as one, under cross-validation
_Z = float(norm.ppf(0.5 + LEVEL / 2))
_DRAWS = 2000
_BORROWED = 4.0  # images' worth of variance that a class takes from the others
_FEW = 3.0  # wrong (or right) answers below which Wilson's interval misses too often
_SMALL_CLASS = 5.0  # images below which resampling a class misses most of what could have been

Metric = dict[str, Any]  # value, low, high, level, method


def wilson(value: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a proportion.

    Parameters
    ----------
    value : array-like of float, 0 to 1
    n : array-like of float, above 0
        Number of images; need not be whole.

    Returns
    -------
    low, high : ndarray

    Examples
    --------
    >>> [round(float(bound), 3) for bound in wilson(45 / 50, 50)]
    [0.786, 0.957]
    """
    value, n = np.asarray(value, np.float64), np.asarray(n, np.float64)
    centre = (value + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(value * (1 - value) / n + _Z**2 / (4 * n**2))
    # At 0 and 1 the bound is the value itself, up to a rounding that would exclude it.
    return np.clip(np.minimum(centre - half, value), 0, 1), np.clip(
        np.maximum(centre + half, value), 0, 1
    )


def clopper_pearson(value: float, n: float) -> tuple[float, float]:
    """The exact interval of a proportion, which holds at least as often as it claims.

    Parameters
    ----------
    value : float, 0 to 1
    n : float, above 0
        Number of images; need not be whole.

    Examples
    --------
    >>> [round(bound, 3) for bound in clopper_pearson(45 / 50, 50)]
    [0.782, 0.967]
    """
    right, wrong = value * n, (1 - value) * n
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, right, wrong + 1)) if right > 0 else 0.0
    high = float(beta.ppf(1 - tail, right + 1, wrong)) if wrong > 0 else 1.0
    return low, high


def effective_size(recalls: np.ndarray, sizes: np.ndarray) -> float:
    """How many images a mean recall is worth, so that Wilson's interval applies to it.

    The ratio of the variance of one answer to the variance of the mean recall; both variances are
    estimated with something added, because a few images that are all right show none.

    Parameters
    ----------
    recalls : ndarray of shape (k,)
    sizes : ndarray of shape (k,), float
        Images of each class.

    Returns
    -------
    float
        The number of images where classes are of equal size and equally hard.

    Examples
    --------
    >>> round(effective_size(np.array([0.9, 0.9]), np.array([50.0, 50.0])))
    100
    >>> round(effective_size(np.array([1.0, 1.0]), np.array([90.0, 10.0])))
    36
    """
    mean, floor = recalls.mean(), _Z**2 / (4 * sizes.sum())
    typical = mean * (1 - mean) + floor
    # A class of 3 images says little about its own variance: as much again comes from the others.
    own = (sizes * (recalls * (1 - recalls) + floor) + _BORROWED * typical) / (sizes + _BORROWED)
    return float(typical / (np.sum(own / sizes) / len(sizes) ** 2))


def with_intervals(confusion: np.ndarray, *, shrink: float = 1.0) -> dict[str, Metric]:
    """All metrics of a confusion matrix, each with its interval.

    Parameters
    ----------
    confusion : ndarray of shape (k, k)
        Counts, rows are true classes; the mean over repeats of a cross-validation, and copies that
        count as one image together, may hold fractions.
    shrink : float, default 1.0
        How many images count as one: 1 for a held-out set, `CV_SHRINK` across folds.

    Returns
    -------
    dict of str to dict
        ``{"value", "low", "high", "level", "method"}`` by metric.
    """
    scored = confusion.sum(axis=1) > 0
    sizes = confusion.sum(axis=1)[scored] / shrink
    found = values(confusion)
    effective = effective_size(recall(confusion)[scored], sizes)
    counted = {
        "accuracy": float(sizes.sum()),
        "balanced_accuracy": effective,
        "macro_f1": effective,
    }
    bounds, methods = {}, {}
    for name, n in counted.items():
        # One held-out set is what Wilson's interval is for, and what a reader will check it against.
        exact = shrink != 1 and n * min(found[name], 1 - found[name]) < _FEW
        low, high = (float(bound) for bound in wilson(found[name], n))
        if exact:
            wider = clopper_pearson(found[name], n)
            low, high = min(low, wider[0]), max(high, wider[1])
        bounds[name] = low, high
        methods[name] = "wilson or clopper-pearson, the wider" if exact else "wilson"
        methods[name] += ", effective n" if name != "accuracy" else ""
    bootstrap = bca_macro_f1(confusion)
    if bootstrap is not None:
        value, factor = found["macro_f1"], np.sqrt(shrink)
        low = max(value - factor * (value - bootstrap[0]), 0.0)
        high = min(value + factor * (bootstrap[1] - value), 1.0)
        methods["macro_f1"] = "bca bootstrap"
        if sizes.min() < _SMALL_CLASS:
            low, high = min(low, bounds["macro_f1"][0]), max(high, bounds["macro_f1"][1])
            methods["macro_f1"] = "bca bootstrap or wilson, the wider"
        bounds["macro_f1"] = float(low), float(high)
    suffix = "" if shrink == 1 else f" (n / {shrink:g}, cross-validated)"
    return {
        name: {
            "value": found[name],
            "low": min(bounds[name][0], found[name]),
            "high": max(bounds[name][1], found[name]),
            "level": LEVEL,
            "method": methods[name] + suffix,
        }
        for name in METRICS
    }


def bca_macro_f1(
    confusion: np.ndarray, *, draws: int = _DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """BCa bootstrap of macro-F1; images are resampled inside each true class.

    Parameters
    ----------
    confusion : ndarray of shape (k, k)
    draws : int, default 2000
    seed : int, default 0

    Returns
    -------
    (low, high) or None
        None where nothing varies: all answers right, or one answer for each class.
    """
    rows = np.flatnonzero(confusion.sum(axis=1) > 0)
    # Whole images are drawn; a class with half of one (its copy stands in another class) draws one.
    actual = np.zeros(len(confusion), np.int64)
    actual[rows] = np.maximum(np.rint(confusion[rows].sum(axis=1)), 1)
    value = values(confusion)["macro_f1"]
    rng = np.random.default_rng(seed)
    hits = np.zeros((draws, len(confusion)))
    answered = np.zeros((draws, len(confusion)))
    for i in rows:
        columns = np.flatnonzero(confusion[i])  # few: a large table of zeros would cost seconds
        drawn = rng.multinomial(
            actual[i], confusion[i, columns] / confusion[i, columns].sum(), size=draws
        )
        answered[:, columns] += drawn
        hits[:, i] = drawn[:, columns == i].sum(axis=1)
    resampled = f1_from_counts(hits[:, rows], actual[rows], answered[:, rows]).mean(axis=1)
    share = np.mean(resampled < value) + np.mean(resampled == value) / 2
    if np.ptp(resampled) == 0 or not 0 < share < 1:
        return None
    z0 = norm.ppf(share)
    z = z0 + np.array([-_Z, _Z])
    acceleration = _acceleration(confusion, rows)
    levels = norm.cdf(z0 + z / (1 - acceleration * z))
    low, high = np.quantile(resampled, levels)
    return float(low), float(high)


def _acceleration(confusion: np.ndarray, rows: np.ndarray) -> float:
    """Skewness of the jackknife; images of one cell leave the same value, so it runs over cells."""
    true, answer = np.nonzero(confusion)
    counts = confusion[true, answer]
    actual, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    hits = np.diagonal(confusion)
    full = np.nan_to_num(f1_from_counts(hits, actual, answered))
    # Only the F1 of the true class and of the answer change when one image goes.
    one = np.minimum(counts, 1)
    right = true == answer
    own = f1_from_counts(
        hits[true] - one * right,
        np.maximum(actual[true] - one, 0),
        answered[true] - one * right,
    )
    other = f1_from_counts(hits[answer], actual[answer], answered[answer] - one)
    change = np.nan_to_num(own) - full[true]
    change += np.where(right, 0, np.nan_to_num(other) - full[answer])
    left = change / len(rows)
    spread = np.average(left, weights=counts) - left
    squares = np.sum(counts * spread**2)
    return float(np.sum(counts * spread**3) / (6 * squares**1.5)) if squares > 0 else 0.0
