"""Many MLPs as one batched network in PyTorch: `Training`s in, `Trained`s out, on any device.

All models of a size stand in one array for each layer, (models, ...), and take their steps together; a model
that has stopped leaves the arrays. The same results as `kernel`, but for rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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

if TYPE_CHECKING:
    import torch

_MODELS = 2 * 2**30  # bytes of the weights, moments and gradients that train together
_JUDGED = 256 * 2**20  # bytes of the rows that are judged at once


def train_batch(trainings: Sequence[Training], device: str = "cpu") -> list[Trained]:
    """Train models together.

    Parameters
    ----------
    trainings : sequence of Training
        Models of one batch size, number of batches, of units, features and classes run as one network.
    device : str
        As PyTorch takes it. The features of each fold go there once.

    Returns
    -------
    list of Trained
        In the order of the trainings.
    """
    import torch

    rows = _Rows(trainings, torch.device(device))
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, t in enumerate(trainings):
        groups[(t.batch_size, t.steps, t.k, *t.first.shape)].append(i)
    found: dict[int, Trained] = {}
    with torch.no_grad():
        for members in groups.values():
            size = 6 * 4 * trainings[members[0]].first.size
            at_once = max(1, _MODELS // size)
            for begin in range(0, len(members), at_once):
                part = members[begin : begin + at_once]
                network = _Network([trainings[i] for i in part], rows)
                found.update(zip(part, network.train(), strict=True))
    return [found[i] for i in range(len(trainings))]


class _Rows:
    """Features, classes and weights of all folds below each other, on the device."""

    def __init__(self, trainings: Sequence[Training], device: torch.device) -> None:
        import torch

        self.device = device
        self._begins: dict[int, int] = {}
        arrays, begin = [], 0
        for t in trainings:
            if id(t.X) not in self._begins:
                self._begins[id(t.X)] = begin
                arrays.append(torch.from_numpy(np.ascontiguousarray(t.X)).to(device))
                begin += len(t.X)
        self.X = arrays[0] if len(arrays) == 1 else torch.cat(arrays)

    def begin(self, training: Training) -> int:
        """Where the rows of a training begin."""
        return self._begins[id(training.X)]


class _Network:
    """Models that take their steps together.

    Attributes
    ----------
    weights, first_moments, second_moments, best : list of Tensor
        Of the layers, (models, d, hidden), (models, 1, hidden), (models, hidden, k), (models, 1, k).
    """

    def __init__(self, trainings: list[Training], rows: _Rows) -> None:
        import torch

        self.rows, self.trainings = rows, trainings
        self.courses = [course(t) for t in trainings]
        first = np.stack([t.first.T for t in trainings])
        second = np.stack([t.second.T for t in trainings])
        m, _, hidden = first.shape
        k = second.shape[2]
        self.weights = [
            torch.from_numpy(w).to(rows.device)
            for w in (
                first,
                np.zeros((m, 1, hidden), np.float32),
                second,
                np.zeros((m, 1, k), np.float32),
            )
        ]
        self.first_moments = [torch.zeros_like(w) for w in self.weights]
        self.second_moments = [torch.zeros_like(w) for w in self.weights]
        self.best = [w.clone() for w in self.weights]
        self.left = list(range(m))
        self.step = 0

    def train(self) -> list[Trained]:
        """Epochs until the last model has stopped."""
        found: dict[int, Trained] = {}
        self._leave(found)
        while self.left:
            self._epoch()
            losses = self._losses()
            better = [
                place
                for place, i in enumerate(self.left)
                if self.courses[i].after(float(losses[place]))
            ]
            for best, weight in zip(self.best, self.weights, strict=True):
                best[better] = weight[better]
            self._leave(found)
        return [found[i] for i in range(len(self.trainings))]

    def _leave(self, found: dict[int, Trained]) -> None:
        """Take the models out that are done."""
        over = [place for place, i in enumerate(self.left) if self.courses[i].over]
        for place in over:
            i = self.left[place]
            first, bias, second, second_bias = (w[place].cpu().numpy() for w in self.best)
            found[i] = Trained(
                np.ascontiguousarray(first.T),
                bias[0].copy(),
                np.ascontiguousarray(second.T),
                second_bias[0].copy(),
                self.courses[i].epochs,
                self.courses[i].converged,
            )
        if over:
            stay = [place for place in range(len(self.left)) if place not in over]
            self.left = [self.left[place] for place in stay]
            for arrays in (self.weights, self.first_moments, self.second_moments, self.best):
                arrays[:] = [a[stay] for a in arrays]

    def _column(self, values: Sequence[Any]) -> torch.Tensor:
        """Numbers of each model, (models, 1, 1), or (models, steps, 1, 1) for one in each step."""
        import torch

        kind = torch.int64 if np.asarray(values).dtype.kind == "i" else torch.float32
        return torch.tensor(values, dtype=kind, device=self.rows.device)[..., None, None]

    def _rows(self, orders: list[np.ndarray], length: int) -> tuple[torch.Tensor, ...]:
        """Rows, classes and weights of all models, (models, length); a weight of 0 fills up."""
        import torch

        index = np.zeros((len(orders), length), np.int64)
        labels, weight = np.zeros_like(index), np.zeros(index.shape, np.float32)
        for place, (i, order) in enumerate(zip(self.left, orders, strict=True)):
            t, n = self.trainings[i], len(order)
            index[place, :n] = order + self.rows.begin(t)
            index[place, n:] = self.rows.begin(t)
            labels[place, :n], weight[place, :n] = t.y[order], t.weight[order]
        return tuple(torch.from_numpy(a).to(self.rows.device) for a in (index, labels, weight))

    def _epoch(self) -> None:
        from torch.nn.functional import one_hot

        trainings = [self.trainings[i] for i in self.left]
        size, steps, k = trainings[0].batch_size, trainings[0].steps, trainings[0].k
        index, labels, weight = self._rows([t.order() for t in trainings], size * steps)
        rates = [self.courses[i].rate for i in self.left]
        rate = self._column(rates)
        keep = self._column([1 - r * t.weight_decay for r, t in zip(rates, trainings, strict=True)])
        limits = [threshold(t.dropout) for t in trainings]
        scale, limit = self._column([2**24 / each for each in limits]), self._column(limits)
        # All steps' numbers at once: a copy to a GPU takes as long as a product there.
        sizes = self._column(
            [[min(size, len(t.rows) - s * size) for s in range(steps)] for t in trainings]
        )
        bases = self._column(
            [[mask_base(t.mask_seed, self.step + s + 1) for s in range(steps)] for t in trainings]
        )
        for s in range(steps):
            self.step += 1
            part = slice(s * size, (s + 1) * size)
            W, b, U, c = self.weights
            x = self.rows.X[index[:, part]]
            units = (x @ W).add_(b).relu_()
            units *= _alive(bases[:, s], limit, size, units.shape[2]) * scale
            delta = (units @ U).add_(c).softmax(2)
            delta -= one_hot(labels[:, part], k)
            delta *= weight[:, part, None] / sizes[:, s]
            # Where the unit was cut off, by the relu or by the dropout, it is 0.
            error = (delta @ U.mT) * (units > 0) * scale
            gradients = (x.mT @ error, error.sum(1, True), units.mT @ delta, delta.sum(1, True))
            self._adam(gradients, rate, keep)

    def _adam(
        self, gradients: tuple[torch.Tensor, ...], rate: torch.Tensor, keep: torch.Tensor
    ) -> None:
        factor, root = corrections(self.step)
        step = rate * factor
        for layer, gradient in enumerate(gradients):
            weight, m, v = (a[layer] for a in self._state())
            m.lerp_(gradient, 1 - BETA_1)
            v.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            if layer in (0, 2):  # weights decay, biases do not
                weight *= keep
            weight -= step * m / (v.sqrt().mul_(root).add_(EPSILON))

    def _state(self) -> tuple[list[torch.Tensor], ...]:
        return self.weights, self.first_moments, self.second_moments

    def _losses(self) -> np.ndarray:
        """The mean cross-entropy of each model on its judged rows, without dropout, (models,)."""
        import torch

        judged = [self.trainings[i].judged for i in self.left]
        length = max(len(rows) for rows in judged)
        index, labels, weight = self._rows(judged, length)
        W, b, U, c = self.weights
        at_once = max(1, _JUDGED // (4 * len(self.left) * W.shape[1]))
        total = torch.zeros(len(self.left), dtype=torch.float64, device=self.rows.device)
        for begin in range(0, length, at_once):
            part = slice(begin, begin + at_once)
            logits = (self.rows.X[index[:, part]] @ W + b).relu_() @ U + c
            logarithms = logits.double().log_softmax(2)
            own = logarithms.gather(2, labels[:, part, None])[:, :, 0]
            total -= (own * weight[:, part]).sum(1)
        return np.asarray((total / weight.double().sum(1)).cpu().numpy())


def _alive(base: torch.Tensor, limit: torch.Tensor, size: int, hidden: int) -> torch.Tensor:
    """Which units take part, (models, size, hidden) bool; see `training.alive`.

    base (models, 1, 1) int64 and limit (models, 1, 1).
    """
    import torch

    # PyTorch has no arithmetic of unsigned 32 bits; in 64 the lower 32 are the same.
    x = torch.arange(size * hidden, device=base.device).view(1, size, hidden) * GOLDEN
    x = (x + base) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return (x >> 8) < limit
