"""From samples to keys and features: read, hash, decode and preprocess in threads, forward, store.

Every sample ends in exactly one of three ways for each backbone: its features were known, they were
computed, or it is quarantined with a reason. A feature is stored under the key of the very bytes it was
decoded from. However many backbones there are, an image is read and decoded once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import numpy as np

from ..engines.base import Engine
from ..images.decode import BadImage
from ..images.payload import key_of, payload, to_image
from ..images.preprocess import Preprocessing, frames, outside
from ..images.sample import Sample
from ..reporter import Progress


class Sink(Protocol):
    """Where computed features of one output go: shards on disk, or memory."""

    def append(self, keys: np.ndarray, features: np.ndarray) -> object:
        """Take features (m, views * d) float32 with their keys (m, 32) uint8."""


class Lane(Protocol):
    """One backbone on its way through the images."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What its images go through."""

    @property
    def sinks(self) -> Sequence[Sink]:
        """One for each output."""

    def missing(self, key: bytes) -> tuple[int, ...]:
        """Outputs, by their index, without a feature for this key. Safe from many threads."""

    def start(self, outputs: tuple[int, ...]) -> Engine:
        """An engine for these outputs; called once for each set of them that is met."""


@dataclass(slots=True)
class Outcome:
    """How every sample ended for one backbone, in the order of the samples.

    Attributes
    ----------
    keys : ndarray of shape (n, 32), uint8
        Zeros where a file could not be read.
    reasons : dict of int to str
        Samples without a feature, and why.
    computed, reused : int
        Images that went through the network now; rows whose features were known or are those of
        equal bytes.
    outside : list of float
        Share of the area that the network does not see, for each image that was decoded.
    narrow : list of float
        Share of its range of values that an image of more than 8 bits a channel uses.
    images_per_second : float or None
        Of the network alone, after its first batch.
    """

    keys: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0
    outside: list[float] = field(default_factory=list)
    narrow: list[float] = field(default_factory=list)
    images_per_second: float | None = None


@dataclass(slots=True)
class _Framed:
    """An image as one backbone will see it, or why it cannot."""

    outputs: tuple[int, ...]
    pixels: np.ndarray | None = None
    outside: float = 0.0
    range_used: float | None = None
    reason: str | None = None


@dataclass(slots=True)
class _Prepared:
    index: int
    key: bytes | None = None
    framed: dict[int, _Framed] = field(default_factory=dict)  # by lane
    reason: str | None = None  # for all lanes


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


class Preparer:
    """Reads, hashes and, where a feature is missing, decodes one sample. Safe from many threads.

    Parameters
    ----------
    samples : sequence of Sample
    lanes : sequence of Lane
    """

    def __init__(self, samples: Sequence[Sample], lanes: Sequence[Lane]) -> None:
        self._samples = samples
        self._lanes = lanes
        self._claimed: set[bytes] = set()
        self._lock = Lock()

    def __call__(self, index: int) -> _Prepared:
        """Never raises for a bad image: the reason is the result."""
        sample = self._samples[index]
        if sample.fault:
            return _Prepared(index, reason=sample.fault)
        try:
            content = payload(sample.source)
            key = key_of(content)
        except BadImage as bad:
            return _Prepared(index, reason=str(bad))
        prepared = _Prepared(index, key)
        missing = {i: lane.missing(key) for i, lane in enumerate(self._lanes)}
        if any(missing.values()) and self._claim(key):
            decoded: dict[str, Any] = {}  # one image for each range of values that is asked for
            for i, outputs in missing.items():
                if outputs:
                    prepared.framed[i] = _frame(
                        content, decoded, self._lanes[i].preprocessing, outputs
                    )
        return prepared

    def _claim(self, key: bytes) -> bool:
        """True for the first sample of these bytes: equal bytes are computed once."""
        with self._lock:
            if key in self._claimed:
                return False
            self._claimed.add(key)
            return True


def _frame(
    content: bytes | np.ndarray, decoded: dict[str, Any], p: Preprocessing, outputs: tuple[int, ...]
) -> _Framed:
    try:
        if p.range not in decoded:
            decoded[p.range] = to_image(content, range=p.range)
        image = decoded[p.range]
        return _Framed(
            outputs, frames(image, p), outside(image.size, p), image.info.get("range_used")
        )
    except BadImage as bad:
        return _Framed(outputs, reason=str(bad))


