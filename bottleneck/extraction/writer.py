"""The one thread that stores features: finished batches in any order in, rows to the sinks in order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import numpy as np

from .contract import Sink
from .crew import TICK_S, Crew

# A sink that waits for rows is asked this often whether what it has is to be sealed.
_IDLE_S = 1.0


class Rows:
    """Features of one engine on their way to its sinks: an image goes on when its views are complete.

    Parameters
    ----------
    sinks : sequence of Sink
        One for each output of the engine.
    views : int
        Rows that an image has.
    settle : callable
        Hears of the keys that are in all sinks, or in none for good.
    refuse : callable, optional
        Hears of how many images have features that are numbers, and the keys of those that have not,
        which are stored nowhere.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        views: int,
        settle: Callable[[Sequence[bytes]], None],
        refuse: Callable[[int, Sequence[bytes]], None] = lambda n_sound, keys: None,
    ) -> None:
        self.sinks = sinks
        self._views = views
        self._settle = settle
        self._refuse = refuse
        self._next = 0
        self._early: dict[
            int, tuple[Sequence[bytes], Sequence[int], list[np.ndarray], np.ndarray]
        ] = {}
        self._rest: list[np.ndarray] | None = None  # views of an image that is not complete
        self._rest_sound = np.ones(0, bool)
        self.stored = 0

    def put(
        self,
        number: int,
        keys: Sequence[bytes],
        hashes: Sequence[int],
        features: list[np.ndarray],
        sound: np.ndarray | None = None,
    ) -> None:
        """Take a batch: key and phash of the images that end in it, and an array for each output.

        `sound` says which views have numbers for features, (m,) bool; by default all.
        """
        if sound is None:
            sound = np.ones(len(features[0]), bool)
        self._early[number] = keys, hashes, features, sound
        while self._next in self._early:
            self._append(*self._early.pop(self._next))
            self._next += 1

    def _append(
        self,
        keys: Sequence[bytes],
        hashes: Sequence[int],
        features: list[np.ndarray],
        sound: np.ndarray,
    ) -> None:
        if self._rest is not None:
            features = [np.concatenate(both) for both in zip(self._rest, features, strict=True)]
            sound = np.concatenate([self._rest_sound, sound])
        whole = len(keys) * self._views
        self._rest = [each[whole:] for each in features] if len(features[0]) > whole else None
        self._rest_sound = sound[whole:]
        if not whole:
            return
        rows = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        values = [each[:whole].reshape(len(keys), -1) for each in features]
        codes = np.array(hashes, np.uint64)
        good = np.asarray(sound[:whole].reshape(len(keys), -1).all(axis=1))
        if not good.all():
            rows, codes, values = rows[good], codes[good], [each[good] for each in values]
        self._refuse(
            len(rows), [key for key, kept in zip(keys, good.tolist(), strict=True) if not kept]
        )
        if len(rows):
            for sink, each in zip(self.sinks, values, strict=True):
                sink.append(rows, each, codes)
        self.stored += len(rows)
        self._settle(keys)


class Writer:
    """Runs jobs in one thread, in the order in which they were given.

    Parameters
    ----------
    crew : Crew
    """

    def __init__(self, crew: Crew) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed: SimpleQueue[None] = SimpleQueue()
        self._sinks: list[Sink] = []
        self._until_s = math.inf  # of `time.monotonic`
        self._thread = crew.start("write", self._work)

    def put(self, job: Callable[[], None]) -> None:
        """Have a job done."""
        self._jobs.put(job)

    def watch(self, sinks: Sequence[Sink]) -> None:
        """Ask these now and then whether they have waited long enough."""
        self._sinks.extend(sink for sink in sinks if hasattr(sink, "seal_if_due"))

    def close(self, within_s: float = math.inf) -> None:
        """Return when the jobs given so far are done, or dropped; none is begun afterwards.

        Ctrl-C does not shorten it: who called would use the sinks at the same time.

        Parameters
        ----------
        within_s : float
            Jobs that are not begun by then are dropped.
        """
        self._until_s = time.monotonic() + within_s
        self._jobs.put(None)
        while self._thread.is_alive():
            try:
                self._closed.get(timeout=TICK_S)
                return
            except (Empty, KeyboardInterrupt):
                continue

    def _work(self) -> None:
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=_IDLE_S)
                except Empty:
                    for sink in self._sinks:
                        sink.seal_if_due()  # type: ignore[attr-defined]
                    continue
                if job is None or time.monotonic() > self._until_s:
                    return
                job()
        finally:
            self._closed.put(None)
