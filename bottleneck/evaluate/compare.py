"""One head on several feature sets, the same images and folds: results in, paired differences out.

All pairs are tested, and their p-values adjusted together (Holm): picking the best set first and testing
only against it would be a choice made on the very scores that are tested. The intervals are 95 % each,
for one difference by itself.

With a test set the images are the sample: the question is which of the two fitted heads is better. Under
cross-validation the folds are, corrected for the training images that they share. Folds spread 1.4 to 2.2
times more, in variance, than independent images would, and 5 of them can come out nearly equal by luck;
the t of a spread near 0 knows no limit. Where they spread less than independent images (a quarter of all
draws of 60 to 200 images), the test on the images is made as well, and the larger p and the wider
interval count.

Measured on pairs of sets that are equally good, 150 to 500 draws each, p below 0.05: in 0 to 2 % of draws
under cross-validation (60 and 200 images); with one test set, 200 training images and accuracy, in 2.6 %
(100 test images) and 6.6 % (1,000): heads fitted on few images do differ, and a large test set shows
it. Balanced accuracy and macro-F1 with 10 images of the rarest class: 8 and 6 %, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import metrics as _metrics
from .intervals import CV_SHRINK, LEVEL, Metric, effective_size
from .paired import (
    CorrectedT,
    PairedCounts,
    accuracy_interval,
    corrected_t,
    correlation,
    exact_mcnemar,
    holm,
    newcombe,
)
from .result import Result
from .splits import copy_weights

ALPHA = 0.05
_Z = 1.96  # half of a 95 % interval is so many standard errors


@dataclass(frozen=True)
class Difference:
    """What one set scores more than another, on the same images.

    Attributes
    ----------
    a, b : int
        Positions of the sets, a before b.
    difference : dict
        ``{"value", "low", "high", "level", "method"}`` of the score of a minus that of b.
    p, p_adjusted : float
        Two-sided; `p_adjusted` for all pairs that were tested (Holm).
    test : str
        What gave `p`.
    """

    a: int
    b: int
    difference: Metric
    p: float
    p_adjusted: float
    test: str

    def of(self, i: int) -> Metric:
        """The difference as that of set `i`, which is a or b, to the other one."""
        if i == self.a:
            return self.difference
        d = self.difference
        return d | {"value": -d["value"], "low": -d["high"], "high": -d["low"]}


@dataclass(frozen=True)
class Recommendation:
    """Which set to take, and what the tests say of the others; positions of sets.

    Attributes
    ----------
    take, best : int
        The set to take, and the one that scores highest.
    worse : list of int
        Shown to be worse than the best (adjusted p below 0.05).
    tied : list of int
        The others, without the best.
    near : list of int
        Those of `tied` that are within one standard error of the best.
    at_stake : float
        By how much one of the sets that were not shown to be worse may still be better than `take`: the
        largest upper bound of a 95 % interval. 0 if there is none.
    """

    take: int
    best: int
    worse: list[int]
    tied: list[int]
    near: list[int]
    at_stake: float


def compare(results: Sequence[Result], *, metric: str = "accuracy") -> list[Difference]:
    """Paired differences between all results of the same rows and folds.

    Parameters
    ----------
    results : sequence of Result
        Of one plan: the same rows, folds and groups; other features or another head.
    metric : str, default "accuracy"
        One of `metrics.ANSWERS`.

    Returns
    -------
    list of Difference
        The pairs (0, 1), (0, 2), ..., (1, 2), ...

    Raises
    ------
    ValueError
        If the results do not score the same rows in the same folds.
    """
    first = results[0].oof
    for result in results[1:]:
        for name in ("rows", "y", "repeat_folds"):
            if not np.array_equal(getattr(first, name), getattr(result.oof, name)):
                raise ValueError(f"the results differ in their {name}: not of the same images")
    images = first.images
    weights = copy_weights(images)
    folds = [_fold_scores(result, weights, metric) for result in results]
    found = []
    for i in range(len(results)):
        for j in range(i + 1, len(results)):
            pair = results[i], results[j]
            spread = None
            if not pair[0].held_out and len(folds[i]) > 1:
                spread = corrected_t(folds[i] - folds[j], _ratio(pair[0]))
            found.append(replace(_difference(*pair, images, metric, spread), a=i, b=j))
    adjusted = holm([each.p for each in found])
    return [replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def recommend(
    scores: Sequence[float],
    differences: Sequence[Difference],
    costs: Sequence[tuple[float, ...]],
) -> Recommendation:
    """Take the cheapest set of those that score as the best one does, up to one standard error.

    Not shown to be worse is not enough: with 20 images nothing is shown to be worse. One standard error
    (Breiman et al., 1984) is what `--select one-se` allows for a simpler setting, too.

    Parameters
    ----------
    scores : sequence of float
    differences : sequence of Difference
        Of all pairs.
    costs : sequence of tuple
        Of each set, to be compared from left to right; smaller is cheaper.

    Returns
    -------
    Recommendation
    """
    between = {pair: each for each in differences for pair in ((each.a, each.b), (each.b, each.a))}
    order = sorted(range(len(scores)), key=lambda i: (-round(scores[i], 9), costs[i], i))
    best, others = order[0], sorted(order[1:])
    worse = [i for i in others if between[best, i].p_adjusted < ALPHA]
    tied = [i for i in others if i not in worse]
    near = []
    for i in tied:
        d = between[best, i].of(best)
        if d["value"] <= (d["high"] - d["low"]) / (2 * _Z) + 1e-9:
            near.append(i)
    take = min([best, *near], key=lambda i: (costs[i], order.index(i)))
    rivals = [i for i in (best, *tied) if i != take]
    at_stake = max((between[i, take].of(i)["high"] for i in rivals), default=0.0)
    return Recommendation(take, best, worse, tied, near, at_stake)


@dataclass(frozen=True)
class _OnImages:
    """What the images say of a pair, as if they were independent of each other."""

    p: float
    low: float
    high: float
    standard_error: float
    test: str
    method: str


def _difference(
    a: Result, b: Result, images: np.ndarray, metric: str, spread: CorrectedT | None
) -> Difference:
    """One pair, by its images or by its folds."""
    value = a.metrics[metric]["value"] - b.metrics[metric]["value"]
    by_images = _on_images(a, b, value, images, metric)
    p, low, high = by_images.p, by_images.low, by_images.high
    test, method = by_images.test, by_images.method
    if spread is not None:
        p, (low, high) = spread.p(value), spread.interval(value)
        test = method = f"corrected resampled t, df {spread.df}"
        if spread.standard_error <= by_images.standard_error:
            p = max(p, by_images.p)
            low, high = min(low, by_images.low), max(high, by_images.high)
            test = f"{test} or {by_images.test}, the larger p"
            method = f"{method} or {by_images.method}, the widest"
    found = {
        "value": value,
        "low": float(max(min(low, value), -1.0)),
        "high": float(min(max(high, value), 1.0)),
        "level": LEVEL,
        "method": method,
    }
    return Difference(0, 1, found, p, p, test)


def _on_images(a: Result, b: Result, value: float, images: np.ndarray, metric: str) -> _OnImages:
    shrink = 1.0 if a.held_out else CV_SHRINK
    suffix = "" if shrink == 1 else f" (n / {shrink:g})"
    y, k, weights = a.oof.y, len(a.classes), copy_weights(images)
    one, two = (result.oof.answers == y for result in (a, b))
    pairs = ((one, two), (one, ~two), (~one, two), (~one, ~two))
    table = [float(np.mean((first & second) @ weights)) / shrink for first, second in pairs]
    if metric == "accuracy":
        image = np.unique(images, return_inverse=True)[1].reshape(-1)
        gained = np.array([np.bincount(image, weights * x) for x in one.astype(float) - two])
        low, high = accuracy_interval(*table)
        return _OnImages(
            exact_mcnemar(
                np.sum(gained > 1e-9) / len(gained), np.sum(gained < -1e-9) / len(gained)
            ),
            low,
            high,
            float(np.std(gained.mean(axis=0)) / np.sqrt(gained.shape[1])),
            "exact mcnemar",
            "newcombe or exact conditional, the wider" + suffix,
        )
    counts = PairedCounts(y, a.oof.answers, b.oof.answers, images, k, metric)
    drawn, (p, reach) = counts.bootstrap(), counts.swap()
    # Of small classes the bootstrap alone is too narrow (88 % of draws with 10 images of a class), and
    # it never draws what was not seen: two equal answers had no width.
    tail = (1 - LEVEL) / 2
    bounds = np.quantile(drawn, [tail, 1 - tail]) - value
    reaches = np.sqrt(shrink) * np.array([min(bounds[0], -reach), max(bounds[1], reach)])
    values = [result.metrics[metric]["value"] for result in (a, b)]
    effective = float(np.mean([_effective(result, weights, shrink) for result in (a, b)]))
    low, high = newcombe(values[0], values[1], effective, correlation(*table))
    return _OnImages(
        p,
        min(low, value + reaches[0]),
        max(high, value + reaches[1]),
        float(np.std(drawn)),
        "randomisation of images",
        "paired bootstrap, randomisation or newcombe with effective n, the widest" + suffix,
    )


def _effective(result: Result, weights: np.ndarray, shrink: float) -> float:
    confusion = np.mean(
        [
            _metrics.confusion_matrix(result.oof.y, answers, len(result.classes), weights)
            for answers in result.oof.answers
        ],
        axis=0,
    )
    there = confusion.sum(axis=1) > 0
    return effective_size(_metrics.recall(confusion)[there], confusion.sum(axis=1)[there] / shrink)


def _fold_scores(result: Result, weights: np.ndarray, metric: str) -> np.ndarray:
    """The metric in each fold of each repeat, (J,); copies of an image are in one fold."""
    function, oof = getattr(_metrics, metric), result.oof
    scores = []
    for folds, answers in zip(oof.repeat_folds, oof.answers, strict=True):
        for fold in np.unique(folds):
            here = folds == fold
            confusion = _metrics.confusion_matrix(
                oof.y[here], answers[here], len(result.classes), weights[here]
            )
            scores.append(float(function(confusion)))
    return np.array(scores)


def _ratio(result: Result) -> float:
    """Rows scored by rows trained on in one fold, on average; all rows but the fold's own train."""
    sizes = np.concatenate([np.bincount(folds) for folds in result.oof.repeat_folds])
    sizes = sizes[sizes > 0]
    return float(np.mean(sizes) / np.mean(result.n_train - sizes))
