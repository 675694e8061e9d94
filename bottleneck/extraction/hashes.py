"""Perceptual hashes for the rows of a file: keys in, (n,) uint64 out, or None where one is unknown.

A hash is kept beside each feature that is computed. Features of earlier versions have none; theirs
can be had by decoding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from ..cache.keys import KeyIndex
from ..images.preprocess import Preprocessing
from ..images.sample import Sample
from ..reporter import Reporter
from .contract import Outcome
from .glance import glance
from .stores import Store

# Keys looked up at a time: of all at once, what is found on the way would take as much as the keys.
_BLOCK = 1 << 16


class Hashes:
    """Looks up perceptual hashes, and computes those that are missing if told to.

    Parameters
    ----------
    known : sequence of Store
        Any of them may know a hash.
    reporter : Reporter
        Hears when some are missing.
    name : str
        What to call the file.
    """

    def __init__(self, known: Sequence[Store], reporter: Reporter, name: str) -> None:
        self._known = known
        self._reporter = reporter
        self._name = name
        self._more: Decoding | None = None

    def decoding(
        self, samples: Sequence[Sample], outcome: Outcome, p: Preprocessing, workers: int
    ) -> Hashes:
        """Itself; what is missing is computed from these samples, whose keys `outcome` has."""
        self._more = Decoding(samples, outcome.keys, p, workers)
        return self

    def of(self, keys: np.ndarray) -> np.ndarray | None:
        """The hash of each key, (m, 32) uint8 to (m,) uint64; None if not all are known."""
        values, known = self._looked_up(keys)
        if self._more is not None and not known.all():
            missing = np.flatnonzero(~known)
            with self._reporter.progress("hash", len(missing)) as bar:
                values[missing], known[missing] = self._more.hashes(keys[missing])
                bar.advance(len(missing))
        if known.all():
            return values
        if known.any():
            self._reporter.note(
                f"{self._name}: {int((~known).sum())} of {len(keys)} images are from a version without "
                "perceptual hashes, so near copies are not looked for in it; --rehash adds them, "
                "and computes no feature again"
            )
        return None

    def _looked_up(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, known = np.zeros(len(keys), np.uint64), np.zeros(len(keys), bool)
        for start in range(0, len(keys), _BLOCK):
            here = np.arange(start, min(start + _BLOCK, len(keys)))
            for store in self._known:
                left = here[~known[here]]
                if len(left):
                    values[left], known[left] = store.hashes(keys[left])
        return values, known


class Decoding:
    """Hashes of images whose features need not be computed.

    Parameters
    ----------
    samples : sequence of Sample
    keys : ndarray of shape (n, 32), uint8
        Of these samples.
    p : Preprocessing
        How they are decoded.
    workers : int
        Threads.
    """

    def __init__(
        self, samples: Sequence[Sample], keys: np.ndarray, p: Preprocessing, workers: int
    ) -> None:
        self._samples = samples
        self._index = KeyIndex(keys)
        self._p = p
        self._workers = workers

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of `keys`, and which could be had; as of `stores.Store`."""
        wanted = {key.tobytes() for key in keys}
        rows = (self._index.row(key) for key in wanted)
        # The others are of images that are gone, kept by --add.
        some = _Some(self._samples, np.array([row for row in rows if row >= 0], np.intp))
        found: dict[bytes, int] = {}
        for prepared in glance(some, [self._p], wanted=wanted.__contains__, workers=self._workers):
            framed = prepared.framed.get(0)
            if prepared.key is not None and framed is not None and framed.reason is None:
                found[prepared.key] = framed.phash
        values = [found.get(key.tobytes()) for key in keys]
        known = np.array([value is not None for value in values], bool)
        return np.array([value or 0 for value in values], np.uint64), known


class _Some(Sequence[Sample]):
    """Some of the samples; each is made when it is asked for."""

    def __init__(self, samples: Sequence[Sample], rows: np.ndarray) -> None:
        self._samples, self._rows = samples, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return _Some(self._samples, self._rows[place])
        return self._samples[int(self._rows[place])]
