"""One sample on its way to the network: recalled or read and hashed, decoded where a feature is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from ..cache.index import as_row
from ..images.decode import BadImage
from ..images.origin import Origin
from ..images.payload import Fetched, Pixels, fetch, key_of
from ..images.phash import phash
from ..images.preprocess import Preprocessing, decoded, frames, outside
from ..images.sample import Compact, Sample, Samples
from ..remote.ahead import Ahead
from . import conditions
from .claims import Claims
from .contract import Lane

Status = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run found in a file that is unchanged since.

    Attributes
    ----------
    key : bytes of length 32
        Zeros where the file could not be read.
    reason : str or None
        Why it is quarantined.
    status : tuple of int or None
        Size, mtime_ns, ctime_ns and inode, for the next record.
    """

    key: bytes
    reason: str | None = None
    status: Status | None = None


@dataclass(slots=True)
class Framed:
    """An image as one backbone will see it, or why it cannot."""

    outputs: tuple[int, ...]
    pixels: np.ndarray | None = None  # (views, h, w, 3) uint8
    phash: int = 0  # of the whole image
    outside: float = 0.0
    range_used: float | None = None
    reason: str | None = None
    several: bool = False  # frames or pages, of which this is the first


@dataclass(slots=True)
class Prepared:
    """A sample after reading, and after decoding where that is needed."""

    index: int
    key: bytes | None = None
    reason: str | None = None  # for all lanes
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)  # outputs to compute, by lane
    content: bytes | np.ndarray | None = None  # until it is decoded
    framed: dict[int, Framed] = field(default_factory=dict)  # by lane

    def given_up(self, reason: str) -> Prepared:
        """The same sample, quarantined while somebody still reads or decodes it."""
        if self.key is None:
            return Prepared(self.index, reason=reason)
        framed = {i: Framed(outputs, reason=reason) for i, outputs in self.missing.items()}
        return Prepared(self.index, self.key, framed=framed)


