"""A linear head for a whole row of C: along coarse values first, the others from between them.

The solution is a smooth function of log C. Coarse values are solved in ascending order, each started on
the secant through the last two; then those half way between, started from a cubic through their solved
neighbours, and so on: most of these need a step or none. For 45 values of C, 10 classes and 960
samples it took 235 steps in all; every value from zero took 2,982.
"""

from __future__ import annotations

import numpy as np

from .backend import Array, alike, index, namespace
from .losses import Loss
from .solver import MEMORY, Minimum, minimise

_BETWEEN = 4  # nodes: a cubic; a quintic did no better
_AHEAD = 2  # a secant; with three nodes it took 275 steps, with one 525
_COARSE = 5  # coarse values, about; with 3 it took 316 steps


def solve_path(
    A: Array,
    y: Array,
    C: np.ndarray,
    loss: Loss,
    n_classes: int,
    *,
    tol: float,
    certified: bool,
    max_iter: int,
    weights: Array | None = None,
    memory: int = MEMORY,
) -> Minimum:
    """Solve for each C in the order given; see `solver.minimise` for all parameters.

    Returns
    -------
    Minimum
        With A of shape (J, n, r), every array has these J along its first axis, before the values.
    """
    xp = namespace(A)
    values, back = np.unique(np.asarray(C, np.float64), return_inverse=True)
    p, q = len(values), loss.outputs(n_classes)
    stack = A.shape[:-2]
    J = stack[0] if stack else 1
    found = Minimum(
        xp.zeros((J, p, q, A.shape[-1]), dtype=A.dtype, device=A.device),
        np.empty((J, p)),
        np.zeros((J, p), bool),
        np.zeros((J, p), int),
    )
    solved = np.empty(0, np.intp)
    for level in levels(p):
        start = _guess(found.weights, np.log(values), solved, level) if len(solved) else None
        part = minimise(
            A,
            y,
            np.tile(values[level], J),
            loss,
            n_classes,
            tol=tol,
            certified=certified,
            max_iter=max_iter,
            weights=weights,
            start=start,
            memory=memory,
            owner=np.repeat(np.arange(J), len(level)) if stack else None,
        )
        w = len(level)
        found.weights[:, index(level, A)] = part.weights.reshape(J, w, q, -1)
        found.objective[:, level] = part.objective.reshape(J, w)
        found.converged[:, level] = part.converged.reshape(J, w)
        found.iterations[:, level] = part.iterations.reshape(J, w)
        solved = np.sort(np.append(solved, level))
    order = slice(None) if np.array_equal(back, np.arange(p)) else back
    at = order if isinstance(order, slice) else index(order, A)
    return Minimum(
        found.weights[:, at].reshape(*stack, len(back), q, -1),
        found.objective[:, order].reshape(*stack, -1),
        found.converged[:, order].reshape(*stack, -1),
        found.iterations[:, order].reshape(*stack, -1),
    )


def levels(p: int) -> list[np.ndarray]:
    """Positions 0 to p - 1 in the order of solving: two, upwards to the end, then halves.

    Examples
    --------
    >>> [level.tolist() for level in levels(12)]
    [[0, 2], [4], [6], [8], [10], [11], [1, 3, 5, 7, 9]]
    """
    step = 2 ** max(0, int(np.log2(max(p / _COARSE, 1))))
    seen = np.unique(np.append(np.arange(0, p, step), p - 1))
    found = [seen[:2], *seen[2:, None]]
    while step > 1:
        step //= 2
        new = np.setdiff1d(np.arange(0, p, step), seen)
        seen = np.union1d(seen, new)
        found.append(new)
    return [level for level in found if len(level)]


def _guess(weights: Array, x: np.ndarray, solved: np.ndarray, wanted: np.ndarray) -> Array:
    """Weights (J * w, q, r) at the positions `wanted`, by Lagrange's polynomial through near ones."""
    mixing = np.zeros((len(wanted), len(solved)))
    for row, position in zip(mixing, wanted, strict=True):
        nodes = _AHEAD if position > solved[-1] else _BETWEEN
        near = np.sort(np.argsort(np.abs(x[solved] - x[position]), kind="stable")[:nodes])
        places = x[solved[near]]
        for i, at in zip(near, places, strict=True):
            others = places[places != at]
            row[i] = np.prod((x[position] - others) / (at - others))
    J, _, q, r = weights.shape
    flat = weights[:, index(solved, weights)].reshape(J, len(solved), q * r)
    return (alike(mixing, weights) @ flat).reshape(J * len(wanted), q, r)
