"""The learning curve: how the score grows with the number of training images.

Nested, stratified beginnings of each training part train the head; the images of the other part score all
of them. Repeats deal parts and beginnings anew. The strength of the penalty is chosen for each size by
images other than those that are scored.

References
----------
T. Viering, M. Loog, "The Shape of Learning Curves: a Review", TPAMI 2023 (nested draws, power laws).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from ...errors import FitError
from ...heads.sweep import Job
from ..fitting import Progress, Wanted
from ..intervals import LEVEL, wilson
from ..plan import Plan
from ..protocol import Problem
from ..splits import copy_weights, group_mean, stratified_folds
from .forecast import Advice, Forecast, forecast
from .subsets import beginning, curve_sizes, nested_order

METRICS = ("accuracy", "balanced_accuracy")
_DRAWS, _BLOCKS = 7, 8  # streams of random numbers, next to those of the plan and its inner folds
_BOOTSTRAPS = 1000
_MOST_UNITS = 2000  # more are resampled in as many random bins, which is as good and bounded
_COARSE = 12  # settings of a grid that are tried before the curve, evenly spaced
_AROUND = 2  # of these, so many to each side of the best one go into the curve
_SHARED = 1.5  # images that count as one at least, where folds share their training rows


@dataclass(frozen=True)
class Curve:
    """Scores by number of training images, and what follows.

    Attributes
    ----------
    head, metric, protocol : str
        Protocol: ``holdout`` or ``cross-validation-<folds>x<repeats>``.
    sizes : list of int
        Training images.
    scores, low, high : ndarray of shape (s,)
        Mean over the draws, with 95 % intervals.
    draws : ndarray of shape (draws, s)
        The score of each draw.
    settings : list of dict
        The setting taken most often at each size.
    n_now : int
        Images that a probe of all there is would train on.
    n_scored : int
        Different images that score.
    classes : list of str
    forecast : Forecast or None
        None where there are fewer than 4 sizes.
    notes : list of str
    """

    head: str
    metric: str
    protocol: str
    sizes: list[int]
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    draws: np.ndarray
    settings: list[dict[str, Any]]
    n_now: int
    n_scored: int
    classes: list[str]
    forecast: Forecast | None
    notes: list[str]

    @property
    def advice(self) -> Advice:
        """Whether more images would help."""
        if self.forecast is None:
            return Advice(
                "unclear",
                f"Whether more images help cannot be told: {self.n_now} are too few for a curve",
                *[float("nan")] * 3,
            )
        return self.forecast.advice


def learning_curve(
    problem: Problem,
    wanted: Wanted,
    *,
    points: float | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Measure and forecast.

    Parameters
    ----------
    problem : Problem
        Its plan says who trains and who scores; each outer job is a draw. Of one test set `with_draws` makes
        several.
    wanted : Wanted
        Head, grid and metric.
    points : float, optional
        See `forecast.forecast`.
    progress : callable, optional
        Called with (done, total) steps.

    Returns
    -------
    Curve

    Raises
    ------
    FitError
        If the metric is not one of `METRICS`, or there are too few images.
    """
    return _Measurement(problem, wanted, progress).run(points)


