"""Forward passes of one engine: views in order in, batches in reused buffers, features to the writer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np

from ..engines.base import Engine, NotFiniteError, OutOfMemoryError
from .contract import Lane
from .crew import Crew
from .unsound import Unsound
from .writer import Rows, Writer

# Buffers besides those that streams work on: one is being filled, and as many as there are streams
# lie ready; the rest is for rows that the writer has not stored yet.
_SPARE = 3
# With batches of one image a seal of 30 ms would otherwise stop everything.
_LEAST_IMAGES = 32


@dataclass(slots=True)
class _Batch:
    pixels: np.ndarray  # (batch_size, h, w, 3) uint8, the last rows perhaps of an earlier batch
    number: int = 0
    count: int = 0
    keys: list[bytes] = field(default_factory=list)  # of images whose last view is in it
    hashes: list[int] = field(default_factory=list)  # likewise, perceptual


@dataclass(slots=True)
class _Timing:
    """What one thread has measured."""

    seconds: float = 0.0
    views: int = 0


class Batches:
    """One lane's images that lack the same outputs.

    One thread adds; as many as the engine has streams run it. A batch is made of neighbours in the
    order of the samples, whoever decoded or runs it, and when.

    Parameters
    ----------
    lane : Lane
    outputs : tuple of int
    crew : Crew
    writer : Writer
    settle : callable
        Hears of the keys whose features are stored, or refused.
    refuse : callable
        Hears of each key for which the network gives no numbers, and the reason; from the writer's
        thread.
    idle : callable
        Called while `add` has to wait for a buffer.
    """

    def __init__(
        self,
        lane: Lane,
        outputs: tuple[int, ...],
        *,
        crew: Crew,
        writer: Writer,
        settle: Callable[..., None],
        refuse: Callable[[bytes, str], None],
        idle: Callable[[], None],
    ) -> None:
        self._lane = lane
        self._outputs = outputs
        self._crew = crew
        self._writer = writer
        self._idle = idle
        self._views = lane.preprocessing.views
        self._unsound = Unsound(refuse)
        self._rows = Rows([lane.sinks[i] for i in outputs], self._views, settle, self._refuse)
        self._free: SimpleQueue[_Batch] = SimpleQueue()
        self._ready: SimpleQueue[_Batch | None] = SimpleQueue()
        self._shrinking = threading.Lock()
        self._timings: list[_Timing] = []
        self._threads: list[threading.Thread] = []
        self._open: _Batch | None = None
        self._made = self._submitted = 0
        self._engine = lane.start(outputs)
        self._streams = max(1, self._engine.streams)
        batch_size = self._engine.batch_size
        self._buffers = max(2 * self._streams + _SPARE, -(-_LEAST_IMAGES // batch_size))
        self._shape = (batch_size, *self._engine.size, 3)
        writer.watch(self._rows.sinks)

    @property
    def computed(self) -> int:
        """Images whose features are stored."""
        return self._rows.stored

    @property
    def timed(self) -> tuple[float, float]:
        """Images, and the seconds they took all streams together; without each one's first batch.

        The first one also plans memory.
        """
        views = sum(timing.views for timing in self._timings)
        seconds = sum(timing.seconds for timing in self._timings)
        return views / self._views, seconds / self._streams

    def add(self, key: bytes, phash: int, pixels: np.ndarray) -> None:
        """Take an image (views, h, w, 3) uint8; waits while enough batches are under way."""
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._shape[1:]:
            # An assignment below would broadcast or cast it. The engine has the words.
            self._engine.run(pixels)
        last = len(pixels) - 1
        for view in range(len(pixels)):
            batch = self._open = self._open or self._buffer()
            batch.pixels[batch.count] = pixels[view]
            batch.count += 1
            if view == last:
                batch.keys.append(key)
                batch.hashes.append(phash)
            # After a batch that did not fit: whole calls of the smaller engine.
            size = self._shape[0]
            # It may be fuller than that already: the other threads shrink it at any time.
            if batch.count >= size - size % self._engine.batch_size:
                self._submit()

    def flush(self) -> None:
        """Submit what is left, and wait until everything is stored."""
        if self._open is not None:
            self._submit()
        for _ in range(self._made):
            self._crew.take(self._free, self._idle)
        self.dismiss()
        self._unsound.close()

    def dismiss(self) -> None:
        """Let the threads end."""
        self._ready.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the batches that were begun, after `dismiss`."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _buffer(self) -> _Batch:
        """One that is free, or a new one while there are few."""
        try:
            batch = self._free.get_nowait()
        except Empty:
            if self._made < self._buffers:
                self._made += 1
                return _Batch(np.empty(self._shape, np.uint8), number=self._submitted)
            batch = self._crew.take(self._free, self._idle)
        batch.number, batch.count, batch.keys, batch.hashes = self._submitted, 0, [], []
        return batch

    def _submit(self) -> None:
        assert self._open is not None
        self._submitted += 1
        self._ready.put(self._open)
        self._open = None
        if len(self._timings) < self._streams:
            timing = _Timing()
            self._timings.append(timing)
            self._threads.append(self._crew.start("forward", lambda: self._forward(timing)))

    def _forward(self, timing: _Timing) -> None:
        """What one thread does until it is dismissed."""
        first = True
        while (batch := self._ready.get()) is not None and not self._crew.stopping:
            engine = self._engine
            started = time.perf_counter()
            found = self._run(batch.pixels[: batch.count])
            if found is None or self._crew.dropping:
                break
            if not first and batch.count == engine.batch_size and engine is self._engine:
                timing.seconds += time.perf_counter() - started
                timing.views += batch.count
            first = False
            self._writer.put(self._storing(batch, *found))
        self._ready.put(None)  # for the next thread

    def _storing(
        self, batch: _Batch, features: list[np.ndarray], sound: np.ndarray
    ) -> Callable[[], None]:
        def store() -> None:
            self._rows.put(batch.number, batch.keys, batch.hashes, features, sound)
            # Only now: a slow disk holds up the network, and so the memory stays bounded.
            self._free.put(batch)

        return store

    def _refuse(self, n_sound: int, keys: Sequence[bytes]) -> None:
        self._unsound.note(n_sound, keys, self._engine)

    def _run(self, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray] | None:
        """Features of a batch, in several calls if it does not fit; None if the run was stopped.

        Beside them, (m,) bool, which of the views have numbers for features.
        """
        while True:
            engine = self._engine
            try:
                return self._in_calls(engine, images)
            except OutOfMemoryError as error:
                self._shrink(engine, error)

    def _in_calls(
        self, engine: Engine, images: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray] | None:
        parts = []
        sound = np.ones(len(images), bool)
        for start in range(0, len(images), engine.batch_size):
            if self._crew.dropping:
                return None
            try:
                found = engine.run(images[start : start + engine.batch_size])
            except NotFiniteError as error:
                found = error.features
                sound[start : start + engine.batch_size] = ~error.rows
            # Copied: an engine may give the same memory for the next batch.
            parts.append([np.array(each) for each in found])
        if len(parts) == 1:
            return parts[0], sound
        return [np.concatenate(each) for each in zip(*parts, strict=True)], sound

    def _shrink(self, engine: Engine, error: OutOfMemoryError) -> None:
        """Go on with a smaller batch, unless another stream has seen to it."""
        with self._shrinking:
            if engine is not self._engine:
                return
            if engine.batch_size == 1:
                raise error
            smaller = self._lane.smaller(self._outputs, engine)
            if not 1 <= smaller.batch_size < engine.batch_size:
                raise error
            self._engine = smaller
