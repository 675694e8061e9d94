"""What this run knows of the files, for the next one: an outcome in, the index of files out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import paths
from ..cache.index import FileIndex, settled
from ..cache.layout import Rows
from ..images.origin import Origin
from ..images.sample import ImageSet
from ..texts import find_texts
from .contract import Outcome
from .remember import decoders

# Kernels stamp files by a clock that ticks every 1 to 10 ms; exFAT counts in 10 ms. Linux stamps a
# page that is written through a memory map once, and not again until it was written back: by default
# after 30 s, looked for every 5 s.
GRAIN_NS = 35_000_000_000 if sys.platform == "linux" else 100_000_000
# FAT counts in 2 s, older file systems in 1 s: known by times without a fraction.
COARSE_GRAIN_NS = 2_000_000_000
# Files on another device may be stamped by another computer, whose clock need not agree with ours.
FOREIGN_GRAIN_NS = 60_000_000_000
# Reasons that say more about the moment than about the file.
_PASSING = ("decoding took over", "needs more memory")

# What reading and writing cost, in bytes that could be read meanwhile: to open and close one more
# file, and to build, sync and rename a feature file however small it is.
_OPEN_BYTES = 64 << 10
_WRITE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment by the clock that stamps files.

    Attributes
    ----------
    time_ns : int
        0 if it cannot be told.
    devices : frozenset of int
        Where that clock counts.
    """

    time_ns: int
    devices: frozenset[int]

    def grain_ns(self, files: Iterable[str | Origin | None]) -> int:
        """What these files may be stamped too early by.

        A file with a later time than `time_ns` less this may change without looking different.
        """
        before: str | None = None
        for each in files:
            file = each.file if isinstance(each, Origin) else each
            if file is None or file == before:  # the members of one tar follow each other
                continue
            before = file
            try:  # each file, not its folder: a link may lead to another device
                if os.stat(file).st_dev not in self.devices:
                    return FOREIGN_GRAIN_NS
            except (OSError, ValueError):
                continue  # it cannot be read either
        return GRAIN_NS if self.time_ns % 1_000_000_000 else max(GRAIN_NS, COARSE_GRAIN_NS)


def clock_of(stamped: Sequence[Path]) -> Clock:
    """The moment at which some files are stamped now.

    Parameters
    ----------
    stamped : sequence of pathlib.Path
        Files beside the outputs, whose times are set to now by their file system: its clock counts,
        not this computer's, which may be another.
    """
    found = []
    for file in stamped:
        try:
            os.utime(file)
            found.append(os.stat(file))
        except OSError:  # then no file counts as settled
            return Clock(0, frozenset())
    return Clock(min(each.st_mtime_ns for each in found), frozenset(each.st_dev for each in found))


@dataclass(frozen=True, slots=True)
class Record:
    """What one run has seen of its files.

    Attributes
    ----------
    images : ImageSet
    outcome : Outcome
        Of all their samples.
    clock : Clock
        From before the first file was read.
    before : FileIndex or None
        What the feature file knew until now.
    n_read : int
        Samples whose files were read.
    """

    images: ImageSet
    outcome: Outcome
    clock: Clock
    before: FileIndex | None
    n_read: int

    def index(self, rows: Rows) -> FileIndex:
        """The index for a feature file with these rows, of which some may be of no sample."""
        quarantined = [path for path, _ in rows.quarantine]
        quarantine = self._taken(self.outcome.statuses, quarantined, -1)
        for i, (_, reason) in enumerate(rows.quarantine):
            if any(word in reason for word in _PASSING):
                quarantine[i] = -1
        unlike = _below(self.images.root, self.images.unlike)
        return FileIndex(
            files=self._taken(self.outcome.statuses, rows.paths, -1),
            quarantine=quarantine,
            quarantine_keys=self._taken(self.outcome.keys, quarantined, 0),
            ignored_paths=list(unlike),
            ignored=np.array(list(unlike.values()), np.int64).reshape(-1, 4),
            time_ns=self.clock.time_ns,
            grain_ns=self.clock.grain_ns(self.images.columns.files()),
            decoders=decoders(),
        )

    def pays(self, rows: Rows, size: int) -> bool:
        """Whether to write a file of `size` bytes anew for the index alone, its rows being the same.

        It pays if to read the files that only the new index knows, once more, would cost more.
        """
        old = self.before
        if not self.n_read and len(self.images.unlike) * _OPEN_BYTES < _WRITE_BYTES:
            return False
        new = self.index(rows)
        gained = settled(new.files, new.time_ns, new.grain_ns) & (rows.views() == 0)
        refused = settled(new.quarantine, new.time_ns, new.grain_ns)
        others = len(new.ignored_paths)
        if old is not None:
            gained &= ~old.unchanged(old.files, new.files)
            if old.decoders == new.decoders:
                others = len(set(new.ignored_paths) - set(old.ignored_paths))
                refused &= ~old.unchanged(old.quarantine, new.quarantine)
        sizes = np.concatenate([new.files[gained, 0], new.quarantine[refused, 0]])
        saved = int(sizes.sum()) + _OPEN_BYTES * (len(sizes) + others)
        return saved > _WRITE_BYTES + 2 * size

    def _taken(self, values: np.ndarray, wanted: Sequence[str], nothing: int) -> np.ndarray:
        """The rows of `values` of the samples with these paths; `nothing` where there is no sample."""
        if wanted is self.images.columns.paths:  # each sample has its row: nothing is copied
            return values
        at = find_texts(wanted, self.images.columns.paths)
        found = values[at]
        found[at < 0] = nothing
        return found


def _below(
    root: str, found: Mapping[str, tuple[int, int, int, int]]
) -> dict[str, tuple[int, int, int, int]]:
    """Status by stored path, ordered, of the files below `root`."""
    prefix = os.path.join(root, "")
    below = {
        paths.escape(file[len(prefix) :]): status
        for file, status in found.items()
        if file.startswith(prefix)
    }
    return {path: below[path] for path in sorted(below, key=paths.order)}