class _Measurement:
    def __init__(self, problem: Problem, wanted: Wanted, progress: Progress | None) -> None:
        if wanted.metric not in METRICS:
            raise FitError(
                f"a curve of {wanted.metric} cannot be drawn", expected=" or ".join(METRICS)
            )
        self.problem, self.wanted, self.plan = problem, wanted, problem.plan
        self.rows = problem.plan.rows
        self._progress = progress
        self._done = self._total = 0

    def run(self, points: float | None) -> Curve:
        plan, rows = self.plan, self.rows
        orders = self._orders()
        largest = min(int(counts[-1]) for repeat in orders for _, counts in repeat)
        sizes = curve_sizes(largest, len(rows.classes))
        scored = plan.scored
        n_scored = len(np.unique(rows.images[scored]))
        self._total = len(plan.repeats[0]) + len(sizes) * sum(map(len, orders))
        grid = self._grid(orders[0])
        right = self._answers(orders, sizes, grid)
        weights = self._weights()
        blocks = self._blocks()
        chosen = _cross_fitted(right, weights, blocks)
        error = 1.0 - np.take_along_axis(right, chosen[None], axis=0)[0]
        units = _bins(rows.groups[scored], np.random.default_rng([self.wanted.seed, _BLOCKS]))
        parts = self._parts()
        totals, shares = _by_part(error, weights, units, parts)
        mean = totals.sum(axis=(0, 1)) / shares.sum()
        resampled = _bootstrap(totals, shares, self.wanted.seed)
        cap = n_scored if plan.held_out else n_scored / _SHARED
        low, high = _intervals(1 - mean, resampled.var(axis=0), cap)
        n_now = len(np.unique(rows.images[rows.train]))
        ahead = None
        if len(sizes) >= 4:
            ahead = forecast(
                np.array(sizes, float),
                mean,
                resampled,
                high - low,
                n_now=n_now,
                n_scored=n_scored,
                points=points,
                level=LEVEL,
            )
        with np.errstate(invalid="ignore"):
            by_draw = 1 - totals.sum(axis=0) / shares.sum(axis=0)[:, None]
        common = [int(np.bincount(chosen[:, s].ravel()).argmax()) for s in range(len(sizes))]
        return Curve(
            head=self.wanted.spec.name,
            metric=self.wanted.metric,
            protocol="holdout"
            if plan.held_out
            else f"cross-validation-{len(plan.repeats[0])}x{len(plan.repeats)}",
            sizes=sizes,
            scores=1 - mean,
            low=low,
            high=high,
            draws=by_draw[shares.sum(axis=0) > 0],
            settings=[dict(grid[i]) for i in common],
            n_now=n_now,
            n_scored=n_scored,
            classes=rows.classes,
            forecast=ahead,
            notes=list(self.problem.notes),
        )

    def _orders(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """For each draw its training rows in nested order, and the images counted along it."""
        rows = self.rows
        found: list[list[tuple[np.ndarray, np.ndarray]]] = []
        for r, repeat in enumerate(self.plan.repeats):
            found.append([])
            for f, job in enumerate(repeat):
                rng = np.random.default_rng([self.wanted.seed, _DRAWS, r, f])
                order, counts = nested_order(
                    rows.y[job.train], rows.images[job.train], rows.groups[job.train], rng
                )
                found[-1].append((job.train[order], counts))
        return found

    def _grid(self, orders: list[tuple[np.ndarray, np.ndarray]]) -> Sequence[Mapping[str, Any]]:
        """Settings around the best one of a coarse grid, at the full size of the first repeat."""
        every = max(1, -(-len(self.wanted.grid) // _COARSE))
        coarse = self.wanted.grid[::every]
        jobs = self.plan.repeats[0]
        if len(coarse) <= 2 * _AROUND + 1:
            self._tick(len(jobs))
            return coarse
        score = np.zeros(len(coarse))
        for job, scores in zip(jobs, self._sweep(jobs, coarse), strict=True):
            score += self._right(job, scores) @ copy_weights(self.rows.images[job.test])
        best = int(score.argmax())
        start = min(max(best - _AROUND, 0), len(coarse) - 2 * _AROUND - 1)
        return coarse[start : start + 2 * _AROUND + 1]

    def _answers(
        self,
        orders: list[list[tuple[np.ndarray, np.ndarray]]],
        sizes: list[int],
        grid: Sequence[Mapping[str, Any]],
    ) -> np.ndarray:
        """Whether each scored row is answered rightly: (settings, repeats, sizes, m) bool."""
        place = np.full(len(self.rows.y), -1)
        place[self.plan.scored] = np.arange(len(self.plan.scored))
        where, jobs = [], []
        for r, repeat in enumerate(self.plan.repeats):
            for (order, counts), job in zip(orders[r], repeat, strict=True):
                for s, size in enumerate(sizes):
                    where.append((r, s))
                    jobs.append(Job(beginning(order, counts, size), job.test))
        shape = (len(grid), len(orders), len(sizes), len(self.plan.scored))
        right = np.zeros(shape, bool)
        for (r, s), job, scores in zip(where, jobs, self._sweep(jobs, grid), strict=True):
            right[:, r, s, place[job.test]] = self._right(job, scores)
        return right

    def _right(self, job: Job, scores: np.ndarray) -> np.ndarray:
        """Whether each test row is answered rightly, (settings, m); views of an image answer together."""
        same = self.problem.same[job.test]
        if len(np.unique(same)) < len(same):
            scores = np.stack([group_mean(softmax(each, axis=1), same) for each in scores])
        return np.asarray(scores.argmax(axis=2) == self.rows.y[job.test])

    def _sweep(self, jobs: Sequence[Job], grid: Sequence[Mapping[str, Any]]) -> Any:
        w = self.wanted
        return w.spec.sweep(
            self.problem.X,
            self.rows.y,
            jobs,
            grid,
            w.options,
            w.seed,
            n_classes=len(self.rows.classes),
            scaling=w.scaling,
            device=w.device,
            tick=self._tick,
        )

    def _weights(self) -> np.ndarray:
        """What each scored row counts, (m,), so that the sum over right ones is the metric."""
        scored = self.plan.scored
        weights = copy_weights(self.rows.images[scored])
        if self.wanted.metric == "balanced_accuracy":
            y = self.rows.y[scored]
            weights = weights / np.bincount(y, weights=weights)[y]
        return weights / weights.sum()

    def _blocks(self) -> np.ndarray:
        """Parts of the scored rows, (repeats, m): a setting is chosen for each by all others."""
        scored, plan = self.plan.scored, self.plan
        if not plan.held_out:
            return plan.folds[:, scored]
        rng = np.random.default_rng([self.wanted.seed, _BLOCKS])
        fold = stratified_folds(self.rows.y[scored], self.rows.groups[scored], 5, rng)
        return np.tile(np.maximum(fold, 0), (len(plan.repeats), 1))

    def _parts(self) -> np.ndarray:
        """Number of the draw that scored each row in each repeat, (repeats, m)."""
        plan = self.plan
        folds = plan.folds[:, plan.scored]
        return folds + np.arange(len(folds))[:, None] * (int(folds.max()) + 1)

    def _tick(self, steps: int = 1) -> None:
        self._done += steps
        if self._progress is not None:
            self._progress(self._done, self._total)


def with_draws(plan: Plan, draws: int) -> Plan:
    """The same test set, scored by so many draws of training images; folds are draws already."""
    if not plan.held_out:
        return plan
    return Plan(
        plan.rows,
        plan.repeats * draws,
        np.repeat(plan.folds, draws, axis=0),
        plan.protocol,
        plan.notes,
    )


def default_draws(n: int, *, held_out: bool) -> int:
    """Draws of a test set, or repeats of the folds: so many that there are 10 draws at least.

    Parameters
    ----------
    n : int
        Different images.
    held_out : bool
    """
    if held_out:
        return 20 if n < 1000 else 10
    return 10 if n < 100 else 4 if n < 1000 else 2


def _cross_fitted(right: np.ndarray, weights: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """For each repeat, size and row the setting that is best on the rows of other blocks.

    Parameters
    ----------
    right : ndarray of shape (settings, repeats, sizes, m), bool
    weights : ndarray of shape (m,)
    blocks : ndarray of shape (repeats, m), int

    Returns
    -------
    ndarray of shape (repeats, sizes, m), intp
        Ties go to the first setting, the most regularised.
    """
    by_row = right.sum(axis=1) * weights  # (settings, sizes, m), over all repeats
    total = by_row.sum(axis=2)
    chosen = np.zeros(right.shape[1:], np.intp)
    for repeat, dealt in enumerate(blocks):
        for block in np.unique(dealt):
            mine = dealt == block
            elsewhere = total - by_row[:, :, mine].sum(axis=2)
            # Equal up to rounding is equal.
            best = (elsewhere >= elsewhere.max(axis=0) - 1e-9).argmax(axis=0)
            chosen[repeat][:, mine] = best[:, None]
    return chosen


def _bins(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is resampled together: groups, or random bins of them where they are too many."""
    units = np.unique(groups, return_inverse=True)[1].reshape(-1)
    n = int(units.max()) + 1
    if n <= _MOST_UNITS:
        return units
    return (rng.permutation(n) % _MOST_UNITS)[units]


def _by_part(
    error: np.ndarray, weights: np.ndarray, units: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted errors (units, parts, sizes) and weights (units, parts)."""
    n_units, n_parts = int(units.max()) + 1, int(parts.max()) + 1
    cells = (units * n_parts + parts).ravel()  # (repeats, m)
    each = np.broadcast_to(weights, parts.shape).ravel()
    shares = np.bincount(cells, weights=each, minlength=n_units * n_parts)
    totals = [
        np.bincount(cells, weights=each * error[:, s].ravel(), minlength=n_units * n_parts)
        for s in range(error.shape[1])
    ]
    return (
        np.stack(totals, axis=-1).reshape(n_units, n_parts, -1),
        shares.reshape(n_units, n_parts),
    )


def _bootstrap(totals: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Errors (b, sizes) with both the scored units and the draws resampled."""
    rng = np.random.default_rng([seed, _DRAWS, _BLOCKS])
    n_units, n_parts, n_sizes = totals.shape
    units = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=_BOOTSTRAPS).astype(float)
    parts = rng.multinomial(n_parts, np.full(n_parts, 1 / n_parts), size=_BOOTSTRAPS)
    errors = (units @ totals.reshape(n_units, -1)).reshape(-1, n_parts, n_sizes)
    counted = units @ shares
    summed = np.sum(parts * counted, axis=1)
    # All draws on units they did not score: with a handful of images only.
    usable = summed > 0
    return np.einsum("bp,bps->bs", parts[usable], errors[usable]) / summed[usable, None]


def _intervals(
    scores: np.ndarray, variances: np.ndarray, cap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's with as many images as the resampled variance is worth, `cap` at most."""
    spread = np.maximum(scores * (1 - scores), 1e-12)
    worth = np.clip(spread / np.maximum(variances, 1e-12), 1, cap)
    return wilson(scores, np.where(spread > 1e-12, worth, cap))
