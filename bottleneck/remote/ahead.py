"""Work that waits for other machines, done some items ahead of where it is needed."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeVar, cast

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

# Answers take 10 to 100 ms: with 16 under way some hundred small images a second arrive.
THREADS = 16
# Of images that were read and are not decoded yet.
MAX_HELD = 128 << 20


class Job(Generic[B]):
    """What one piece of work comes to."""

    def __init__(self, work: Callable[[], B]) -> None:
        self._work = work
        self._done = Event()
        self._result: B | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it; whatever it raises is kept."""
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        self._done.set()

    def result(self) -> B:
        """Wait for it; raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return cast("B", self._result)


class Pool:
    """A few threads that take work until the pool is gone.

    Daemon threads of our own, not a `ThreadPoolExecutor`: Python joins that one's threads when it
    exits, and a server that never answers would keep the process.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._work: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._free = threads
        # The threads know the queue alone, so that they end when nobody has the pool any more.
        weakref.finalize(self, self._work.put, None)

    def submit(self, work: Callable[[], C]) -> Job[C]:
        """Have something done."""
        job = Job(work)
        self._work.put(job)
        if self._free:
            self._free -= 1
            Thread(target=_take, args=(self._work,), name="bottleneck-remote", daemon=True).start()
        return job


def _take(queue: SimpleQueue[Job[Any] | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()
    queue.put(None)  # for the next thread


def in_order(work: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """The results of `work` for each item in order, up to `threads` of them under way at a time."""
    pool = Pool(threads)
    waiting: deque[Job[B]] = deque()
    for item in items:
        waiting.append(pool.submit(partial(work, item)))
        if len(waiting) >= threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Ahead(Generic[B]):
    """Reads samples some places ahead of the threads that decode them. Safe from many threads.

    Parameters
    ----------
    read : callable
        Index of a sample to what is read.
    depth : int
        How many may be read and not taken yet.
    weigh : callable, optional
        The bytes that are held by what was read: from `MAX_HELD` on nothing more is begun.
    """

    def __init__(
        self,
        read: Callable[[int], B],
        depth: int = 2 * THREADS,
        weigh: Callable[[B], int] = lambda _: 0,
    ) -> None:
        self._read = read
        self._weigh = weigh
        self._held = 0
        self._depth = depth
        self._pool = Pool(min(depth, THREADS))
        self._lock = Lock()
        self._jobs: dict[int, Job[tuple[B, int]]] = {}
        self._next: deque[int] = deque()

    def begin(self, index: int) -> None:
        """A sample will be taken, after those that were begun before."""
        with self._lock:
            self._next.append(index)
            self._start()

    def take(self, index: int) -> B:
        """What was read for a sample that was begun; who comes too early reads it himself."""
        with self._lock:
            job = self._jobs.pop(index, None)
            if job is None:
                with suppress(ValueError):
                    self._next.remove(index)
        if job is None:
            return self._read(index)
        try:
            found, weight = job.result()
        finally:
            with self._lock:
                self._start()
        with self._lock:
            self._held -= weight
            self._start()
        return found

    def _start(self) -> None:
        while self._next and len(self._jobs) < self._depth and self._held < MAX_HELD:
            index = self._next.popleft()
            self._jobs[index] = self._pool.submit(partial(self._weighed, index))

    def _weighed(self, index: int) -> tuple[B, int]:
        found = self._read(index)
        weight = self._weigh(found)
        with self._lock:
            self._held += weight
        return found, weight
