"""What an earlier run knows of the files of this one, so that an unchanged file is not read again.

The index of a feature file and the samples in, a key for each unchanged file out. It is the key that
reading would give; everything else about a sample goes the usual way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from .._version import __version__
from ..cache.features import Features
from ..cache.index import UNKNOWN, FileIndex, as_row, status_of
from ..images.limits import DEFAULT, Limits, lifted
from ..images.origin import Origin
from ..images.sample import Samples
from ..texts import find_texts
from .contract import Outcome
from .prepare import Remembered
from .stores import Chain

# Rows compared or looked up at a time: of all at once, the copies would take as much as the rows.
_BLOCK = 4096

# What decides whether a file can be decoded; another version may read what an older one could not.
_DECODERS = ("pillow", "pillow-heif", "simplejpeg")


@dataclass(frozen=True, slots=True)
class Known:
    """A feature file and the index of its files.

    Attributes
    ----------
    features : Features
    index : FileIndex
    """

    features: Features
    index: FileIndex


class Recalled:
    """The samples whose files are unchanged since their keys were recorded. Safe from many threads.

    Parameters
    ----------
    samples : Samples
    known : sequence of Known
        Where the keys stand.
    place : ndarray of shape (n,), int32
        For each sample a row of the features, or -1.
    origin : ndarray of shape (n,), int8
        In which of `known` that row is.
    refused : dict of int to Remembered
        Samples that stand in the quarantine.
    """

    def __init__(
        self,
        samples: Samples,
        known: Sequence[Known],
        place: np.ndarray,
        origin: np.ndarray,
        refused: dict[int, Remembered],
    ) -> None:
        self._samples = samples
        self._known = known
        self._place = place
        self._origin = origin
        self._refused = refused

    def __call__(self, index: int) -> Remembered | None:
        """What is known of a sample's file; None if it has to be read."""
        row = int(self._place[index])
        if row < 0:
            return self._refused.get(index)
        known = self._known[self._origin[index]]
        size, mtime_ns, ctime_ns, inode = known.index.files[row].tolist()
        key = known.features.keys[row].tobytes()
        return Remembered(key, None, (size, mtime_ns, ctime_ns, inode))

    def enough(self, chains: Sequence[Chain]) -> np.ndarray:
        """Which samples need not be read, since their features are in all of `chains`: (n,) bool."""
        result = np.zeros(len(self._place), bool)
        result[list(self._refused)] = True
        for number, known in enumerate(self._known):
            here = self._from(number)
            for start in range(0, len(here), _BLOCK):
                part = here[start : start + _BLOCK]
                keys = known.features.keys[self._place[part]]
                result[part] = np.all([chain.holds(keys) for chain in chains], axis=0)
        return result

    def whole(self, enough: np.ndarray) -> bool:
        """Whether no file has to be read, these samples being known; any other has a fault."""
        return all(i in self._samples.faults for i in np.flatnonzero(~enough).tolist())

    def outcomes(self, n_lanes: int) -> list[Outcome]:
        """How a run over the samples would end if none has to be read or computed, for each lane."""
        n = len(self._place)
        first = self._known[0] if self._known and not self._origin.any() else None
        if first is not None and np.array_equal(self._place, np.arange(len(first.index.files))):
            # Nothing but what the one file holds, in its order: not copied.
            keys, statuses = first.features.keys, first.index.files
            return [Outcome(keys, statuses, reused=n) for _ in range(n_lanes)]
        keys, statuses = np.zeros((n, 32), np.uint8), np.full((n, 4), -1, np.int64)
        for number, known in enumerate(self._known):
            here = self._from(number)
            keys[here] = known.features.keys[self._place[here]]
            statuses[here] = known.index.files[self._place[here]]
        reasons = dict(self._samples.faults)
        for i, each in self._refused.items():
            reasons[i] = each.reason or ""
            keys[i] = np.frombuffer(each.key, np.uint8)
            statuses[i] = each.status or UNKNOWN
        reasons = dict(sorted(reasons.items()))
        return [
            Outcome(keys, statuses, dict(reasons), reused=n - len(reasons)) for _ in range(n_lanes)
        ]

    def _from(self, number: int) -> np.ndarray:
        """The samples whose keys stand in one of the files."""
        return np.flatnonzero((self._place >= 0) & (self._origin == number))


