"""How long one thread may decode one image: its own computing time in, the verdict out.

A decoder that never returns must not hold up a run, and an honest image must not be given up because
the machine is busy. So what counts is the thread's own time on a processor, where the system tells it;
time on the clock counts where a thread uses no processor at all, and no other decoder does either:
it may wait for one that compiles a kernel or holds a lock. A program that was suspended (a laptop's lid,
Ctrl-Z) is charged one tick for it.

What is fetched from a data set runs code that may wait for a network: there only time on the clock
counts, and more of it. Nobody is charged for waiting until another thread is out of the same data set,
as long as that one gets on.
"""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

from ..images import exclusive

T = TypeVar("T")

# A 100-megapixel JPEG or PNG takes 1 to 3 s of a core.
DECODE_TIMEOUT_S = 10.0
# However slow the machine: a thread that gets a sixth of a core has had its time by then. Also the
# limit where computing time cannot be told (Windows, macOS): there it is 3 times, as other programs
# cannot be told from the decoder.
_BUSY = 6
_NO_CLOCK = 3
_ADVANCED_S = 0.001  # computing time within a tick that shows a thread is at work


class Patience(Generic[T]):
    """One thread's present image. The thread calls `begin` and `end`, another one the rest.

    Parameters
    ----------
    limit_s : float, optional
        Seconds of a processor that one image may take; by default `DECODE_TIMEOUT_S`.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = DECODE_TIMEOUT_S if limit_s is None else limit_s
        self._work: T | None = None
        self._fetching = False
        self._thread = 0
        self._clock: int | None = None
        self._awaited: tuple[int, int] | None = None
        self._seen: T | None = None  # the work that the figures below are about
        self._began_s = self._last_s = 0.0
        self._waited_s = self._idle_s = 0.0
        self.advancing = False

    def begin(self, work: T, *, fetching: bool = False) -> None:
        """This thread starts to decode, or to fetch from what is no file."""
        self._thread = threading.get_ident()
        if self._clock is None and hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(self._thread)
        self._fetching = fetching
        self._work = work

    def end(self) -> None:
        """It has finished."""
        self._work = None

    def is_at(self, work: T) -> bool:
        """Whether it still is at `work`."""
        return self._work is work

    def look(self, elapsed_s: float) -> T | None:
        """See how the thread has got on in the last `elapsed_s` seconds; what it works on."""
        work, computed = self._work, self._computed_s()
        if work is not self._seen:
            self._seen, self._began_s, self._last_s = work, computed, computed
            self._waited_s = self._idle_s = 0.0
            self.advancing = work is not None
            return work
        awaited = exclusive.awaited(self._thread)
        if awaited != self._awaited:  # another thread's turn, or its own
            self._awaited = awaited
            self._waited_s = self._idle_s = 0.0
        self._waited_s += elapsed_s
        self.advancing = work is not None and computed - self._last_s > _ADVANCED_S
        self._last_s = computed
        return work

    def is_over(self, elapsed_s: float, others_advance: bool) -> bool:
        """Whether the image has had its time; after `look`."""
        if self._fetching:
            return self._waited_s >= _BUSY * self._limit_s
        if self._clock is None:
            return self._waited_s >= _NO_CLOCK * self._limit_s
        if self.advancing or others_advance:
            self._idle_s = 0.0
        else:
            self._idle_s += elapsed_s
        return (
            self._last_s - self._began_s >= self._limit_s
            or self._idle_s >= self._limit_s
            or self._waited_s >= _BUSY * self._limit_s
        )

    def give_up(self) -> str:
        """Let nobody wait for this thread any more; the reason for its image."""
        exclusive.give_up(self._thread)
        if self._fetching:
            return f"reading it took over {_BUSY * self._limit_s:g} s"
        return f"decoding took over {self._limit_s:g} s"

    def _computed_s(self) -> float:
        if self._clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # the thread has ended
            return self._last_s
