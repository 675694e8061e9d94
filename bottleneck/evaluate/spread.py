"""How far a score can be off: influences of rows in, variances and effective numbers of images out.

The influence of a row is by how much the value changes when the row counts a little more; see
`ranking`. Rows that belong together (copies, the photographs of a patient) move together: their
influences are summed before they are squared.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

_LEVEL = 0.95
_Z = float(norm.ppf(0.5 + _LEVEL / 2))


def variance(influence: np.ndarray, units: np.ndarray) -> float:
    """Variance of a value whose units are drawn independently.

    Parameters
    ----------
    influence : ndarray of shape (m,)
    units : ndarray of shape (m,), int
        Equal numbers are drawn together.

    Returns
    -------
    float
    """
    sums = np.bincount(np.unique(units, return_inverse=True)[1].reshape(-1), influence)
    count = len(sums)
    return float(sums @ sums) * (count / (count - 1) if count > 1 else 1.0)


def effective_count(value: float, spread: float, most: float) -> float:
    """How many yes-or-no answers, of which `value` are yes, would be off as far as this.

    Parameters
    ----------
    value : float, 0 to 1
    spread : float
        Variance of the value.
    most : float, above 0
        The number where nothing varies, as for an area of exactly 1. The few images that show no error
        do not show that there is none: both variances get what Wilson's interval adds.

    Returns
    -------
    float

    Examples
    --------
    >>> round(effective_count(0.9, 0.9 * 0.1 / 50, 50))
    50
    >>> round(effective_count(1.0, 0.0, 50))
    50
    """
    added = _Z**2 / (4 * most)
    return float((value * (1 - value) + added) / (spread + added / most))


def equal_groups(units: np.ndarray, weights: np.ndarray) -> float:
    """How many groups of equal size say as much as these (Kish)."""
    sizes = np.bincount(np.unique(units, return_inverse=True)[1].reshape(-1), weights)
    return float(sizes.sum() ** 2 / (sizes @ sizes))


def design_effect(
    influence: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
) -> float:
    """How many images count as one because their answers hang together by group.

    Parameters
    ----------
    influence : ndarray of shape (m,)
        On a value between 0 and 1.
    images, groups : ndarray of shape (m,), int
        Equal numbers: one image; one group.
    weights : ndarray of shape (m,)
        1 / rows of the image.

    Returns
    -------
    float
        1 or more; exactly 1 where no group holds two images. It holds the ratio of the variances of whole
        groups drawn and of images drawn, and what few groups cost: the spread of 5 groups is known from
        5 numbers, so Student's t takes the place of the normal distribution.

    References
    ----------
    L. Kish, "Survey Sampling", 1965.
    """
    n, g = len(np.unique(images)), len(np.unique(groups))
    if g >= n:
        return 1.0
    even = max(equal_groups(groups, weights), 1.0)
    # Where nothing varies a group counts as one image.
    added = _Z**2 / (4 * n)
    alone = variance(influence, images) + added / n
    together = variance(influence, groups) + added / even
    few = float(student.ppf(0.5 + _LEVEL / 2, max(even - 1, 1.0))) / _Z
    return max(1.0, together / alone) * few**2
