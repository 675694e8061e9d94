"""An MLP's training on one core, compiled: one `Training` in, one `Trained` out.

Importing this module imports numba; `train` does so when the first model is trained. The functions let
go of the interpreter's lock: several models train in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from .tiles import SPAN, TILE, adam_tile, forward_tile
from .training import (
    BETA_1,
    BETA_2,
    EPSILON,
    GOLDEN,
    Trained,
    Training,
    corrections,
    course,
    mask_base,
    threshold,
)

# Features whose weights are used for the next batch right after their step, from the first-level cache.
_BLOCK = 64
_JUDGED_AT_ONCE = 64  # rows

_u32, _f32 = np.uint32, np.float32

_F1, _F2 = numba.float32[::1], numba.float32[:, ::1]
_I1, _U1, _D2 = numba.int64[::1], numba.uint32[::1], numba.float64[:, ::1]
_STATE = numba.types.UniTuple(_F2, 3)
_INT, _WORD, _FLOAT, _DOUBLE = numba.int64, numba.uint32, numba.float32, numba.float64
_NOTHING = numba.void


def _machine_code(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for one signature, or read it from numba's cache.

    The cache lies beside this file, or in the user's folder for caches. Where neither can be written, or
    what lies there is broken, the compiled code serves this process alone.
    """

    def compile_(function: Callable[..., Any]) -> Any:
        def build(cached: bool) -> Any:
            return numba.njit(
                signature,
                nogil=True,
                cache=cached,
                error_model="numpy",
                boundscheck=False,
                **options,
            )(function)

        try:
            return build(True)
        except Exception:
            return build(False)

    return compile_


@_machine_code(_NOTHING(_F2, _I1, _INT, _I1, _INT, _F2, _F2, _F2, _F2, _F2, _FLOAT, _FLOAT, _FLOAT))
def _pass(
    X: np.ndarray,
    rows: np.ndarray,
    n: int,
    following: np.ndarray,
    n_following: int,
    D: np.ndarray,
    Z: np.ndarray,
    W: np.ndarray,
    M: np.ndarray,
    V: np.ndarray,
    step: np.float32,
    root: np.float32,
    keep: np.float32,
) -> None:
    """Adam's step of the hidden weights for one batch, and their products with the following one.

    Either of the batches may be empty (n = 0, n_following = 0). Z (batch, hidden) is filled.
    """
    d, hidden = W.shape
    beta1, beta2, epsilon = _f32(BETA_1), _f32(BETA_2), _f32(EPSILON)
    Z[:] = 0
    for j0 in range(0, d, _BLOCK):
        j1 = min(j0 + _BLOCK, d)
        if n > 0:
            for j in range(j0, j1, TILE):
                for h in range(0, hidden, SPAN):
                    adam_tile(  # type: ignore[call-arg]
                        X, rows, D, W, M, V, n, j, h, beta1, beta2, step, root, keep, epsilon
                    )
        for h in range(0, hidden, SPAN):
            for b in range(0, n_following, TILE):
                forward_tile(X, following, W, Z, b, j0, j1, h)  # type: ignore[call-arg]


@_machine_code(_DOUBLE(_F1))
def _softmax(logits: np.ndarray) -> float:
    """Turn a row of logits into probabilities; gives the logarithm of their sum before."""
    largest = logits.max()
    total = 0.0
    for c in range(len(logits)):
        logits[c] = np.exp(logits[c] - largest)
        total += logits[c]
    for c in range(len(logits)):
        logits[c] = _f32(logits[c] / total)
    return float(largest) + np.log(total)


@_machine_code(_FLOAT(_F1, _F1), fastmath={"contract", "nsz", "reassoc"})
def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    total = _f32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_machine_code(_NOTHING(_F1, _F1, _F1, _F1, _FLOAT, _FLOAT, _FLOAT), fastmath={"contract", "nsz"})
def _adam(
    w: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    gradient: np.ndarray,
    step: np.float32,
    root: np.float32,
    keep: np.float32,
) -> None:
    """Adam's step of a vector."""
    beta1, beta2, one = _f32(BETA_1), _f32(BETA_2), _f32(1)
    for i in range(len(w)):
        g = gradient[i]
        m[i] = beta1 * m[i] + (one - beta1) * g
        v[i] = beta2 * v[i] + (one - beta2) * g * g
        w[i] = w[i] * keep - step * m[i] / (np.sqrt(v[i]) * root + _f32(EPSILON))


