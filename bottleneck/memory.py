"""How much memory a fit would take, and how much it may: features in, bytes out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import FitError

if TYPE_CHECKING:
    from .cache.features import Features

# The features as float32, and what heads make of them: scaled, of a fold, rotated.
COPIES = 4
_UNKNOWN = 4 * 2**30  # where the system does not say how much there is
_GB = 1e9


def memory_limit(max_memory: float | None = None) -> int:
    """Bytes that a fit may take.

    Parameters
    ----------
    max_memory : float, optional
        In GB (10^9 bytes); by default half of the machine's memory, or 4 GiB where it is not known.

    Raises
    ------
    FitError
        If it is no number above 0.
    """
    if max_memory is not None:
        if not (isinstance(max_memory, int | float) and 0 < max_memory < float("inf")):
            raise FitError(f"--max-memory is {max_memory}", expected="GB, a number above 0")
        return int(max_memory * _GB)
    return physical_memory() // 2


def physical_memory() -> int:
    """Bytes of memory in this machine; 8 GiB where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no such call on Windows
        return 2 * _UNKNOWN


def needed_bytes(features: Features) -> int:
    """Bytes that a fit with these features in memory takes, about."""
    n, d = features.features.shape
    return COPIES * 4 * n * d


def gigabytes(count: int) -> str:
    """``6.7 GB``; small ones with as many digits as tell them apart."""
    return f"{count / _GB:.3g} GB"


def require_memory(features: Features, limit: int, what: str, where: str = "") -> None:
    """Refuse what needs all features in memory where they do not fit.

    Parameters
    ----------
    features : Features
    limit : int
        Bytes; see `memory_limit`.
    what : str
        What was asked for, at the beginning of a sentence.
    where : str, optional
        The option or file it is about.

    Raises
    ------
    FitError
    """
    needed = needed_bytes(features)
    if needed <= limit:
        return
    n, d = features.features.shape
    raise FitError(
        f"{what} needs all features in memory: about {gigabytes(needed)} for {n:,} x {d:,} features and "
        "what is made of them",
        expected=f"{gigabytes(limit)} at most",
        where=where,
        next="`bottleneck fit FILE --head logistic` trains from disk (--holdout SHARE for a test set); or "
        "fewer images: bp.open(FILE).subset(rows).save(SMALLER); or --max-memory GB, if there is more",
    )
