"""The estimator: multinomial logistic regression that is trained from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from ..validation import answers, check_features, check_positive, one_column_for_two
from .rows import LOOK, MIX, PASS, RUN, RowStream, Sliceable, hold_out
from .training import Epoch, Training, scaling_of

# Of the held-out rows' logits that are kept for a temperature, at most: 32 MiB.
_NUMBERS = 2**23
SCALINGS = ("standard", "scalar", "none")


class StreamedLogistic(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression with an L2 penalty, trained from disk.

    The objective is `LogisticHead`'s; the solution is as near to it as a few passes of stochastic
    gradients come. Take `LogisticHead` wherever the features fit into memory.

    Parameters
    ----------
    C : float or sequence of float, default (1e-3, 1e-2, 1e-1, 1.0)
        Inverse strength of the penalty; of several the one with the best held-out score is kept.
    max_epochs : int, default 20
        Passes over the training rows, at most.
    patience : int, default 4
        Passes without a better held-out loss before a value of C is given up.
    tol : float, default 1e-3
        Relative improvement of the held-out loss that counts as better.
    learning_rate : float, optional
        Largest step of Adam; by default 0.1 / sqrt(d), 2.8e-3 at d = 1,280, so that a step moves the
        logits about as far whatever d is. It rises over the first tenth of a pass, and falls by half
        after each pass without improvement.
    batch_size : int, default 1024
        Smaller where a pass would have fewer than 50 steps.
    held_out : float, default 0.02
        Share of each class that chooses and stops instead of training, 16,384 rows in all at most.
    scaling : {"standard", "scalar", "none"}, default "standard"
        Of the features that the penalty is about: each to mean 0 and standard deviation 1, all by one mean
        and one standard deviation, or as they are. See `heads.scaling`.
    max_bytes : int, default 2**30
        Working memory for rows, scores, weights and their averages; see `working_bytes`. More than
        this is refused before the first row is read.
    random_state : int, default 0
        Decides what is held out and the order of the rows.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    coef_ : ndarray of shape (k, d), or (1, d) for two classes, float64
        For features as they are stored: the scaling is inside.
    intercept_ : ndarray of shape (k,) or (1,)
    C_ : float
        The value that was kept.
    scaling_ : Scaling
        Mean and scale of the training rows, as `scaling` asks for.
    constant_ : ndarray of shape (d,), bool
        Features that do not vary in the training rows.
    values_, accuracies_, losses_ : ndarray of shape (p,)
        The values of C, ascending, and their scores on the held-out rows.
    held_out_rows_ : ndarray of intp
        Rows that chose and stopped, ascending.
    held_out_logits_ : ndarray of shape (m, k) or (m,), float32
        Of `calibration_rows_`, some of them, by the kept weights: to fit a temperature with.
    calibration_rows_ : ndarray of intp
    history_ : list of Epoch
    n_iter_ : int
        Passes until the kept weights.
    converged_ : bool
        Whether training stopped by itself.

    Notes
    -----
    Adam (Kingma & Ba, ICLR 2015, arXiv:1412.6980) on the mean loss of a batch plus ``|w|^2 / (2 C n)``. The
    penalty is part of the gradient: decoupled weight decay would settle at another optimum than that of
    the stated C. What is scored and kept is the average of the weights over the second half of a
    pass (Polyak & Juditsky, SIAM J. Control Optim. 30, 1992), because the last step itself is noisy.
    Equal seeds and threads give equal weights.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(6000) % 3
    >>> X = (rng.normal(size=(6000, 8)) + 4 * np.eye(3, 8)[y]).astype(np.float16)
    >>> StreamedLogistic(C=0.1).fit(X, y).score(X, y) > 0.97
    True
    """

    def __init__(
        self,
        C: float | Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
        *,
        max_epochs: int = 20,
        patience: int = 4,
        tol: float = 1e-3,
        learning_rate: float | None = None,
        batch_size: int = 1024,
        held_out: float = 0.02,
        scaling: str = "standard",
        max_bytes: int = 2**30,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.max_epochs = max_epochs
        self.patience = patience
        self.tol = tol
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.held_out = held_out
        self.scaling = scaling
        self.max_bytes = max_bytes
        self.random_state = random_state

    def fit(
        self,
        X: Sliceable,
        y: Any,
        *,
        rows: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        progress: Callable[[Epoch], None] | None = None,
        tick: Callable[[int], None] = lambda n: None,
    ) -> Self:
        """Train on an array that is read in slices.

        Parameters
        ----------
        X : sliceable of shape (n, d), float16, float32 or float64
            Read as ``X[start:stop]``, never whole.
        y : array-like of shape (n,)
            Class labels; in memory.
        rows : ndarray of shape (n,), bool, optional
            Which rows take part; the others are read with their slices and left out.
        groups : ndarray of shape (n,), int, optional
            Rows with equal numbers are held out together, or not at all: copies, tiles of one image.
        progress : callable, optional
            Called after each pass.
        tick : callable, optional
            Called with the number of rows that were read, `max_epochs` + 1 times n in all at most.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a feature is not finite, with its row; if there is one class; if `max_bytes` is too little.
        """
        values = np.unique(np.atleast_1d(np.asarray(self.C, np.float64)))
        for value in values:
            check_positive(C=float(value))
        n, d = X.shape
        rate = 0.1 / np.sqrt(d) if self.learning_rate is None else self.learning_rate
        check_positive(tol=self.tol, learning_rate=rate)
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling is {self.scaling!r}; expected {', '.join(SCALINGS)}")
        y = np.asarray(y)
        if len(y) != n:
            raise ValueError(f"X has {n} rows and y has {len(y)} labels; expected as many")
        taking = np.ones(n, bool) if rows is None else np.asarray(rows, bool)
        self.classes_ = np.unique(y[taking])
        if len(self.classes_) < 2:
            raise ValueError("y holds one class; a classifier needs samples of 2 or more")
        self.n_features_in_ = d
        needed = working_bytes(d, len(self.classes_), len(values), self.batch_size, n)
        if needed > self.max_bytes:
            raise ValueError(
                f"{len(values)} values of C, {len(self.classes_)} classes and {d} features need "
                f"{needed:,} bytes, and max_bytes is {self.max_bytes:,}; fewer values of C or a smaller "
                "batch_size need less"
            )
        codes = np.full(n, -1, np.int32)
        codes[taking] = np.searchsorted(self.classes_, y[taking])
        rng = np.random.default_rng(self.random_state)
        stream = RowStream(X, codes, hold_out(codes, self.held_out, rng, groups), tick)
        self._train(stream, values, float(rate), rng, progress)
        return self

    def _train(
        self,
        stream: RowStream,
        values: np.ndarray,
        rate: float,
        rng: np.random.Generator,
        progress: Callable[[Epoch], None] | None,
    ) -> None:
        moments = stream.moments()
        self.scaling_, steps = scaling_of(self.scaling, moments)
        training = Training(
            stream,
            moments,
            values,
            len(self.classes_),
            scaling=self.scaling_,
            steps=steps,
            batch_size=self.batch_size,
            rng=rng,
        )
        found = training.run(
            rate,
            max_epochs=self.max_epochs,
            patience=self.patience,
            tol=self.tol,
            progress=progress,
        )
        self.coef_, self.intercept_ = found.coef, found.intercept
        self.C_ = float(values[found.chosen])
        self.n_iter_, self.converged_, self.history_ = found.n_iter, found.converged, found.history
        self.values_, self.losses_, self.accuracies_ = values, found.loss, found.accuracy
        self.constant_ = moments.spread == 0
        self.held_out_rows_ = moments.places
        # Evenly spread, since a file is in the order of its classes.
        n, most = len(moments.places), max(1, _NUMBERS // len(self.classes_))
        some = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)) if n else np.arange(0)
        self.calibration_rows_ = moments.places[some]
        self.held_out_logits_ = one_column_for_two(training.logits(found.chosen, some))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits: (n, k), or (n,) for two classes, positive for the second one."""
        X = check_features(self, X)
        return one_column_for_two(X @ self.coef_.T + self.intercept_)

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest logit, (n,)."""
        scores = self.decision_function(X)
        return answers(self.classes_, scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64, columns as in `classes_`."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays."""
        options = self.get_params(deep=False)
        options["C"] = np.atleast_1d(np.asarray(self.C, np.float64)).tolist()
        params = {
            "options": options,
            "classes": self.classes_.tolist(),
            "chosen": self.C_,
            "n_iter": self.n_iter_,
            "converged": self.converged_,
        }
        return params, {"coef": self.coef_, "intercept": self.intercept_}

    @classmethod
    def from_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.C_, head.n_iter_ = params["chosen"], params["n_iter"]
        head.converged_ = params["converged"]
        head.coef_, head.intercept_ = arrays["coef"], arrays["intercept"]
        head.n_features_in_ = head.coef_.shape[1]
        return head


def working_bytes(
    d: int, n_classes: int, n_values: int, batch_size: int = 1024, n_rows: int | None = None
) -> int:
    """Bytes that `StreamedLogistic.fit` holds at most, beside y and the libraries.

    Parameters
    ----------
    d, n_classes, n_values, batch_size : int
    n_rows : int, optional
        Of the features, if they may be few.

    Examples
    --------
    >>> working_bytes(1280, 1000, 4) / 2**20 < 400
    True
    """
    q = 1 if n_classes == 2 else n_classes
    weights = 4 * n_values * q * (d + 1)
    # Weights, two moments, mean, best mean, gradient and two temporaries of the step, one C at a time.
    state = 5 * weights + 4 * (weights // n_values)
    n = LOOK if n_rows is None else n_rows
    read, once = min(max(MIX * RUN, PASS), n), min(PASS, n)
    rows = 4 * d * (2 * read + 2 * min(batch_size, n) + min(LOOK, n)) + 8 * d * once
    scores = 5 * 4 * q * batch_size
    return state + rows + scores
