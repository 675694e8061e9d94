"""What the pipeline is given, and what it gives back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..engines.base import Engine
from ..images.preprocess import Preprocessing


class Sink(Protocol):
    """Where computed features of one output go: shards on disk, or memory.

    Only one thread of a run calls it, and none after the run has returned or raised. A sink that
    has `seal_if_due` is asked now and then while no rows come.
    """

    def append(self, keys: np.ndarray, features: np.ndarray, hashes: np.ndarray) -> object:
        """Take features (m, views * d) float32 with their keys (m, 32) uint8 and phash (m,) uint64."""


class Lane(Protocol):
    """One backbone on its way through the images."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What its images go through."""

    @property
    def sinks(self) -> Sequence[Sink]:
        """One for each output."""

    def missing(self, key: bytes) -> tuple[int, ...]:
        """Outputs, by their index, without a feature for this key.

        Called by many threads, also while a sink takes rows.
        """

    def start(self, outputs: tuple[int, ...]) -> Engine:
        """An engine for these outputs; called once for each set of them that is met.

        Called by the thread that runs the pipeline; decoding goes on meanwhile.
        """

    def smaller(self, outputs: tuple[int, ...], engine: Engine) -> Engine:
        """An engine like `engine`, whose batch did not fit into memory, with about half the batch.

        Never asked of an engine whose batch is one image. Called by a forward thread; other
        threads may still run the old engine.
        """


@dataclass(slots=True)
class Outcome:
    """How every sample ended for one backbone, in the order of the samples.

    Attributes
    ----------
    keys : ndarray of shape (n, 32), uint8
        Zeros where a file could not be read. Shared by the outcomes of one run.
    statuses : ndarray of shape (n, 4), int64
        Size, mtime_ns, ctime_ns and inode of the file as it was read, as
        `cache.index.as_row` gives them; -1 where there is none. Shared like `keys`.
    reasons : dict of int to str
        Samples without a feature, and why.
    computed, reused : int
        Images that went through the network now; rows whose features were known or are those of
        equal bytes.
    outside : array of float
        Share of the area that the network does not see, for each image that was decoded.
    narrow : array of float
        Share of its range of values that an image of more than 8 bits a channel uses.
    several : int
        Images decoded that are the first of several frames or pages in their file.
    images_per_second : float or None
        Of the network alone, after its first batches.
    """

    keys: np.ndarray
    statuses: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0
    # 4 bytes a number, where a list of floats takes 32.
    outside: array[float] = field(default_factory=lambda: array("f"))
    narrow: array[float] = field(default_factory=lambda: array("d"))
    several: int = 0
    images_per_second: float | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction, after the finished rows were kept.

    Parameters
    ----------
    kept, total : int
        Samples whose outcome is kept, of how many.
    """

    def __init__(self, kept: int, total: int) -> None:
        super().__init__(f"kept {kept} of {total}; run again to go on")
        self.kept = kept
        self.total = total
        self.counts = {"seen": total, "kept": kept}
