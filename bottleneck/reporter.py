"""How long work talks to whoever waits for it: notes in sentences, progress in counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """One running count."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more as done."""

    def resize(self, total: int) -> None:
        """Learn the number of steps, where it was not known at the start."""


class Steps:
    """One bar over the steps of several works, which take equally many.

    Parameters
    ----------
    bar : Progress
    n_works : int
    """

    def __init__(self, bar: Progress, n_works: int) -> None:
        self._bar, self._n_works = bar, n_works
        self._seen = 0

    def of(self, number: int) -> Callable[[int, int], None]:
        """The callback (done, total) for one work, by its number."""

        def step(done: int, total: int) -> None:
            self._bar.resize(total * self._n_works)
            self._bar.advance(number * total + done - self._seen)
            self._seen = number * total + done

        return step


class Reporter(Protocol):
    """What `extract`, `fit` and `predict` call while they work; `report.terminal` has the visible one."""

    def note(self, text: str) -> None:
        """Tell something the user should know: what was taken for granted, picked, or found."""

    def warn(self, text: str) -> None:
        """Tell something the user should act on or doubt."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Progress]:
        """Open a count of `total` steps; ``with reporter.progress("extract", 398) as bar``."""


class _NoProgress:
    def advance(self, n: int = 1) -> None:
        """Count nothing."""

    def resize(self, total: int) -> None:
        """Count nothing."""


class Silent:
    """A reporter that keeps its notes and warnings in lists and shows nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Progress]:
        """Count nothing."""
        yield _NoProgress()
