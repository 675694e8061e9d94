"""Support vector machines: a linear one by our own solver, an RBF one around libsvm's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from .hinge_sweep import fit_hinge
from .linear import LinearFit
from .logistic import LinearHead
from .losses import SquaredHinge
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

# Of libsvm's cache of kernel rows, in MB: 14,000 rows fit whole.
_CACHE_MB = 800


class LinearSVMHead(LinearHead):
    """Linear SVM: squared hinge, one class against the rest, L2 penalty, free intercept.

    Minimises ``C * sum_i max(0, 1 - t_i z_i)^2 + |w|^2 / 2`` for each class. Unlike liblinear (scikit-learn's
    `LinearSVC`) the intercept is not penalised.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty.
    class_weight : {None, "balanced"} or mapping, default None
        Weights of the samples in the loss by their class; see `LogisticHead`.
    tol : float, default 1e-10
        Relative distance of the objective to its minimum, guaranteed where `converged_` is True.
    max_iter : int, default 10000
        Newton steps; a fit takes about ten. For more than 1,000 samples, steps of L-BFGS.

    Attributes
    ----------
    classes_, coef_, intercept_, objective_, converged_, n_iter_
        As in `LogisticHead`.

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
        class_weight: ClassWeight = None,
        tol: float = 1e-10,
        max_iter: int = 10_000,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def _minimise(
        self, X: np.ndarray, indices: np.ndarray, weights: np.ndarray | None
    ) -> LinearFit:
        return fit_hinge(
            X,
            indices,
            self.C,
            len(self.classes_),
            tol=self.tol,
            max_iter=self.max_iter,
            weights=weights,
        )

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described, also one of 0.1."""
        return super().from_state(_without_old_options(params), arrays)


class RBFSVMHead(ClassifierMixin, BaseEstimator):
    """SVM with the kernel ``exp(-gamma |a - b|^2)``, one class against the rest.

    Each class is one binary `sklearn.svm.SVC`, so that decisions and answers follow one rule
    (scikit-learn's own multi-class votes and its `decision_function` may disagree).

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty.
    gamma : "scale" or float, default "scale"
        ``scale`` is 1 / (d * variance of X): 1 / d on standardised features.
    gamma_factor : float, default 1.0
        Multiplies ``scale``, so that a grid can be stated without knowing the features; a gamma that is a
        number stays as it is.
    class_weight : {None, "balanced"} or mapping, default None
        Multiplies C, class by class; see `validation.class_weights`.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    support_vectors_ : ndarray of shape (s, d)
        Training rows that any class needs.
    dual_coef_ : ndarray of shape (q, s)
        q is 1 for two classes, else k.
    intercept_ : ndarray of shape (q,)
    gamma_ : float

    References
    ----------
    C.-C. Chang, C.-J. Lin, "LIBSVM: A Library for Support Vector Machines", ACM TIST 2, 2011.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        gamma: float | str = "scale",
        gamma_factor: float = 1.0,
        class_weight: ClassWeight = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.gamma_factor = gamma_factor
        self.class_weight = class_weight

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
        X, indices = check_training(self, X, y)
        check_positive(C=self.C, gamma_factor=self.gamma_factor)
        self.gamma_ = _gamma(X, self.gamma, self.gamma_factor)
        k = len(self.classes_)
        weights = class_weights(self.class_weight, indices, self.classes_)
        kernel = np.exp(-self.gamma_ * squared_distances(X, X))
        dual, self.intercept_ = _fit_duals(kernel, indices, k, self.C, weights)
        used = np.flatnonzero(dual.any(axis=0))
        self.support_vectors_ = X[used]
        self.dual_coef_ = dual[:, used]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Distances to the boundary: (n, k), or (n,) for two classes, positive for the second."""
        X = check_features(self, X)
        kernel = np.exp(-self.gamma_ * squared_distances(X, self.support_vectors_))
        return one_column_for_two(kernel @ self.dual_coef_.T + self.intercept_)

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest decision value, (n,)."""
        scores = self.decision_function(X)  # first: it tells who is not fitted
        return answers(self.classes_, scores)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        check_is_fitted(self)
        params: dict[str, Any] = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "gamma": float(self.gamma_),
        }
        arrays = {
            "support_vectors": self.support_vectors_,
            "dual_coef": self.dual_coef_,
            "intercept": self.intercept_,
        }
        return params, arrays

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described, also one of 0.1."""
        params = _without_old_options(params)
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.gamma_ = params["gamma"]
        head.support_vectors_ = arrays["support_vectors"]
        head.dual_coef_, head.intercept_ = arrays["dual_coef"], arrays["intercept"]
        head.n_features_in_ = head.support_vectors_.shape[1]
        return head


def sweep_rbf(
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
    """Decision scores of the RBF SVM for every setting of a grid, in every job.

    Parameters
    ----------
    X, y, jobs, grid, n_classes, scaling, options, seed, device, tick
        See `sweep.sweep_linear`; settings of `RBFSVMHead`. `seed` and `device` change nothing.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order.

    Notes
    -----
    The squared distances of a job are computed once for all gammas and C, and a kernel once for all C.
    They are not shared between jobs: each job standardises by its own rows, which stretches every
    feature by another factor, so a shared matrix would be of other features. It would save little: the
    matrix is one product, the machines of a grid of 30 take most of the time.
    """
    settings = [{**(options or {}), **setting} for setting in grid]

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        train, test = train.astype(np.float64), test.astype(np.float64)
        gammas = [
            _gamma(train, each.get("gamma", "scale"), each.get("gamma_factor", 1.0))
            for each in settings
        ]
        within, across = squared_distances(train, train), squared_distances(test, train)
        known: dict[Any, np.ndarray] = {}
        for gamma in dict.fromkeys(gammas):
            kernel, beside = np.exp(-gamma * within), np.exp(-gamma * across)
            for own, each in zip(gammas, settings, strict=True):
                what = (own, each.get("C", 1.0), each.get("class_weight"))
                if own == gamma and what not in known:
                    weights = class_weights(what[2], indices, np.arange(k))
                    dual, intercept = _fit_duals(kernel, indices, k, what[1], weights)
                    known[what] = beside @ dual.T + intercept
        return np.stack(
            [
                known[own, each.get("C", 1.0), each.get("class_weight")]
                for own, each in zip(gammas, settings, strict=True)
            ]
        )

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


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (a, b) by one product; never negative, 0 from a row to itself.

    Parameters
    ----------
    A : ndarray of shape (a, d), float64
    B : ndarray of shape (b, d), float64
        May be the same array.
    """
    found = A @ B.T
    found *= -2
    found += np.einsum("nd,nd->n", A, A)[:, None]
    found += np.einsum("nd,nd->n", B, B)
    np.maximum(found, 0, out=found)
    if A is B:
        np.fill_diagonal(found, 0)
    return found


def _fit_duals(
    kernel: np.ndarray,
    indices: np.ndarray,
    n_classes: int,
    C: float,
    weights: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Dual coefficients (q, n) and intercepts (q,), each class against the rest."""
    positives = [1] if n_classes == 2 else range(n_classes)
    dual = np.zeros((len(positives), len(kernel)))
    intercept = np.empty(len(positives))
    for q, positive in enumerate(positives):
        svc = SVC(C=C, kernel="precomputed", cache_size=_CACHE_MB)
        svc.fit(kernel, indices == positive, sample_weight=weights)
        dual[q, svc.support_] = svc.dual_coef_[0]
        intercept[q] = svc.intercept_[0]
    return dual, intercept


def _gamma(X: np.ndarray, gamma: float | str, factor: float) -> float:
    if gamma == "scale":
        variance = float(X.var())
        return factor * (1 / (X.shape[1] * variance) if variance > 0 else 1.0)
    check_positive(gamma=gamma)
    return float(gamma)


def _without_old_options(params: dict[str, Any]) -> dict[str, Any]:
    """Options of 0.1 that are gone: SVMs had probabilities of their own, now every probe has."""
    gone = ("probability", "random_state")
    return {**params, "options": {k: v for k, v in params["options"].items() if k not in gone}}
