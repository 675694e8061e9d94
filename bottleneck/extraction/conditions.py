"""Under what conditions images are read and decoded: the limits of a run, its journal, known crashes.

Many parts of a run decode images: the pipeline, the gate of a precision, the check of a changed
environment, a preview. All of them must keep to the same limits and write the same journal, so these
are set once for a run and asked for where its threads are started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..images.limits import DEFAULT, Limits
from .journal import Journal


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for all decoding of a run.

    Attributes
    ----------
    limits : Limits
    journal : Journal or None
        None where there is no output to keep one beside.
    crashed : mapping of bytes to str
        Keys of images that are not decoded in this process, and why.
    """

    limits: Limits = DEFAULT
    journal: Journal | None = None
    crashed: Mapping[bytes, str] = field(default_factory=dict)


_NONE = Conditions()
_current: ContextVar[Conditions] = ContextVar("conditions", default=_NONE)


def current() -> Conditions:
    """The conditions of the run that this code is part of; the defaults outside of any.

    Only for the thread that runs it: threads of its own it tells what they are.
    """
    return _current.get()


@contextmanager
def under(
    limits: Limits, journal: Journal | None = None, crashed: Mapping[bytes, str] | None = None
) -> Iterator[Conditions]:
    """Let these conditions hold within a block.

    Examples
    --------
    >>> with under(Limits(max_pixels=1000)):
    ...     current().limits.max_pixels
    1000
    """
    token = _current.set(Conditions(limits, journal, crashed or {}))
    try:
        yield _current.get()
    finally:
        _current.reset(token)
