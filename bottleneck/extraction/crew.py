"""The threads of one run: they stop together, and the first error of any reaches the caller.

Daemon threads of our own, not a `ThreadPoolExecutor`: Python joins that one's threads when it exits,
and a decoder that never returns would keep the process for ever. They wait in `SimpleQueue.get` alone,
which a put ends and which no Ctrl-C can leave half done.
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from .. import interrupts

T = TypeVar("T")

# How soon the waiting main thread notices an error of another thread, and looks after the decoders.
TICK_S = 0.1
_PREFIX = "bottleneck-"
# Threads that were dismissed end within a moment; whatever holds one up must not hold up the caller.
_FAREWELL_S = 1.0

# A batch that was dropped and still runs when the interpreter exits.
_LAST_BATCH_S = 5.0

_started: weakref.WeakSet[Thread] = weakref.WeakSet()


def left_running() -> bool:
    """Whether threads of earlier runs still work: in a decoder that hangs, or in a dropped batch.

    Then a program that must not wait should end by `os._exit`. Otherwise they go on in native code
    while the libraries beneath them are taken down: OpenVINO aborts the process (signal 6) in 5 of 6
    such exits.
    """
    return any(thread.is_alive() for thread in list(_started))


@atexit.register
def _see_out() -> None:
    """Before the interpreter goes, wait a little for batches that were dropped, not for decoders."""
    until = time.monotonic() + _LAST_BATCH_S
    for thread in list(_started):
        if thread.name == f"{_PREFIX}forward":
            thread.join(max(0.0, until - time.monotonic()))


class Crew:
    """Starts the threads of one run, stops them, and keeps their first error.

    Attributes
    ----------
    stopping : bool
        Once it is true, no thread begins anything new.
    dropping : bool
        Once it is true, what a thread has just finished is not wanted either.
    failure : BaseException or None
    """

    def __init__(self) -> None:
        self.stopping = self.dropping = False
        self.failure: BaseException | None = None
        self._threads: list[Thread] = []

    def start(self, name: str, work: Callable[[], None]) -> Thread:
        """Run `work` in a thread; whatever it raises ends the run."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.fail(error)

        thread = Thread(target=run, name=_PREFIX + name, daemon=True)
        _started.add(thread)
        self._threads.append(thread)
        thread.start()
        return thread

    def forget(self, thread: Thread) -> None:
        """Do not wait for a thread that may never end."""
        self._threads.remove(thread)

    def join(self) -> None:
        """See the threads out, which have nothing to do any more."""
        for thread in self._threads:
            thread.join(_FAREWELL_S)

    def fail(self, error: BaseException) -> None:
        """Keep an error for the caller; the first one counts, the others are mostly its echo."""
        if self.failure is None:
            self.failure = error

    def check(self) -> None:
        """Raise what a thread has raised, and a Ctrl-C that Python has dropped."""
        interrupts.check()
        if self.failure is not None:
            raise self.failure

    def take(self, queue: SimpleQueue[T], idle: Callable[[], None]) -> T:
        """The next item of a queue; meanwhile errors are raised and `idle` is called at each tick.

        Parameters
        ----------
        queue : SimpleQueue
        idle : callable
            May put something into the queue.
        """
        while True:
            self.check()
            try:
                return queue.get(timeout=TICK_S)
            except Empty:
                idle()
