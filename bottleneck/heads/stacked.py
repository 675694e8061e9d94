"""Folds of small data as one batch: which are solved together, and their solutions.

With thirty images the arithmetic of a fold takes microseconds, so that 250 folds one after the other are
calls of NumPy and nothing else. Folds are stacked, as many as a cache holds; large ones stay alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Array, alike, index
from .losses import Loss
from .path import solve_path
from .solver import Minimum

# Numbers in one array of the solver, which holds about 25. Of 55 folds of 256 x 1,280, three classes, a
# grid takes 4.2 s one by one, 2.4 s with 2**17, 1.7 s with 2**18, 1.5 s with 2**19 and with 2**20; folds
# of 1,150 stay alone.
_NUMBERS = 2**19
_MATRICES = 2**22  # numbers in the stacked rows
_SCORES = 2**24  # numbers in the scores of a stack


@dataclass(frozen=True)
class Fold:
    """One fold: rows to fit on and rows to score.

    Attributes
    ----------
    train, test : ndarray of intp
    present : ndarray of shape (k,), intp
        Classes of the training rows.
    indices : ndarray of shape (n,), intp
        Of each training row, into `present`.
    """

    train: np.ndarray
    test: np.ndarray
    present: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Stack:
    """Rows of some folds in the coordinates of the solver; see `rotation.Coordinates`.

    Attributes
    ----------
    training : array of shape (J, n, r)
        Of shorter folds filled up by rows of zeros; the last column is 1 in the others.
    test : list of array of shape (m, r)
    """

    training: Array
    test: list[Array]


def fold_of(train: np.ndarray, test: np.ndarray, y: np.ndarray) -> Fold:
    """With the classes among the training rows' y."""
    present, indices = np.unique(y[train], return_inverse=True)
    return Fold(train, test, present, indices)


def stacks(
    folds: Sequence[Fold], loss: Loss, n_settings: int, n_features: int, n_classes: int
) -> list[list[int]]:
    """Which folds are solved together, as positions; in the order of the first of each stack.

    Parameters
    ----------
    folds : sequence of Fold
    loss : Loss
    n_settings : int
        Problems of a fold.
    n_features, n_classes : int
        Of the rows, and of the scores that are asked for.

    Returns
    -------
    list of list of int
        Of one number of classes and about one number of rows, as many as there is room for.
    """
    found: list[list[int]] = []
    current: dict[
        int, tuple[list[int], int, np.ndarray]
    ] = {}  # by k: a stack, n of its first, room
    for number, fold in enumerate(folds):
        k, n = len(fold.present), len(fold.train)
        stack, first, room = current.get(k, ([], 0, np.zeros(3)))
        longest = max(n, first)
        load = np.array(
            [
                n_settings * loss.outputs(k) * longest,
                longest * (1 + min(longest, n_features)),
                n_settings * n_classes * len(fold.test),
            ]
        )
        if (load > room).any() or not 2 * first <= 3 * n <= 4.5 * first:
            stack, first, room = [], n, np.array([_NUMBERS, _MATRICES, _SCORES], float)
            found.append(stack)
        stack.append(number)
        current[k] = stack, first, room - load
    return found


def stacked(parts: Sequence[tuple[Array, Array]]) -> Stack:
    """Folds with training rows (n, r) and test rows (m, r) each as a stack; tensors one fold alone."""
    if len(parts) == 1:
        ((train, test),) = parts
        return Stack(train[None], [test])
    n, r = (max(train.shape[axis] for train, _ in parts) for axis in (0, 1))
    training = np.zeros((len(parts), n, r), parts[0][0].dtype)
    tests = []
    for own, (train, test) in zip(training, parts, strict=True):
        inner = train.shape[1] - 1
        own[: len(train), :inner] = train[:, :-1]
        own[: len(train), -1] = 1
        wide = np.zeros((len(test), r), test.dtype)
        wide[:, :inner] = test[:, :-1]
        wide[:, -1] = 1
        tests.append(wide)
    return Stack(training, tests)


def solve_stack(
    stack: Stack,
    folds: Sequence[Fold],
    C: np.ndarray,
    loss: Loss,
    weights: Sequence[np.ndarray | None],
    *,
    tol: float,
    certified: bool,
    max_iter: int,
    memory: int,
) -> Minimum:
    """Solve all folds of a stack for each C; all have the same number of classes.

    Parameters
    ----------
    stack : Stack
    folds : sequence of Fold
    C : ndarray of shape (p,)
    loss : Loss
    weights : sequence of ndarray of shape (n,), or None
        Of the training rows of each fold.
    tol, certified, max_iter, memory
        See `solver.minimise`.

    Returns
    -------
    Minimum
        Arrays have the folds along their first axis, then C.
    """
    J, n, _ = stack.training.shape
    k = len(folds[0].present)
    rest: dict[str, Any] = {
        "tol": tol,
        "certified": certified,
        "max_iter": max_iter,
        "memory": memory,
    }
    if J == 1:  # the solver is quicker where all problems have the same samples
        A = stack.training[0]
        given = None if weights[0] is None else alike(weights[0], A)
        one = solve_path(A, index(folds[0].indices, A), C, loss, k, weights=given, **rest)
        return Minimum(
            one.weights[None], one.objective[None], one.converged[None], one.iterations[None]
        )
    y = np.zeros((J, n), np.intp)
    each = np.zeros((J, n), stack.training.dtype)
    for own, row, fold, of_fold in zip(y, each, folds, weights, strict=True):
        own[: len(fold.train)] = fold.indices
        row[: len(fold.train)] = 1 if of_fold is None else of_fold
    counted = None if (each == 1).all() else each
    return solve_path(stack.training, y, C, loss, k, weights=counted, **rest)