class Preparer:
    """Reads, hashes and decodes samples, one at a time in each of many threads.

    Parameters
    ----------
    samples : sequence of Sample
    lanes : sequence of Lane
    keys : ndarray of shape (n, 32), uint8
        Filled in as they become known.
    statuses : ndarray of shape (n, 4), int64
        Likewise.
    remembered : callable, optional
        Index of a sample to what is known of its unchanged file, or None.

    Attributes
    ----------
    unsettled : list of set of bytes
        For each lane the keys that are being computed; whoever stores or quarantines one takes it out.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        lanes: Sequence[Lane],
        keys: np.ndarray,
        statuses: np.ndarray,
        remembered: Callable[[int], Remembered | None] | None = None,
    ) -> None:
        self._samples = samples
        self._lanes = lanes
        self._keys = keys.reshape(-1).data
        self._statuses = statuses
        self._remembered = remembered
        self._claims = Claims(keys)
        self._limits = conditions.current().limits
        self._crashed = conditions.current().crashed
        self._journal = conditions.current().journal
        self._lock = Lock()
        self._ahead = _ahead(samples, self._fetch)
        self.unsettled: list[set[bytes]] = [set() for _ in lanes]

    def begin(self, index: int) -> None:
        """This sample will be fetched: what takes long to come is asked for now."""
        if self._ahead is not None and _is_slow(self._samples[index]):
            self._ahead.begin(index)

    def recall(self, index: int) -> Prepared | None:
        """The sample if nothing has to be read for it; quick, for the thread that hands out work."""
        known = self._remembered(index) if self._remembered is not None else None
        if known is None:
            return None
        if known.reason is None and any(lane.missing(known.key) for lane in self._lanes):
            return None
        self._note(index, known.key, known.status)
        return Prepared(index, known.key, known.reason)

    def is_file(self, index: int) -> bool:
        """Whether a sample is a file, or a known fault, and no code of somebody else's is called."""
        sample = self._samples[index]
        if isinstance(sample.source, Origin):
            return bool(sample.fault) or not sample.source.slow
        return bool(sample.fault) or isinstance(sample.source, (str, os.PathLike))

    def fetch(self, index: int) -> tuple[Fetched, bytes] | str:
        """Read and hash, and note nothing; a reason instead for what cannot be read."""
        if self._ahead is not None and _is_slow(self._samples[index]):
            return self._ahead.take(index)
        return self._fetch(index)

    def _fetch(self, index: int) -> tuple[Fetched, bytes] | str:
        sample = self._samples[index]
        if sample.fault:
            return sample.fault
        try:
            fetched = fetch(sample.source, self._limits)
            return fetched, key_of(fetched.content)
        except BadImage as bad:
            return str(bad)

    def take(self, index: int, content: tuple[Fetched, bytes] | str) -> Prepared:
        """Note what was fetched; `missing` of the result says whether it is to be decoded."""
        if isinstance(content, str):
            return Prepared(index, reason=content)
        fetched, key = content
        self._note(index, key, fetched.status)
        prepared = Prepared(index, key)
        missing = {}
        for i, lane in enumerate(self._lanes):
            if outputs := lane.missing(key):
                missing[i] = outputs
        if missing and key in self._crashed:
            reason = self._crashed[key]
            if self._journal is not None:
                self._journal.met(key, self._samples[index].path)
            prepared.framed = {i: Framed(outputs, reason=reason) for i, outputs in missing.items()}
        elif missing and self._claim(index, key, missing):
            prepared.missing, prepared.content = missing, fetched.content
        return prepared

    def _claim(self, index: int, key: bytes, lanes: Iterable[int]) -> bool:
        """Whether this sample is the first of its bytes: they are computed once, for all lanes."""
        with self._lock:
            first = self._claims.claim(index)
            if first:
                # Under the same lock: who finds the key claimed must also find it unsettled.
                for i in lanes:
                    self.unsettled[i].add(key)
        return first

    def _note(self, index: int, key: bytes, status: Status | None) -> None:
        self._keys[32 * index : 32 * index + 32] = key
        if status is not None:
            self._statuses[index] = as_row(status)

    def decode(self, prepared: Prepared) -> None:
        """Fill in what each lane that misses a feature will see of the image."""
        content, prepared.content = prepared.content, None
        assert content is not None
        # One for each way of decoding that is asked for, with its perceptual hash.
        images: dict[Hashable, tuple[Pixels, int]] = {}
        for i, outputs in prepared.missing.items():
            p = self._lanes[i].preprocessing
            prepared.framed[i] = _frame(content, images, p, outputs, self._limits.max_pixels)


def _is_slow(sample: Sample) -> bool:
    return isinstance(sample.source, Origin) and sample.source.slow and not sample.fault


def _ahead(
    samples: Sequence[Sample], read: Callable[[int], tuple[Fetched, bytes] | str]
) -> Ahead[tuple[Fetched, bytes] | str] | None:
    """Reading ahead, where samples come over a network."""
    sources = samples.sources if isinstance(samples, Samples) else {}
    # Sources that are kept as columns are all of one kind.
    some = [sources[next(iter(sources))]] if isinstance(sources, Compact) and sources else ()
    if not any(isinstance(each, Origin) and each.slow for each in some or sources.values()):
        return None

    def weigh(found: tuple[Fetched, bytes] | str) -> int:
        return 0 if isinstance(found, str) else len(found[0].content)

    return Ahead(read, weigh=weigh)


def _frame(
    content: bytes | np.ndarray,
    images: dict[Hashable, tuple[Pixels, int]],
    p: Preprocessing,
    outputs: tuple[int, ...],
    max_pixels: int,
) -> Framed:
    # Scaled decoding depends on what the image is resized to.
    way = p.range if p.decode == "full" else p
    try:
        if way not in images:
            image = decoded(content, p, max_pixels)
            images[way] = image, phash(image.array)
        image, hashed = images[way]
        height, width = image.array.shape[:2]
        unseen = outside((width, height), p)
        return Framed(
            outputs, frames(image.array, p), hashed, unseen, image.range_used, several=image.several
        )
    except BadImage as bad:
        return Framed(outputs, reason=str(bad))
