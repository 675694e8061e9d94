"""From samples to keys and features: read, hash, decode and preprocess, forward and store, all at once.

Every sample ends in exactly one of three ways for each backbone: its features were known, they were
computed, or it is quarantined with a reason. A feature is stored under the key of the very bytes it was
decoded from. However many backbones there are, an image is read and decoded once.

Who does what: threads of `decoders` hand prepared samples to the thread that called `run`, which sorts
them, in order, into the buffers of `batches`; threads there run the engine; one of `writer` stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import numpy as np

from .. import interrupts
from ..images.sample import Sample
from ..reporter import Progress
from .batches import Batches
from .claims import rows_of
from .contract import Interrupted, Lane, Outcome, Sink
from .crew import Crew
from .decoders import Decoders
from .prepare import Framed, Prepared, Preparer, Remembered
from .writer import Writer

__all__ = ["Interrupted", "Lane", "Outcome", "Remembered", "Sink", "run"]

# Pixels that may lie ready before the networks want them. 222 views of 224x224: what one core decodes
# while another one loads an engine; and one slow image does not keep the other decoders waiting.
WINDOW_BYTES = 32 << 20
# After an error, what the batches that were begun have cost is worth so much waiting.
_BEGUN_S = 5.0
# After Ctrl-C, so long for the features that are computed already and only wait for the disk.
_HURRY_S = 0.3
# A bar need not hear of each image.
_TELL_S = 0.05


def run(
    samples: Sequence[Sample],
    *,
    lanes: Sequence[Lane],
    workers: int,
    progress: Progress,
    window: int | None = None,
    on_bad: Callable[[Sample, str], None] | None = None,
    remembered: Callable[[int], Remembered | None] | None = None,
) -> list[Outcome]:
    """Give every sample its key, and every missing key its features.

    Parameters
    ----------
    samples : sequence of Sample
    lanes : sequence of Lane
        Their sinks receive the new features, from one thread and in the order of the samples; an
        engine is started only if a feature is missing.
    workers : int
        Threads that read and decode; what they call releases the interpreter's lock.
    progress : Progress
        Advanced by the calling thread.
    window : int, optional
        Samples in flight at the most, before they are in a batch: memory does not grow with their
        number. By default as many as `WINDOW_BYTES` hold.
    on_bad : callable, optional
        Hears of each sample that is quarantined as it happens; may raise to stop.
    remembered : callable, optional
        Index of a sample to what is known of its file, if that is unchanged. Then it is read only if
        a lane lacks a feature for its key. Called by the calling thread, once for each sample.

    Returns
    -------
    list of Outcome
        One for each lane.

    Raises
    ------
    Interrupted
        On Ctrl-C. What was finished is in the sinks; the batches in flight are dropped.
    InputError
        If a thread that reads dies of something that is no reason to quarantine an image.
    """
    work = _Run(samples, lanes, workers, window or _window(lanes, workers), on_bad, remembered)
    try:
        work.through(progress)
    except KeyboardInterrupt:
        interrupts.forget()
        _stop(work, drop=True)
        raise Interrupted(work.kept(), len(samples)) from None
    except BaseException as error:
        _stop(work, drop=False)
        counts = getattr(error, "counts", None)
        if counts is not None:  # what `on_bad` raises may carry them for ``--json``
            counts |= {"quarantined": work.bad(), "kept": work.kept()}
        raise
    return work.outcomes


def _stop(work: _Run, *, drop: bool) -> None:
    while True:
        try:
            return work.stop(drop=drop)
        except KeyboardInterrupt:
            # A further Ctrl-C: do not wait for batches, but leave no sink in use.
            drop = True


def _window(lanes: Sequence[Lane], workers: int) -> int:
    sizes = [lane.preprocessing for lane in lanes]
    bytes_ = sum(3 * p.views * p.crop[0] * p.crop[1] for p in sizes)
    return min(1024, workers + max(2, WINDOW_BYTES // max(1, bytes_)))


class _Run:
    """What the calling thread keeps of one run."""

    def __init__(
        self,
        samples: Sequence[Sample],
        lanes: Sequence[Lane],
        workers: int,
        window: int,
        on_bad: Callable[[Sample, str], None] | None,
        remembered: Callable[[int], Remembered | None] | None,
    ) -> None:
        n = len(samples)
        self._keys = np.zeros((n, 32), np.uint8)
        statuses = np.full((n, 4), -1, np.int64)
        self.outcomes = [Outcome(self._keys, statuses) for _ in lanes]
        self._samples = samples
        self._lanes = lanes
        self._on_bad = on_bad
        self._preparer = Preparer(samples, lanes, self._keys, statuses, remembered)
        self._unsettled = self._preparer.unsettled
        self._batches: list[dict[tuple[int, ...], Batches]] = [{} for _ in lanes]
        self._bad: list[dict[bytes, str]] = [{} for _ in lanes]  # equal bytes fail alike
        self._words: dict[str, str] = {}  # each reason once: a million files may lack for the same
        # What the network gives no numbers for; told by the writer's thread.
        self._refused: SimpleQueue[tuple[int, bytes, str]] = SimpleQueue()
        self._done = 0
        self._writer: Writer | None = None
        self._crew = Crew()
        self._decoders = Decoders(
            self._preparer,
            n,
            workers=workers,
            window=window,
            crew=self._crew,
            name_of=lambda index: samples[index].path,
        )

    def through(self, progress: Progress) -> None:
        """Take all samples through, and settle the outcomes."""
        told, told_s = 0, time.monotonic()
        for _ in range(len(self._samples)):
            prepared = self._decoders.next()
            self._crew.check()
            self._hear()
            self._sort_in(prepared)
            self._done += 1
            if time.monotonic() - told_s >= _TELL_S:
                progress.advance(self._done - told)
                told, told_s = self._done, time.monotonic()
        if self._done > told:
            progress.advance(self._done - told)
        for batches in self._all_batches():
            batches.flush()
        if self._writer is not None:
            self._writer.close()
        self._crew.join()
        self._hear()
        self._settle()

    def _hear(self) -> None:
        """Note the images that the network gives no numbers for."""
        while not self._refused.empty():
            lane, key, reason = self._refused.get()
            self._bad[lane][key] = reason
            if self._on_bad:  # the others are looked up once, in the end
                for index in rows_of(self._keys, {key}):
                    self._quarantine(index, lane, reason)

    def _sort_in(self, prepared: Prepared) -> None:
        index, key = prepared.index, prepared.key
        if prepared.reason is not None:
            for i in range(len(self._lanes)):
                self._quarantine(index, i, prepared.reason)
        for i, framed in prepared.framed.items():
            assert key is not None
            outcome = self.outcomes[i]
            if framed.range_used is not None:
                outcome.narrow.append(framed.range_used)
            if framed.pixels is None:
                self._bad[i][key] = framed.reason or ""
                self._quarantine(index, i, framed.reason or "")
                self._unsettled[i].discard(key)
            else:
                outcome.several += framed.several
                outcome.outside.append(framed.outside)
                self._batches_of(i, framed).add(key, framed.phash, framed.pixels)

    def _batches_of(self, lane: int, framed: Framed) -> Batches:
        """Those of the outputs that the image lacks: nearly always all."""
        if framed.outputs not in self._batches[lane]:
            if self._writer is None:
                self._writer = Writer(self._crew)
            self._batches[lane][framed.outputs] = Batches(
                self._lanes[lane],
                framed.outputs,
                crew=self._crew,
                writer=self._writer,
                settle=self._unsettled[lane].difference_update,
                refuse=lambda key, reason: self._refused.put((lane, key, reason)),
                idle=self._decoders.watch,
            )
        return self._batches[lane][framed.outputs]

    def _all_batches(self) -> list[Batches]:
        return [batches for each in self._batches for batches in each.values()]

    def _quarantine(self, index: int, lane: int, reason: str) -> None:
        told = any(index in outcome.reasons for outcome in self.outcomes)
        self.outcomes[lane].reasons[index] = self._words.setdefault(reason, reason)
        if self._on_bad and not told:
            self._on_bad(self._samples[index], reason)

    def _settle(self) -> None:
        for i, outcome in enumerate(self.outcomes):
            # Whichever thread came first decoded for all samples of these bytes.
            for index in rows_of(self._keys, self._bad[i]):
                if index not in outcome.reasons:
                    self._quarantine(index, i, self._bad[i][self._keys[index].tobytes()])
            timed = [each.timed for each in self._batches[i].values()]
            seconds = sum(taken for _, taken in timed)
            outcome.computed = sum(each.computed for each in self._batches[i].values())
            outcome.reused = len(self._samples) - outcome.computed - len(outcome.reasons)
            if seconds > 0:
                outcome.images_per_second = sum(images for images, _ in timed) / seconds

    def stop(self, *, drop: bool) -> None:
        """Begin nothing more; on return no sink is in use, and none will be used.

        Parameters
        ----------
        drop : bool
            Do not wait for the batches that were begun, which may take seconds.
        """
        self._crew.stopping = True
        self._crew.dropping = drop
        self._decoders.dismiss()
        for batches in self._all_batches():
            batches.dismiss()
        for batches in () if drop else self._all_batches():
            batches.join(_BEGUN_S)
        self._crew.dropping = True
        if self._writer is not None:
            self._writer.close(_HURRY_S if drop else _BEGUN_S)

    def kept(self) -> int:
        """Samples sorted in whose outcome stands: stored, or quarantined before any that is not stored."""
        keys = self._keys[: self._done]
        pending = rows_of(keys, set().union(*map(set, self._unsettled)))
        first = pending[0] if pending else self._done
        bad = self._bad_samples()
        late = sum(first <= index < self._done for index in bad.difference(pending))
        return self._done - len(pending) - late

    def bad(self) -> int:
        """Samples without a feature in any lane, as far as is known."""
        return len(self._bad_samples())

    def _bad_samples(self) -> set[int]:
        return set().union(*(outcome.reasons for outcome in self.outcomes))
