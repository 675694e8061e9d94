"""Several logistic regressions on the same mini-batches: Adam, averaged weights, held-out scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..losses import Multinomial
from ..scaling import Scaling
from .rows import Moments, RowStream

_STEPS = 50  # of a pass, at least, as long as a batch has _SMALLEST rows
_SMALLEST = 32
# Where all features share one scale, Adam works on each feature's own, but a feature that hardly varies on
# a tenth of it at least: its penalty would be too steep for the step.
_FLOOR = 0.1


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training rows came to, by value of C.

    Attributes
    ----------
    number : int
    loss, accuracy : ndarray of shape (p,), float64
        On the held-out rows; log loss and share of right answers. NaN for a value that was given up.
    """

    number: int
    loss: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What `Training.run` found.

    Attributes
    ----------
    chosen : int
        Position of the kept value of C.
    coef, intercept : ndarray of shape (q, d) and (q,), float64
        For features as they are stored.
    n_iter : int
    converged : bool
    history : list of Epoch
    loss, accuracy : ndarray of shape (p,)
        Held-out scores of each value of C when it was given up, or in the end.
    """

    chosen: int
    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int
    converged: bool
    history: list[Epoch]
    loss: np.ndarray
    accuracy: np.ndarray


def scaling_of(kind: str, moments: Moments) -> tuple[Scaling, np.ndarray]:
    """The scaling that the penalty is about, and the one that the steps are taken in.

    Both lead to the same solution: a weight's penalty is multiplied by the square of their ratio. Features
    of mean 0 and variance near 1 are what makes gradients converge; the intercept takes up the means.

    Parameters
    ----------
    kind : {"standard", "scalar", "none"}
    moments : Moments

    Returns
    -------
    scaling : Scaling
    steps : ndarray of shape (d,), float64
        Divided by in training.
    """
    mean, spread = moments.mean, moments.spread
    own = np.where(spread > 0, spread, 1.0)
    if kind == "standard":
        return Scaling(kind, mean, own), own
    centre = mean.mean()
    whole = float(np.sqrt(np.mean(spread**2 + (mean - centre) ** 2))) or 1.0
    steps = np.maximum(spread, _FLOOR * whole)
    if kind == "scalar":
        return Scaling(kind, np.full_like(mean, centre), np.full_like(mean, whole)), steps
    return Scaling(kind, np.zeros_like(mean), np.ones_like(mean)), steps


class Training:
    """The state of one fit; weights have shape (q, d + 1), the last column is the intercept.

    Parameters
    ----------
    stream : RowStream
    moments : Moments
    values : ndarray of shape (p,)
        Of C.
    k : int
        Classes.
    scaling : Scaling
    steps : ndarray of shape (d,)
        See `scaling_of`.
    batch_size : int
    rng : numpy Generator
    """

    def __init__(
        self,
        stream: RowStream,
        moments: Moments,
        values: np.ndarray,
        k: int,
        *,
        scaling: Scaling,
        steps: np.ndarray,
        batch_size: int,
        rng: np.random.Generator,
    ) -> None:
        self.stream, self.moments, self.values, self.rng = stream, moments, values, rng
        self.batch_size = batch_size
        self.loss = Multinomial()
        self.truth = stream.codes[moments.places]
        self.n = int(np.count_nonzero((stream.codes >= 0) & ~stream.held))
        self.size = min(batch_size, max(_SMALLEST, self.n // _STEPS))
        self.mean, self.steps = moments.mean, steps
        self.penalty = (scaling.scale / steps) ** 2
        shape = (len(values), self.loss.outputs(k), stream.X.shape[1] + 1)
        self.weights = np.zeros(shape, np.float32)
        self.moves = np.zeros((2, *shape), np.float32)
        self.averages = np.zeros(shape, np.float32)
        self.kept = np.zeros(shape, np.float32)

    def run(
        self,
        largest: float,
        *,
        max_epochs: int,
        patience: int,
        tol: float,
        progress: Callable[[Epoch], None] | None = None,
    ) -> Trained:
        """Train until every value of C has stopped to improve. See `StreamedLogistic`."""
        p = len(self.values)
        best, at_last, accuracy_at_last = np.full(p, np.inf), np.zeros(p), np.zeros(p)
        rate, worse, last = np.full(p, largest), np.zeros(p, int), np.zeros(p, int)
        history: list[Epoch] = []
        for number in range(1, max_epochs + 1):
            active = np.flatnonzero(worse < patience)
            if not len(active):
                break
            self._epoch(number, active, rate)
            loss, accuracy = self._score(active)
            history.append(Epoch(number, loss, accuracy))
            if progress is not None:
                progress(history[-1])
            for i in active:
                better = loss[i] < best[i] * (1 - tol)
                best[i] = min(best[i], loss[i])
                # The last weights, not those with the least held-out loss: a convex problem is solved
                # the better the longer, and an early stop would be a penalty that nobody stated.
                self.kept[i] = self.averages[i]
                at_last[i], accuracy_at_last[i], last[i] = loss[i], accuracy[i], number
                worse[i] = 0 if better else worse[i] + 1
                rate[i] *= 1 if better else 0.5
        # The score first, then the loss, then the stronger penalty.
        chosen = min(range(p), key=lambda i: (-accuracy_at_last[i], at_last[i], i))
        weights = self.kept[chosen].astype(np.float64)
        if len(weights) > 1:
            # What all classes have in common changes no answer, and costs a penalty: the optimum has none.
            weights -= weights.mean(axis=0)
        coef = weights[:, :-1] / self.steps
        return Trained(
            chosen=chosen,
            coef=coef,
            intercept=weights[:, -1] - coef @ self.mean,
            n_iter=int(last[chosen]),
            converged=bool(worse[chosen] >= patience),
            history=history,
            loss=at_last,
            accuracy=accuracy_at_last,
        )

    def logits(self, chosen: int, which: np.ndarray) -> np.ndarray:
        """Of the kept weights, for these of the held-out rows: (m, q) float32."""
        w = self.kept[chosen]
        found: np.ndarray = self._scaled(self.moments.look[which]) @ w[:, :-1].T + w[:, -1]
        return found

    def _scaled(self, stored: np.ndarray) -> np.ndarray:
        rows = stored.astype(np.float32)
        rows -= self.mean.astype(np.float32)
        rows /= self.steps.astype(np.float32)
        return rows

    def _epoch(self, number: int, active: np.ndarray, rate: np.ndarray) -> None:
        steps = max(1, -(-self.n // self.size))
        warm = max(1, steps // 10)
        self.averages[active] = 0
        taken = 0
        for step, (stored, codes) in enumerate(self.stream.batches(self.size, self.rng)):
            rows = self._scaled(stored)
            done = (number - 1) * steps + step + 1
            slow = min(1.0, done / warm)
            late = step >= steps // 2
            taken += late
            for i in active:
                self._step(i, rows, codes, rate[i] * slow, done)
                if late:
                    self.averages[i] += self.weights[i]
        for i in active:
            self.averages[i] = self.averages[i] / taken if taken else self.weights[i]

    def _step(self, i: int, rows: np.ndarray, codes: np.ndarray, rate: float, t: int) -> None:
        w, (first, second) = self.weights[i], self.moves[:, i]
        slope = self._slope(w, rows, codes)
        gradient = np.empty_like(w)
        np.matmul(slope, rows, out=gradient[:, :-1])
        gradient[:, -1] = slope.sum(axis=1)
        gradient /= len(rows)
        shrink = self.penalty / (self.values[i] * self.n)
        gradient[:, :-1] += w[:, :-1] * shrink.astype(np.float32)
        first += np.float32(0.1) * (gradient - first)
        np.square(gradient, out=gradient)
        gradient -= second
        gradient *= np.float32(0.001)
        second += gradient
        # Both averages began at zero.
        np.sqrt(second, out=gradient)
        gradient *= np.float32(1 / np.sqrt(1 - 0.999**t))
        gradient += np.float32(1e-8)
        np.divide(first, gradient, out=gradient)
        gradient *= np.float32(rate / (1 - 0.9**t))
        w -= gradient

    def _slope(self, w: np.ndarray, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
        logits = w[:, :-1] @ rows.T
        logits += w[:, -1:]
        slope: np.ndarray = self.loss(logits[None], codes)[1][0]
        return slope

    def _score(self, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log loss and accuracy of the averaged weights on the held-out rows."""
        loss, right = np.full(len(self.values), np.nan), np.full(len(self.values), np.nan)
        loss[active] = right[active] = 0
        stored, truth = self.moments.look, self.truth
        size = self.batch_size
        for j in range(0, len(truth), size):
            rows, codes = self._scaled(stored[j : j + size]), truth[j : j + size]
            for i in active:
                w = self.averages[i]
                logits = w[:, :-1] @ rows.T + w[:, -1:]
                loss[i] += self.loss(logits[None], codes)[0][0]
                answer = (logits[0] > 0) if len(logits) == 1 else logits.argmax(axis=0)
                right[i] += np.count_nonzero(answer == codes)
        return loss / max(len(truth), 1), right / max(len(truth), 1)
