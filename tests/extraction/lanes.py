"""A lane without a backbone for tests of the pipeline: the feature is the sum of a view's pixels.

Loaded by path from `conftest.py`.
"""

import threading
import time

import numpy as np
from bottleneck_probe.engines.base import Engine, OutOfMemoryError
from bottleneck_probe.images.preprocess import Preprocessing
from bottleneck_probe.images.sample import Sample

SIDE = 4
HALF = (0.5, 0.5, 0.5)


def plain(framing="crop"):
    return Preprocessing(SIDE, (SIDE, SIDE), "nearest", HALF, HALF, framing=framing)


class Network(Engine):
    """Sums and maxima; notes every call, and can be slow, fail, or run out of memory."""

    name = "sums"

    def __init__(self, batch_size=4, *, streams=1, delay_s=0.0, memory=None, on_call=None, n=1):
        super().__init__(
            batch_size=batch_size, size=(SIDE, SIDE), feature_sizes=[2] * n, device="cpu"
        )
        self.streams = streams
        self.delay_s = delay_s
        self.memory = memory
        self.on_call = on_call
        self.calls = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def forward(self, images):
        with self._lock:
            self.calls.append(len(images))
            number = len(self.calls)
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.memory is not None and len(images) > self.memory:
                time.sleep(0.02)  # other streams run out of it as well
                raise OutOfMemoryError(f"{len(images)} images are too many")
            if self.on_call:
                self.on_call(number)
            time.sleep(self.delay_s)
            flat = images.reshape(len(images), -1).astype(np.float32)
            found = np.column_stack([flat.sum(axis=1), flat.max(axis=1)])
            return [found + i for i in range(len(self.feature_sizes))]
        finally:
            with self._lock:
                self.at_once -= 1


class MemorySink:
    """Keeps rows, and who brought them when; `reached` is set when it has `awaited` rows."""

    def __init__(self, delay_s=0.0, *, awaited=1):
        self.keys, self.features, self.hashes, self.threads = [], [], [], set()
        self.delay_s = delay_s
        self.awaited, self.reached = awaited, threading.Event()
        self.appends = 0

    def append(self, keys, features, hashes):
        time.sleep(self.delay_s)
        self.threads.add(threading.current_thread().name)
        self.appends += 1
        self.keys += [key.tobytes() for key in keys]
        self.features += [np.array(row) for row in features]
        self.hashes += hashes.tolist()
        if len(self.keys) >= self.awaited:
            self.reached.set()

    def rows(self):
        return {key: row.tobytes() for key, row in zip(self.keys, self.features, strict=True)}


class FakeLane:
    """Starts the engine that it was given; knows the features of `known` keys."""

    def __init__(self, network=None, *, known=(), framing="crop", sinks=None):
        self.network = network or Network()
        self.preprocessing = plain(framing)
        self.sinks = sinks or [MemorySink() for _ in self.network.feature_sizes]
        self.known = set(known)
        self.started = []
        self.shrunk = []

    def missing(self, key):
        return () if key in self.known else tuple(range(len(self.sinks)))

    def start(self, outputs):
        self.started.append(outputs)
        return self.network

    def smaller(self, outputs, engine):
        self.shrunk.append(engine.batch_size // 2)
        return Network(
            engine.batch_size // 2,
            streams=engine.streams,
            memory=engine.memory,
            n=len(engine.feature_sizes),
        )


class Bar:
    """Counts, and notes who counted."""

    def __init__(self):
        self.done, self.threads = 0, set()

    def advance(self, n=1):
        self.done += n
        self.threads.add(threading.current_thread())

    def resize(self, total):
        pass


def pixels_of(number):
    """An image of its own for each number."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def in_memory(numbers):
    """Samples whose pixels are here already."""
    return [Sample(f"{i:05d}", pixels_of(number)) for i, number in enumerate(numbers)]


def feature_of(number):
    """What a plain loop computes."""
    flat = pixels_of(number).astype(np.float32)
    return np.array([flat.sum(), flat.max()], np.float32)


def see_out(*names):
    """Wait for threads of runs that were stopped, as far as they can end."""
    for thread in threading.enumerate():
        if thread.name.removeprefix("bottleneck-") in names:
            thread.join(60)
            assert not thread.is_alive()
