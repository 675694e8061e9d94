"""What a contest of two ways to the same answer consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .material import Material


@dataclass(frozen=True)
class Check:
    """Whether both ways came to the same.

    Attributes
    ----------
    same : bool
    told : str
        What was compared, in a few words.
    """

    same: bool
    told: str


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    Attributes
    ----------
    name : str
        As ``--work`` takes it.
    work, against : str
        What is done, and what else does it.
    ours, usual : callable
        Material to an answer; timed.
    check : callable
        Material and both answers to a `Check`; not timed.
    shape : tuple of int
        Rows, features and classes of the material that is made.
    target : float
        Times as fast; or, with `seconds`, the most seconds of ours.
    seconds : bool
    """

    name: str
    work: str
    against: str
    ours: Callable[[Material], Any]
    usual: Callable[[Material], Any]
    check: Callable[[Material, Any, Any], Check]
    shape: tuple[int, int, int]
    target: float
    seconds: bool = False
