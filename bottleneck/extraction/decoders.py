"""Threads that read, hash and decode: indices of samples in, prepared samples out, in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

from ..errors import BottleneckError, InputError
from . import conditions
from .crew import TICK_S, Crew
from .patience import Patience
from .prepare import Prepared, Preparer


class Decoders:
    """A bounded number of samples under way, so that memory does not grow with their number.

    Only the thread that made it calls its methods. What `conditions` hold there hold for its threads.

    Parameters
    ----------
    preparer : Preparer
    n : int
        Samples in all.
    workers : int
        Threads; started when the first sample has to be read.
    window : int
        How far they may run ahead of what was taken.
    crew : Crew
    name_of : callable
        What to call a sample in an error.
    """

    def __init__(
        self,
        preparer: Preparer,
        n: int,
        *,
        workers: int,
        window: int,
        crew: Crew,
        name_of: Callable[[int], str],
    ) -> None:
        self._preparer = preparer
        self._n = n
        self._n_workers = workers
        self._window = max(window, workers)
        self._crew = crew
        self._name_of = name_of
        self._conditions = conditions.current()
        self._tickets: SimpleQueue[int | None] = SimpleQueue()
        self._results: SimpleQueue[Prepared] = SimpleQueue()
        self._ready: dict[int, Prepared] = {}
        self._issued = self._wanted = 0
        self._workers: list[_Worker] = []
        self._looked_s = time.monotonic()

    def next(self) -> Prepared:
        """The next sample in order; may raise what a thread has raised."""
        self._issue()
        while self._wanted not in self._ready:
            prepared = self._crew.take(self._results, self.watch)
            # The first result counts: a decoder that was given up may still come to an end.
            if prepared.index >= self._wanted:
                self._ready.setdefault(prepared.index, prepared)
        self._wanted += 1
        return self._ready.pop(self._wanted - 1)

    def _issue(self) -> None:
        while self._issued < min(self._n, self._wanted + self._window):
            known = self._preparer.recall(self._issued)
            if known is not None:
                self._ready[self._issued] = known
            else:
                self._preparer.begin(self._issued)
                self._tickets.put(self._issued)
                if len(self._workers) < self._n_workers:
                    self._hire()
            self._issued += 1
            if self._issued == self._n:
                self.dismiss()

    def _hire(self) -> None:
        worker = _Worker(
            self._preparer,
            self._tickets,
            self._results,
            self._crew,
            self._name_of,
            self._conditions,
        )
        self._workers.append(worker)
        worker.thread = self._crew.start("decode", worker.work)

    def dismiss(self) -> None:
        """Let the threads end after the samples that were handed out."""
        self._tickets.put(None)

    def watch(self) -> None:
        """Give up images whose decoding takes too long; called while there is nothing else to do."""
        now = time.monotonic()
        # Not more than two ticks: what was suspended, or did other things, has not watched.
        elapsed = min(now - self._looked_s, 2 * TICK_S)
        self._looked_s = now
        seen = [(worker, worker.patience.look(elapsed)) for worker in self._workers]
        for worker, prepared in seen:
            others = any(each.patience.advancing for each, _ in seen if each is not worker)
            if prepared is None or not worker.patience.is_over(elapsed, others):
                continue
            # The thread cannot be ended. It is left alone, and another one takes its place.
            reason = worker.leave_alone(prepared)
            if reason is None:
                continue  # finished at the last moment
            self._workers.remove(worker)
            self._results.put(prepared.given_up(reason))
            self._hire()


class _Worker:
    """What one thread does: a ticket in, a prepared sample out."""

    def __init__(
        self,
        preparer: Preparer,
        tickets: SimpleQueue[int | None],
        results: SimpleQueue[Prepared],
        crew: Crew,
        name_of: Callable[[int], str],
        under: conditions.Conditions,
    ) -> None:
        self._preparer = preparer
        self._tickets = tickets
        self._results = results
        self._crew = crew
        self._name_of = name_of
        self.patience: Patience[Prepared] = Patience(under.limits.decode_timeout_s)
        self._journal = under.journal
        self._number = 0 if under.journal is None else under.journal.thread()
        self.thread: Thread | None = None
        self._left_alone = False
        self._lock = Lock()  # a sample is either given up or finished

    def leave_alone(self, work: Prepared) -> str | None:
        """Expect nothing of this thread any more; should it come to an end, it takes no new sample.

        Returns
        -------
        str or None
            The reason for the sample it works on; None if it is done with that.
        """
        with self._lock:
            if not self.patience.is_at(work):
                return None
            self._left_alone = True
            reason = self.patience.give_up()
        if self.thread is not None:
            self._crew.forget(self.thread)
        return reason

    def work(self) -> None:
        """Until there are no more tickets."""
        while not self._left_alone:
            index = self._tickets.get()
            if index is None or self._crew.stopping:
                self._tickets.put(None)  # for the next thread
                return
            try:
                prepared = self._prepare(index)
                if prepared is not None:
                    self._results.put(prepared)
            except (BottleneckError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise InputError(
                    f"{self._name_of(index)} ended the thread that read it: "
                    f"{type(error).__name__}: {error}",
                    expected="an image, or a reason why it is none",
                    where=self._name_of(index),
                    next="leave this file out, and report it: that is a defect of bottleneck-probe",
                ) from error

    def _prepare(self, index: int) -> Prepared | None:
        """The sample; None if it was given up meanwhile, and then nothing of it is noted."""
        preparer = self._preparer
        if self._journal is not None:  # should this one end the process, the next run knows
            self._journal.take_up(self._number, self._name_of(index))
        if preparer.is_file(index):  # reading one is the system's, which no other code can hold up
            content = preparer.fetch(index)
        else:
            self.patience.begin(Prepared(index), fetching=True)
            content = preparer.fetch(index)
            if not self._finish():
                return None
        prepared = preparer.take(index, content)
        if prepared.missing:
            self.patience.begin(prepared)
            preparer.decode(prepared)
            if not self._finish():
                return None
        return prepared

    def _finish(self) -> bool:
        with self._lock:
            self.patience.end()
            return not self._left_alone
