"""Ridge regression as a classifier and as a regression, with the closed form of leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from .ridge_path import RidgePath
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

# Strengths for "loo", times the mean squared length of the centred rows, which is d on standardised
# features: so the same ones serve features of any scale.
_FACTORS = 10.0 ** np.linspace(4, -2.5, 20)

# Half of a tridiagonalisation is products with one vector, which threads of BLAS only delay: 1,200 rows
# took 0.12 s with one, 0.15 to 0.40 s with two, and 13 s with two on a machine that was busy.
_ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")


def ridge_loo(
    X: np.ndarray, Y: np.ndarray, alphas: Sequence[float], *, weights: np.ndarray | None = None
) -> np.ndarray:
    """Leave-one-out predictions of ridge regression with a free intercept, for every strength.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        n is 2 or more. float32 is worked on in float32 where the smallest alpha allows it.
    Y : ndarray of shape (n, t)
    alphas : sequence of float, above 0
        Multiply the squared weights, beside the summed squared error.
    weights : ndarray of shape (n,), optional
        How much each sample counts in the fits; positive.

    Returns
    -------
    ndarray of shape (len(alphas), n, t), float64
        As refitting n times would give it, to rounding (1e-10 in float64). Scale or otherwise prepare X
        without its samples beforehand, or not at all: what is fitted on all rows is not left out.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [4.0]])
    >>> ridge_loo(X, 2 * X, [1e-9, 1e9]).round(2)[..., 0]
    array([[0.  , 2.  , 4.  , 8.  ],
           [4.67, 4.  , 3.33, 2.  ]])
    """
    strengths = np.asarray(alphas, np.float64)
    path = RidgePath(X, np.asarray(Y, np.float64), smallest=strengths.min(), weights=weights)
    return path.leave_one_out(strengths)


class _RidgeOptions(BaseEstimator):
    """What both ridge heads share: the strengths, and the linear functions."""

    alpha: float | str
    alphas: Sequence[float] | None
    alpha_: float
    coef_: np.ndarray
    intercept_: np.ndarray

    def _strengths(self, X: np.ndarray) -> np.ndarray:
        if not isinstance(self.alpha, str):
            check_positive(alpha=self.alpha)
            return np.array([self.alpha], np.float64)
        if self.alpha != "loo":
            raise ValueError(f"alpha is {self.alpha!r}; expected 'loo' or a positive number")
        if self.alphas is None:
            size = float(X.var(axis=0, dtype=np.float64).sum())
            return _FACTORS * (size if size > 0 else 1.0)
        for alpha in self.alphas:
            check_positive(alphas=alpha)
        return np.sort(np.asarray(self.alphas, np.float64))[::-1]

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        check_is_fitted(self)
        options = self.get_params(deep=False)
        if options["alphas"] is not None:
            options["alphas"] = [float(alpha) for alpha in options["alphas"]]
        params: dict[str, Any] = {"options": options, "alpha": self.alpha_}
        return params, {"coef": self.coef_, "intercept": self.intercept_}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.alpha_ = params["alpha"]
        head.coef_, head.intercept_ = arrays["coef"], arrays["intercept"]
        head.n_features_in_ = head.coef_.shape[-1]
        return head


class RidgeHead(ClassifierMixin, _RidgeOptions):
    """Ridge regression on targets of -1 and +1, one column a class (one for two); the largest answers.

    Parameters
    ----------
    alpha : float or "loo", default "loo"
        Strength of the penalty beside the summed squared error; the larger, the more regularised. ``loo``
        takes the one of `alphas` with the smallest squared error when each sample is left out in turn.
    alphas : sequence of float, optional
        For ``loo``. By default 20, from 10^4 to 10^-2.5 times the mean squared length of the centred rows.
    class_weight : {None, "balanced"} or mapping, default None
        How much the error of a sample counts, class by class; see `validation.class_weights`.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    alpha_ : float
        The strength that was used.
    coef_ : ndarray of shape (k, d), or (1, d) for two classes
    intercept_ : ndarray of shape (k,) or (1,)
    loo_error_, loo_accuracy_ : ndarray of shape (len(alphas),)
        With ``loo``: mean squared error and accuracy, from the largest alpha to the smallest. Of the chosen
        one they are what it was chosen by, so a little too good.

    Notes
    -----
    The squared error decides, as in scikit-learn's `RidgeClassifierCV`: it has no plateaus or jumps of 1 / n.
    The accuracy left out would do as well: with 30, 100 and 400 images of three sets (25 draws each) the
    strengths that it chose scored between 0.6 points less and 1.0 more, without a pattern. Leaving one image
    out is no protection where near copies are among the rows; `sweep_ridge` in folds that keep them
    together is.

    References
    ----------
    R. Rifkin, G. Yeo, T. Poggio, "Regularized least-squares classification", 2003. The ridge probe of
    google-research/big_vision, evaluators/fewshot_lsr.py.
    """

    loo_error_: np.ndarray
    loo_accuracy_: np.ndarray

    def __init__(
        self,
        alpha: float | str = "loo",
        *,
        alphas: Sequence[float] | None = None,
        class_weight: ClassWeight = None,
    ) -> None:
        self.alpha = alpha
        self.alphas = alphas
        self.class_weight = class_weight

    @_ONE_THREAD
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
            float32 is faster where `alpha` is not tiny.
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        X, indices = check_training(self, X, y, single=True)
        k = len(self.classes_)
        weights = class_weights(self.class_weight, indices, self.classes_)
        alphas = self._strengths(X)
        path = RidgePath(X, _targets(indices, k), smallest=alphas.min(), weights=weights)
        best = 0
        if self.alpha == "loo":
            left_out = path.leave_one_out(alphas)
            share = np.ones(len(X)) if weights is None else weights
            errors = np.square(left_out - _targets(indices, k)).mean(axis=2)
            right = _indices(left_out) == indices
            self.loo_error_ = errors @ share / share.sum()
            self.loo_accuracy_ = right @ share / share.sum()
            best = int(self.loo_error_.argmin())  # of equal ones the most regularised
        self.alpha_ = float(alphas[best])
        self.coef_, self.intercept_ = path.coefficients(self.alpha_)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """The fitted targets: (n, k), or (n,) for two classes, positive for the second."""
        X = check_features(self, X)
        return one_column_for_two(X @ self.coef_.T + self.intercept_)

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest fitted target, (n,)."""
        scores = self.decision_function(X)
        return answers(self.classes_, scores)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        params, arrays = super().to_state()
        return {**params, "classes": self.classes_.tolist()}, arrays

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = super().from_state(params, arrays)
        head.classes_ = np.array(params["classes"])
        return head


