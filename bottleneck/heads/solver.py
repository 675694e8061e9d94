"""Many L2-penalised linear problems on one matrix: preconditioned L-BFGS over a batch.

All problems (the values of C) share the samples, so that a step of the whole batch is two matrix
products; the rest is element-wise. Or there is a stack of samples, each with problems of its own: two
products for each, and the rest at once. The logits are linear in the step length, so the line search
needs no product at all. Problems that have converged leave the batch. The same code runs on NumPy
arrays and on PyTorch tensors (see `backend`).

References
----------
D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization",
Mathematical Programming 45, 1989. W. W. Hager, H. Zhang, "A new conjugate gradient method with
guaranteed descent and an efficient line search", SIAM J. Optim. 16, 2005 (the test near rounding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backend import Array, alike, epsilon, index, namespace, to_host
from .losses import Loss
from .samples import Shared, Stack

MEMORY = 10  # pairs of the L-BFGS history
_SUFFICIENT = 1e-4  # Armijo's constant
_CURVATURE = 0.9  # Wolfe's constant, used where the values differ by rounding alone
_TRIALS = 25  # halvings of a step before a problem counts as stuck


@dataclass(frozen=True)
class Minimum:
    """Where the solver stopped, for each of p problems.

    Attributes
    ----------
    weights : array of shape (p, q, r)
        In the columns of the matrix; the last column is the intercept's.
    objective : ndarray of shape (p,), float64
        ``C * sum(loss) + |w|^2 / 2``.
    converged : ndarray of shape (p,), bool
    iterations : ndarray of shape (p,), int
    """

    weights: Array
    objective: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


@dataclass
class _State:
    """The problems still in work; every array has them along its first axis."""

    problem: np.ndarray
    C: np.ndarray
    weights: Array  # (p, q, r)
    logits: Array  # (p, q, n)
    objective: np.ndarray
    slope: Array  # (p, q, n) of the loss, by the logits
    curvature: np.ndarray
    gradient: Array  # (p, q, r)

    def keep(self, rows: np.ndarray) -> None:
        for name, array in vars(self).items():
            setattr(self, name, array[index(rows, array)])


class _History:
    """The last pairs (step, change of gradient) of each problem; a pair of weight 0 has no effect."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.steps: list[Array] = []
        self.changes: list[Array] = []
        self.weights: list[np.ndarray] = []

    def add(self, step: Array, change: Array) -> None:
        product = _dot(step, change)
        # A pair without positive curvature comes from rounding and would break the descent.
        floor = epsilon(step) * np.sqrt(_dot(step, step) * _dot(change, change))
        usable = product > floor
        self.weights.append(np.where(usable, 1 / np.where(usable, product, 1), 0))
        self.steps.append(step)
        self.changes.append(change)
        if len(self.steps) > self.memory:
            del self.steps[0], self.changes[0], self.weights[0]

    def keep(self, rows: np.ndarray) -> None:
        self.steps = [a[index(rows, a)] for a in self.steps]
        self.changes = [a[index(rows, a)] for a in self.changes]
        self.weights = [a[rows] for a in self.weights]

    def direction(self, gradient: Array, inverse: Array) -> Array:
        """The two-loop recursion; `inverse` is the diagonal first guess of the inverse Hessian."""
        q = -gradient
        alphas = []
        for s, y, w in zip(
            reversed(self.steps), reversed(self.changes), reversed(self.weights), strict=True
        ):
            alpha = w * _dot(s, q)
            q -= _times(alpha, y)
            alphas.append(alpha)
        q *= inverse
        if self.steps:
            y, w = self.changes[-1], self.weights[-1]
            size = w * _dot(y, y * inverse)
            q = _times(np.where(size > 0, 1 / np.where(size > 0, size, 1), 1), q)
        for s, y, w, alpha in zip(
            self.steps, self.changes, self.weights, reversed(alphas), strict=True
        ):
            beta = w * _dot(y, q)
            q += _times(alpha - beta, s)
        return q


