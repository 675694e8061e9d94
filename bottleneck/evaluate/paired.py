"""Two answers to the same images: paired tests and intervals of a difference. Counts in, numbers out.

Tests: exact McNemar for accuracy, a randomisation test for the other metrics, and the corrected
resampled t where cross-validation scores. All are two-sided.

References
----------
Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
percentages", Psychometrika 12, 1947. R. Newcombe, "Improved confidence intervals for the difference
between binomial proportions based on paired data", Statistics in Medicine 17, 1998 (method 10).
C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003. R. Bouckaert,
E. Frank, "Evaluating the replicability of significance tests for comparing learning algorithms", PAKDD
2004 (the same over repeats). E. Edgington, "Randomization Tests", 1980. S. Holm, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import betainc
from scipy.stats import t as student

from .intervals import LEVEL, clopper_pearson, wilson
from .metrics import f1_from_counts

_DRAWS = 2000  # of the bootstrap
_SWAPS = 9999  # of the randomisation test: its smallest p is 1e-4, which 45 comparisons do not hide
_BLOCK = 10**7  # numbers drawn together: 80 MB
_SEED = 0  # the same counts give the same interval


def exact_mcnemar(only_a: float, only_b: float) -> float:
    """The exact p-value of McNemar's test.

    Parameters
    ----------
    only_a, only_b : float
        Images that only the one or only the other answers right. Averages over repeats need not be
        whole: the binomial distribution is continued as an incomplete beta function.

    Returns
    -------
    float
        ``2 * P(Bin(only_a + only_b, 1/2) <= min(only_a, only_b))``, at most 1.

    Examples
    --------
    >>> exact_mcnemar(5, 0), exact_mcnemar(6, 0), exact_mcnemar(3, 3)
    (0.0625, 0.03125, 1.0)
    """
    fewer, more = sorted((only_a, only_b))
    return 1.0 if more <= 0 else min(1.0, 2 * float(betainc(more, fewer + 1, 0.5)))


def newcombe(a: float, b: float, n: float, phi: float = 0.0) -> tuple[float, float]:
    """Newcombe's interval of the difference of two proportions of the same images.

    Parameters
    ----------
    a, b : float, 0 to 1
    n : float, above 0
        Number of images; need not be whole.
    phi : float, -1 to 1, default 0
        Correlation of the right answers; see `correlation`.

    Returns
    -------
    low, high : float
        Of ``a - b``. It has a width where all answers agree, too.

    Examples
    --------
    >>> [round(bound, 4) for bound in newcombe(48 / 50, 38 / 50, 50, correlation(36, 12, 2, 0))]
    [0.0569, 0.3404]
    """
    (low_a, low_b), (high_a, high_b) = (bound.tolist() for bound in wilson([a, b], n))

    def reach(x: float, y: float) -> float:
        return float(np.sqrt(max(x**2 - 2 * phi * x * y + y**2, 0.0)))

    difference = a - b
    return (
        max(difference - reach(a - low_a, high_b - b), -1.0),
        min(difference + reach(high_a - a, b - low_b), 1.0),
    )


def correlation(both: float, only_a: float, only_b: float, neither: float) -> float:
    """Correlation of two heads' right answers, towards 0 by Newcombe's continuity correction.

    Parameters
    ----------
    both, only_a, only_b, neither : float
        Images that both, one or none answers right.

    Returns
    -------
    float
        0 where one of the heads is always right or always wrong.
    """
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if product <= 0:
        return 0.0
    covariance = both * neither - only_a * only_b
    if covariance > 0:
        covariance = max(covariance - (both + only_a + only_b + neither) / 2, 0.0)
    return float(covariance / np.sqrt(product))


def accuracy_interval(
    both: float, only_a: float, only_b: float, neither: float
) -> tuple[float, float]:
    """The wider of two intervals of the difference of accuracies: Newcombe's and the exact one.

    The exact one takes the number of images that the two answer differently as given, and holds 0
    just where exact McNemar's p is 0.05 or more: so an interval and a p-value never contradict.

    Examples
    --------
    >>> [round(bound, 3) for bound in accuracy_interval(40, 5, 0, 5)]
    [-0.004, 0.208]
    """
    n, apart = both + only_a + only_b + neither, only_a + only_b
    phi = correlation(both, only_a, only_b, neither)
    low, high = newcombe((both + only_a) / n, (both + only_b) / n, n, phi)
    if apart > 0:
        exact = [(2 * bound - 1) * apart / n for bound in clopper_pearson(only_a / apart, apart)]
        low, high = min(low, exact[0]), max(high, exact[1])
    return low, high


@dataclass(frozen=True)
class CorrectedT:
    """A corrected resampled t: standard error and degrees of freedom of a difference."""

    standard_error: float
    df: int

    def p(self, difference: float) -> float:
        """Two-sided p-value; 0 where folds that do not vary differ, 1 where they are equal."""
        if self.standard_error == 0:
            return float(difference == 0)
        return float(2 * student.sf(abs(difference) / self.standard_error, self.df))

    def interval(self, difference: float) -> tuple[float, float]:
        """The 95 % interval."""
        half = float(student.ppf(0.5 + LEVEL / 2, self.df)) * self.standard_error
        return difference - half, difference + half


def corrected_t(differences: Sequence[float] | np.ndarray, ratio: float) -> CorrectedT:
    """The resampled t of fold differences, corrected for folds that share training images.

    Parameters
    ----------
    differences : array-like of shape (J,), J at least 2
        Of one score in each fold of each repeat.
    ratio : float
        Rows scored by rows trained on, in one fold: 0.25 for 5 folds.

    Returns
    -------
    CorrectedT
        ``s * sqrt(1/J + ratio)`` and J - 1.

    Examples
    --------
    >>> found = corrected_t([0.1, 0.0, 0.1, 0.05, 0.0], 0.25)
    >>> round(found.standard_error, 4), found.df, round(found.p(0.05), 3)
    (0.0335, 4, 0.21)
    """
    count = len(differences)
    return CorrectedT(float(np.std(differences, ddof=1) * np.sqrt(1 / count + ratio)), count - 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Examples
    --------
    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    steps = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


class PairedCounts:
    """The answers of two heads to the same images, by kind of image, to be drawn from.

    Images of one class that both heads answer alike, in every repeat, are one kind. An image of
    several rows (copies, tiles) counts once, as the mean of its rows, and is a kind of its own.

    Parameters
    ----------
    y : ndarray of shape (m,), int
        True classes, below `n_classes`.
    a, b : ndarray of shape (repeats, m), int
        Answers.
    images : ndarray of shape (m,), int
        Equal for the rows of one image.
    n_classes : int
    metric : str
        One of `metrics.ANSWERS`.
    """

    def __init__(
        self,
        y: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        images: np.ndarray,
        n_classes: int,
        metric: str,
    ) -> None:
        self.metric, self.n_classes = metric, n_classes
        _, image, sizes = np.unique(images, return_inverse=True, return_counts=True)
        image = image.reshape(-1)
        single = np.flatnonzero(sizes[image] == 1)
        several = np.flatnonzero(sizes[image] > 1)
        signature = np.concatenate([y[None], a, b])[:, single].T
        _, first, counts = np.unique(signature, axis=0, return_index=True, return_counts=True)
        own, kind = np.unique(image[several], return_inverse=True)
        rows = np.concatenate([single[first], several])
        kinds = np.concatenate([np.arange(len(first)), len(first) + kind.reshape(-1)])
        self.counts = np.concatenate([counts, np.ones(len(own), np.intp)])
        self.classes = np.zeros(len(self.counts), np.intp)
        self.classes[kinds[::-1]] = y[rows[::-1]]  # of an image with two labels, the first
        weights = 1 / sizes[image[rows]]
        self._a, self._b = (
            self._answers(y[rows], answers[:, rows], kinds, weights) for answers in (a, b)
        )
        self._actual = self._matrix(kinds, y[rows], weights, n_classes)

    def swap(self, draws: int = _SWAPS, seed: int = _SEED) -> tuple[float, float]:
        """Randomisation test: how large a difference comes of swapping the two by chance.

        Each image's answers, those of all repeats together, change sides with probability 1/2.

        Returns
        -------
        p : float
            How often the difference is as large as the one that was found.
        reach : float
            What 95 % of the differences do not exceed: half of the interval that goes with `p`.
        """
        apart = np.flatnonzero(abs(self._a - self._b).sum(axis=1) > 1e-12)
        if not len(apart):
            return 1.0, 0.0
        whole = self.counts[None].astype(np.float64)
        a, b, actual = (whole @ part for part in (self._a, self._b, self._actual))
        found = abs((self._score(a, actual) - self._score(b, actual)).item())
        change = (self._b - self._a)[apart]
        rng, swapped = np.random.default_rng(seed), []
        for size in _blocks(draws, len(apart) + 2 * self.n_classes):
            moved = rng.binomial(self.counts[apart], 0.5, (size, len(apart))) @ change
            difference = self._score(a + moved, actual) - self._score(b - moved, actual)
            swapped.append(np.abs(difference))
        sizes = np.concatenate(swapped)
        p = (np.sum(sizes >= found - 1e-9) + 1) / (draws + 1)
        return float(p), float(np.quantile(sizes, LEVEL, method="higher"))

    def bootstrap(self, draws: int = _DRAWS, seed: int = _SEED) -> np.ndarray:
        """The difference in images drawn anew, within each class: (draws,) float64."""
        rng, found = np.random.default_rng(seed), []
        members = [np.flatnonzero(self.classes == c) for c in np.unique(self.classes)]
        for size in _blocks(draws, len(self.counts) + 5 * self.n_classes):
            drawn = np.zeros((size, len(self.counts)))
            for kinds in members:
                n = self.counts[kinds].sum()
                drawn[:, kinds] = rng.multinomial(n, self.counts[kinds] / n, size)
            a, b, actual = (drawn @ part for part in (self._a, self._b, self._actual))
            found.append(self._score(a, actual) - self._score(b, actual))
        return np.concatenate(found)

    def _answers(
        self, y: np.ndarray, answers: np.ndarray, kinds: np.ndarray, weights: np.ndarray
    ) -> sparse.csr_array:
        """What one image of each kind adds: hits of each class, then answers of each class."""
        repeats, k = len(answers), self.n_classes
        row, true, weight = (np.tile(part, repeats) for part in (kinds, y, weights / repeats))
        answer = answers.reshape(-1)
        right = np.where(answer == true, weight, 0)
        columns = np.concatenate([answer, k + answer])
        return self._matrix(np.tile(row, 2), columns, np.concatenate([right, weight]), 2 * k)

    def _matrix(
        self, kinds: np.ndarray, columns: np.ndarray, values: np.ndarray, width: int
    ) -> sparse.csr_array:
        # Sparse: an image touches a few classes, and there may be a thousand.
        shape = (len(self.counts), width)
        return sparse.coo_array((values, (kinds, columns)), shape=shape).tocsr()

    def _score(self, answers: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """The metric, (draws,), of summed `answers` (draws, 2 k) and class sizes (draws or 1, k)."""
        hits, answered = np.split(answers, 2, axis=1)
        if self.metric == "accuracy":
            return hits.sum(axis=1) / actual.sum(axis=1)
        if self.metric == "macro_f1":
            return np.nanmean(f1_from_counts(hits, actual, answered), axis=1)
        there = actual > 0
        return np.where(there, hits / np.where(there, actual, 1), 0).sum(axis=1) / there.sum(axis=1)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """Sizes that sum to `draws`, so that a block of draws stays small in memory."""
    size = max(1, _BLOCK // max(width, 1))
    while draws > 0:
        yield min(size, draws)
        draws -= size
