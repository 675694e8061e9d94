"""Support vector machines: a linear one by our own solver, an RBF one around scikit-learn's.

Both have probabilities where asked: one temperature, fitted on out-of-fold decisions, so that the most
probable class is always the one with the largest decision value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .logistic import LinearHead
from .losses import SquaredHinge
from .sweep import Job, Settings, run_jobs
from .temperature import apply_temperature, out_of_fold_temperature


def _has_probabilities(head: Any) -> bool:
    if not head.probability:
        raise AttributeError("predict_proba needs probability=True")
    return True


class LinearSVMHead(LinearHead):
    """Linear SVM: squared hinge, one class against the rest, L2 penalty, free intercept.

    Minimises ``C * sum_i max(0, 1 - t_i z_i)^2 + |w|^2 / 2`` for each class. Unlike liblinear (scikit-learn's
    `LinearSVC`) the intercept is not penalised.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty.
    probability : bool, default False
        Fit a temperature, which takes five more fits; without it there is no `predict_proba`.
    tol : float, default 1e-10
        Relative distance of the objective to its minimum, guaranteed where `converged_` is True.
    max_iter : int, default 10000
    random_state : int, default 0
        Deals the folds of the temperature.

    Attributes
    ----------
    classes_, coef_, intercept_, objective_, converged_, n_iter_
        As in `LogisticHead`.
    temperature_ : float
        With `probability`.

    References
    ----------
    R.-E. Fan et al., "LIBLINEAR: A Library for Large Linear Classification", JMLR 9, 2008, for the
    objective.
    """

    _loss = SquaredHinge()

    def __init__(
        self,
        C: float = 1.0,
        *,
        probability: bool = False,
        tol: float = 1e-10,
        max_iter: int = 10_000,
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.probability = probability
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head, and the temperature where `probability` is set; see `LinearHead.fit`."""
        super().fit(X, y)
        if self.probability:
            self.temperature_ = out_of_fold_temperature(self, X, y)
        return self

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64; only with ``probability=True``."""
        check_is_fitted(self, "temperature_")
        return apply_temperature(self.decision_function(X), self.temperature_)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays (see `state`)."""
        params, arrays = super().to_state()
        if self.probability:
            params["temperature"] = self.temperature_
        return params, arrays

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = super().from_state(params, arrays)
        if "temperature" in params:
            head.temperature_ = params["temperature"]
        return head


class RBFSVMHead(ClassifierMixin, BaseEstimator):
    """SVM with the kernel ``exp(-gamma |a - b|^2)``, one class against the rest.

    Each class is one binary `sklearn.svm.SVC`, so that decisions, answers and probabilities follow one
    rule (scikit-learn's own multi-class votes and its `decision_function` may disagree).

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty.
    gamma : "scale" or float, default "scale"
        ``scale`` is 1 / (d * variance of X): 1 / d on standardised features.
    probability : bool, default False
        Fit a temperature, which takes five more fits.
    random_state : int, default 0
        Deals the folds of the temperature.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    support_vectors_ : ndarray of shape (s, d)
        Training rows that any class needs.
    dual_coef_ : ndarray of shape (q, s)
        q is 1 for two classes, else k.
    intercept_ : ndarray of shape (q,)
    gamma_ : float
    temperature_ : float
        With `probability`.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        gamma: float | str = "scale",
        probability: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.probability = probability
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class, {self.classes_[0]!r}; a classifier needs samples of 2 or more"
            )
        self.gamma_ = _scale_gamma(X) if self.gamma == "scale" else float(self.gamma)
        kernel = _rbf(X, X, self.gamma_)
        dual, self.intercept_ = _fit_duals(kernel, indices, len(self.classes_), self.C)
        used = np.flatnonzero(dual.any(axis=0))
        self.support_vectors_ = X[used]
        self.dual_coef_ = dual[:, used]
        if self.probability:
            self.temperature_ = out_of_fold_temperature(self, X, y)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Distances to the boundary: (n, k), or (n,) for two classes, positive for the second."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        scores = _rbf(X, self.support_vectors_, self.gamma_) @ self.dual_coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest decision value, (n,)."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[index]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64; only with ``probability=True``."""
        check_is_fitted(self, "temperature_")
        return apply_temperature(self.decision_function(X), self.temperature_)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays (see `state`)."""
        check_is_fitted(self)
        params: dict[str, Any] = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "gamma": float(self.gamma_),
        }
        if self.probability:
            params["temperature"] = self.temperature_
        arrays = {
            "support_vectors": self.support_vectors_,
            "dual_coef": self.dual_coef_,
            "intercept": self.intercept_,
        }
        return params, arrays

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.gamma_ = params["gamma"]
        head.support_vectors_ = arrays["support_vectors"]
        head.dual_coef_, head.intercept_ = arrays["dual_coef"], arrays["intercept"]
        head.n_features_in_ = head.support_vectors_.shape[1]
        if "temperature" in params:
            head.temperature_ = params["temperature"]
        return head


def sweep_rbf(
    X: np.ndarray,
    y: np.ndarray,
    jobs: Sequence[Job],
    grid: Settings,
    *,
    tick: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Predictions for every C of a grid, in every job; one kernel matrix a job serves them all.

    See `sweep.sweep_linear`; ``gamma`` is ``scale``.
    """

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        train, test = train.astype(np.float64), test.astype(np.float64)
        gamma = _scale_gamma(train)
        kernel, across = _rbf(train, train, gamma), _rbf(test, train, gamma)
        scores = []
        for setting in grid:
            dual, intercept = _fit_duals(kernel, indices, k, setting["C"])
            scores.append(across @ dual.T + intercept)
        return np.stack(scores)

    return run_jobs(one, X, y, jobs, tick)


def _fit_duals(
    kernel: np.ndarray, indices: np.ndarray, n_classes: int, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dual coefficients (q, n) and intercepts (q,), each class against the rest."""
    positives = [1] if n_classes == 2 else range(n_classes)
    dual = np.zeros((len(positives), len(kernel)))
    intercept = np.empty(len(positives))
    for q, positive in enumerate(positives):
        svc = SVC(C=C, kernel="precomputed").fit(kernel, indices == positive)
        dual[q, svc.support_] = svc.dual_coef_[0]
        intercept[q] = svc.intercept_[0]
    return dual, intercept


def _scale_gamma(X: np.ndarray) -> float:
    variance = float(X.var())
    return 1 / (X.shape[1] * variance) if variance > 0 else 1.0


def _rbf(A: np.ndarray, B: np.ndarray, gamma: float) -> np.ndarray:
    """Kernel (a, b); distances by one product, never negative by rounding."""
    squares = np.einsum("nd,nd->n", A, A)[:, None] + np.einsum("nd,nd->n", B, B)
    return np.exp(-gamma * np.maximum(squares - 2 * (A @ B.T), 0))
