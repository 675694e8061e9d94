"""From samples to keys and features: read, hash, decode and preprocess in threads, forward, store.

Every sample ends in exactly one of three ways: its feature was known, it was computed, or it is
quarantined with a reason. A feature is stored under the key of the very bytes it was decoded from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np

from ..engines.base import Engine
from ..images.decode import BadImage
from ..images.payload import key_of, payload, to_image
from ..images.preprocess import Preprocessing, apply
from ..images.sample import Sample
from ..reporter import Progress


class Sink(Protocol):
    """Where computed features go: shards on disk, or memory."""

    def append(self, keys: np.ndarray, features: np.ndarray) -> object:
        """Take features (m, d) float32 with their keys (m, 32) uint8."""


@dataclass(slots=True)
class Outcome:
    """How every sample ended, in the order of the samples.

    Attributes
    ----------
    keys : ndarray of shape (n, 32), uint8
        Zeros where a file could not be read.
    reasons : dict of int to str
        Samples without a feature, and why.
    computed, reused : int
        Features made now; rows whose feature was known or is that of equal bytes.
    """

    keys: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0


@dataclass(slots=True)
class _Prepared:
    index: int
    key: bytes | None = None
    pixels: np.ndarray | None = None
    reason: str | None = None


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
    """Reads, hashes and, where its feature is missing, decodes one sample. Safe from many threads.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
    known : container of bytes
        Keys whose features need not be computed.
    """

    def __init__(
        self, samples: Sequence[Sample], preprocessing: Preprocessing, known: Container[bytes]
    ) -> None:
        self._samples = samples
        self._preprocessing = preprocessing
        self._known = known
        self._claimed: set[bytes] = set()
        self._lock = Lock()

    def __call__(self, index: int) -> _Prepared:
        """Never raises for a bad image: the reason is the result."""
        sample = self._samples[index]
        if sample.fault:
            return _Prepared(index, reason=sample.fault)
        key = None
        try:
            data = payload(sample.source)
            key = key_of(data)
            if key in self._known or not self._claim(key):
                return _Prepared(index, key)
            return _Prepared(index, key, apply(to_image(data), self._preprocessing))
        except BadImage as bad:
            return _Prepared(index, key, reason=str(bad))

    def _claim(self, key: bytes) -> bool:
        """True for the first sample of these bytes: equal bytes are computed once."""
        with self._lock:
            if key in self._claimed:
                return False
            self._claimed.add(key)
            return True


def run(
    samples: Sequence[Sample],
    *,
    preprocessing: Preprocessing,
    known: Container[bytes],
    sink: Sink,
    start_engine: Callable[[], Engine],
    workers: int,
    window: int,
    progress: Progress,
    on_bad: Callable[[Sample, str], None] | None = None,
) -> Outcome:
    """Give every sample its key, and every missing key its feature.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
    known : container of bytes
        Keys that already have a feature.
    sink : Sink
        Receives the new features.
    start_engine : callable
        Called once, and only if a feature is missing.
    workers : int
        Threads that read and decode. Pillow and BLAKE3 release the interpreter's lock.
    window : int
        Samples in flight at the most: memory does not grow with their number.
    progress : Progress
    on_bad : callable, optional
        Hears of each sample that is quarantined as it happens; may raise to stop.

    Returns
    -------
    Outcome

    Raises
    ------
    Interrupted
        On Ctrl-C. What was finished is in the sink; the batch in flight is dropped.
    """
    outcome = Outcome(np.zeros((len(samples), 32), np.uint8))
    batcher = _Batcher(start_engine, sink)
    bad: dict[bytes, str] = {}  # equal bytes fail alike, though only the first was decoded
    pool = ThreadPoolExecutor(workers, thread_name_prefix="bottleneck-decode")
    done = 0
    try:
        for prepared in _in_order(
            pool, Preparer(samples, preprocessing, known), len(samples), window
        ):
            done += 1  # before `add`, which counts the same image as waiting
            if prepared.key is not None:
                outcome.keys[prepared.index] = np.frombuffer(prepared.key, np.uint8)
            if prepared.reason is not None:
                outcome.reasons[prepared.index] = prepared.reason
                if prepared.key is not None:
                    bad[prepared.key] = prepared.reason
                if on_bad:
                    on_bad(samples[prepared.index], prepared.reason)
            elif prepared.pixels is not None and prepared.key is not None:
                batcher.add(prepared.key, prepared.pixels)
            progress.advance()
        batcher.flush()
    except KeyboardInterrupt:
        raise Interrupted(done - batcher.waiting, len(samples)) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for index in range(len(samples)) if bad else ():
        # Whichever thread came first decoded for all samples of these bytes.
        reason = bad.get(outcome.keys[index].tobytes())
        if reason is not None and index not in outcome.reasons:
            outcome.reasons[index] = reason
            if on_bad:
                on_bad(samples[index], reason)
    outcome.computed = batcher.computed
    outcome.reused = len(samples) - outcome.computed - len(outcome.reasons)
    return outcome


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
    """Collects pixels into batches of the engine's size and hands features on."""

    def __init__(self, start_engine: Callable[[], Engine], sink: Sink) -> None:
        self._start_engine = start_engine
        self._sink = sink
        self._engine: Engine | None = None
        self._keys: list[bytes] = []
        self._pixels: list[np.ndarray] = []
        self.computed = 0

    @property
    def waiting(self) -> int:
        """Images taken in whose feature is not in the sink yet."""
        return len(self._keys)

    def add(self, key: bytes, pixels: np.ndarray) -> None:
        # First: an interrupt while the engine starts must not count this image as kept.
        self._keys.append(key)
        self._pixels.append(pixels)
        if self._engine is None:
            self._engine = self._start_engine()
        if len(self._keys) == self._engine.batch_size:
            self.flush()

    def flush(self) -> None:
        if not self._keys:
            return
        assert self._engine is not None
        features = self._engine.run(np.stack(self._pixels))
        keys = np.frombuffer(b"".join(self._keys), np.uint8).reshape(-1, 32)
        self._sink.append(keys, features)
        self.computed += len(keys)
        self._keys, self._pixels = [], []
