"""Sealed shards on disk: found again by fingerprint, read by key, removed once they are published."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from blake3 import blake3

from ..errors import CacheError
from ..regular import NotRegular, open_regular
from .atomic import telling
from .checks import opened
from .keys import KEY_BYTES, KeyIndex, as_keys

FORMAT = "bottleneck-shard"
FORMAT_VERSION = 1
NAME_DIGITS = 32
_PIECE_BYTES = 256 << 10
_ROWS = 4096  # looked through at a time


class Readable(Protocol):
    """A file open for reading bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as there is something; how far."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One sealed shard, found whole.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        (m, d) of its features.
    recipe, environment : dict
        Of the run that wrote it; empty if it did not say.
    hashes : ndarray of shape (m,), uint64, or None
        Perceptual hash of the image of each row; shards of earlier versions have none.
    """

    path: Path
    shape: tuple[int, int]
    recipe: dict[str, Any]
    environment: dict[str, Any]
    hashes: np.ndarray | None = None

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The features of `rows`, in that order: (m, d) float32; reads only their span."""
        wanted = np.asarray(rows, np.intp)
        if not len(wanted):
            return np.empty((0, self.shape[1]), np.float32)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        with opened(self.path, vouched=True) as h5:
            return h5["features"][low:high][wanted - low]


