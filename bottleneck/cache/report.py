"""What a check of a cache found: `Problem` and `Report`, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes
    ----------
    dataset : str
        Where: a dataset, ``root attributes``, ``structure``, ``images``, ``recompute``.
    what : str
        In a sentence.
    rows : tuple of int or None
        First and last row, where it is about some.
    path : str
        Stored path of the image, where it is about one.
    """

    dataset: str
    what: str
    rows: tuple[int, int] | None = None
    path: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dataset": self.dataset,
            "rows": None if self.rows is None else list(self.rows),
            "path": self.path or None,
            "what": self.what,
        }


@dataclass
class Report:
    """What `verify` found.

    Attributes
    ----------
    path : Path
    kind : {'features', 'directory', 'probe', 'parts'}
        ``parts``: nothing is there yet but what a run that did not end has left beside it.
    problems : list of Problem
        Empty if everything that was looked at is in order.
    vouched : bool
        Whether it has digests for all its values. Without them nothing tells a changed value, and
        no problem does not mean that there is none.
    foreign : list of str
        Datasets that another program added: they have no digest, and all others have. `vouched` is
        about the others.
    notes : list of str
        What else should be known, one sentence each.
    rows, feature_size : int
    n_bytes : int
        Bytes of values that were compared or looked at.
    images : dict or None
        With ``--images``: how many are ``same changed missing unreadable new``.
    recomputed : dict or None
        With ``--recompute``: ``rows``, ``seed``, and for each engine its largest error.
    parts : dict or None
        What lies in the parts folder beside the file.
    seconds : float
        For all but images and recomputing.

    Examples
    --------
    >>> Report(Path("photos.h5")).ok
    True
    """

    path: Path
    kind: str = "features"
    problems: list[Problem] = field(default_factory=list)
    vouched: bool = True
    foreign: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    feature_size: int = 0
    n_bytes: int = 0
    images: dict[str, int] | None = None
    recomputed: dict[str, Any] | None = None
    parts: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "ok": self.ok,
            "vouched": self.vouched,
            "foreign": self.foreign,
            "problems": [problem.to_dict() for problem in self.problems],
            "notes": self.notes,
            "rows": self.rows,
            "feature_size": self.feature_size,
            "bytes": self.n_bytes,
            "images": self.images,
            "recomputed": self.recomputed,
            "parts": self.parts,
            "seconds": self.seconds,
        }
