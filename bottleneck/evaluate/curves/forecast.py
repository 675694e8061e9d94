"""What more images would bring: errors at some sizes, resampled, in; a band and one sentence out.

The sentence goes by the band: it promises images only where nearly all resampled curves agree that they
help, and says that they hardly will only where nearly all agree on that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .power_law import PowerLaw, fit_power_law

REACH = 4  # how far beyond the largest measured size anything is said
_WORTH = 0.01  # points of a score that are worth collecting images for
_SHOWN = 0.005  # gain that the lower end of the band must reach before images are promised
_ROUND = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)  # gains that a sentence speaks of
# How much more the larger sizes weigh in the fit, as a power of the size. Close to chance a curve is no
# power law yet. On standardised features of 300 digits (12 draws) the 95 % band of what doubling adds held
# the truth in 25 % of them with 0, in 75 % with 2 and in 83 % with 3; of what four times as many add, in 92,
# 100 and 100 %; from 100 digits in 33, 58 and 75 %. More than 2 widens the bands of all other sets.
_RECENT = 2
_FEW = 3.0  # wrong answers below which resampling them misses most of what could have been


@dataclass(frozen=True)
class Advice:
    """Whether more images would help.

    Attributes
    ----------
    kind : str
        ``more`` (they would), ``hardly``, or ``unclear``.
    sentence : str
    gain, gain_low, gain_high : float
        What `REACH` times the largest measured number of images would add to the score.
    points : float
        For ``more``: the gain that the sentence speaks of; else NaN.
    images, images_low, images_high : float
        More images for it; infinite where that is beyond the forecast.
    """

    kind: str
    sentence: str
    gain: float
    gain_low: float
    gain_high: float
    points: float = math.nan
    images: float = math.nan
    images_low: float = math.nan
    images_high: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; what is infinite is None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Forecast:
    """Scores beyond the measured sizes.

    Attributes
    ----------
    law : PowerLaw
        Of the mean errors.
    laws : PowerLaw
        Of each resampled curve.
    sizes : list of int
        The images there are (where not all could train), twice as many, and as far as is said anything.
    scores, low, high : ndarray of shape (len(sizes),)
    advice : Advice
    """

    law: PowerLaw
    laws: PowerLaw
    sizes: list[int]
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    advice: Advice


def forecast(
    sizes: np.ndarray,
    errors: np.ndarray,
    resampled: np.ndarray,
    widths: np.ndarray,
    *,
    n_now: int,
    n_scored: float,
    points: float | None = None,
    level: float = 0.95,
) -> Forecast:
    """Fit the power law and say what follows from it.

    Parameters
    ----------
    sizes : ndarray of shape (s,)
        Training images.
    errors : ndarray of shape (s,)
        1 - score at each size.
    resampled : ndarray of shape (b, s)
        The same of each bootstrap draw.
    widths : ndarray of shape (s,)
        Width of each size's interval, above 0: the fit weighs by 1 / width squared, and by the size squared.
    n_now : int
        Images that a probe of all there is would train on.
    n_scored : float
        How many images the scores are of.
    points : float, optional
        Ask for this gain (0.02 = 2 points) instead of a round one.
    level : float, default 0.95

    Returns
    -------
    Forecast
    """
    weights = (sizes / sizes[-1]) ** _RECENT / np.asarray(widths, np.float64) ** 2
    law = fit_power_law(sizes, errors, weights)
    laws = fit_power_law(sizes, resampled, weights)
    limit = int(REACH * sizes[-1])
    ahead = sorted({min(m, limit) for m in (n_now, 2 * n_now, limit)} - {int(sizes[-1])})
    tail = [(1 - level) / 2, (1 + level) / 2]
    mean = law(np.array(ahead, float))
    low, high = np.quantile(laws(np.array(ahead, float)), tail, axis=0)
    # Where nobody answers wrongly there is nothing to resample, and the band would have no width.
    floor = (widths[-1] / 2) * np.minimum(1, _FEW / max(errors[-1] * n_scored, 1e-9))
    few = errors[-1] * n_scored < _FEW
    low, high = np.minimum(low, mean), np.maximum(high, np.maximum(mean, floor * few))
    return Forecast(
        law=law,
        laws=laws,
        sizes=ahead,
        scores=1 - mean,
        low=np.clip(1 - high, 0, 1),
        high=np.clip(1 - low, 0, 1),
        advice=_advise(law, laws, n_now, limit, tail, float(floor) if few else 0.0, points),
    )


def _advise(
    law: PowerLaw,
    laws: PowerLaw,
    n_now: int,
    limit: int,
    tail: list[float],
    floor: float,
    points: float | None,
) -> Advice:
    ends = np.array([n_now, limit], float)
    gain = float(-np.diff(law(ends))[0])
    low, high = (float(q) for q in np.quantile(-np.diff(laws(ends), axis=1)[:, 0], tail))
    low, high = min(low, gain), max(high, gain, floor)
    times = f"{_times(limit / n_now)} times as many images"
    if high < _WORTH and (points is None or high < points):
        return Advice(
            "hardly",
            f"More images of the same kind will hardly help: {times} would add {_points(gain)} points "
            f"({_points(high)} at most). Another backbone or layer might: bottleneck compare",
            gain,
            low,
            high,
        )
    if low < _SHOWN or (points is None and gain < _WORTH):
        return Advice(
            "unclear",
            f"Whether more images help cannot be told from these: {times} would add between "
            f"{_points(low)} and {_points(high)} points",
            gain,
            low,
            high,
        )
    twice = float(-np.diff(law(np.array([n_now, min(2 * n_now, limit)], float)))[0])
    reachable = [m for m in _ROUND if m <= (twice if twice >= _WORTH else gain)]
    target = points or reachable[-1]
    here = law(np.array([n_now], float))[0] - target
    each = laws(np.array([n_now], float))[:, 0] - target
    needed = np.append(laws.images_for(each), law.images_for(here))
    needed = np.where(needed > limit, np.inf, needed - n_now)
    # An infinite number of images between two others is no number: the rank itself is taken.
    few, many = (float(q) for q in np.quantile(needed[:-1], tail, method="inverted_cdf"))
    images = float(needed[-1])
    few, many = min(few, images), max(many, images)
    room = limit - n_now
    if not math.isfinite(images):
        sentence = (
            f"{_points(target)} more points take more than {_count(room)} more images, and nothing is said "
            f"about more than that; those would add about {_points(gain)} points "
            f"({_points(low)} to {_points(high)})"
        )
    else:
        upper = _count(many) if math.isfinite(many) else f"more than {_count(room)}"
        sentence = (
            f"About {_count(images)} more images for {_points(target)} more "
            f"point{'' if target == _WORTH else 's'} ({_count(few)} to {upper})"
        )
    return Advice("more", sentence, gain, low, high, target, images, few, many)


def _points(share: float) -> str:
    """A share as points: one digit after the comma, none where it is whole."""
    spelled = f"{100 * share:.1f}"
    return spelled.removesuffix(".0")


def _times(ratio: float) -> str:
    return f"{ratio:.1f}".removesuffix(".0")


def _count(images: float) -> str:
    """A count with two digits that mean something."""
    if images < 1:
        return "no"
    digits = max(0, math.floor(math.log10(images)) - 1)
    return f"{round(images, -digits):,.0f}"
