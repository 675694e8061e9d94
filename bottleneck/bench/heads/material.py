"""What the heads are measured on: features that look like a CNN's, made from a seed, or a file's own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...errors import InputError

_POSITIONS = 4  # that a made feature is the average of; real ones have 49
_LATENT = 60
_LEAST = 20  # labelled rows of a file


@dataclass(frozen=True)
class Material:
    """Rows to fit on, with folds, and new rows to answer.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32
    y : ndarray of shape (n,), intp
    X_new : ndarray of shape (m, d), float32
        Rows that no fit sees.
    folds : list of (train, test)
        Row numbers of five stratified folds.
    n_classes : int
    """

    X: np.ndarray
    y: np.ndarray
    X_new: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    n_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, features, classes."""
        return (*self.X.shape, self.n_classes)

    @cached_property
    def standardised(self) -> tuple[np.ndarray, np.ndarray]:
        """X and X_new by the mean and standard deviation of X, computed once."""
        from ...heads.scaling import fit_scaling

        scaling = fit_scaling("standard", self.X)
        return scaling.transform(self.X), scaling.transform(self.X_new)


def made(n: int, d: int, k: int, *, seed: int = 0, new: int = 500) -> Material:
    """Features that are never negative, correlated, and of a low effective rank, as pooled ones are.

    Parameters
    ----------
    n, d, k : int
        Rows, features, classes.
    seed : int
    new : int
        Rows for `X_new`.
    """
    rng = np.random.default_rng((seed, n, d, k))
    y = np.concatenate([rng.permutation(np.arange(rows) % k) for rows in (n, new)])
    strength = np.linspace(2, 0.2, _LATENT)
    latent = rng.normal(size=(n + new, _LATENT)) * strength
    latent += rng.normal(size=(k, _LATENT))[y] * strength * 0.45
    mixing = rng.normal(size=(_LATENT, d)) / np.sqrt(_LATENT)
    offset = rng.normal(-0.8, 0.4, d)
    X = np.zeros((n + new, d), np.float32)
    for _ in range(_POSITIONS):
        seen = latent @ mixing + offset + rng.normal(size=X.shape) * 0.8
        X += np.maximum(seen, 0).astype(np.float32) / _POSITIONS
    return _split(X, y, n, k)


def of_file(path: Path) -> Material:
    """The labelled rows of a feature file, four fifths to fit on.

    Raises
    ------
    InputError
        If fewer than 20 rows have a label, or a class has fewer than five.
    """
    from ...cache.features import open as open_features

    features = open_features(path)
    labelled = np.flatnonzero(features.y >= 0)
    classes, y = np.unique(features.y[labelled], return_inverse=True)
    if len(labelled) < _LEAST or len(classes) < 2 or np.bincount(y).min() < 5:
        raise InputError(
            f"{path} has {len(labelled)} labelled rows in {len(classes)} classes",
            expected=f"{_LEAST} labelled rows or more, in 2 classes or more of 5 rows or more",
            where=str(path),
            next="bottleneck bench --heads makes features itself where no file is given",
        )
    order = np.random.default_rng(0).permutation(len(labelled))
    X = np.ascontiguousarray(np.asarray(features.features[:], np.float32)[labelled[order]])
    return _split(X, y[order], len(order) - len(order) // 5, len(classes))


def _split(X: np.ndarray, y: np.ndarray, n: int, k: int) -> Material:
    from sklearn.model_selection import StratifiedKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a file's small classes
        dealt = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X[:n], y[:n]))
    return Material(X[:n], y[:n], X[n:], dealt, k)