def run(
    samples: Sequence[Sample],
    *,
    lanes: Sequence[Lane],
    workers: int,
    window: int,
    progress: Progress,
    on_bad: Callable[[Sample, str], None] | None = None,
) -> list[Outcome]:
    """Give every sample its key, and every missing key its features.

    Parameters
    ----------
    samples : sequence of Sample
    lanes : sequence of Lane
        Their sinks receive the new features; an engine is started only if one is missing.
    workers : int
        Threads that read and decode. Pillow and BLAKE3 release the interpreter's lock.
    window : int
        Samples in flight at the most: memory does not grow with their number.
    progress : Progress
    on_bad : callable, optional
        Hears of each sample that is quarantined as it happens; may raise to stop.

    Returns
    -------
    list of Outcome
        One for each lane.

    Raises
    ------
    Interrupted
        On Ctrl-C. What was finished is in the sinks; the batch in flight is dropped.
    """
    keys = np.zeros((len(samples), 32), np.uint8)
    outcomes = [Outcome(keys) for _ in lanes]
    batchers = [_Batcher(lane) for lane in lanes]
    bad: list[dict[bytes, str]] = [{} for _ in lanes]  # equal bytes fail alike
    pool = ThreadPoolExecutor(workers, thread_name_prefix="bottleneck-decode")
    done = 0
    under_way: bytes | None = None  # the image that is being sorted in, not yet counted as done

    def quarantine(index: int, lane: int, reason: str) -> None:
        told = any(index in outcome.reasons for outcome in outcomes)
        outcomes[lane].reasons[index] = reason
        if on_bad and not told:
            on_bad(samples[index], reason)

    try:
        for prepared in _in_order(pool, Preparer(samples, lanes), len(samples), window):
            index, key = prepared.index, prepared.key
            under_way = key
            if key is not None:
                keys[index] = np.frombuffer(key, np.uint8)
            if prepared.reason is not None:
                for i in range(len(lanes)):
                    quarantine(index, i, prepared.reason)
            for i, framed in prepared.framed.items():
                assert key is not None
                if framed.range_used is not None:
                    outcomes[i].narrow.append(framed.range_used)
                if framed.pixels is None:
                    reason = framed.reason or ""
                    bad[i][key] = reason
                    quarantine(index, i, reason)
                else:
                    outcomes[i].outside.append(framed.outside)
                    batchers[i].add(key, framed.pixels, framed.outputs)
            under_way = None
            done += 1
            progress.advance()
        for batcher in batchers:
            batcher.flush()
    except KeyboardInterrupt:
        waiting = max(batcher.waiting(besides=under_way) for batcher in batchers)
        raise Interrupted(done - waiting, len(samples)) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for i, outcome in enumerate(outcomes):
        for index in range(len(samples)) if bad[i] else ():
            # Whichever thread came first decoded for all samples of these bytes.
            again = bad[i].get(keys[index].tobytes())
            if again is not None and index not in outcome.reasons:
                quarantine(index, i, again)
        outcome.computed = batchers[i].computed
        outcome.reused = len(samples) - outcome.computed - len(outcome.reasons)
        outcome.images_per_second = batchers[i].images_per_second
    return outcomes


def _in_order(
    pool: ThreadPoolExecutor, prepare: Preparer, n: int, window: int
) -> Iterator[_Prepared]:
    """Results in the order of the samples, with a bounded number under way."""
    futures: deque[Future[_Prepared]] = deque()
    for index in range(n):
        futures.append(pool.submit(prepare, index))
        if len(futures) >= window:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


class _Batcher:
    """One lane's images, sorted by which of its outputs they lack: usually all of them."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._queues: dict[tuple[int, ...], _Queue] = {}

    def add(self, key: bytes, pixels: np.ndarray, outputs: tuple[int, ...]) -> None:
        if outputs not in self._queues:
            self._queues[outputs] = _Queue(self._lane, outputs)
        self._queues[outputs].add(key, pixels)

    def flush(self) -> None:
        for queue in self._queues.values():
            queue.flush()

    def waiting(self, besides: bytes | None) -> int:
        """Images taken in whose features are not in the sinks yet, one of them left out."""
        return sum(key != besides for queue in self._queues.values() for key in queue.keys)

    @property
    def computed(self) -> int:
        return sum(queue.computed for queue in self._queues.values())

    @property
    def images_per_second(self) -> float | None:
        timed = [queue for queue in self._queues.values() if queue.timed]
        seconds = sum(queue.seconds for queue in timed)
        return sum(queue.timed for queue in timed) / seconds if seconds > 0 else None


class _Queue:
    """Collects views into batches of the engine's size; hands on images whose views are complete."""

    def __init__(self, lane: Lane, outputs: tuple[int, ...]) -> None:
        self._lane = lane
        self._outputs = outputs
        self._sinks = [lane.sinks[i] for i in outputs]
        self._views = lane.preprocessing.views
        self._engine: Engine | None = None
        self._pixels: deque[np.ndarray] = deque()
        self._rows: list[list[np.ndarray]] = [[] for _ in outputs]
        self.keys: deque[bytes] = deque()
        self.computed = 0
        self.seconds = 0.0
        self.timed = 0  # images in `seconds`

    def add(self, key: bytes, pixels: np.ndarray) -> None:
        # First: an interrupt while the engine starts must not count this image as kept.
        self.keys.append(key)
        self._pixels.extend(pixels)
        if self._engine is None:
            self._engine = self._lane.start(self._outputs)
        while len(self._pixels) >= self._engine.batch_size:
            self._forward(self._engine, self._engine.batch_size)

    def flush(self) -> None:
        if self._pixels and self._engine is not None:
            self._forward(self._engine, len(self._pixels))

    def _forward(self, engine: Engine, count: int) -> None:
        started = time.perf_counter()
        features = engine.run(np.stack([self._pixels[i] for i in range(count)]))
        if self.computed and count == engine.batch_size:  # the first batch also plans memory
            self.seconds += time.perf_counter() - started
            self.timed += count // self._views
        for _ in range(count):
            self._pixels.popleft()
        for rows, new in zip(self._rows, features, strict=True):
            rows.extend(new)
        whole = len(self._rows[0]) // self._views
        if not whole:
            return
        taken = [self.keys.popleft() for _ in range(whole)]
        # From here on they count as kept: a sink takes rows at once, and sealing them, which takes
        # long and may be interrupted, is done again by whoever catches the interrupt.
        self.computed += whole
        keys = np.frombuffer(b"".join(taken), np.uint8).reshape(-1, 32)
        for sink, rows in zip(self._sinks, self._rows, strict=True):
            sink.append(keys, np.stack(rows[: whole * self._views]).reshape(whole, -1))
            del rows[: whole * self._views]
