"""95 % intervals of the metrics: a confusion matrix in, (low, high) and the method's name out.

Every interval lies inside [0, 1], holds the value, and has a width, also where all or none are right.

Cross-validated scores get wider ones, for two reasons. An image is in one test fold and in K - 1 training
sets, so the folds depend on each other and an interval for n independent images is too narrow: n / 1.5 is
counted. And the folds train on fewer images than the kept probe does, so that their score is too low where
the learning curve is still steep: the upper bound is raised by what the curve's slope promises
(`learning_gain`). Where fewer than 3 of the images so counted are wrong (or right), Wilson's interval is
joined with Clopper and Pearson's exact one; both on n / 1.2, because an exact interval is too wide already.
It then goes to the end of the scale: that the kept probe makes no mistake is not excluded.

How often they hold the kept probe's accuracy, and its balanced accuracy, stands in the documentation ("Is
the score honest?"); tests/intervals_hold/experiment.py measures it. Before that, methods were compared on
ridge regression with nested choices, 300 to 500 draws each: 10 classes (handwritten digits) of which 100
images are given are 2.8 points too low, and 91 % of the intervals on n / 1.5 held without the slope, 98 %
with it; 30 images, 6 to 8 points too low, 92 and 96 %. Of an easy pair of classes 98 to 99 % held with n /
1.2, at 1.2 times Wilson's width, against 1.4 times with n / 1.5.

References
----------
E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987 (BCa). Zou and Donner's MOVER over the
classes was tried for balanced accuracy: with 10 classes of 2 to 15 images it held in 86 to 90 % of draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, norm
from scipy.stats import t as student

from .metrics import f1_from_counts, recall, values

LEVEL = 0.95
CV_SHRINK = 1.5  # images that count as one, under cross-validation
_FEW_SHRINK = 1.2  # the same where few are wrong and the exact interval is joined
Z = float(norm.ppf(0.5 + LEVEL / 2))
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
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
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
    mean, floor = recalls.mean(), Z**2 / (4 * sizes.sum())
    typical = mean * (1 - mean) + floor
    # A class of 3 images says little about its own variance: as much again comes from the others.
    own = (sizes * (recalls * (1 - recalls) + floor) + _BORROWED * typical) / (sizes + _BORROWED)
    return float(typical / (np.sum(own / sizes) / len(sizes) ** 2))


def with_intervals(
    confusion: np.ndarray,
    *,
    shrink: float = 1.0,
    design: Mapping[str, float] | None = None,
    gain: Mapping[str, float] | None = None,
) -> dict[str, Metric]:
    """The metrics of a confusion matrix, each with its interval.

    Parameters
    ----------
    confusion : ndarray of shape (k, k)
        Counts, rows are true classes; the mean over repeats of a cross-validation, and copies that
        count as one image together, may hold fractions.
    shrink : float, default 1.0
        How many images count as one: 1 for a held-out set, `CV_SHRINK` across folds.
    design : dict of str to float, optional
        By metric, how many more count as one because images belong together (patients, cameras): see
        `spread.design_effect`. Default 1.
    gain : dict of str to float, optional
        By metric, what the kept probe can be expected to score more than those that were scored, because
        it learns from more images; see `learning_gain`. Added to the upper bound.

    Returns
    -------
    dict of str to dict
        ``{"value", "low", "high", "level", "method"}`` by metric.
    """
    scored = confusion.sum(axis=1) > 0
    sizes = confusion.sum(axis=1)[scored]
    found = values(confusion)
    counted = _counted(confusion, shrink)
    counted_few = _counted(confusion, min(shrink, _FEW_SHRINK))
    joined = {name: max(1.0, (design or {}).get(name, 1.0)) for name in counted}
    gains = {name: max(0.0, (gain or {}).get(name, 0.0)) for name in counted}
    bounds, methods, used = {}, {}, {}
    for name in counted:
        n = counted[name] / joined[name]
        # One held-out set is what Wilson's interval is for, and what a reader will check it against.
        exact = shrink != 1 and n * min(found[name], 1 - found[name]) < _FEW
        used[name] = shrink
        if exact:
            n, used[name] = counted_few[name] / joined[name], min(shrink, _FEW_SHRINK)
        low, high = (float(bound) for bound in wilson(found[name], n))
        if exact:
            wider = clopper_pearson(found[name], n)
            low, high = min(low, wider[0]), max(high, wider[1])
            # One or two wrong answers of the folds do not exclude that the kept probe makes none: it
            # learned from more images, the hard ones too. Of 400 images, 99.7 % of them easy, the upper
            # end was too low in 13 % of 150 draws without this, and in 1 % with it.
            high = 1.0 if found[name] > 0.5 else high
            low = 0.0 if found[name] < 0.5 else low
        bounds[name] = low, high
        methods[name] = "wilson or clopper-pearson, the wider, to the end" if exact else "wilson"
        methods[name] += ", effective n" if name != "accuracy" else ""
    bootstrap = bca_macro_f1(confusion)
    if bootstrap is not None:
        value, factor = found["macro_f1"], np.sqrt(shrink * joined["macro_f1"])
        low = max(value - factor * (value - bootstrap[0]), 0.0)
        high = min(value + factor * (bootstrap[1] - value), 1.0)
        methods["macro_f1"], used["macro_f1"] = "bca bootstrap", shrink
        found_of = recall(confusion)[scored]
        # Draws from a class that is all right or all wrong are all alike; of nothing but such classes
        # they differ by where the wrong answers went, which says nothing of how many there might be.
        alike = bool(np.isin(found_of, (0, 1)).all())
        if alike or sizes.min() / shrink < _SMALL_CLASS:
            low, high = min(low, bounds["macro_f1"][0]), max(high, bounds["macro_f1"][1])
            methods["macro_f1"] = "bca bootstrap or wilson, the wider"
        bounds["macro_f1"] = float(low), float(high)
    return {
        name: {
            "value": found[name],
            "low": min(bounds[name][0], found[name]),
            "high": min(max(bounds[name][1], found[name]) + gains[name], 1.0),
            "level": LEVEL,
            "method": methods[name] + method_suffix(used[name], joined[name], gains[name]),
        }
        for name in counted
    }


def _counted(confusion: np.ndarray, shrink: float) -> dict[str, float]:
    """How many independent images each metric is worth."""
    sizes = confusion.sum(axis=1)
    scored = sizes > 0
    effective = effective_size(recall(confusion)[scored], sizes[scored] / shrink)
    if shrink != 1:
        # Classes that are all easy or all hard vary little from image to image, but with the training
        # images as much as any: 30 digits held in 91 % of draws for balanced accuracy, in 96 % for
        # accuracy, which of equal classes is the same number.
        even = scored.sum() ** 2 / np.sum(shrink / sizes[scored])
        effective = min(effective, float(even))
    return {
        "accuracy": float(sizes.sum()) / shrink,
        "balanced_accuracy": effective,
        "macro_f1": effective,
    }


def method_suffix(shrink: float, design: float = 1.0, gain: float = 0.0) -> str:
    """What was done to an interval for independent images, in brackets."""
    parts = []
    if shrink != 1:
        parts.append(f"n / {shrink:g}, cross-validated")
    if gain >= 0.0005:
        parts.append(f"up to {100 * gain:.1f} points for training on all")
    if design > 1:
        parts.append(f"groups: n / {design:.3g}")
    return f" ({'; '.join(parts)})" if parts else ""


def learning_gain(outer: float, inner: float, outer_share: float, inner_share: float) -> float:
    """What training on all images can be expected to add to a cross-validated score.

    The folds that scored were trained on a share of the images (4/5 for 5 folds), those of the choice
    inside them on a share of that. What the score gained from the one to the other, by the logarithm of
    the number of images, is continued to all images. A learning curve that flattens, as they do, gains
    less, so this is an upper bound.

    Parameters
    ----------
    outer, inner : float
        The score out of the outer and of the inner folds.
    outer_share, inner_share : float
        Of the images that each trained on; ``inner_share < outer_share < 1``.

    Returns
    -------
    float
        0 or more; 0 where the outer folds do not score better.

    Examples
    --------
    >>> round(learning_gain(0.78, 0.75, 0.8, 0.64), 3)
    0.03
    """
    if not (0 < inner_share < outer_share < 1) or not outer > inner:
        return 0.0
    return float((outer - inner) * np.log(1 / outer_share) / np.log(outer_share / inner_share))


def least_gain(value: float, outer_share: float, images: float) -> float:
    """What training on all images adds where a class has only a few.

    With two or three images of a class the slope is hardly known, and where the folds scored low by bad luck
    it looks flat just when more is needed. Errors are then taken to fall like a power of the number of images
    whose exponent is 1 / (images of a class in the outer training parts): a fifth of the errors for the third
    image, next to nothing from ten on.

    Parameters
    ----------
    value : float
    outer_share : float
        Of all images, trained on in the outer folds.
    images : float
        Of a class, in the outer training parts.

    Examples
    --------
    >>> round(least_gain(0.5, 2 / 3, 2), 3), round(least_gain(0.8, 0.8, 27), 3)
    (0.092, 0.002)
    """
    if not 0 < outer_share < 1 or not images > 0:
        return 0.0
    return float((1 - value) * (1 - outer_share ** (1 / images)))


def log_interval(
    value: float, variance: float, n: float, nothing_known: float
) -> tuple[float, float]:
    """Interval of a mean loss from 0 up, symmetric in its logarithm.

    Parameters
    ----------
    value, variance : float
        The mean and its variance.
    n : float
        Images, as far as they are independent.
    nothing_known : float
        What an image costs of which nothing is known. One such image more is always inside: images that
        all went well, or a single one, show no spread.

    Returns
    -------
    low, high : float
        0 or more, with `value` between them.

    Examples
    --------
    >>> low, high = log_interval(0.5, 0.05**2, 100, 0.69)
    >>> round(low, 2), round(high, 2)
    (0.41, 0.61)
    """
    # Student's t, because the spread is estimated from the same images.
    reach = float(student.ppf(0.5 + LEVEL / 2, max(n - 1, 1.0))) * np.sqrt(variance)
    one_more = (n * value + nothing_known) / (n + 1)
    if value <= 0:
        return 0.0, max(one_more, reach)
    factor = np.exp(min(reach / value, 500.0))
    # Towards 0 a logarithm goes on for ever; the loss of one image less is as far as it can be.
    low = min(value / factor, n * value / (n + 1))
    return float(low), float(max(value * factor, one_more, value))


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
    z = z0 + np.array([-Z, Z])
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
