"""A multilayer perceptron with one hidden layer; trained by torch, imported only then; predicts in numpy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    import torch

_PARAMETERS = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")
_LARGEST_BATCH = 32
_STEPS = 20  # in an epoch, at least
_LEAST_IMPROVEMENT = 1e-4  # of the watched loss, relative; smaller ones are noise


class MLPHead(ClassifierMixin, BaseEstimator):
    """Dense(128, relu), Dropout(0.5), softmax; Adam; the rate falls and training stops by a held-out part.

    Parameters
    ----------
    hidden : int, default 128
        Units of the hidden layer.
    dropout : float, default 0.5
        Share of the hidden units left out in each step, 0 to below 1.
    learning_rate : float, default 1e-3
        Adam's rate at the start.
    batch_size : "auto" or int, default "auto"
        ``auto`` is 32, or less where an epoch would have fewer than 20 steps: with 2 steps an epoch, the
        early stop ended training on 80 samples before it had begun (81 % where 99 % can be had).
    max_epochs : int, default 100
    validation_fraction : float, default 0.2
        Share of each class that is held out of the training; its loss decides. A class with one
        sample leaves nothing to hold out: then the training loss decides, and a warning says so. At 0 it
        decides as well.
    patience : int, default 15
        Epochs without a better loss before training stops; the best weights are kept.
    random_state : int, default 0

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    hidden_weight_, hidden_bias_, output_weight_, output_bias_ : ndarray, float64
    n_iter_ : int
        Epochs trained.
    converged_ : bool
        Whether training stopped by itself.
    watched_ : {"validation", "training"}
        Whose loss decided.

    Notes
    -----
    The rate falls to a fifth after 5 epochs without a better loss, down to 1e-5. A floor of 1e-3, often
    seen in recipes of this head, equals Adam's starting rate, so that it never falls. Equal seeds give equal
    weights: torch runs on one thread meanwhile.

    References
    ----------
    N. Srivastava et al., "Dropout", JMLR 15, 2014. D. Kingma, J. Ba, "Adam", ICLR 2015, arXiv:1412.6980.
    """

    def __init__(
        self,
        hidden: int = 128,
        *,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        batch_size: int | str = "auto",
        max_epochs: int = 100,
        validation_fraction: float = 0.2,
        patience: int = 15,
        random_state: int | None = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, scaled to about unit variance.
        y : array-like of shape (n,)

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            If `max_epochs` ended the training.
        UserWarning
            If a class is too small to hold a part of it out, and a part was wanted.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class, {self.classes_[0]!r}; a classifier needs samples of 2 or more"
            )
        rng = np.random.default_rng(self.random_state)
        watched = _hold_out(indices, self.validation_fraction, rng)
        self.watched_ = "validation" if watched.any() else "training"
        if not watched.any() and self.validation_fraction > 0:
            warnings.warn(
                "a class has a single sample, so that none is held out; the training loss decides "
                "when to stop",
                UserWarning,
                stacklevel=2,
            )
        self._train(X, indices, watched, rng)
        if not self.converged_:
            warnings.warn(
                f"MLPHead stopped after max_epochs = {self.max_epochs}, while still improving",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _train(
        self, X: np.ndarray, y: np.ndarray, watched: np.ndarray, rng: np.random.Generator
    ) -> None:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.enable_grad():
                weights = _initial(X.shape[1], self.hidden, len(self.classes_), rng)
                optimiser = torch.optim.Adam(weights, lr=self.learning_rate)
                schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimiser,
                    factor=0.2,
                    patience=5,
                    threshold=_LEAST_IMPROVEMENT,
                    min_lr=min(1e-5, self.learning_rate),
                )
                self._loop(X, y, watched, rng, weights, optimiser, schedule)
        finally:
            torch.set_num_threads(threads)

    def _loop(
        self,
        X: np.ndarray,
        y: np.ndarray,
        watched: np.ndarray,
        rng: np.random.Generator,
        weights: list[torch.Tensor],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.ReduceLROnPlateau,
    ) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        masks = torch.Generator().manual_seed(int(rng.integers(2**63)))
        inputs = torch.from_numpy(X.astype(np.float32))
        targets = torch.from_numpy(y.astype(np.int64))
        rows = np.flatnonzero(~watched)
        judged = torch.from_numpy(np.flatnonzero(watched) if watched.any() else rows)
        best, best_loss, waited, epoch = [w.detach().clone() for w in weights], np.inf, 0, 0
        keep = 1 - self.dropout
        size = self.batch_size
        if not isinstance(size, int):
            size = min(_LARGEST_BATCH, max(1, len(rows) // _STEPS))
        while epoch < self.max_epochs and waited < self.patience:
            epoch += 1
            for batch in torch.from_numpy(rng.permutation(rows)).split(size):
                units = torch.relu(inputs[batch] @ weights[0].T + weights[1])
                alive = torch.rand(units.shape, generator=masks) < keep
                logits = (units * alive / keep) @ weights[2].T + weights[3]
                optimiser.zero_grad()
                cross_entropy(logits, targets[batch]).backward()
                optimiser.step()
            with torch.no_grad():
                units = torch.relu(inputs[judged] @ weights[0].T + weights[1])
                loss = float(cross_entropy(units @ weights[2].T + weights[3], targets[judged]))
            schedule.step(loss)
            if loss < best_loss * (1 - _LEAST_IMPROVEMENT):
                best, best_loss, waited = [w.detach().clone() for w in weights], loss, 0
            else:
                waited += 1
        self.n_iter_ = epoch
        self.converged_ = waited >= self.patience
        for name, weight in zip(_PARAMETERS, best, strict=True):
            setattr(self, name + "_", weight.numpy().astype(np.float64))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64, columns as in `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        units = np.maximum(X @ self.hidden_weight_.T + self.hidden_bias_, 0)
        return softmax(units @ self.output_weight_.T + self.output_bias_, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays (see `state`)."""
        check_is_fitted(self)
        params = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_iter": self.n_iter_,
            "converged": self.converged_,
            "watched": self.watched_,
        }
        return params, {name: getattr(self, name + "_") for name in _PARAMETERS}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.n_iter_, head.converged_ = params["n_iter"], params["converged"]
        head.watched_ = params["watched"]
        for name in _PARAMETERS:
            setattr(head, name + "_", arrays[name])
        head.n_features_in_ = head.hidden_weight_.shape[1]
        return head


def _hold_out(y: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A share of each class, (n,) bool, at least one sample; none at all where a class has one."""
    watched = np.zeros(len(y), bool)
    counts = np.bincount(y)
    if counts.min() < 2 or fraction <= 0:
        return watched
    for label, count in enumerate(counts):
        members = rng.permutation(np.flatnonzero(y == label))
        watched[members[: min(max(1, round(fraction * count)), count - 1)]] = True
    return watched


def _initial(d: int, hidden: int, k: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """He's uniform initialisation before a relu, Glorot's before the softmax; biases 0."""
    import torch

    first, second = np.sqrt(6 / d), np.sqrt(6 / (hidden + k))
    arrays = (
        rng.uniform(-first, first, (hidden, d)),
        np.zeros(hidden),
        rng.uniform(-second, second, (k, hidden)),
        np.zeros(k),
    )
    return [torch.from_numpy(a.astype(np.float32)).requires_grad_() for a in arrays]
