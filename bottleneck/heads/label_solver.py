"""L2-penalised logistic regression of many yes-or-no labels on one matrix: features in, weights out.

All labels advance together, so that a step is two matrix products; along C each value starts where the
one before ended. A label that is unknown for a sample has no weight there.

References
----------
J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed., 2006, section 7.1 (inexact Newton with
conjugate gradients and its forcing sequence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import expit

# Largest matrix that is decomposed; the cost grows with its cube (3 s at 3,000).
_LARGEST = 3000
_ARMIJO = 1e-4
_HALVINGS = 30
_PRODUCTS = 200  # of conjugate gradients in one Newton step


@dataclass(frozen=True)
class Rotation:
    """Coordinates of samples in the principal axes of the training samples.

    With nearly orthogonal columns the diagonal of the Hessian is a good preconditioner, and with
    fewer samples than features only so many coordinates are left. Exact for an L2 penalty.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    axes : ndarray of shape (d, r), or None
        None: as they are.
    training : ndarray of shape (n, r)
    """

    mean: np.ndarray
    axes: np.ndarray | None
    training: np.ndarray

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """Samples (m, d) as (m, r)."""
        centred = X - self.mean
        return centred if self.axes is None else centred @ self.axes

    def back(self, weights: np.ndarray) -> np.ndarray:
        """Weights (..., r) as weights of the features, (..., d)."""
        return weights if self.axes is None else weights @ self.axes.T


def rotate(X: np.ndarray, *, whatever_size: bool = False) -> Rotation:
    """The principal axes of training samples.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    whatever_size : bool, default False
        Also where the decomposition takes longer than a search that does without.
    """
    mean = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    centred = X - mean
    n, d = X.shape
    if min(n, d) > _LARGEST and not whatever_size:
        return Rotation(mean, None, centred)
    if d <= n:
        _, axes = eigh(centred.T @ centred, driver="evd", check_finite=False)
        return Rotation(mean, axes, centred @ axes)
    values, left = eigh(centred @ centred.T, driver="evd", check_finite=False)
    # Centring leaves one direction at 0, equal rows more: their axes would be noise.
    seen = values > max(values[-1], 0) * n * np.finfo(X.dtype).eps
    singular = np.sqrt(values[seen])
    axes = centred.T @ (left[:, seen] / singular)
    return Rotation(mean, axes, left[:, seen] * singular)


@dataclass(frozen=True)
class LabelFit:
    """Linear functions of all labels for one C.

    Attributes
    ----------
    weights : ndarray of shape (k, r)
        In the coordinates of the rotation.
    intercept : ndarray of shape (k,)
    objective : ndarray of shape (k,), float64
    converged : ndarray of shape (k,), bool
    steps : int
        Of Newton's method, for the slowest label.
    """

    weights: np.ndarray
    intercept: np.ndarray
    objective: np.ndarray
    converged: np.ndarray
    steps: int


def solve_path(
    Z: np.ndarray,
    Y: np.ndarray,
    C: Sequence[float],
    *,
    tol: float,
    max_iter: int,
    sample_weight: np.ndarray | None = None,
) -> Iterator[LabelFit]:
    """Minimise ``C * sum(log(1 + exp(-t (z w + b)))) + |w|^2 / 2`` for each label and each C.

    Parameters
    ----------
    Z : ndarray of shape (n, r), float32 or float64
        `Rotation.training`; decides the precision.
    Y : ndarray of shape (n, k)
        1 is yes (t = 1), 0 no (t = -1), NaN unknown.
    C : sequence of float
        Fastest in ascending order. The intercept b is not penalised.
    tol : float
        Stop where half the squared Newton decrement, about the distance to the minimum, is at most this
        share of the objective, and of the way from weights of 0 to it: where C is tiny the objective
        hardly moves at all, while the order of the logits does.
    max_iter : int
        Newton steps for each C.
    sample_weight : ndarray of shape (n, k), optional
        How much each known value counts.

    Yields
    ------
    LabelFit
        For each C, in order. A label whose known values are all alike gets the weights 0 and the
        log odds of (yes + 1/2) to (no + 1/2), because its intercept has no finite optimum.
    """
    known = ~np.isnan(Y)
    W = known.astype(Z.dtype) if sample_weight is None else (known * sample_weight).astype(Z.dtype)
    T = np.where(Y == 1, 1, -1).astype(Z.dtype)
    yes, no = (known & (Y == 1)).sum(axis=0), (known & (Y == 0)).sum(axis=0)
    mixed = np.flatnonzero((yes > 0) & (no > 0))
    k, r = Y.shape[1], Z.shape[1]
    A = np.concatenate([Z, np.ones((len(Z), 1), Z.dtype)], axis=1)
    problem = _Problem(A, np.ascontiguousarray(T[:, mixed].T), np.ascontiguousarray(W[:, mixed].T))
    # From the log odds on, which is the solution for C = 0.
    w = np.zeros((len(mixed), r + 1), Z.dtype)
    positive = np.einsum("ln,ln->l", problem.W, problem.T > 0, dtype=np.float64)
    total = problem.W.sum(axis=1, dtype=np.float64)
    w[:, -1] = np.log(positive / (total - positive))
    start = problem.loss(w @ A.T)
    for c in C:
        weights, intercept = np.zeros((k, r), Z.dtype), np.log((yes + 0.5) / (no + 0.5))
        objective, converged = np.zeros(k), np.ones(k, bool)
        w, value, done, steps = _newton(problem, float(c), w, c * start, tol, max_iter)
        weights[mixed], intercept[mixed] = w[:, :-1], w[:, -1]
        objective[mixed], converged[mixed] = value, done
        yield LabelFit(weights, intercept, objective, converged, steps)


@dataclass(frozen=True)
class _Problem:
    """Samples A (n, r + 1), signs T and weights W (k, n)."""

    A: np.ndarray
    T: np.ndarray
    W: np.ndarray

    def loss(self, logits: np.ndarray) -> np.ndarray:
        """Weighted sum of each label, (k,) float64."""
        margin = self.T * logits
        each = np.log1p(np.exp(-np.abs(margin))) - np.minimum(margin, 0)
        return np.einsum("ln,ln->l", self.W, each, dtype=np.float64)


def _newton(
    p: _Problem, C: float, w: np.ndarray, start: np.ndarray, tol: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """From w (k, r + 1) to the minimum: weights, objective (k,), converged (k,), steps."""
    w = w.copy()
    penalty = np.ones(w.shape[1], w.dtype)
    penalty[-1] = 0
    squares = np.square(p.A)
    logits = w @ p.A.T
    value = C * p.loss(logits) + 0.5 * _dot(w * penalty, w)
    floor = np.finfo(w.dtype).eps * 4
    done = np.zeros(len(w), bool)
    stuck = np.zeros(len(w), bool)
    steps = 0
    for steps in range(max_iter + 1):
        live = np.flatnonzero(~(done | stuck))
        if not len(live):
            break
        T, W = p.T[live], p.W[live]
        wrong = expit(-T * logits[live])
        gradient = C * ((-T * wrong * W) @ p.A) + penalty * w[live]
        curve = C * W * wrong * (1 - wrong)
        diagonal = curve @ squares + penalty
        diagonal = np.maximum(diagonal, np.finfo(w.dtype).tiny)
        guess = _dot(gradient, gradient / diagonal)
        share = np.sqrt(guess / np.maximum(np.abs(value[live]), 1e-30))
        step = _conjugate(p.A, curve, penalty, diagonal, gradient, np.minimum(0.1, share))
        along = step @ p.A.T
        descent = _dot(step, gradient)
        way = np.minimum(np.abs(value[live]), start[live] - value[live])
        finished = -descent <= 2 * np.maximum(tol * way, floor * np.abs(value[live]))
        if steps == max_iter:
            break
        # The last step is taken as well: it is paid for, and squares what is left.
        done[live[finished]] = True
        _line_search(p, C, penalty, live, w, logits, value, stuck, step, along, descent)
    # Where rounding alone is left, no step lowers the value: that is the minimum of this precision.
    return w, value, done | stuck, steps


def _line_search(
    p: _Problem,
    C: float,
    penalty: np.ndarray,
    live: np.ndarray,
    w: np.ndarray,
    logits: np.ndarray,
    value: np.ndarray,
    stuck: np.ndarray,
    step: np.ndarray,
    along: np.ndarray,
    descent: np.ndarray,
) -> None:
    """Take the step, or half of it as often as needed, in place; `stuck` where none helps."""
    part = _Problem(p.A, p.T[live], p.W[live])
    size = np.ones(len(live))
    left = np.ones(len(live), bool)
    for _ in range(_HALVINGS):
        t = size[:, None].astype(w.dtype)
        there, moved = logits[live] + t * along, w[live] + t * step
        new = C * part.loss(there) + 0.5 * _dot(moved * penalty, moved)
        good = left & (new <= value[live] + _ARMIJO * size * descent)
        rows = live[good]
        w[rows], logits[rows], value[rows] = moved[good], there[good], new[good]
        left &= ~good
        if not left.any():
            return
        size[left] /= 2
    stuck[live[left]] = True


def _conjugate(
    A: np.ndarray,
    curve: np.ndarray,
    penalty: np.ndarray,
    diagonal: np.ndarray,
    gradient: np.ndarray,
    accuracy: np.ndarray,
) -> np.ndarray:
    """Newton steps of all labels by preconditioned conjugate gradients, (k, r + 1)."""
    step = np.zeros_like(gradient)
    residual = -gradient
    z = residual / diagonal
    direction = z.copy()
    rho = _dot(residual, z)
    goal = rho * np.square(accuracy)
    for _ in range(min(_PRODUCTS, 2 * A.shape[1])):
        product = ((direction @ A.T) * curve) @ A + penalty * direction
        bend = _dot(direction, product)
        go = (rho > goal) & (bend > 0)
        if not go.any():
            break
        alpha = np.where(go, rho / np.where(go, bend, 1), 0)[:, None].astype(A.dtype)
        step += alpha * direction
        residual -= alpha * product
        z = residual / diagonal
        new = _dot(residual, z)
        beta = np.where(go, new / np.where(rho > 0, rho, 1), 0)[:, None].astype(A.dtype)
        direction = z + beta * direction
        rho = np.where(go, new, rho)
    return step


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("lr,lr->l", a, b, dtype=np.float64)
