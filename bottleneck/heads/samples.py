"""What the solver fits on: one matrix for all problems, or a stack of them, each for its own problems.

A stack makes one batch of many small fits (a grid in all folds): the arithmetic of a fold of thirty
images takes a microsecond, a call of NumPy as long.
"""

from __future__ import annotations

import numpy as np

from .backend import Array, alike, index, namespace
from .losses import Evaluated, Loss

_PADDED = 64  # rows of a product below which it pays to fill them up to a multiple of 4
_LARGE = 2**16  # numbers in a matrix below which that costs more than it saves


class Shared:
    """Samples of all problems: (n, r), (n,) and perhaps (n,)."""

    def __init__(self, A: Array, y: Array, weights: Array | None, n_problems: int) -> None:
        xp = namespace(A)
        self.A, self.y, self.weights = A, y, weights
        self.owner = np.zeros(n_problems, np.intp)
        self._gram = xp.einsum("nr,nr->r", A if weights is None else A * weights[:, None], A)

    def gram(self, problems: np.ndarray) -> Array:
        """Diagonal of A' W A of each problem, (p or 1, r)."""
        return self._gram[None]

    def loss(self, loss: Loss, logits: Array, problems: np.ndarray) -> Evaluated:
        """Of logits (p, q, n)."""
        return loss(logits, self.y, self.weights)

    def loss_at_zero(self, loss: Loss, q: int) -> Evaluated:
        """Where all weights are zero, for each matrix."""
        zeros = namespace(self.A).zeros(
            (1, q, len(self.A)), dtype=self.A.dtype, device=self.A.device
        )
        return loss(zeros, self.y, self.weights)

    def logits(self, weights: Array, problems: np.ndarray) -> Array:
        """(p, q, r) to (p, q, n)."""
        return product(weights, self.A.T)

    def gradient(self, slope: Array, problems: np.ndarray) -> Array:
        """(p, q, n) to (p, q, r)."""
        return product(slope, self.A)

    def gradient_at_zero(self, slope: Array) -> Array:
        """The same of `loss_at_zero`."""
        return product(slope, self.A)


class Stack:
    """Samples of J fits, each with problems of its own.

    Parameters
    ----------
    A : array of shape (J, n, r)
        Fits with fewer samples have rows of zeros, in the last column too.
    y : array of shape (J, n), intp
    weights : array of shape (J, n), or None
        0 for rows that fill up.
    owner : ndarray of shape (p,), intp, ascending
        Which of the J each problem belongs to.
    """

    def __init__(self, A: Array, y: Array, weights: Array | None, owner: np.ndarray) -> None:
        xp = namespace(A)
        self.A, self.y, self.weights, self.owner = A, y, weights, owner
        self._gram = xp.einsum("jnr,jnr->jr", A if weights is None else A * weights[..., None], A)
        # Losses give the mean curvature over n rows; of those that fill up there is none.
        rows = xp.sum(A[..., -1] != 0, axis=1)
        self._gram *= alike(A.shape[1] / np.maximum(np.asarray(rows.tolist()), 1), A)[:, None]
        self._problems: np.ndarray | None = None

    def _of(self, problems: np.ndarray) -> None:
        """Look up what these problems need; the same array again costs nothing."""
        if self._problems is problems:
            return
        owner = self.owner[problems]
        at = index(owner, self.A)
        self._y = self.y[at]
        self._weights = None if self.weights is None else self.weights[at]
        self._gram_of = self._gram[at]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        ends = np.append(starts[1:], len(owner))
        self._runs = list(zip(owner[starts].tolist(), starts.tolist(), ends.tolist(), strict=True))
        self._problems = problems

    def gram(self, problems: np.ndarray) -> Array:
        """See `Shared`."""
        self._of(problems)
        return self._gram_of

    def loss(self, loss: Loss, logits: Array, problems: np.ndarray) -> Evaluated:
        """See `Shared`."""
        if problems is self._problems:
            return loss(logits, self._y, self._weights)
        at = index(self.owner[problems], self.A)
        return loss(logits, self.y[at], None if self.weights is None else self.weights[at])

    def loss_at_zero(self, loss: Loss, q: int) -> Evaluated:
        """See `Shared`."""
        J, n, _ = self.A.shape
        zeros = namespace(self.A).zeros((J, q, n), dtype=self.A.dtype, device=self.A.device)
        return loss(zeros, self.y, self.weights)

    def logits(self, weights: Array, problems: np.ndarray) -> Array:
        """See `Shared`."""
        return self._each(weights, problems, self.A.swapaxes(1, 2))

    def gradient(self, slope: Array, problems: np.ndarray) -> Array:
        """See `Shared`."""
        return self._each(slope, problems, self.A)

    def gradient_at_zero(self, slope: Array) -> Array:
        """See `Shared`."""
        return slope @ self.A

    def _each(self, stack: Array, problems: np.ndarray, matrices: Array) -> Array:
        """(p, q, i) times the (i, j) of each problem: one product for each matrix."""
        self._of(problems)
        p, q, i = stack.shape
        j = matrices.shape[2]
        if not isinstance(stack, np.ndarray):
            parts = [product(stack[a:b], matrices[job]) for job, a, b in self._runs]
            return namespace(stack).concatenate(parts)
        found = np.empty((p, q, j), stack.dtype)
        if i * j >= _LARGE:
            for job, a, b in self._runs:
                found[a:b] = product(stack[a:b], matrices[job])
            return found
        rows, out = stack.reshape(p * q, i), found.reshape(p * q, j)
        for job, a, b in self._runs:
            np.dot(rows[a * q : b * q], matrices[job], out=out[a * q : b * q])
        return found


def product(stack: Array, matrix: Array) -> Array:
    """(p, q, i) times (i, j) as one matrix product."""
    p, q, i = stack.shape
    rows = p * q
    flat = stack.reshape(rows, i)
    if isinstance(flat, np.ndarray):
        # OpenBLAS, 1,600 x 918 float32: 3 rows take 0.49 ms at once and 0.18 ms one by one, because a
        # vector needs no repacked matrix; 10 rows take 0.52 ms, 12 rows 0.46 ms.
        if rows <= 3:
            return np.stack([row @ matrix for row in flat]).reshape(p, q, -1)
        if rows % 4 and rows < _PADDED:
            padded = np.zeros((rows + 4 - rows % 4, i), flat.dtype)
            padded[:rows] = flat
            return (padded @ matrix)[:rows].reshape(p, q, -1)
    return (flat @ matrix).reshape(p, q, matrix.shape[1])