@_machine_code(_NOTHING(_F1, _WORD, _INT, _WORD, _DOUBLE))
def _drop(units: np.ndarray, base: np.uint32, first: int, limit: np.uint32, scale: float) -> None:
    """Dropout of one row, see `training.alive`."""
    begin = _u32(first)
    for h in range(len(units)):
        x = _u32(_u32(begin + _u32(h)) * _u32(GOLDEN)) + _u32(base)
        x = _u32(x)
        x = _u32(_u32(x ^ (x >> _u32(16))) * _u32(0x7FEB352D))
        x = _u32(_u32(x ^ (x >> _u32(15))) * _u32(0x846CA68B))
        x = _u32(x ^ (x >> _u32(16)))
        units[h] = units[h] * _f32(scale) if _u32(x >> _u32(8)) < limit else _f32(0)


@_machine_code(_INT(_I1, _INT, _INT, _I1))
def _take(order: np.ndarray, begin: int, size: int, rows: np.ndarray) -> int:
    """Fill `rows` with a batch; gives how many there are. The rest repeats the first, to be ignored."""
    n = min(size, len(order) - begin)
    for i in range(len(rows)):
        rows[i] = order[begin + i] if i < n else order[begin]
    return n


@_machine_code(
    _NOTHING(
        _F2, _I1, _F1, _I1, _INT, _STATE, _STATE, _STATE, _STATE, _INT, _INT, _U1, _D2, _DOUBLE
    )
)
def _epoch(
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    order: np.ndarray,
    size: int,
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    first_bias: tuple[np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray],
    second_bias: tuple[np.ndarray, np.ndarray, np.ndarray],
    units: int,
    limit: int,
    bases: np.ndarray,
    factors: np.ndarray,
    keep: float,
) -> None:
    """One pass over the rows; weights and moments change in place.

    first (d, hidden), first_bias (1, hidden), second (k, hidden), second_bias (1, k): each the
    weights and both moments, float32; hidden is padded, of which `units` are real. For each batch
    bases (steps,) has the dropout's, factors (steps, 2) what `corrections` gives with the rate.
    """
    W, M, V = first
    b, b_m, b_v = first_bias
    U, U_m, U_v = second
    c, c_m, c_v = second_bias
    hidden, k = U.shape[1], U.shape[0]
    padded = -(-size // TILE) * TILE
    rows, following = np.zeros(padded, np.int64), np.zeros(padded, np.int64)
    Z, A = np.zeros((padded, hidden), np.float32), np.zeros((padded, hidden), np.float32)
    D = np.zeros((padded, hidden), np.float32)
    P = np.zeros((padded, k), np.float32)
    g_b, g_c = np.zeros(hidden, np.float32), np.zeros(k, np.float32)
    g_U = np.zeros((k, hidden), np.float32)
    scale = 1.0 / (limit / 2.0**24)
    some, none = _f32(keep), _f32(1)
    n_following = _take(order, 0, size, following)
    _pass(X, rows, 0, following, padded, D, Z, W, M, V, none, none, none)
    for t in range(len(bases)):
        rows[:] = following
        n = n_following
        g_b[:] = 0
        g_c[:] = 0
        g_U[:] = 0
        for i in range(n):
            z, a, e = Z[i], A[i], D[i]
            for h in range(hidden):
                a[h] = max(z[h] + b[0, h], _f32(0))
            _drop(a[:units], bases[t], i * units, _u32(limit), scale)
            p = P[i]
            for q in range(k):
                p[q] = _dot(a, U[q]) + c[0, q]
            _softmax(p)
            p[y[rows[i]]] -= _f32(1)
            share = weight[rows[i]] / _f32(n)
            e[:] = 0
            for q in range(k):
                delta = p[q] * share
                g_c[q] += delta
                gradient, u = g_U[q], U[q]
                for h in range(hidden):
                    gradient[h] += delta * a[h]
                    e[h] += delta * u[h]
            for h in range(hidden):
                # Where the unit was cut off, by the relu or by the dropout, it is 0.
                e[h] = e[h] * _f32(scale) if a[h] > 0 else _f32(0)
                g_b[h] += e[h]
        step, root = _f32(factors[t, 0]), _f32(factors[t, 1])
        n_following = 0
        if t + 1 < len(bases):
            n_following = _take(order, (t + 1) * size, size, following)
        _pass(X, rows, n, following, padded if n_following else 0, D, Z, W, M, V, step, root, some)
        _adam(b[0], b_m[0], b_v[0], g_b, step, root, none)
        _adam(c[0], c_m[0], c_v[0], g_c, step, root, none)
        for q in range(k):
            _adam(U[q], U_m[q], U_v[q], g_U[q], step, root, some)


@_machine_code(_DOUBLE(_F2, _I1, _F1, _I1, _F2, _F2, _F2, _F2))
def _loss(
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    judged: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    U: np.ndarray,
    c: np.ndarray,
) -> float:
    """The mean cross-entropy of the judged rows, without dropout."""
    hidden, k = U.shape[1], U.shape[0]
    rows = np.zeros(_JUDGED_AT_ONCE, np.int64)
    Z = np.zeros((_JUDGED_AT_ONCE, hidden), np.float32)
    p = np.zeros(k, np.float32)
    nothing, one = np.zeros((1, hidden), np.float32), _f32(1)
    total, weights = 0.0, 0.0
    for begin in range(0, len(judged), _JUDGED_AT_ONCE):
        n = _take(judged, begin, _JUDGED_AT_ONCE, rows)
        many = -(-n // TILE) * TILE
        _pass(X, rows, 0, rows, many, nothing, Z, W, W, W, one, one, one)
        for i in range(n):
            z, w = Z[i], weight[rows[i]]
            for h in range(hidden):
                z[h] = max(z[h] + b[0, h], _f32(0))
            for q in range(k):
                p[q] = _dot(z, U[q]) + c[0, q]
            own = p[y[rows[i]]]
            total += w * (_softmax(p) - own)
            weights += w
    return total / weights


def train_one(training: Training) -> Trained:
    """Train a model on the core that calls.

    Parameters
    ----------
    training : Training
    """
    t = training
    hidden, d = t.first.shape
    X = _columns(t.X, -(-d // TILE) * TILE)
    wide = -(-hidden // SPAN) * SPAN
    first = _state((X.shape[1], wide), t.first.T)
    first_bias = _state((1, wide))
    second = _state((t.k, wide), t.second)
    second_bias = _state((1, t.k))
    layers = (first, first_bias, second, second_bias)
    weights = [layer[0] for layer in layers]
    best = [w.copy() for w in weights]
    way, step = course(t), 0
    while not way.over:
        steps = range(step + 1, step + 1 + t.steps)
        bases = np.array([mask_base(t.mask_seed, s) for s in steps], np.uint32)
        factors = np.array([corrections(s) for s in steps])
        factors[:, 0] *= way.rate
        keep = 1 - way.rate * t.weight_decay
        limit = threshold(t.dropout)
        _epoch(
            X, t.y, t.weight, t.order(), t.batch_size, *layers, hidden, limit, bases, factors, keep
        )
        step = steps[-1]
        if way.after(_loss(X, t.y, t.weight, t.judged, *weights)):
            for kept, weight in zip(best, weights, strict=True):
                kept[...] = weight
    return Trained(
        np.ascontiguousarray(best[0][:d, :hidden].T),
        best[1][0, :hidden].copy(),
        np.ascontiguousarray(best[2][:, :hidden]),
        best[3][0].copy(),
        way.epochs,
        way.converged,
    )


def _columns(X: np.ndarray, wide: int) -> np.ndarray:
    """X with columns of zeros at its end, up to `wide`; X itself where there is none to add."""
    if X.shape[1] == wide and X.flags.carray:  # in one piece, and not read-only
        return X
    padded = np.zeros((len(X), wide), np.float32)
    padded[:, : X.shape[1]] = X
    return padded


def _state(
    shape: tuple[int, int], values: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and both moments, zeros where there is no value."""
    weights = np.zeros(shape, np.float32)
    if values is not None:
        weights[: values.shape[0], : values.shape[1]] = values
    return weights, np.zeros(shape, np.float32), np.zeros(shape, np.float32)