class Index:
    """Which shard a key is in, and where in it: some 53 bytes a row, keys and hashes included.

    Parameters
    ----------
    parts : list of (Shard, ndarray of shape (m, 32), uint8)
        Shards and the keys of their rows. Equal keys have equal features; the first one counts.
        The list is emptied, so that no key is held twice.
    """

    def __init__(self, parts: list[tuple[Shard, np.ndarray]]) -> None:
        self.shards = [shard for shard, _ in parts]
        self._starts = np.cumsum([0, *(len(keys) for _, keys in parts)])
        self._keys = np.empty((int(self._starts[-1]), KEY_BYTES), np.uint8)
        for start in reversed(self._starts[:-1].tolist()):
            _, keys = parts.pop()
            self._keys[start : start + len(keys)] = keys
        self._index = KeyIndex(self._keys)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __iter__(self) -> Iterator[bytes]:
        return (
            key.tobytes()
            for row, key in enumerate(self._keys)
            if self._index.row(key.tobytes()) == row
        )

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Which of `keys`, (m, 32) uint8, are there: (m,) bool."""
        return self._index.rows(keys) >= 0

    def hashes(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perceptual hashes of `keys`, (m, 32) uint8, as of `extraction.stores.Store`."""
        rows = self._index.rows(keys)
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        values, known = np.zeros(len(keys), np.uint64), np.zeros(len(keys), bool)
        for number in np.unique(shard[rows >= 0]).tolist():
            found = self.shards[number].hashes
            if found is not None:
                here = (rows >= 0) & (shard == number)
                values[here] = found[rows[here] - self._starts[number]]
                known |= here
        return values, known

    def places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The number of the shard in `shards`, and the row in it, of keys that are all there."""
        rows = self._index.rows(keys)
        if len(rows) and rows.min() < 0:
            raise KeyError(keys[int(rows.argmin())].tobytes())
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        return shard, rows - self._starts[shard]


def load(
    parts_dir: str | Path, fingerprint: str, siblings: Collection[str] = ()
) -> tuple[Index, list[str]]:
    """What earlier runs have left in `parts_dir` for one output.

    Parameters
    ----------
    parts_dir : str or Path
        Need not exist.
    fingerprint : str
        Only shards of this one are used.
    siblings : collection of str, optional
        Fingerprints of the run's other outputs, whose shards lie here with good reason.

    Returns
    -------
    index : Index
        Features are read by `take`.
    notes : list of str
        What was found and not used, one sentence each: shards of another recipe, which stay where
        they are, and torn ones, which are renamed to ``*.bad``.
    """
    found, notes = _load(parts_dir, [fingerprint], {fingerprint, *siblings})
    return found[fingerprint], notes


def load_all(
    parts_dir: str | Path, fingerprints: Collection[str]
) -> tuple[dict[str, Index], list[str]]:
    """What earlier runs have left in `parts_dir` for several outputs; each file is read once.

    Parameters
    ----------
    parts_dir : str or Path
        Need not exist.
    fingerprints : collection of str
        Of all outputs of the run.

    Returns
    -------
    found : dict of str to Index
        For each fingerprint an index as of `load`; empty where nothing was left.
    notes : list of str
        As of `load`.
    """
    return _load(parts_dir, fingerprints, fingerprints)


def _load(
    parts_dir: str | Path, wanted: Collection[str], expected: Collection[str]
) -> tuple[dict[str, Index], list[str]]:
    """Indices of the fingerprints in `wanted`; only those beyond `expected` are worth a note."""
    found: dict[str, list[tuple[Shard, np.ndarray]]] = {fingerprint: [] for fingerprint in wanted}
    notes: list[str] = []
    foreign: dict[str, int] = {}
    for path in sorted(Path(parts_dir).glob("*.h5")):
        reason = why_torn(path)
        if reason:
            notes.append(_set_aside(path, reason))
            continue
        try:
            shard, keys, made_by = open_shard(path)
            if made_by in found:
                _require_numbers(shard)
        except CacheError as error:
            if _unreadable(error):
                raise  # the disk's fault, not the shard's, whose content its name vouches for
            notes.append(_set_aside(path, error.what))
            continue
        if made_by in found:
            # By name: of equal keys the first counts, so that two runs choose alike.
            found[made_by].append((shard, keys))
        elif made_by not in expected:
            foreign[made_by] = foreign.get(made_by, 0) + len(keys)
    ours = " or ".join(fingerprint[:6] for fingerprint in found)
    for made_by, count in foreign.items():
        notes.append(
            f"{parts_dir} also holds {count} finished rows of recipe {made_by[:6]}, "
            f"not of {ours}; they are not used"
        )
    return {fingerprint: Index(parts) for fingerprint, parts in found.items()}, notes


def take(index: Index, keys: Sequence[bytes] | np.ndarray) -> np.ndarray:
    """The features of `keys`, in that order: (m, d) float32; each shard is opened once.

    Parameters
    ----------
    index : Index
        From `load`.
    keys : sequence of bytes, or ndarray of shape (m, 32), uint8
        All of them in `index`, at least one.
    """
    number, row = index.places(as_keys(keys))
    used = [(index.shards[i], number == i) for i in np.unique(number).tolist()]
    if len({shard.shape[1] for shard, _ in used}) > 1:
        where = ", ".join(str(shard.path) for shard, _ in used)
        raise CacheError("shards of one recipe have features of different length", where=where)
    features = np.empty((len(row), used[0][0].shape[1]), np.float32)
    for shard, here in used:
        features[here] = shard.take(row[here])
    return features


def discard(parts_dir: str | Path, fingerprint: str) -> None:
    """Remove the shards of `fingerprint`; as `discard_all` of this one."""
    discard_all(parts_dir, [fingerprint])


def discard_all(parts_dir: str | Path, fingerprints: Collection[str]) -> None:
    """Remove shards once they are published, and the folder if that was all.

    Shards of another recipe stay: they are finished work of another run. Torn ones and temporary
    files go with the last shard.

    Parameters
    ----------
    parts_dir : str or Path
        Need not exist.
    fingerprints : collection of str
        Of all outputs that were published.
    """
    folder = Path(parts_dir)
    with telling(folder, "unlink"):
        left = 0
        for path in list(folder.glob("*.h5")):
            try:
                useless = open_shard(path)[2] in fingerprints
            except CacheError as error:
                # What the disk does not show now may be finished work of another run.
                useless = not _unreadable(error)
            if useless:
                path.unlink(missing_ok=True)
            else:
                left += 1
        if not left and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _unreadable(error: CacheError) -> bool:
    """Whether the system could not read a file, rather than that something is wrong with it."""
    return isinstance(error.__cause__, OSError) and bool(error.__cause__.errno)


def name_of(data: bytes | memoryview) -> str:
    """The name that content gives a shard, without suffix."""
    return blake3(data).hexdigest()[:NAME_DIGITS]


def digest_of(file: Readable) -> bytes:
    """BLAKE3 of all that is left of a file, read through one small buffer."""
    whole = blake3()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while count := file.readinto(buffer):
        whole.update(buffer[:count])
    return whole.digest()


def why_torn(path: Path) -> str:
    """Why the content of a shard is not what its name says; empty if it is.

    Raises
    ------
    CacheError
        If it cannot be read: its content may be whole, and stays where it is.
    """
    try:
        with open_regular(path) as file:
            if not file.seek(0, os.SEEK_END):
                return "it is empty"
            file.seek(0)
            found = digest_of(cast(Readable, file)).hex()
    except NotRegular as kind:
        return f"it is {kind}"
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error")
        raise CacheError(
            f"{path} could not be read: {error.strerror or error} ({name} in read)",
            expected="finished features of a run that did not end",
            where=str(path),
            next="check the disk and run again; without this file its images are computed again",
        ) from error
    return "" if found[:NAME_DIGITS] == path.stem else "its content is not what its name says"


def open_shard(path: Path) -> tuple[Shard, np.ndarray, str]:
    """A shard, the keys of its rows (m, 32) uint8, and its fingerprint; a CacheError if it is none."""
    with opened(path, vouched=True) as h5:  # its name is its digest
        if h5.attrs.get("format") != FORMAT or h5.attrs.get("format_version") != FORMAT_VERSION:
            raise CacheError("it is not a shard that this version reads", where=str(path))
        try:
            keys = np.ascontiguousarray(h5["keys"][()])
            m, d = map(int, h5["features"].shape)
            recipe = json.loads(h5.attrs["recipe"])
            environment = json.loads(h5.attrs["environment"])
            made_by = str(h5.attrs["fingerprint"])
            hashes = h5["phash"][()] if "phash" in h5 else None
        except (KeyError, TypeError, ValueError) as error:
            raise CacheError(f"it lacks something ({error})", where=str(path)) from error
        if keys.shape != (m, 32) or keys.dtype != np.uint8:
            raise CacheError(f"its keys are {keys.shape} {keys.dtype}", where=str(path))
        if hashes is not None and (hashes.shape != (m,) or hashes.dtype != np.uint64):
            raise CacheError(f"its phash is {hashes.shape} {hashes.dtype}", where=str(path))
    return Shard(path, (m, d), recipe, environment, hashes), keys, made_by


def _require_numbers(shard: Shard) -> None:
    """Raise a CacheError if a shard holds NaN, as those of earlier versions may.

    No file is published with one, so it would be in the way of every later run.
    """
    with opened(shard.path, vouched=True) as h5:
        for start in range(0, shard.shape[0], _ROWS):
            if not np.isfinite(h5["features"][start : start + _ROWS]).all():
                raise CacheError("it holds NaN or infinity", where=str(shard.path))


def _set_aside(path: Path, reason: str) -> str:
    bad = path.with_suffix(".bad")
    with suppress(OSError):
        os.replace(path, bad)
    return f"{path.name} was set aside as {bad.name}: {reason}; its images are computed again"
