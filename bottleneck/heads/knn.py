"""k nearest neighbours by cosine, with the vote of DINO's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from .scaling import unit_rows
from .sweep import Job, Settings, run_jobs
from .validation import (
    ClassWeight,
    answers,
    check_features,
    check_positive,
    check_training,
    class_weights,
    one_column_for_two,
)

_BLOCK = 2**22  # similarities that are held at once: 32 MB in float64


class KNNHead(ClassifierMixin, BaseEstimator):
    """The classes of the k most similar training rows, each with a vote of ``exp(cosine / temperature)``.

    Parameters
    ----------
    k : int, default 20
        Neighbours that vote; all rows where there are fewer. 20 is mostly best on ImageNet; smaller data
        wants a smaller one.
    temperature : float, default 0.07
        The smaller, the more the nearest of the k decide.
    class_weight : {None, "balanced"} or mapping, default None
        Multiplies the votes, class by class; see `validation.class_weights`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    rows_ : ndarray of shape (n, d)
        Training rows of length 1, in the precision of X. A kept probe contains them.
    labels_ : ndarray of shape (n,), intp
        Into `classes_`.
    weights_ : ndarray of shape (n,)
        How much the vote of each row counts.
    k_ : int
        The smaller of `k` and n.

    Notes
    -----
    A row of zeros has a cosine of 0 to all others. Of rows that are equally similar the first in the
    training data votes.

    References
    ----------
    M. Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
    arXiv:2104.14294; facebookresearch/dino, eval_knn.py. The vote is from Z. Wu et al., "Unsupervised
    Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, arXiv:1805.01978.
    """

    def __init__(
        self, k: int = 20, *, temperature: float = 0.07, class_weight: ClassWeight = None
    ) -> None:
        self.k = k
        self.temperature = temperature
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        X, self.labels_ = check_training(self, X, y, single=True)
        _check_count(self.k)
        check_positive(temperature=self.temperature)
        self.rows_ = unit_rows(X)
        self.k_ = min(int(self.k), len(X))
        weights = class_weights(self.class_weight, self.labels_, self.classes_)
        self.weights_ = np.ones(len(X)) if weights is None else weights
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logarithms of 1 + votes: (n, k), or their difference (n,) for two classes.

        The 1 is the vote of one more neighbour of every class, at a right angle (cosine 0): without it the
        score of a class that no neighbour has would be minus infinity.
        """
        scores = np.log1p(self._votes(X))
        return one_column_for_two(scores[:, 1:] - scores[:, :1] if scores.shape[1] == 2 else scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Shares of the votes, (n, n_classes) float64, columns as in `classes_`."""
        votes = self._votes(X)
        shares: np.ndarray = votes / votes.sum(axis=1, keepdims=True)
        return shares

    def predict(self, X: Any) -> np.ndarray:
        """The class with the most votes, (n,); of equal ones the first."""
        scores = self.decision_function(X)
        return answers(self.classes_, scores)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        check_is_fitted(self)
        params = {"options": self.get_params(deep=False), "classes": self.classes_.tolist()}
        arrays = {"rows": self.rows_, "labels": self.labels_, "weights": self.weights_}
        return params, arrays

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.rows_, head.labels_, head.weights_ = (
            arrays[name] for name in ("rows", "labels", "weights")
        )
        head.k_ = min(int(head.k), len(head.rows_))
        head.n_features_in_ = head.rows_.shape[1]
        return head

    def _votes(self, X: Any) -> np.ndarray:
        rows = unit_rows(check_features(self, X)).astype(self.rows_.dtype, copy=False)
        found = [
            votes_of(
                block @ self.rows_.T,
                self.labels_,
                len(self.classes_),
                [self.k_],
                [self.temperature],
                self.weights_,
            )[0]
            for block in _blocks(rows, len(self.rows_))
        ]
        return np.concatenate(found)


def sweep_knn(
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
    """Decision scores of `KNNHead` for every setting of a grid, in every job.

    The similarities of a job, and the order of its neighbours, are found once for all settings.

    Parameters
    ----------
    X, y, jobs, grid, n_classes, scaling, options, seed, device, tick
        See `sweep.sweep_linear`; settings of `KNNHead`. `seed` and `device` change nothing.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order.
    """
    settings = [{**KNNHead().get_params(), **(options or {}), **setting} for setting in grid]
    temperatures = [float(each["temperature"]) for each in settings]

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        rows, queries = unit_rows(train), unit_rows(test)
        counts = [min(int(each["k"]), len(rows)) for each in settings]
        # One vote a row and setting, so that the settings may weigh differently.
        weights = np.ones((len(settings), len(rows)))
        for i, each in enumerate(settings):
            found = class_weights(each["class_weight"], indices, np.arange(k))
            weights[i] = 1 if found is None else found
        parts = [
            votes_of(block @ rows.T, indices, k, counts, temperatures, weights)
            for block in _blocks(queries, len(rows))
        ]
        scores = np.log1p(np.concatenate(parts, axis=1))
        return scores[..., 1:] - scores[..., :1] if k == 2 else scores

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


def votes_of(
    similarities: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    counts: Sequence[int],
    temperatures: Sequence[float],
    weights: np.ndarray,
) -> np.ndarray:
    """Votes for each class, for several settings.

    Parameters
    ----------
    similarities : ndarray of shape (m, n)
    labels : ndarray of shape (n,), intp
    n_classes : int
    counts : sequence of int
        k of each setting, at most n.
    temperatures : sequence of float
        Of each setting.
    weights : ndarray of shape (n,) or (settings, n)
        How much the vote of a row counts.

    Returns
    -------
    ndarray of shape (settings, m, n_classes), float64
    """
    order = nearest(similarities, max(counts))
    near = np.take_along_axis(similarities, order, axis=1).astype(np.float64)
    whose = labels[order]
    votes = np.zeros((len(counts), len(order), n_classes))
    cell = np.arange(len(order))[:, None] * n_classes + whose
    weights = np.broadcast_to(weights, (len(counts), len(labels)))
    for i, (k, temperature) in enumerate(zip(counts, temperatures, strict=True)):
        # Of the difference to 1, so that no temperature overflows; the factor is put back below.
        vote = np.exp((near[:, :k] - 1) / temperature) * weights[i][order[:, :k]]
        summed = np.bincount(cell[:, :k].ravel(), vote.ravel(), votes[i].size)
        votes[i] = summed.reshape(votes[i].shape) * np.exp(min(1 / temperature, 300.0))
    return votes


def nearest(similarities: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest of each row, the largest first and of equal ones the first, (m, k)."""
    n = similarities.shape[1]
    if k == n:
        return np.argsort(-similarities, axis=1, kind="stable")
    order = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(similarities, order, axis=1)
    # A partition takes any of those that tie for the last place.
    tied = (similarities >= found.min(axis=1, keepdims=True)).sum(axis=1) > k
    order[tied] = np.argsort(-similarities[tied], axis=1, kind="stable")[:, :k]
    order.sort(axis=1)
    found = np.take_along_axis(similarities, order, axis=1)
    return np.take_along_axis(order, np.argsort(-found, axis=1, kind="stable"), axis=1)


def _blocks(rows: np.ndarray, n: int) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // max(n, 1))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _check_count(k: Any) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k is {k!r}; expected a whole number, 1 or more")
