"""A look at some of the images: samples in, what the network would see of them out, in order.

By the pipeline's own threads, so that it keeps to a run's limits and writes its journal: a decoder
that hangs is given up, one that crashes is known to the next run, and Ctrl-C leaves at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..engines import devices
from ..engines.base import Engine
from ..images.preprocess import Preprocessing
from ..images.sample import Sample
from .contract import Sink
from .crew import Crew
from .decoders import Decoders
from .prepare import Prepared, Preparer, Remembered

# How far threads run ahead, each.
_AHEAD = 4


class _Look:
    """A lane that computes nothing: its images are prepared for nobody but the caller."""

    sinks: Sequence[Sink] = ()

    def __init__(self, p: Preprocessing, wanted: Callable[[bytes], bool]) -> None:
        self.preprocessing = p
        self._wanted = wanted

    def missing(self, key: bytes) -> tuple[int, ...]:
        return (0,) if self._wanted(key) else ()

    def start(self, outputs: tuple[int, ...]) -> Engine:
        raise NotImplementedError

    def smaller(self, outputs: tuple[int, ...], engine: Engine) -> Engine:
        raise NotImplementedError


def glance(
    samples: Sequence[Sample],
    ways: Sequence[Preprocessing],
    *,
    wanted: Callable[[bytes], bool] = lambda key: True,
    remembered: Callable[[int], Remembered | None] | None = None,
    workers: int | None = None,
) -> Iterator[Prepared]:
    """Read and hash samples, and decode those that are wanted.

    Parameters
    ----------
    samples : sequence of Sample
    ways : sequence of Preprocessing
        Each gives views of its own.
    wanted : callable, optional
        Whether an image with this key is to be decoded; called by many threads.
    remembered : callable, optional
        As for `pipeline.run`: what is known already is neither read nor decoded.
    workers : int, optional
        Threads; by default one a core.

    Yields
    ------
    Prepared
        One for each sample, in order; its `framed` holds what each of `ways` gives, or a reason.
        Of equal bytes only the first sample's are decoded.
    """
    n, workers = len(samples), workers or devices.cores()
    keys, statuses = np.zeros((n, 32), np.uint8), np.full((n, 4), -1, np.int64)
    lanes = [_Look(p, wanted) for p in ways]
    crew = Crew()
    decoders = Decoders(
        Preparer(samples, lanes, keys, statuses, remembered),
        n,
        workers=workers,
        window=_AHEAD * workers,
        crew=crew,
        name_of=lambda index: samples[index].path,
    )
    try:
        for _ in range(n):
            yield decoders.next()
        crew.join()
    finally:
        crew.stopping = True
        decoders.dismiss()
