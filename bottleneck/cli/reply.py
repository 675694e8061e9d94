"""How every command ends: a result or an error, as text or as one JSON object, and an exit code."""

from __future__ import annotations

import io
import json
import math
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .. import interrupts
from ..errors import BottleneckError
from .defect import defect, shown

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

SCHEMA_VERSION = 1
DONE, ERROR, QUARANTINED, WORSE, INTERRUPTED = 0, 1, 3, 4, 130


@dataclass
class Reply:
    """What a command found.

    Attributes
    ----------
    data : dict
        For ``--json``.
    show : callable
        Prints it for people.
    exit_code : int
    """

    data: dict[str, Any] = field(default_factory=dict)
    show: Callable[[], None] = lambda: None
    exit_code: int = DONE


def answer(
    command: str, work: Callable[[TerminalReporter], Reply], options: dict[str, Any]
) -> None:
    """Do a command's work, print what came of it, and leave with its exit code.

    Parameters
    ----------
    command : str
        Its name, for ``--json``.
    work : callable
        Gets a reporter, returns a `Reply`; may raise `BottleneckError` or `KeyboardInterrupt`.
    options : dict
        ``as_json`` and ``quiet``.
    """
    from ..report.terminal import TerminalReporter

    as_json = options["as_json"]
    try:
        try:
            listen_for_signals()
            reply = work(TerminalReporter(quiet=options["quiet"] or as_json))
        finally:
            # First of all, also after an error: a Ctrl-C right here is still one of those below.
            _ignore_signals()
    except BottleneckError as error:
        reply = _failed(error, getattr(error, "counts", {}), ERROR)
    except (OSError, MemoryError, UnicodeError) as error:
        # The system's own refusals, wherever they come from.
        name = getattr(error, "filename", None)
        said = BottleneckError(f"{type(error).__name__}: {error}", where=str(name or ""))
        reply = _failed(said, {}, ERROR)
    except KeyboardInterrupt as interrupt:
        said = BottleneckError(str(interrupt) or "interrupted")
        reply = _failed(said, getattr(interrupt, "counts", {}), INTERRUPTED)
    except Exception as error:
        if shown():
            raise
        reply = _failed(defect(error), {}, ERROR)
    _ignore_signals()  # whatever came in between
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end a command that has done its work.
            stream.reconfigure(errors="backslashreplace")
    if as_json:
        head = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "exit_code": reply.exit_code,
            "error": None,
        }
        click.echo(json.dumps(_null({**head, **reply.data}), allow_nan=False))
    else:
        reply.show()
    sys.exit(reply.exit_code)


def _null(value: Any) -> Any:
    """Data for JSON, which has no NaN: what is not defined (a class nobody guessed has no precision)."""
    if isinstance(value, dict):
        return {name: _null(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_null(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _failed(error: BottleneckError, counts: dict[str, int], exit_code: int) -> Reply:
    from ..printable import Lines, printable

    head = click.style("error: " if exit_code == ERROR else "", fg="red", bold=True)
    return Reply(
        {"error": error.to_dict(), **counts},
        lambda: click.echo(head + printable(Lines(error)), err=True),
        exit_code,
    )


def listen_for_signals() -> None:
    """The first Ctrl-C or SIGTERM ends the work in order, the second at once."""

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        interrupts.note()
        raise KeyboardInterrupt

    interrupts.forget()
    interrupts.print_none()

    try:
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), stop)
    except ValueError:
        pass  # not in the main thread (a test runner, a notebook): Python's own handling stays


def _ignore_signals() -> None:
    """From here on it is settled what is said: a late Ctrl-C neither cuts it nor changes the exit code."""
    try:
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    except ValueError:
        pass
