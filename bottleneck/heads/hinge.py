"""Linear SVMs with the squared hinge, by Newton's method on the active set: kernels in, duals out.

The rows that miss their margin are the active ones. As long as they stay the same, the objective is a
ridge regression on them, so a step solves one, and looks which rows are active then. It ends after a few
steps, exactly: when they are the same again. The weights are sums of rows, w = sum_i beta_i x_i, so that
all a step needs of the features is their inner products, the kernel: no step has a system larger than the
number of active rows. Many problems (values of C, classes, folds) run side by side.

References
----------
O. Chapelle, "Training a Support Vector Machine in the Primal", Neural Computation 19, 2007. S. Keerthi,
D. DeCoste, "A Modified Finite Newton Method for Fast Solution of Large Scale Linear SVMs", JMLR 6, 2005
(the exact line search).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrs

# Up to so many rows all problems are solved as one stack of whole systems; above, one by one on their
# active rows alone.
STACKED = 48
_SUFFICIENT = 1e-4  # Armijo's constant
_ROUNDING = 10 * float(np.finfo(np.float64).eps)
# Distance, as a share of the objective, that counts as none where all zeros are the best there is.
_NOTHING = 1e-3 * _ROUNDING


@dataclass(frozen=True)
class Duals:
    """Where the solver stopped, for each of p problems.

    Attributes
    ----------
    beta : ndarray of shape (p, n)
        The weights are ``beta @ rows``; 0 for rows that are not active.
    intercept : ndarray of shape (p,)
    logits : ndarray of shape (p, n)
        Of the rows, with the intercept.
    objective : ndarray of shape (p,)
    converged : ndarray of shape (p,), bool
    iterations : ndarray of shape (p,), int
    """

    beta: np.ndarray
    intercept: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


@dataclass
class _State:
    """The problems still in work; every array has them along its first axis."""

    problem: np.ndarray
    kernel: np.ndarray  # which one
    targets: np.ndarray
    strength: np.ndarray
    beta: np.ndarray
    intercept: np.ndarray
    logits: np.ndarray

    def __post_init__(self) -> None:
        self.short = _short(self.targets, self.logits)
        self.norm = _dot(self.beta, self.logits - self.intercept[:, None])

    @property
    def objective(self) -> np.ndarray:
        return _objective(self.strength, self.short, self.norm)

    def keep(self, rows: np.ndarray) -> None:
        for name, array in vars(self).items():
            setattr(self, name, array[rows])


def minimise_hinge(
    kernels: np.ndarray,
    kernel: np.ndarray,
    targets: np.ndarray,
    strength: np.ndarray,
    *,
    tol: float,
    max_iter: int,
    start: Duals | None = None,
) -> Duals:
    """Minimise ``sum_i strength_i / 2 * max(0, 1 - t_i z_i)^2 + |w|^2 / 2`` for each problem.

    Parameters
    ----------
    kernels : ndarray of shape (j, n, n), float64
        Inner products of the rows; best of centred ones. The intercept is not penalised.
    kernel : ndarray of shape (p,), intp
        Which of them a problem is about.
    targets : ndarray of shape (p, n)
        -1 and +1.
    strength : ndarray of shape (p, n)
        ``2 * C * weight`` of each row; 0 for a row that takes no part.
    tol : float
        Stop within this share of the minimum, and of the way from all zeros to it.
    max_iter : int
        Newton steps.
    start : Duals, optional
        Of problems that are near; all zeros by default.

    Returns
    -------
    Duals
    """
    p, n = targets.shape
    highest = strength.sum(axis=1) / 2
    state = _State(
        np.arange(p),
        kernel,
        targets,
        strength,
        np.zeros((p, n)) if start is None else start.beta.copy(),
        np.zeros(p) if start is None else start.intercept.copy(),
        np.zeros((p, n)) if start is None else start.logits.copy(),
    )
    best = Duals(
        np.zeros((p, n)),
        np.zeros(p),
        np.zeros((p, n)),
        np.full(p, np.inf),
        np.zeros(p, bool),
        np.full(p, max_iter),
    )

    def leave(rows: np.ndarray, iteration: int) -> None:
        out = state.problem[rows]
        best.beta[out] = state.beta[rows]
        best.intercept[out] = state.intercept[rows]
        best.logits[out] = state.logits[rows]
        best.objective[out] = state.objective[rows]
        best.iterations[out] = iteration
        state.keep(~rows)

    for iteration in range(max_iter + 1):
        zero, objective = highest[state.problem], state.objective
        # As `solver.minimise`: where C is tiny the objective hardly moves, while its argmax does.
        gained = np.minimum(np.maximum(zero - objective, 0), objective)
        enough = np.maximum(max(tol, _ROUNDING) * gained, _NOTHING * zero)
        done = _gap(kernels, state) <= enough
        best.converged[state.problem[done]] = True
        if iteration == max_iter:
            done[:] = True
        if done.any():
            leave(done, iteration)
        if not len(state.problem):
            break
        moved = _advance(kernels, state)
        if not moved.all():
            leave(~moved, iteration + 1)
            if not len(state.problem):
                break
    return best


def _gap(kernels: np.ndarray, state: _State) -> np.ndarray:
    """Distance to the minimum of each problem at most: the duality gap, written as sums of squares.

    The dual variables are beta where it has the sign of the target, its larger side shrunk until both weigh
    the same, as a free intercept asks. Those that the margins give, ``strength * max(0, 1 - t z)``, would
    magnify the rounding of the logits by the strength.
    """
    dual = np.maximum(state.beta * state.targets, 0)
    positive = state.targets > 0
    up = np.where(positive, dual, 0).sum(axis=1)
    down = np.where(positive, 0, dual).sum(axis=1)
    least = np.minimum(up, down)
    sides = [np.divide(least, side, out=np.zeros_like(side), where=side > 0) for side in (up, down)]
    dual *= np.where(positive, *(side[:, None] for side in sides))
    missed = 1 - state.targets * state.logits
    apart = np.divide(dual, state.strength, out=np.zeros_like(dual), where=state.strength > 0)
    apart -= np.maximum(missed, 0)
    loss = state.strength * apart**2 / 2 - dual * np.minimum(missed, 0)
    rest = state.beta - dual * state.targets
    return np.asarray(loss.sum(axis=1) + _dot(rest, _product(kernels, state.kernel, rest)) / 2)


def _advance(kernels: np.ndarray, state: _State) -> np.ndarray:
    """One step of every problem, in place; False where no step lowers the objective any more."""
    active = (state.short > 0) & (state.strength > 0)
    # Where only active rows have a beta, what is left to the solution is solved for: this takes away
    # the rounding of the step before. Else from scratch.
    near = ~((state.beta != 0) & ~active).any(axis=1)[:, None]
    inverse = np.divide(1, state.strength, out=np.ones_like(state.strength), where=active)
    base = np.where(near, state.beta, 0)
    wanted = state.targets - np.where(near, state.logits + state.beta * inverse, 0)
    solve = _solve_stack if state.targets.shape[1] <= STACKED else _solve_each
    solved, ones = solve(kernels, state.kernel, active, inverse, np.where(active, wanted, 0))
    # Both the row of ones and the old intercept: beta has to sum to 0.
    total = ones.sum(axis=1)
    excess = solved.sum(axis=1) + base.sum(axis=1)
    change = np.divide(excess, total, out=np.zeros_like(total), where=total > 0)
    beta = base + solved - change[:, None] * ones
    intercept = np.where(near[:, 0], state.intercept, 0) + change
    intercept = np.where(total > 0, intercept, state.intercept)
    logits = _product(kernels, state.kernel, beta) + intercept[:, None]
    short = _short(state.targets, logits)
    linear, before = logits - intercept[:, None], state.objective
    after = _objective(state.strength, short, _dot(beta, linear))
    # The slope along the step. From differences: near the end these are small, and so is their rounding.
    ahead = linear - (state.logits - state.intercept[:, None])
    along = _dot(beta - state.beta, state.logits - state.intercept[:, None])
    square = np.maximum(_dot(beta - state.beta, ahead), 0)
    descent = along - _dot(state.strength * state.short, state.targets * (logits - state.logits))
    good = after - before <= _SUFFICIENT * descent
    step = np.ones(len(good))
    if not good.all():
        rows = ~good
        step[rows] = _exact(
            1 - state.targets[rows] * state.logits[rows],
            1 - state.targets[rows] * logits[rows],
            state.strength[rows],
            along[rows],
            square[rows],
        )
    t = step[:, None]
    found = _State(
        state.problem,
        state.kernel,
        state.targets,
        state.strength,
        np.where(t == 1, beta, state.beta + t * (beta - state.beta)),
        np.where(step == 1, intercept, state.intercept + step * (intercept - state.intercept)),
        np.where(t == 1, logits, state.logits + t * (logits - state.logits)),
    )
    moved = good | (found.objective < before)
    for name, array in vars(found).items():
        if moved.all():
            setattr(state, name, array)
        else:
            getattr(state, name)[moved] = array[moved]
    return np.asarray(moved)


def _solve_stack(
    kernels: np.ndarray,
    kernel: np.ndarray,
    active: np.ndarray,
    inverse: np.ndarray,
    wanted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`wanted` and ones on the active rows, solved for with the kernel plus `inverse`, (p, n) each."""
    n = active.shape[1]
    system = kernels[kernel]
    system *= active[:, :, None] & active[:, None, :]
    system[:, np.arange(n), np.arange(n)] += inverse
    right = np.stack([wanted, active.astype(np.float64)], axis=2)
    found = np.linalg.solve(system, right)
    return found[:, :, 0], found[:, :, 1]


