"""One logistic regression for each label, where a sample may have several labels, or none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from .label_solver import rotate, solve_path
from .validation import (
    ClassWeight,
    answers,
    check_features,
    check_positive,
    check_training,
    class_weights,
)


class OneVsRestLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression of each label against all without it, L2 penalty, all labels solved together.

    The optimum of scikit-learn's ``OneVsRestClassifier(LogisticRegression(C))``. Beyond it, a label may
    be unknown for a sample (NaN): the sample then says nothing about that label, and still trains the
    others.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty, above 0; small values for few samples.
    class_weight : {None, "balanced"} or mapping, default None
        ``balanced`` lets the positive and the negative samples of a label weigh the same together. A
        mapping gives the weight of 0 and 1, or of each class.
    tol : float, default 1e-10
        Relative distance to the optimum.
    max_iter : int, default 100
        Newton steps.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        The labels; 0 to k - 1 where they were given as columns.
    coef_ : ndarray of shape (k, d), or (1, d) for two classes
    intercept_ : ndarray of shape (k,), or (1,)
    objective_ : ndarray of shape (k,), or (1,)
    n_iter_ : int
    converged_ : bool

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    >>> Y = np.array([[0, 1], [1, 0], [1, 1], [0, np.nan]])
    >>> OneVsRestLogistic(C=100.0).fit(X, Y).predict(X).tolist()
    [[0, 1], [1, 0], [1, 1], [0, 0]]
    """

    def __init__(
        self,
        C: float = 1.0,
        class_weight: ClassWeight = None,
        tol: float = 1e-10,
        max_iter: int = 100,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, scaled to about unit variance.
        y : array-like of shape (n, k) of 0, 1 and NaN, or (n,) of class labels

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            If `max_iter` steps did not reach `tol`.
        """
        if y is not None and np.asarray(y).ndim == 2 and np.asarray(y).shape[1] > 1:
            return self.fit_labels(X, y)
        X, indices = check_training(self, X, y)
        Y = (indices[:, None] == np.arange(len(self.classes_))).astype(np.float64)
        self.multilabel_ = False
        Y = Y[:, 1:] if len(self.classes_) == 2 else Y
        if self.class_weight == "balanced":
            return self._solve(X, Y, balanced(Y))
        each = class_weights(self.class_weight, indices, self.classes_)
        return self._solve(X, Y, None if each is None else np.repeat(each[:, None], Y.shape[1], 1))

    def fit_labels(self, X: Any, Y: Any) -> Self:
        """The same for labels in columns, (n, k) of 0, 1 and NaN, where k may be 1."""
        X = np.asarray(validate_data(self, X, dtype=np.float64))
        Y = _columns(Y, len(X))
        self.classes_ = np.arange(Y.shape[1])
        self.multilabel_ = True
        weight = self.class_weight
        if isinstance(weight, Mapping):
            return self._solve(X, Y, np.where(Y == 1, weight.get(1, 1.0), weight.get(0, 1.0)))
        if weight not in (None, "balanced"):
            raise ValueError(f"class_weight is {weight!r}; expected None, 'balanced' or a mapping")
        return self._solve(X, Y, balanced(Y) if weight else None)

    def _solve(self, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> Self:
        check_positive(C=self.C)
        rotation = rotate(X)
        (found,) = solve_path(
            rotation.training,
            Y,
            [self.C],
            tol=self.tol,
            max_iter=self.max_iter,
            sample_weight=weights,
        )
        self.coef_ = rotation.back(found.weights)
        self.intercept_ = found.intercept - self.coef_ @ rotation.mean
        self.objective_ = found.objective
        self.converged_ = bool(found.converged.all())
        self.n_iter_ = max(1, found.steps)
        if not self.converged_:
            warnings.warn(
                f"OneVsRestLogistic(C={self.C:g}) stopped after {self.n_iter_} steps short of "
                f"tol = {self.tol:g}; a smaller C or a larger max_iter helps",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits: (n, k), or (n,) for two classes that exclude each other."""
        X = check_features(self, X)
        scores = X @ self.coef_.T + self.intercept_
        return scores if self.multilabel_ or scores.shape[1] > 1 else scores[:, 0]

    def predict(self, X: Any) -> np.ndarray:
        """Labels (n, k) of 0 and 1 whose probability is above one half; or the class, (n,)."""
        scores = self.decision_function(X)
        if self.multilabel_:
            return (scores > 0).astype(np.int64)
        return answers(self.classes_, scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label by itself, (n, k); of classes that exclude each other as shares."""
        p = expit(self.decision_function(X))
        if self.multilabel_:
            return np.asarray(p)
        if p.ndim == 1:
            return np.stack([1 - p, p], axis=1)
        return np.asarray(p / np.maximum(p.sum(axis=1, keepdims=True), np.finfo(float).tiny))

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        check_is_fitted(self)
        params = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "multilabel": self.multilabel_,
            "n_iter": self.n_iter_,
            "converged": self.converged_,
        }
        return params, {"coef": self.coef_, "intercept": self.intercept_}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.multilabel_ = bool(params["multilabel"])
        head.n_iter_, head.converged_ = params["n_iter"], params["converged"]
        head.coef_, head.intercept_ = arrays["coef"], arrays["intercept"]
        head.n_features_in_ = head.coef_.shape[1]
        return head

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def balanced(Y: np.ndarray) -> np.ndarray:
    """Weights (n, k) that let yes and no of a label weigh half of its known samples each.

    Parameters
    ----------
    Y : ndarray of shape (n, k)
        1, 0 and NaN.
    """
    yes, no = (Y == 1).sum(axis=0), (Y == 0).sum(axis=0)
    half = (yes + no) / 2
    return np.where(Y == 1, half / np.maximum(yes, 1), half / np.maximum(no, 1))


def _columns(y: Any, n: int) -> np.ndarray:
    """Labels (n, k) float64, or a ValueError in the words that scikit-learn's checks look for."""
    Y = np.asarray(y, np.float64)
    if len(Y) != n:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n}, {len(Y)}"
        )
    wrong = ~(np.isnan(Y) | (Y == 0) | (Y == 1))
    if wrong.any():
        raise ValueError(
            f"Unknown label type: {type_of_target(np.where(np.isnan(Y), 0, Y))}; expected 0, 1 or NaN "
            f"in each column, found {Y[wrong][0]:g}"
        )
    return Y