def minimise(
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
    start: Array | None = None,
    memory: int = MEMORY,
    owner: np.ndarray | None = None,
) -> Minimum:
    """Minimise ``C * sum(weights * loss(A w, y)) + |w|^2 / 2`` for each C.

    Parameters
    ----------
    A : array of shape (n, r) or (J, n, r), float32 or float64
        Samples, or J times samples (`owner`); decides the precision. The last column is all ones, its
        weights (the intercept) are not penalised. It goes fastest where the columns are nearly
        orthogonal (see `rotation`).
    y : array of shape (n,) or (J, n), intp
        Class indices.
    C : ndarray of shape (p,), float64
        Inverse strength of the penalty.
    loss : Loss
    n_classes : int
    tol : float
        Stop within this share of the minimum, and of the way from all zeros to it.
    certified : bool
        True: by a bound that holds for sure (the penalty makes the objective strongly convex).
        False: by an estimate from the preconditioner, enough to compare settings.
    max_iter : int
    weights : array of shape (n,) or (J, n), optional
        Of the samples, in the dtype of A.
    start : array of shape (p, q, r), optional
        Weights to start from; zeros, and zeros wherever those are better.
    memory : int, default 10
        Pairs of the history; fewer cost less per step where a start is good.
    owner : ndarray of shape (p,), intp, optional
        With J times samples, which of them each problem belongs to, ascending. Rows that fill up short
        ones are zeros, in the last column too, and have the weight 0.

    Returns
    -------
    Minimum
    """
    xp = namespace(A)
    C = np.asarray(C, np.float64)
    q = loss.outputs(n_classes)
    penalty = xp.ones(A.shape[-1], dtype=A.dtype, device=A.device)
    penalty[-1] = 0
    samples: Shared | Stack
    if owner is None:
        samples = Shared(A, y, weights, len(C))
    else:
        samples = Stack(A, y, weights, owner)
    state, highest = _start(samples, C, loss, q, penalty, start)
    best = Minimum(
        xp.zeros_like(state.weights),
        np.full(len(C), np.inf),
        np.zeros(len(C), bool),
        np.full(len(C), max_iter),
    )
    rounding = 10 * epsilon(A)
    history = _History(memory)

    def leave(rows: np.ndarray, iteration: int) -> None:
        out = state.problem[rows]
        best.weights[index(out, A)] = state.weights[index(np.flatnonzero(rows), A)]
        best.objective[out] = state.objective[rows]
        best.iterations[out] = iteration
        state.keep(np.flatnonzero(~rows))
        history.keep(np.flatnonzero(~rows))

    for iteration in range(max_iter + 1):
        inverse = _preconditioner(state, samples, penalty)
        scale = xp.where(penalty == 1, penalty, inverse) if certified else inverse
        gap = 0.5 * _dot(state.gradient, state.gradient * scale)
        # Of the way gone, too: where C is tiny the objective hardly moves at all, while its argmax does.
        zero = highest[state.problem]
        gained = np.minimum(np.maximum(zero - state.objective, 0), state.objective)
        done = gap <= np.maximum(max(tol, rounding) * gained, rounding**2 * zero)
        best.converged[state.problem[done]] = True
        if iteration == max_iter:
            done[:] = True
        if done.any():
            inverse = inverse[index(np.flatnonzero(~done), A)]
            leave(done, iteration)
        if not len(state.problem):
            break
        moved = _advance(samples, loss, state, history, inverse, penalty)
        if not moved.all():
            leave(~moved, iteration + 1)
            if not len(state.problem):
                break
    return best


def _start(
    samples: Shared | Stack,
    C: np.ndarray,
    loss: Loss,
    q: int,
    penalty: Array,
    start: Array | None,
) -> tuple[_State, np.ndarray]:
    """The state at `start`, and the objective of each problem where all weights are zero."""
    A, owner = samples.A, samples.owner
    xp = namespace(A)
    n, r = A.shape[-2:]
    problem = np.arange(len(C))
    at_zero, slope, curvature = samples.loss_at_zero(loss, q)
    highest = C * at_zero[owner]
    if start is None:
        own = index(owner, A)
        state = _State(
            problem=problem,
            C=C,
            weights=xp.zeros((len(C), q, r), dtype=A.dtype, device=A.device),
            logits=xp.zeros((len(C), q, n), dtype=A.dtype, device=A.device),
            objective=highest.copy(),
            slope=slope[own],
            curvature=curvature[owner],
            gradient=_times(C, samples.gradient_at_zero(slope)[own]),
        )
        return state, highest
    state = _State(
        problem=problem,
        C=C,
        weights=start,
        logits=samples.logits(start, problem),
        objective=highest.copy(),
        slope=slope,
        curvature=curvature,
        gradient=start,
    )
    value, state.slope, state.curvature = samples.loss(loss, state.logits, problem)
    objective = C * value + 0.5 * _dot(start * penalty, start)
    better = objective < highest
    state.objective[better] = objective[better]
    worse = np.flatnonzero(~better)
    if len(worse):
        at, own = index(worse, A), index(owner[worse], A)
        state.weights[at] = 0
        state.logits[at] = 0
        state.slope[at] = slope[own]
        state.curvature[worse] = curvature[owner[worse]]
    state.gradient = _times(C, samples.gradient(state.slope, problem)) + penalty * state.weights
    return state, highest


