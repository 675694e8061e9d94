"""Random draws as the protocols' own libraries make them, without loading those libraries."""

from __future__ import annotations

import numpy as np


def torch_randperm(n: int, seed: int) -> np.ndarray:
    """What ``torch.manual_seed(seed); torch.randperm(n)`` gives on a CPU.

    Parameters
    ----------
    n : int
        Below 2**32 / 20, from where on PyTorch draws in another way.
    seed : int

    Returns
    -------
    ndarray of shape (n,), intp

    Notes
    -----
    Both seed the same Mersenne Twister in the same way; PyTorch swaps each place with one at or after
    it, chosen by a draw of 32 bits modulo the number of places left.

    Examples
    --------
    >>> torch_randperm(5, seed=0)
    array([4, 0, 1, 3, 2])
    """
    draws = np.random.RandomState(seed).randint(0, 2**32, size=n, dtype=np.uint32).tolist()
    order = list(range(n))
    for place in range(n - 1):
        other = place + draws[place] % (n - place)
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.intp)


def carve(y: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Take a share of every class, at least one row where it has two: True for what is taken.

    Parameters
    ----------
    y : ndarray of shape (n,), int
    share : float
        Above 0 and below 1.
    rng : numpy Generator

    Returns
    -------
    ndarray of shape (n,), bool

    Examples
    --------
    >>> carve(np.array([0] * 10 + [1] * 3 + [2]), 0.2, np.random.default_rng(0)).sum().item()
    3
    """
    taken = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        taken[rng.permutation(rows)[:count]] = True
    return taken
