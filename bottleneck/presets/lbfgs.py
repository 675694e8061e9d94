"""scikit-learn's own logistic regression, for protocols that mean what it reaches, not the optimum."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ..heads.logistic import LogisticHead

MAX_ITER = 1000


def fit_lbfgs(X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
    """`LogisticRegression` with L-BFGS, at most 1,000 iterations, everything else by default.

    Where C is large the iterations stop short of the optimum, and the published numbers are of what
    they reached: a better solver would give another number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, solver="lbfgs", max_iter=MAX_ITER, random_state=0).fit(X, y)


def as_head(fitted: LogisticRegression) -> LogisticHead:
    """The same function as a head that a probe can keep."""
    params = {
        "options": {"C": float(fitted.C), "tol": float(fitted.tol), "max_iter": MAX_ITER},
        "classes": fitted.classes_.tolist(),
        "n_iter": int(np.max(fitted.n_iter_)),
        "converged": bool(np.max(fitted.n_iter_) < MAX_ITER),
    }
    return LogisticHead.from_state(
        params, {"coef": fitted.coef_.copy(), "intercept": fitted.intercept_.copy()}
    )
