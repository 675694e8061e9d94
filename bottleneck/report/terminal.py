"""What a person sees while work goes on: notes, warnings and bars on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from ..printable import printable
from ..reporter import Progress

__all__ = ["TerminalReporter", "printable"]


class _Rate(ProgressColumn):
    """Steps per second so far."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "", style="progress.data.speed")


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)

    def resize(self, total: int) -> None:
        self._bars.update(self._task, total=total)


class TerminalReporter:
    """Notes and warnings as lines, progress as a bar, all on stderr.

    Bars appear only where stderr is a terminal; `rich` honours ``NO_COLOR``.

    Parameters
    ----------
    quiet : bool, default False
        Warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Print one line, dimmed."""
        if not self._quiet:
            self._console.print(Text(printable(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print one line that begins with ``warning:``."""
        self.warnings.append(text)
        line = Text("warning: ", style="bold yellow")
        self._console.print(line + Text(printable(text), style="default"))

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Progress]:
        """A bar with count, rate and time left, gone when the work is done."""
        bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=self._quiet or not self._console.is_terminal,
        )
        with bars:
            yield _Bar(bars, bars.add_task(what, total=total))
