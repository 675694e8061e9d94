"""Train MLPs: compiled, in threads, on the processor; as one batched network anywhere else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .training import Trained, Training


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train(trainings: Sequence[Training], device: str = "cpu") -> list[Trained]:
    """Train models, with the same result for each as alone.

    Parameters
    ----------
    trainings : sequence of Training
    device : str
        ``cpu``, or a device of PyTorch's.

    Returns
    -------
    list of Trained
        In the same order.
    """
    train_one = kernel() if device == "cpu" else None
    if train_one is None:
        from .batch import train_batch

        return train_batch(trainings, device)
    if len(trainings) == 1:
        return [train_one(trainings[0])]
    with ThreadPoolExecutor(min(cores(), len(trainings))) as pool:
        return list(pool.map(train_one, trainings))


@cache
def kernel() -> Callable[[Training], Trained] | None:
    """The compiled training of one model; None where numba cannot be used, which is told once."""
    try:
        from .kernel import train_one
    except Exception as error:  # numba refuses a NumPy or a Python too new for it, in many ways
        warnings.warn(
            f"numba cannot be used here ({type(error).__name__}: {error}): PyTorch trains the MLPs, to "
            "the same weights but several times slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return train_one
