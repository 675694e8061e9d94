"""What one training of an MLP is, apart from arithmetic: rows, batches, rate, when to stop, dropout.

The compiled kernel (`kernel`) and the batch in PyTorch (`batch`) both take a `Training` and give
a `Trained`. All that is random is drawn here, from the seed of the one model and with NumPy's or plain
integer arithmetic: a model is the same alone, beside others, in threads and on another device, but for
the rounding of its sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .start import hold_out, initial_weights

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as its paper and PyTorch have them

_LARGEST_BATCH = 32
_STEPS = 20  # in an epoch, at least
_LEAST_IMPROVEMENT = 1e-4  # of the watched loss, relative; smaller ones are noise
_FALL, _FALL_AFTER, _LOWEST_RATE = 0.2, 5, 1e-5

GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: neighbouring counters lie far apart


@dataclass
class Training:
    """One model to be trained.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32
        Scaled features; shared by the models of one fold.
    y : ndarray of shape (n,), int64
        Class indices, 0 to k - 1, each of them there.
    k : int
    weight : ndarray of shape (n,), float32
        How much each row counts; the mean over all rows is about 1.
    rows, judged : ndarray, int64
        Rows that train, and rows whose loss decides.
    watched : {"validation", "training"}
        Whether `judged` is held out.
    first, second : ndarray of shape (hidden, d) and (k, hidden), float32
        Where the weights begin.
    rng : Generator
        Of the order of the rows.
    mask_seed : int
        Of the dropout, below 2^32.
    dropout, learning_rate, weight_decay : float
    batch_size, max_epochs, patience : int
    """

    X: np.ndarray
    y: np.ndarray
    k: int
    weight: np.ndarray
    rows: np.ndarray
    judged: np.ndarray
    watched: str
    first: np.ndarray
    second: np.ndarray
    rng: np.random.Generator
    mask_seed: int
    dropout: float
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def order(self) -> np.ndarray:
        """The rows in the order of the next epoch, (n_rows,) int64."""
        return np.asarray(self.rng.permutation(self.rows))


@dataclass(frozen=True)
class Trained:
    """Weights with the best watched loss, as PyTorch's Linear lays them out.

    Attributes
    ----------
    first, first_bias : ndarray of shape (hidden, d) and (hidden,), float32
    second, second_bias : ndarray of shape (k, hidden) and (k,), float32
    epochs : int
    converged : bool
        Whether it stopped by itself.
    """

    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray
    epochs: int
    converged: bool

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Logits, (n, k) float32, or (n, 1) for two classes: the second's less the first's."""
        units = np.maximum(X @ self.first.T + self.first_bias, 0)
        logits = units @ self.second.T + self.second_bias
        return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def prepare(
    X: np.ndarray,
    y: np.ndarray,
    k: int,
    weight: np.ndarray | None,
    options: dict[str, Any],
) -> Training:
    """Draw what a training needs.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32, C-contiguous
    y : ndarray of shape (n,), int
    k : int
    weight : ndarray of shape (n,), or None
    options : dict
        Parameters of `MLPHead`.
    """
    rng = np.random.default_rng(options["random_state"])
    y = y.astype(np.int64)
    held_out = hold_out(y, options["validation_fraction"], rng)
    rows, size = np.flatnonzero(~held_out), options["batch_size"]
    if not isinstance(size, int | np.integer):
        size = min(_LARGEST_BATCH, max(1, len(rows) // _STEPS))
    first, second = initial_weights(options["init"], X.shape[1], options["hidden"], k, rng)
    return Training(
        X=X,
        y=y,
        k=k,
        weight=np.ones(len(y), np.float32) if weight is None else weight.astype(np.float32),
        rows=rows,
        judged=np.flatnonzero(held_out) if held_out.any() else rows,
        watched="validation" if held_out.any() else "training",
        first=first,
        second=second,
        mask_seed=int(rng.integers(2**32)),
        rng=rng,
        batch_size=min(int(size), len(rows)),
        **{
            name: options[name]
            for name in ("dropout", "learning_rate", "weight_decay", "max_epochs", "patience")
        },
    )


@dataclass
class Course:
    """The rate of a training, and when it stops: by the watched loss after each epoch.

    The rate falls to a fifth after more than 5 epochs in a row without a better loss, down to 1e-5, as
    PyTorch's ``ReduceLROnPlateau(factor=0.2, patience=5)``.

    Attributes
    ----------
    rate : float
    max_epochs, patience : int
    epochs : int
    best : float
        The lowest loss so far.
    waited : int
        Epochs since then.
    """

    rate: float
    max_epochs: int
    patience: int
    epochs: int = 0
    best: float = np.inf
    waited: int = 0
    _plateau: int = 0
    _floor: float = field(init=False)

    def __post_init__(self) -> None:
        self._floor = min(_LOWEST_RATE, self.rate)

    @property
    def over(self) -> bool:
        """Whether no further epoch is due."""
        return self.epochs >= self.max_epochs or self.converged

    @property
    def converged(self) -> bool:
        """Whether the loss has stopped to fall."""
        return self.waited >= self.patience

    def after(self, loss: float) -> bool:
        """Note the loss of an epoch; whether it is the best, so that its weights are kept."""
        self.epochs += 1
        if loss < self.best * (1 - _LEAST_IMPROVEMENT):
            self.best, self.waited, self._plateau = loss, 0, 0
            return True
        self.waited += 1
        self._plateau += 1
        if self._plateau > _FALL_AFTER:
            self.rate, self._plateau = max(self.rate * _FALL, self._floor), 0
        return False


def course(training: Training) -> Course:
    """The course of a training, at its beginning."""
    return Course(training.learning_rate, training.max_epochs, training.patience)


def corrections(step: int) -> tuple[float, float]:
    """Adam's factors of the rate and of the root of the second moment in a step, from 1."""
    return 1 / (1 - BETA_1**step), 1 / float(np.sqrt(1 - BETA_2**step))


def mix(x: int) -> int:
    """A hash of 32 bits.

    References
    ----------
    C. Wellons, "Prospecting for Hash Functions", 2018 (the function lowbias32, in the public domain).
    """
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def mask_base(mask_seed: int, step: int) -> int:
    """What the dropout of a step is counted from."""
    return mix(mask_seed ^ mix(step))


def alive(mask_seed: int, step: int, n: int, hidden: int, dropout: float) -> np.ndarray:
    """Which hidden units take part in a step, (n, hidden) bool.

    Counted, not drawn one after the other: any device finds the same units, in any order. Unit u of
    the i-th row of the batch has the number i * hidden + u; it takes part if the upper 24 bits of
    the hash of its number lie below (1 - dropout) 2^24.

    Parameters
    ----------
    mask_seed : int
    step : int
        Since the training began, from 1.
    n : int
        Rows of the batch.
    hidden : int
    dropout : float
    """
    counter = np.arange(n * hidden, dtype=np.uint64) * GOLDEN + mask_base(mask_seed, step)
    x = counter & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    x ^= x >> 16
    return ((x >> 8) < threshold(dropout)).reshape(n, hidden)


def threshold(dropout: float) -> int:
    """The share that takes part, in 2^-24."""
    return round((1 - dropout) * 2**24)
