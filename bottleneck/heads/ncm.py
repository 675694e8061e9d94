"""Nearest class mean: the simplest head that learns from its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from .scaling import unit_rows
from .sweep import Job, Settings, run_jobs
from .validation import answers, check_features, check_training, one_column_for_two


class NCMHead(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest.

    Parameters
    ----------
    metric : {"cosine", "euclidean"}, default "cosine"
        ``cosine`` works on rows of length 1.
    shrink_threshold : float, default 0.0
        Pull every feature of a class mean to the overall mean by this many of its standard errors, and not
        beyond it: features in which a class differs by chance no longer count.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    means_ : ndarray of shape (k, d)
        Shrunken ones; of rows of length 1 for ``cosine``.

    Notes
    -----
    Scores are cosines to the means, or minus half the squared distances (without the part that is the same
    for all classes). With one sample a class there is no spread to measure, and nothing shrinks.

    References
    ----------
    T. Mensink et al., "Distance-Based Image Classification: Generalizing to New Classes at Near-Zero Cost",
    TPAMI 35, 2013. R. Tibshirani et al., "Diagnosis of multiple cancer types by shrunken centroids of gene
    expression", PNAS 99, 2002.
    """

    def __init__(self, metric: str = "cosine", *, shrink_threshold: float = 0.0) -> None:
        self.metric = metric
        self.shrink_threshold = shrink_threshold

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the means.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        X, indices = check_training(self, X, y)
        _check(self.metric, self.shrink_threshold)
        self.means_ = _Means(_rows(X, self.metric), indices).shrunken(self.shrink_threshold)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Nearness to each mean, (n, k), or for two classes the second's less the first's, (n,)."""
        X = check_features(self, X)
        return one_column_for_two(_scores(_rows(X, self.metric), self.means_, self.metric))

    def predict(self, X: Any) -> np.ndarray:
        """The class with the nearest mean, (n,); of equal ones the first."""
        scores = self.decision_function(X)
        return answers(self.classes_, scores)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        check_is_fitted(self)
        params = {"options": self.get_params(deep=False), "classes": self.classes_.tolist()}
        return params, {"means": self.means_}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_, head.means_ = np.array(params["classes"]), arrays["means"]
        head.n_features_in_ = head.means_.shape[1]
        return head


def sweep_ncm(
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    n_classes: int,
    scaling: str = "standard",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    tick: Callable[[], None] = lambda: None,
) -> Iterator[np.ndarray]:
    """Decision scores of `NCMHead` for every setting of a grid, in every job.

    Parameters
    ----------
    X, y, jobs, grid, n_classes, scaling, options, seed, device, tick
        See `sweep.sweep_linear`; settings of `NCMHead`. `seed` and `device` change nothing.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order.
    """
    settings = [{**NCMHead().get_params(), **(options or {}), **setting} for setting in grid]
    for each in settings:
        _check(each["metric"], each["shrink_threshold"])

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        train, test = train.astype(np.float64), test.astype(np.float64)
        scores: dict[int, np.ndarray] = {}
        for metric in dict.fromkeys(each["metric"] for each in settings):
            means, rows = _Means(_rows(train, metric), indices), _rows(test, metric)
            for i, each in enumerate(settings):
                if each["metric"] == metric:
                    shrunken = means.shrunken(each["shrink_threshold"])
                    scores[i] = _scores(rows, shrunken, metric)
        return np.stack([scores[i] for i in range(len(settings))])

    return run_jobs(
        one,
        X,
        y,
        jobs,
        n_settings=len(settings),
        n_classes=n_classes,
        scaling=scaling,
        tick=tick,
    )


class _Means:
    """Class means, and what shrinking them needs; one for all thresholds."""

    def __init__(self, rows: np.ndarray, indices: np.ndarray) -> None:
        counts = np.bincount(indices)
        self._means = np.zeros((len(counts), rows.shape[1]))
        for label in range(len(counts)):
            self._means[label] = rows[indices == label].mean(axis=0)
        self._overall = rows.mean(axis=0)
        self._error = np.zeros_like(self._means)
        free = len(rows) - len(counts)
        if free > 0:
            within = np.square(rows - self._means[indices]).sum(axis=0)
            spread = np.sqrt(within / free)
            # The median is added by Tibshirani et al., or features of no spread would decide alone.
            chance = np.sqrt(1 / counts - 1 / len(rows))
            self._error = chance[:, None] * (spread + np.median(spread))

    def shrunken(self, threshold: float) -> np.ndarray:
        away = self._means - self._overall
        size = np.maximum(np.abs(away) - threshold * self._error, 0)
        shrunken: np.ndarray = self._overall + np.sign(away) * size
        return shrunken if threshold > 0 else self._means


def _rows(X: np.ndarray, metric: str) -> np.ndarray:
    return unit_rows(X) if metric == "cosine" else X


def _scores(rows: np.ndarray, means: np.ndarray, metric: str) -> np.ndarray:
    """(m, k), or (m, 1) for two classes."""
    coef, intercept = (
        (unit_rows(means), np.zeros(len(means)))
        if metric == "cosine"
        else (means, -0.5 * np.einsum("kd,kd->k", means, means))
    )
    if len(means) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    scores: np.ndarray = rows @ coef.T + intercept
    return scores


def _check(metric: Any, shrink_threshold: Any) -> None:
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is {metric!r}; expected 'cosine' or 'euclidean'")
    if not (isinstance(shrink_threshold, Real) and 0 <= float(shrink_threshold) < np.inf):
        raise ValueError(f"shrink_threshold is {shrink_threshold!r}; expected 0 or more")
