"""Multinomial logistic regression with an L2 penalty, solved to a stated distance of its optimum."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .linear import LinearFit, fit_linear
from .losses import Loss, Multinomial
from .validation import (
    ClassWeight,
    answers,
    check_features,
    check_positive,
    check_training,
    class_weights,
    one_column_for_two,
)


class LinearHead(ClassifierMixin, BaseEstimator):
    """What the logistic and the linear SVM head share: the checks of a fit, linear decisions."""

    _loss: ClassVar[Loss]
    C: float
    class_weight: ClassWeight
    tol: float
    max_iter: int
    coef_: np.ndarray
    intercept_: np.ndarray
    n_iter_: int
    converged_: bool

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, scaled to about unit variance.
        y : array-like of shape (n,)
            Class labels.

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            If `max_iter` steps did not reach `tol`.
        """
        X, indices = check_training(self, X, y)
        check_positive(C=self.C, tol=self.tol)
        found = self._minimise(X, indices, class_weights(self.class_weight, indices, self.classes_))
        return self._keep(found, stacklevel=3)

    def _keep(self, found: LinearFit, *, stacklevel: int) -> Self:
        """Take over a fit, and warn where it stopped early."""
        self.coef_ = found.coef[0]
        self.intercept_ = found.intercept[0]
        self.objective_ = float(found.objective[0])
        self.converged_ = bool(found.converged[0])
        self.n_iter_ = max(1, int(found.iterations[0]))
        if not self.converged_:
            warnings.warn(
                f"{type(self).__name__}(C={self.C:g}) stopped after {self.n_iter_} iterations short of "
                f"tol = {self.tol:g}; a smaller C or a larger max_iter helps",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
        return self

    def _minimise(
        self, X: np.ndarray, indices: np.ndarray, weights: np.ndarray | None
    ) -> LinearFit:
        return fit_linear(
            X,
            indices,
            np.array([self.C], np.float64),
            self._loss,
            len(self.classes_),
            tol=self.tol,
            max_iter=self.max_iter,
            weights=weights,
        )

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits: (n, k), or (n,) for two classes, positive for the second one."""
        X = check_features(self, X)
        return one_column_for_two(X @ self.coef_.T + self.intercept_)

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest logit, (n,)."""
        scores = self.decision_function(X)
        return answers(self.classes_, scores)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays (see `state`)."""
        check_is_fitted(self)
        params = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_iter": self.n_iter_,
            "converged": self.converged_,
        }
        return params, {"coef": self.coef_, "intercept": self.intercept_}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.n_iter_, head.converged_ = params["n_iter"], params["converged"]
        head.coef_, head.intercept_ = arrays["coef"], arrays["intercept"]
        head.n_features_in_ = head.coef_.shape[1]
        return head


class LogisticHead(LinearHead):
    """Logistic regression: softmax of linear functions, L2 penalty, free intercept.

    Minimises ``C * sum_i -log p(y_i | x_i) + |w|^2 / 2``, scikit-learn's `LogisticRegression` to the
    letter (two classes share one weight vector), by another solver and to a certified distance.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty. On standardised CNN features useful values lie between 1e-5 and 1.
    class_weight : {None, "balanced"} or mapping, default None
        Weights of the samples in the loss by their class; ``balanced`` gives each class the same sum, for
        classes of very different sizes. A mapping goes from class labels to weights.
    tol : float, default 1e-10
        Relative distance of the objective to its minimum, guaranteed where `converged_` is True.
    max_iter : int, default 10000
        Steps of L-BFGS.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    coef_ : ndarray of shape (k, d), or (1, d) for two classes
    intercept_ : ndarray of shape (k,) or (1,)
    objective_ : float
    converged_ : bool
    n_iter_ : int

    References
    ----------
    The protocol of a linear probe by logistic regression: S. Kornblith et al., "Do Better ImageNet
    Models Transfer Better?", CVPR 2019, arXiv:1805.08974.

    Examples
    --------
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> LogisticHead(C=1.0).fit(X, ["ant", "ant", "bee", "bee"]).predict([[-3.0], [0.5]])
    array(['ant', 'bee'], dtype='<U3')
    """

    _loss = Multinomial()

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: ClassWeight = None,
        tol: float = 1e-10,
        max_iter: int = 10_000,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64, columns as in `classes_`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)
