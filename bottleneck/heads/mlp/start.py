"""Where the training of an MLP begins: the rows that are held out, and the first weights."""

from __future__ import annotations

import numpy as np

INITS = ("he", "xavier", "lecun", "zeros")


def hold_out(y: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Rows that do not train, a share of each class.

    Parameters
    ----------
    y : ndarray of shape (n,), int
        Class indices.
    fraction : float, 0 to below 1
        Of each class at least one row is taken, and at least one is left.
    rng : Generator

    Returns
    -------
    ndarray of shape (n,), bool
        All false where a class has a single row, or `fraction` is 0.
    """
    watched = np.zeros(len(y), bool)
    counts = np.bincount(y)
    if counts.min() < 2 or fraction <= 0:
        return watched
    for label, count in enumerate(counts):
        members = rng.permutation(np.flatnonzero(y == label))
        watched[members[: min(max(1, round(fraction * count)), count - 1)]] = True
    return watched


def bounds(init: str, d: int, hidden: int, k: int) -> tuple[float, float]:
    """Half widths of the uniform distributions that the weights are drawn from.

    Parameters
    ----------
    init : {"he", "xavier", "lecun", "zeros"}
        The hidden layer: ``he`` has the variance 2 / d, which keeps that of the activations through a
        relu; ``xavier`` 2 / (d + hidden); ``lecun`` 1 / d. The output layer, which no relu follows:
        ``lecun`` 1 / hidden, the others 2 / (hidden + k).
    d, hidden, k : int
        Features, hidden units, classes.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", 1998. X. Glorot, Y. Bengio, "Understanding the difficulty of
    training deep feedforward neural networks", AISTATS 2010. K. He et al., "Delving Deep into
    Rectifiers", ICCV 2015, arXiv:1502.01852.
    """
    glorot = float(np.sqrt(6 / (hidden + k)))
    if init == "he":
        return float(np.sqrt(6 / d)), glorot
    if init == "xavier":
        return float(np.sqrt(6 / (d + hidden))), glorot
    if init == "lecun":
        return float(np.sqrt(3 / d)), float(np.sqrt(3 / hidden))
    if init == "zeros":
        return 0.0, 0.0
    raise ValueError(f"init is {init!r}; expected one of {', '.join(INITS)}")


def initial_weights(
    init: str, d: int, hidden: int, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of both layers, (hidden, d) and (k, hidden), float32; biases begin at 0.

    Examples
    --------
    >>> first, second = initial_weights("he", 1280, 128, 3, np.random.default_rng(0))
    >>> first.shape, second.shape
    ((128, 1280), (3, 128))
    """
    first, second = bounds(init, d, hidden, k)
    return (
        rng.uniform(-first, first, (hidden, d)).astype(np.float32),
        rng.uniform(-second, second, (k, hidden)).astype(np.float32),
    )