def _preconditioner(state: _State, samples: Shared | Stack, penalty: Array) -> Array:
    """Diagonal guess of the inverse Hessian, (p, 1, r): exact where all samples curve alike."""
    gram = samples.gram(state.problem)
    curvature = alike((state.C * np.maximum(state.curvature, 1e-8)).reshape(-1, 1), gram)
    return (1 / (curvature * gram + penalty))[:, None]


def _advance(
    samples: Shared | Stack,
    loss: Loss,
    state: _State,
    history: _History,
    inverse: Array,
    penalty: Array,
) -> np.ndarray:
    """One step of every problem, in place; False where no step lowers the objective any more."""
    A = samples.A
    direction = history.direction(state.gradient, inverse)
    descent = _dot(direction, state.gradient)
    moved = np.zeros(len(descent), bool)
    along = samples.logits(direction, state.problem)
    # |w + t d|^2 = a + 2 t b + t^2 c, so that a trial costs no pass over the weights.
    penalised = direction * penalty
    b, c = _dot(penalised, state.weights), _dot(penalised, direction)
    a = _dot(state.weights * penalty, state.weights)
    rounding = 10 * epsilon(A) * np.abs(state.objective)
    step = np.ones(len(moved))
    final = np.zeros(len(moved))
    for _ in range(_TRIALS):
        rows = np.flatnonzero(~moved)
        if not len(rows):
            break
        t = step[rows]
        all_of_them = len(rows) == len(moved)
        at = index(rows, A)
        logits = _times(t, along if all_of_them else along[at])
        logits += state.logits if all_of_them else state.logits[at]
        problems = state.problem if all_of_them else state.problem[rows]
        value, slope, curvature = samples.loss(loss, logits, problems)
        objective = state.C[rows] * value + 0.5 * (a + 2 * step * b + step**2 * c)[rows]
        rise = objective - state.objective[rows]
        good = rise <= _SUFFICIENT * t * descent[rows]
        if not good.all():
            near = np.abs(rise) <= rounding[rows]
            slope_there = state.C[rows] * _dot(slope, along[at]) + b[rows] + t * c[rows]
            good |= near & (np.abs(slope_there) <= -_CURVATURE * descent[rows])
        taken = rows[good]
        if all_of_them and good.all():
            state.logits, state.slope = logits, slope
        else:
            here = index(np.flatnonzero(good), A)
            state.logits[index(taken, A)] = logits[here]
            state.slope[index(taken, A)] = slope[here]
        state.curvature[taken] = curvature[good]
        state.objective[taken] = objective[good]
        final[taken] = t[good]
        moved[taken] = True
        # The minimum of the parabola through both values and the slope at 0.
        with np.errstate(all="ignore"):
            parabola = -descent[rows] * t**2 / (2 * (rise - descent[rows] * t))
        step[rows] = np.clip(np.nan_to_num(parabola, nan=0.0), 0.1 * t, 0.5 * t)
    difference = _times(final, direction)
    state.weights = state.weights + difference
    gradient = (
        _times(state.C, samples.gradient(state.slope, state.problem)) + penalty * state.weights
    )
    history.add(difference, gradient - state.gradient)
    state.gradient = gradient
    return moved


def _dot(a: Array, b: Array) -> np.ndarray:
    """Inner product of each problem, (p,) float64."""
    return np.asarray(to_host(namespace(a).einsum("pqr,pqr->p", a, b)), np.float64)


def _times(values: np.ndarray, stack: Array) -> Array:
    """Each problem's array times its number, as a new array."""
    return alike(values.reshape(-1, 1, 1), stack) * stack
