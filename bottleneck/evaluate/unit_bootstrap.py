"""Bootstrap over whole units (images, or groups of them) of any metric that takes row weights.

References
----------
B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987. C. Nadeau, Y. Bengio, "Inference for
the generalization error", Machine Learning 52, 2003 (why folds need a wider one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy.stats import norm

LEVEL = 0.95
_Z = float(norm.ppf(0.5 + LEVEL / 2))
_DRAWS = 2000
_FEWEST_DRAWS = 400
_DRAWS_FOR_AN_ERROR = 600  # the standard error is then known to 3 %; quantiles far out need more
_CELLS = 40_000_000  # draws times rows times outputs that a metric is evaluated on, all in all
_BLOCK = 4_000_000  # of these at a time
_DELETED = 100  # blocks of units that the jackknife leaves out in turn

# Weights of the rows, (b, m), to the metrics by name, (b,) each; nan where undefined.
Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def unit_intervals(
    statistic: Statistic,
    weights: np.ndarray,
    units: np.ndarray,
    *,
    widen: Mapping[str, float] | float = 1.0,
    symmetric: bool = False,
    work: int = 1,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Value and 95 % interval of each metric.

    Parameters
    ----------
    statistic : callable
        All metrics of the rows with these weights; a weight of 2 is a row that is there twice.
    weights : ndarray of shape (m,)
        What each row counts; copies of an image share one.
    units : ndarray of shape (m,), int
        What is drawn: equal numbers are drawn together.
    widen : float, or mapping from the metric to one, default 1.0
        Variance relative to that of independent units, above 1 across folds: the interval's ends move
        away from the value by the root of it.
    symmetric : bool, default False
        The value and 1.96 standard errors of the draws on either side, instead of BCa.
    work : int, default 1
        How many outputs and repeats the statistic runs over; with many, fewer draws are made.
    seed : int, default 0

    Returns
    -------
    dict of str to (value, low, high)
        Low and high are nan where the metric is, and both the value where nothing varies.
    """
    _, units = np.unique(units, return_inverse=True)
    n_units = int(units.max()) + 1
    draws = int(np.clip(_CELLS // max(len(weights) * work, 1), _FEWEST_DRAWS, _DRAWS))
    if symmetric:
        draws = min(draws, _DRAWS_FOR_AN_ERROR)
    rng = np.random.default_rng(seed)
    value = {name: float(v[0]) for name, v in statistic(weights[None]).items()}
    block = max(1, _BLOCK // max(len(weights) * work, 1))

    def counts() -> Iterator[np.ndarray]:
        for start in range(0, draws, block):
            size = min(block, draws - start)
            yield rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=size)

    def left_out() -> Iterator[np.ndarray]:
        order = np.array_split(rng.permutation(n_units), min(_DELETED, n_units))
        for start in range(0, len(order), block):
            several = order[start : start + block]
            kept = np.ones((len(several), n_units))
            for row, deleted in zip(kept, several, strict=True):
                row[deleted] = 0
            yield kept

    drawn = _evaluate(statistic, weights, units, counts())
    if symmetric:
        return {
            name: (v, *_around(v, drawn[name], np.sqrt(_of(widen, name))))
            for name, v in value.items()
        }
    jackknife = _evaluate(statistic, weights, units, left_out())
    return {
        name: (v, *_bca(v, drawn[name], jackknife[name], np.sqrt(_of(widen, name))))
        for name, v in value.items()
    }


def _of(widen: Mapping[str, float] | float, name: str) -> float:
    return widen[name] if isinstance(widen, Mapping) else widen


def _around(value: float, drawn: np.ndarray, factor: float) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        return float("nan"), float("nan")
    half = factor * _Z * float(drawn.std())
    return (value, value) if _equal(drawn, value) else (value - half, value + half)


def _equal(drawn: np.ndarray, value: float) -> bool:
    """Whether nothing varies but the rounding of a weighted mean."""
    return bool(np.ptp(drawn) <= 1e-9 * max(abs(value), 1e-9))


def _evaluate(
    statistic: Statistic, weights: np.ndarray, units: np.ndarray, counts: Iterator[np.ndarray]
) -> dict[str, np.ndarray]:
    parts = [statistic(block[:, units] * weights) for block in counts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _bca(
    value: float, drawn: np.ndarray, jackknife: np.ndarray, factor: float
) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        return float("nan"), float("nan")
    if _equal(drawn, value):
        return value, value
    # A share of 0 or 1 has no quantile; half a draw is the most that can be said.
    share = np.mean(drawn < value) + np.mean(drawn == value) / 2
    z0 = norm.ppf(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    left = jackknife[np.isfinite(jackknife)]
    spread = left.mean() - left if len(left) else np.zeros(1)
    squares = np.sum(spread**2)
    a = np.sum(spread**3) / (6 * squares**1.5) if squares > 0 else 0.0
    z = z0 + np.array([-_Z, _Z])
    # Beyond this the correction turns round; half of the draws is then all there is.
    below = np.maximum(1 - a * z, 0.1)
    low, high = np.quantile(drawn, norm.cdf(z0 + z / below))
    return float(value - factor * max(value - low, 0)), float(value + factor * max(high - value, 0))