def recall(
    samples: Samples,
    known: Sequence[Known],
    n_files: int,
    *,
    retry: bool = False,
    limits: Limits = DEFAULT,
) -> Recalled:
    """The samples whose files are unchanged.

    Parameters
    ----------
    samples : Samples
    known : sequence of Known
        Of the files that are extended. They may be of different recipes, since a key is of bytes.
    n_files : int
        How many feature files this run makes; a reason for the quarantine holds only if each has it.
    retry : bool, default False
        What is in the quarantine is read again.
    limits : Limits
        What is in the quarantine for another limit, and within this one, likewise.
    """
    if not known:
        # One number each, however many samples there are.
        nowhere = np.broadcast_to(np.int32(-1), len(samples))
        return Recalled(samples, known, nowhere, np.broadcast_to(np.int8(0), len(samples)), {})
    place = np.full(len(samples), -1, np.int32)
    origin = np.zeros(len(samples), np.int8)
    now = look(samples)
    here = decoders() if any(each.features.quarantine for each in known) else {}
    refused: list[dict[int, Remembered]] = []
    for number, (features, index) in enumerate((each.features, each.index) for each in known):
        at, same = _unchanged(samples, features.rows.paths, index.files, now, index)
        new = np.flatnonzero(same & (place < 0))
        place[new], origin[new] = at[new], number
        refused.append({})
        if not features.quarantine or retry or index.decoders != here:
            continue
        paths = [path for path, _ in features.quarantine]
        at, same = _unchanged(samples, paths, index.quarantine, now, index)
        for i in np.flatnonzero(same).tolist():
            if lifted(features.quarantine[at[i]][1], limits):
                continue
            size, mtime_ns, ctime_ns, inode = now[i].tolist()
            refused[-1][i] = Remembered(
                index.quarantine_keys[at[i]].tobytes(),
                features.quarantine[at[i]][1],
                (size, mtime_ns, ctime_ns, inode),
            )
    agreed = {
        i: each
        for i, each in refused[0].items()
        if len(known) == n_files and all(other.get(i) == each for other in refused)
    }
    return Recalled(samples, known, place, origin, agreed)


def look(samples: Samples) -> np.ndarray:
    """How the samples' files look now, without opening them: (n, 4) int64, as `FileIndex` has it."""
    statuses = map(_status, samples.files())
    return np.fromiter(statuses, np.dtype((np.int64, 4)), len(samples))


def _status(file: str | Origin | None) -> tuple[int, int, int, int]:
    if isinstance(file, Origin):
        # As it was listed in this run, which is before anything was read.
        return UNKNOWN if file.status is None else as_row(file.status)
    if file is not None:
        with suppress(OSError, ValueError):  # reading it gives the reason
            return status_of(os.stat(file))
    return UNKNOWN


def _unchanged(
    samples: Samples,
    paths: Sequence[str],
    recorded: np.ndarray,
    now: np.ndarray,
    index: FileIndex,
) -> tuple[np.ndarray, np.ndarray]:
    """For each sample its place among `paths`, -1 for none, and whether its file is the same."""
    at = find_texts(samples.paths, paths)
    same = at >= 0
    for start in range(0, len(at), _BLOCK):
        rows = start + np.flatnonzero(same[start : start + _BLOCK])
        same[rows] = index.unchanged(recorded[at[rows]], now[rows])
    return at, same


def decoders() -> dict[str, str]:
    """Versions of what decides whether a file can be decoded, ours among them."""
    found = {"bottleneck-probe": __version__}
    for name in _DECODERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
