"""Batches to a CUDA card and features back, while the card computes another batch.

Two slots, each with pinned memory and a stream of its own: while one batch is computed the next one is
copied. A slot's memory is written again only after its stream has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import numpy as np
import torch

SLOTS = 2


class Card:
    """Runs batches on one card, from up to `SLOTS` threads at the same time.

    Parameters
    ----------
    device : str
        ``cuda:N``.
    shape : tuple of int
        Of a batch of images, (n, h, w, 3).
    compute : callable
        Images on the card in, features on the card out, an (n, d) float32 tensor for each output.
    """

    def __init__(
        self,
        device: str,
        shape: tuple[int, ...],
        compute: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    ) -> None:
        self._device, self._compute = device, compute
        # Launching takes little time, and a network's Python may keep state between its lines.
        self._launching = threading.Lock()
        self._slots: SimpleQueue[tuple[torch.Tensor, torch.cuda.Stream]] = SimpleQueue()
        for _ in range(SLOTS):
            self._slots.put((pinned(shape), torch.cuda.Stream(device)))
        # The weights were copied on the default stream, for which the others do not wait.
        torch.cuda.synchronize(device)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of a batch, an array for each output."""
        slot = self._slots.get()
        staging, stream = slot
        try:
            staging.numpy()[...] = images
            with self._launching, torch.cuda.stream(stream):
                batch = staging.to(self._device, non_blocking=True)
                # Not blocking, to the CPU: PyTorch takes pinned memory for it.
                found = [each.to("cpu", non_blocking=True) for each in self._compute(batch)]
            stream.synchronize()
            return [each.numpy().copy() for each in found]  # pinned memory is scarce
        except BaseException:
            # What was launched may still read the staging memory.
            stream.synchronize()
            raise
        finally:
            self._slots.put(slot)


def pinned(shape: tuple[int, ...]) -> torch.Tensor:
    """Memory of the CPU that a card reads by itself."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