class RidgeRegressionHead(RegressorMixin, MultiOutputMixin, _RidgeOptions):
    """Ridge regression of one number or several, with a free intercept.

    Parameters
    ----------
    alpha : float or "loo", default "loo"
        As in `RidgeHead`; one strength for all targets. ``loo`` divides each target's squared error by its
        variance, so that a target in millimetres does not outvote one in metres.
    alphas : sequence of float, optional

    Attributes
    ----------
    alpha_ : float
    coef_ : ndarray of shape (t, d), or (d,) where y had one axis
    intercept_ : ndarray of shape (t,), or () where y had one axis
    loo_error_ : ndarray of shape (len(alphas),)
        With ``loo``: mean over the targets of error by variance, from the largest alpha to the smallest.
    """

    loo_error_: np.ndarray

    def __init__(
        self, alpha: float | str = "loo", *, alphas: Sequence[float] | None = None
    ) -> None:
        self.alpha = alpha
        self.alphas = alphas

    @_ONE_THREAD
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,) or (n, t)
            Finite numbers.

        Returns
        -------
        self
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True
        )
        if len(X) < 2:
            raise ValueError(f"X has n_samples={len(X)}; a regression needs 2 samples or more")
        Y = y.astype(np.float64).reshape(len(X), -1)
        alphas = self._strengths(X)
        path = RidgePath(X, Y, smallest=alphas.min())
        best = 0
        if self.alpha == "loo":
            errors = np.square(path.leave_one_out(alphas) - Y).mean(axis=1)
            variance = Y.var(axis=0)
            self.loo_error_ = (errors / np.where(variance > 0, variance, 1)).mean(axis=1)
            best = int(self.loo_error_.argmin())
        self.alpha_ = float(alphas[best])
        self.coef_, self.intercept_ = path.coefficients(self.alpha_)
        if y.ndim == 1:
            self.coef_, self.intercept_ = self.coef_[0], np.asarray(self.intercept_[0])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets, (n,) or (n, t) as in the fit."""
        X = check_features(self, X)
        found: np.ndarray = X @ self.coef_.T + self.intercept_
        return found


def sweep_ridge(
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
    """Decision scores of `RidgeHead` for every setting of a grid, in every job.

    One decomposition a job serves all numbers of alpha; ``loo`` chooses by the job's training rows.

    Parameters
    ----------
    X, y, jobs, grid, n_classes, scaling, options, seed, device, tick
        See `sweep.sweep_linear`; settings of `RidgeHead`. `seed` and `device` change nothing.

    Yields
    ------
    ndarray of shape (len(grid), n_test, n_classes), float32
        For each job, in order.
    """
    settings = [{**(options or {}), **setting} for setting in grid]

    def one(train: np.ndarray, indices: np.ndarray, k: int, test: np.ndarray) -> np.ndarray:
        q = 1 if k == 2 else k
        scores = np.empty((len(settings), len(test), q), np.float32)
        by_weight: dict[Any, list[int]] = {}
        for i, each in enumerate(settings):
            if isinstance(each.get("alpha", "loo"), str):
                head = RidgeHead(**each).fit(train, indices)
                scores[i] = head.decision_function(test).reshape(len(test), q)
            else:
                by_weight.setdefault(each.get("class_weight"), []).append(i)
        for weight, which in by_weight.items():
            alphas = np.array([settings[i]["alpha"] for i in which], np.float64)
            weights = class_weights(weight, indices, np.arange(k))
            path = RidgePath(train, _targets(indices, k), smallest=alphas.min(), weights=weights)
            scores[which] = path.predict(test, alphas)
        return scores

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


def _targets(indices: np.ndarray, n_classes: int) -> np.ndarray:
    """-1 and +1, (n, k), or (n, 1) for two classes."""
    positive = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    return np.where(indices[:, None] == positive, 1.0, -1.0)


def _indices(scores: np.ndarray) -> np.ndarray:
    """Which class the scores (..., q) answer."""
    if scores.shape[-1] == 1:
        return (scores[..., 0] > 0).astype(np.intp)
    return np.asarray(scores.argmax(axis=-1))
