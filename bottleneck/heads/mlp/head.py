"""A multilayer perceptron with one hidden layer: features and classes in, logits out."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from ..validation import (
    ClassWeight,
    answers,
    check_features,
    check_positive,
    check_training,
    class_weights,
)
from .start import INITS
from .train import train
from .training import Training, prepare

_ARRAYS = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")


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
    weight_decay : float, default 0
        Decoupled, as in AdamW: in each step both layers' weights, not their biases, shrink by the
        factor 1 - rate * weight_decay, beside Adam's step. 0.01 is PyTorch's default of AdamW.
    init : {"he", "xavier", "lecun", "zeros"}, default "he"
        The spread of the first weights, see `start.bounds`; biases begin at 0. ``zeros`` is for
        demonstration: where the weights are equal, every hidden unit gets the same gradient, so that
        they all stay one unit; where they are 0, a relu lets no gradient through at all. The hidden layer
        never learns, only the output's biases do: the head answers every image with the class
        frequencies, which a warning says.
    class_weight : {None, "balanced"} or mapping, default None
        How much the loss of a sample counts, in the steps and where it decides; see
        `heads.validation.class_weights`. A batch's loss is the sum of weight times loss over its number of
        rows, so that weights mean the same in every batch.
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
    weights, whatever the number of threads, and whether a model trains alone or in `sweep.sweep_mlp`.

    References
    ----------
    N. Srivastava et al., "Dropout", JMLR 15, 2014. D. Kingma, J. Ba, "Adam", ICLR 2015, arXiv:1412.6980.
    I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101.
    """

    def __init__(
        self,
        hidden: int = 128,
        *,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        init: str = "he",
        class_weight: ClassWeight = None,
        batch_size: int | str = "auto",
        max_epochs: int = 100,
        validation_fraction: float = 0.2,
        patience: int = 15,
        random_state: int | None = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.init = init
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def prepare(self, X: np.ndarray, indices: np.ndarray, classes: np.ndarray) -> Training:
        """What `fit` would train, for training it together with others.

        Parameters
        ----------
        X : ndarray of shape (n, d), float32, C-contiguous
        indices : ndarray of shape (n,), int
            Into `classes`, each of which is there.
        classes : ndarray of shape (k,)

        Raises
        ------
        ValueError
            If a parameter has a value that cannot be used.
        """
        check_positive(
            hidden=self.hidden, learning_rate=self.learning_rate, max_epochs=self.max_epochs
        )
        for name, below in (("dropout", 1), ("validation_fraction", 1), ("weight_decay", np.inf)):
            if not 0 <= getattr(self, name) < below:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected a number from 0 to below {below}"
                )
        weight = class_weights(self.class_weight, indices, classes)
        return prepare(X, indices, len(classes), weight, self.get_params(deep=False))

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
            If a class is too small to hold a part of it out, and a part was wanted; if `init` is
            ``zeros``.
        """
        X, indices = check_training(self, X, y)
        training = self.prepare(
            np.ascontiguousarray(X, np.float32), indices, np.asarray(self.classes_)
        )
        if self.init == "zeros":
            warnings.warn(
                "init is 'zeros': every hidden unit gives 0 and gets no gradient, so that the hidden "
                "layer never learns, and all answers are the class frequencies; use one of "
                + ", ".join(name for name in INITS if name != "zeros"),
                UserWarning,
                stacklevel=2,
            )
        if training.watched == "training" and self.validation_fraction > 0:
            warnings.warn(
                "a class has a single sample, so that none is held out; the training loss decides "
                "when to stop",
                UserWarning,
                stacklevel=2,
            )
        trained = train([training])[0]
        self.watched_ = training.watched
        self.n_iter_, self.converged_ = trained.epochs, trained.converged
        self.hidden_weight_ = trained.first.astype(np.float64)
        self.hidden_bias_ = trained.first_bias.astype(np.float64)
        self.output_weight_ = trained.second.astype(np.float64)
        self.output_bias_ = trained.second_bias.astype(np.float64)
        if not self.converged_:
            warnings.warn(
                f"MLPHead stopped after max_epochs = {self.max_epochs}, while still improving",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _logits(self, X: Any) -> np.ndarray:
        X = check_features(self, X)
        units = np.maximum(X @ self.hidden_weight_.T + self.hidden_bias_, 0)
        return np.asarray(units @ self.output_weight_.T + self.output_bias_)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, (n, k) float64; (n,) for two classes: the second's less the first's."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, (n, k) float64, columns as in `classes_`."""
        return np.asarray(softmax(self._logits(X), axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, (n,)."""
        check_is_fitted(self)
        return answers(self.classes_, self.decision_function(X))

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays (see `fitted`)."""
        check_is_fitted(self)
        params = {
            "options": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_iter": self.n_iter_,
            "converged": self.converged_,
            "watched": self.watched_,
        }
        return params, {name: getattr(self, name + "_") for name in _ARRAYS}

    @classmethod
    def from_state(cls, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The head that `to_state` described; options that were not there yet have their defaults."""
        head = cls(**params["options"])
        head.classes_ = np.array(params["classes"])
        head.n_iter_, head.converged_ = params["n_iter"], params["converged"]
        head.watched_ = params["watched"]
        for name in _ARRAYS:
            setattr(head, name + "_", arrays[name])
        head.n_features_in_ = head.hidden_weight_.shape[1]
        return head