def _solve_each(
    kernels: np.ndarray,
    kernel: np.ndarray,
    active: np.ndarray,
    inverse: np.ndarray,
    wanted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The same, problem by problem; those with the same system share its factors."""
    solved, ones = np.zeros(active.shape), np.zeros(active.shape)
    same: dict[tuple[int, bytes, bytes], list[int]] = {}
    for i, rows in enumerate(active):
        same.setdefault((int(kernel[i]), rows.tobytes(), inverse[i].tobytes()), []).append(i)
    for members in same.values():
        first = members[0]
        rows = np.flatnonzero(active[first])
        whole = kernels[kernel[first]]
        system = whole.copy() if len(rows) == len(whole) else whole[rows[:, None], rows]
        system.flat[:: len(rows) + 1] += inverse[first][rows]
        right = np.empty((len(members) + 1, len(rows)))
        right[:-1] = wanted[members][:, rows]
        right[-1] = 1
        # NumPy's Cholesky lets other threads run meanwhile.
        factor = np.linalg.cholesky(system)
        found, _ = dpotrs(factor.T, right.T, lower=0)
        solved[np.array(members)[:, None], rows] = found.T[:-1]
        ones[np.array(members)[:, None], rows] = found.T[-1]
    return solved, ones


def _exact(
    short: np.ndarray,
    ahead: np.ndarray,
    strength: np.ndarray,
    along: np.ndarray,
    square: np.ndarray,
) -> np.ndarray:
    """Length of the step to the minimum of each problem along its direction, (p,).

    The slope along it is a rising chain of lines, which breaks where a row becomes active or ceases to be.
    """
    rise = ahead - short
    with np.errstate(invalid="ignore", divide="ignore"):
        breaks = np.where(rise != 0, -short / rise, np.inf)
    breaks = np.where(breaks > 0, breaks, np.inf)
    active = (short > 0) | ((short == 0) & (rise > 0))
    level, slope = strength * short * rise, strength * rise**2
    order = np.argsort(breaks, axis=1)
    places = np.take_along_axis(breaks, order, axis=1)
    signs = np.where(np.isfinite(breaks), np.where(active, -1.0, 1.0), 0.0)

    def chain(terms: np.ndarray, constant: np.ndarray) -> np.ndarray:
        at_zero = np.where(active, terms, 0).sum(axis=1) + constant
        changes = np.take_along_axis(signs * terms, order, axis=1)
        return np.concatenate([at_zero[:, None], at_zero[:, None] + changes.cumsum(axis=1)], axis=1)

    levels, slopes = chain(level, along), chain(slope, square)
    ends = np.concatenate([places, np.full((len(places), 1), np.inf)], axis=1)
    with np.errstate(invalid="ignore"):
        reached = np.isinf(ends) | (levels + slopes * ends >= 0)
    segment = reached.argmax(axis=1)[:, None]
    here = np.take_along_axis(levels, segment, axis=1)[:, 0]
    steep = np.take_along_axis(slopes, segment, axis=1)[:, 0]
    return np.where(steep > 0, -here / np.where(steep > 0, steep, 1), 0.0)


def _product(kernels: np.ndarray, kernel: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Each problem's beta times its kernel, (p, n)."""
    if len(kernels) == 1:
        return beta @ kernels[0]
    return np.matmul(beta[:, None], kernels[kernel])[:, 0]


def _short(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return np.maximum(1 - targets * logits, 0)


def _objective(strength: np.ndarray, short: np.ndarray, norm: np.ndarray) -> np.ndarray:
    return (_dot(strength * short, short) + norm) / 2


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("pn,pn->p", a, b))
