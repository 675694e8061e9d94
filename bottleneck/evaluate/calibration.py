"""How good probabilities are: log loss, Brier score and calibration error. Probabilities in, numbers out.

Like in `ranking`, a function gives the value and each row's influence on it.
"""

from __future__ import annotations

import numpy as np

BINS = 15  # of the calibration error; Guo et al. 2017
# A probability of 0 for what then happens would cost infinitely much, for one image of a million. The
# precision of float32, in which the probabilities are kept, is scikit-learn's bound as well: at most 15.9.
_LEAST = float(np.finfo(np.float32).eps)

Valued = tuple[float, np.ndarray]


def row_log_loss(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Minus the natural logarithm of the true class's probability, (m,) float64, 0 to 15.9."""
    own = probabilities[np.arange(len(y)), y].astype(np.float64)
    return -np.log(np.clip(own, _LEAST, 1.0))


def row_brier(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance to the truth, summed over the classes, (m,) float64, 0 to 2."""
    away = probabilities.astype(np.float64)
    away[np.arange(len(y)), y] -= 1
    return np.einsum("mk,mk->m", away, away)


def mean_of(losses: np.ndarray, weights: np.ndarray) -> Valued:
    """Weighted mean of each row's loss, and the influences (m,)."""
    total = weights.sum()
    value = float(weights @ losses / total)
    return value, weights / total * (losses - value)


def calibration_error(
    y: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    *,
    bins: int = BINS,
    equal_mass: bool = False,
) -> Valued:
    """Expected calibration error of the answer: how far confidence and accuracy lie apart.

    Parameters
    ----------
    y : ndarray of shape (m,), int
    probabilities : ndarray of shape (m, k)
    weights : ndarray of shape (m,), float64
    bins : int, default 15
    equal_mass : bool, default False
        Bins of as many images each, instead of the same width: no bin is nearly empty.

    Returns
    -------
    value : float
        0 to 1: the mean over the bins of |accuracy - mean confidence|, weighted by their images.
    influence : ndarray of shape (m,), float64

    Notes
    -----
    It is too large for few images: bins are then off by chance alone. Below some 200 images look at the
    Brier score and the log loss first.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    over, bin_of = _binned(y, probabilities, weights, bins, equal_mass)
    gap = np.bincount(bin_of, weights * over, bins)
    total = weights.sum()
    value = float(np.abs(gap).sum() / total)
    return value, weights / total * (np.sign(gap)[bin_of] * over - value)


def error_by_chance(
    y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, *, bins: int = BINS
) -> float:
    """The calibration error that perfectly calibrated probabilities would show on so few images.

    Parameters
    ----------
    y, probabilities, weights, bins
        See `calibration_error`; bins of equal width.

    Returns
    -------
    float
        The sum over the bins of the mean of |a normal number|, with the spread of as many throws of
        coins as there are images, each coming up with the confidence of its image.
    """
    _, bin_of = _binned(y, probabilities, weights, bins, False)
    sure = probabilities.max(axis=1).astype(np.float64)
    # Not squared: the rows of an image are right or wrong together.
    spread = np.bincount(bin_of, weights * sure * (1 - sure), bins)
    return float(np.sqrt(2 / np.pi * spread).sum() / weights.sum())


def _binned(
    y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, bins: int, equal_mass: bool
) -> tuple[np.ndarray, np.ndarray]:
    """By how much each row is too sure, and the bin of its confidence."""
    answer = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(y)), answer].astype(np.float64)
    if equal_mass:
        order = np.argsort(confidence, kind="stable")
        reached = np.cumsum(weights[order]) - weights[order] / 2
        bin_of = np.empty(len(y), np.intp)
        bin_of[order] = np.minimum(reached / weights.sum() * bins, bins - 1).astype(np.intp)
    else:
        # (low, high], as in Guo et al.: 0.2 belongs to the bin that ends there.
        bin_of = np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
    return confidence - (answer == y), bin_of


def log_loss(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Mean log loss, the smaller the better; nothing known is log(k)."""
    return mean_of(row_log_loss(y, probabilities), weights)[0]


def brier(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Mean Brier score on the scale 0 to 2, the smaller the better."""
    return mean_of(row_brier(y, probabilities), weights)[0]


def ece(y: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """Expected calibration error with 15 bins of equal width; see `calibration_error`."""
    return calibration_error(y, probabilities, weights)[0]
