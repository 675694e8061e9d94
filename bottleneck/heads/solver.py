"""Many L2-penalised linear problems on one matrix: preconditioned L-BFGS over a batch.

All problems (the values of C) share the samples, so that a step of the whole batch is two matrix
products; the rest is element-wise. The logits are linear in the step length, so the line search
needs no product at all. Problems that have converged leave the batch.

References
----------
D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale optimization",
Mathematical Programming 45, 1989. W. W. Hager, H. Zhang, "A new conjugate gradient method with
guaranteed descent and an efficient line search", SIAM J. Optim. 16, 2005 (the test near rounding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .losses import Loss

_MEMORY = 10  # pairs of the L-BFGS history
_SUFFICIENT = 1e-4  # Armijo's constant
_CURVATURE = 0.9  # Wolfe's constant, used where the values differ by rounding alone
_TRIALS = 25  # halvings of a step before a problem counts as stuck


@dataclass(frozen=True)
class Minimum:
    """Where the solver stopped, for each of p problems.

    Attributes
    ----------
    weights : ndarray of shape (p, q, r)
        In the columns of the matrix; the last column is the intercept's.
    objective : ndarray of shape (p,), float64
        ``C * sum(loss) + |w|^2 / 2``.
    converged : ndarray of shape (p,), bool
    iterations : ndarray of shape (p,), int
    """

    weights: np.ndarray
    objective: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


@dataclass
class _State:
    """The problems still in work; every array has them along its first axis."""

    problem: np.ndarray
    C: np.ndarray
    weights: np.ndarray  # (p, q, r)
    logits: np.ndarray  # (p, q, n)
    objective: np.ndarray
    slope: np.ndarray  # (p, q, n) of the loss, by the logits
    curvature: np.ndarray
    gradient: np.ndarray  # (p, q, r)

    def keep(self, rows: np.ndarray) -> None:
        for name, array in vars(self).items():
            setattr(self, name, array[rows])


class _History:
    """The last pairs (step, change of gradient) of each problem; a pair of weight 0 has no effect."""

    def __init__(self) -> None:
        self.steps: list[np.ndarray] = []
        self.changes: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []

    def add(self, step: np.ndarray, change: np.ndarray) -> None:
        product = _dot(step, change)
        # A pair without positive curvature comes from rounding and would break the descent.
        floor = np.finfo(step.dtype).eps * np.sqrt(_dot(step, step) * _dot(change, change))
        usable = product > floor
        self.weights.append(np.where(usable, 1 / np.where(usable, product, 1), 0))
        self.steps.append(step)
        self.changes.append(change)
        if len(self.steps) > _MEMORY:
            del self.steps[0], self.changes[0], self.weights[0]

    def keep(self, rows: np.ndarray) -> None:
        self.steps = [a[rows] for a in self.steps]
        self.changes = [a[rows] for a in self.changes]
        self.weights = [a[rows] for a in self.weights]

    def direction(self, gradient: np.ndarray, inverse: np.ndarray) -> np.ndarray:
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
    A: np.ndarray,
    y: np.ndarray,
    C: np.ndarray,
    loss: Loss,
    n_classes: int,
    *,
    tol: float,
    certified: bool,
    max_iter: int,
) -> Minimum:
    """Minimise ``C * sum(loss(A w, y)) + |w|^2 / 2`` for each C.

    Parameters
    ----------
    A : ndarray of shape (n, r), float32 or float64
        Samples; decides the precision. The last column is all ones, its weights (the intercept) are not
        penalised. It goes fastest where the columns are nearly orthogonal (see `rotation`).
    y : ndarray of shape (n,), intp
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

    Returns
    -------
    Minimum
    """
    shape = (len(C), loss.outputs(n_classes), A.shape[1])
    best = Minimum(
        np.zeros(shape, A.dtype),
        np.full(len(C), np.inf),
        np.zeros(len(C), bool),
        np.full(len(C), max_iter),
    )
    penalty = np.ones(A.shape[1], A.dtype)
    penalty[-1] = 0
    gram = np.einsum("nr,nr->r", A, A)
    state = _start(A, y, np.asarray(C, np.float64), loss, shape)
    start = state.objective.copy()
    rounding = np.finfo(A.dtype).eps * 10
    history = _History()
    for iteration in range(max_iter + 1):
        inverse = _preconditioner(state, gram, penalty, len(A))
        scale = np.where(penalty == 1, 1, inverse) if certified else inverse
        gap = 0.5 * _dot(state.gradient, state.gradient * scale)
        # Of the way gone, too: where C is tiny the objective hardly moves at all, while its argmax does.
        gained = np.minimum(start[state.problem] - state.objective, state.objective)
        done = gap <= np.maximum(tol * gained, rounding * state.objective)
        best.converged[state.problem[done]] = True
        stuck = np.zeros_like(done)
        if iteration < max_iter and not done.all():
            stuck = ~_advance(A, y, loss, state, history, inverse, penalty, skip=done)
        left = done | stuck | (iteration == max_iter)
        best.weights[state.problem[left]] = state.weights[left]
        best.objective[state.problem[left]] = state.objective[left]
        best.iterations[state.problem[left]] = iteration
        if left.all():
            break
        if left.any():
            state.keep(~left)
            history.keep(~left)
    return best


def _start(
    A: np.ndarray, y: np.ndarray, C: np.ndarray, loss: Loss, shape: tuple[int, int, int]
) -> _State:
    """All weights zero."""
    logits = np.zeros((shape[0], shape[1], len(A)), A.dtype)
    value, slope, curvature = loss(logits, y)
    return _State(
        problem=np.arange(shape[0]),
        C=C,
        weights=np.zeros(shape, A.dtype),
        logits=logits,
        objective=C * value,
        slope=slope,
        curvature=curvature,
        gradient=_times(C, _product(slope, A)),
    )


def _preconditioner(state: _State, gram: np.ndarray, penalty: np.ndarray, n: int) -> np.ndarray:
    """Diagonal guess of the inverse Hessian, (p, 1, r): exact where all samples curve alike."""
    curvature = _column(state.C * np.maximum(state.curvature, 1e-8), gram[None, None])
    return (1 / (curvature * gram + penalty)).astype(gram.dtype)


def _advance(
    A: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    state: _State,
    history: _History,
    inverse: np.ndarray,
    penalty: np.ndarray,
    *,
    skip: np.ndarray,
) -> np.ndarray:
    """One step of every problem, in place; False where no step lowers the objective any more."""
    direction = history.direction(state.gradient, inverse)
    descent = _dot(direction, state.gradient)
    moved = skip.copy()
    along = _product(direction, A.T)
    # |w + t d|^2 = a + 2 t b + t^2 c, so that a trial costs no pass over the weights.
    penalised = direction * penalty
    b, c = _dot(penalised, state.weights), _dot(penalised, direction)
    a = _dot(state.weights * penalty, state.weights)
    rounding = 10 * np.finfo(A.dtype).eps * np.abs(state.objective)
    step = np.ones(len(moved))
    final = np.zeros(len(moved))
    for _ in range(_TRIALS):
        rows = np.flatnonzero(~moved)
        if not len(rows):
            break
        t = step[rows]
        logits = state.logits[rows] + _times(t, along[rows])
        value, slope, curvature = loss(logits, y)
        objective = state.C[rows] * value + 0.5 * (a + 2 * step * b + step**2 * c)[rows]
        rise = objective - state.objective[rows]
        good = rise <= _SUFFICIENT * t * descent[rows]
        if not good.all():
            near = np.abs(rise) <= rounding[rows]
            slope_there = state.C[rows] * _dot(slope, along[rows]) + b[rows] + t * c[rows]
            good |= near & (np.abs(slope_there) <= -_CURVATURE * descent[rows])
        taken = rows[good]
        state.logits[taken] = logits[good]
        state.slope[taken] = slope[good]
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
    gradient = _times(state.C, _product(state.slope, A)) + penalty * state.weights
    history.add(difference, gradient - state.gradient)
    state.gradient = gradient
    return moved


def _product(stack: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(p, q, i) times (i, j) as one matrix product."""
    p, q, i = stack.shape
    return (stack.reshape(p * q, i) @ matrix).reshape(p, q, matrix.shape[1])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner product of each problem, (p,) float64."""
    return np.einsum("pqr,pqr->p", a, b).astype(np.float64)


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _times(values: np.ndarray, stack: np.ndarray) -> np.ndarray:
    return _column(values, stack).astype(stack.dtype) * stack
