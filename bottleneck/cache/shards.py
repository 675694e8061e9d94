"""Finished features of a run that is not published yet: sealed shards, named by their content.

A shard is built in memory and appears under its name only when it is whole and on the medium. So
a run that is killed loses at most the rows since its last seal, and what the next run finds under
a name either has that content or is set aside.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from ..errors import CacheError
from ..recipe import canonical_json
from .atomic import Descriptor, replace_atomically, sync, telling
from .checks import opened

FORMAT = "bottleneck-shard"
FORMAT_VERSION = 1
# What a crash may cost. Sealing a small file takes about 10 ms, most of it fsync.
SEAL_AFTER_S = 5.0
SEAL_AT_BYTES = 64 << 20
NAME_DIGITS = 32


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
    """

    path: Path
    shape: tuple[int, int]
    recipe: dict[str, Any]
    environment: dict[str, Any]

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The features of `rows`, in that order: (m, d) float32; reads only their span."""
        wanted = np.asarray(rows, np.intp)
        if not len(wanted):
            return np.empty((0, self.shape[1]), np.float32)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        with opened(self.path) as h5:
            return h5["features"][low:high][wanted - low]


class Shards:
    """Collects rows and seals them, at the latest 5 s after the first one or at 64 MB.

    Parameters
    ----------
    parts_dir : Path
        ``NAME.h5.parts``; made when the first shard is sealed.
    fingerprint : str
        Of the features that will be appended.
    recipe, environment : dict, optional
        Kept in each shard, so that a run that goes on after a kill can take its settings from it.
    """

    def __init__(
        self,
        parts_dir: str | Path,
        fingerprint: str,
        *,
        recipe: dict[str, Any] | None = None,
        environment: dict[str, Any] | None = None,
    ) -> None:
        self.parts_dir = Path(parts_dir)
        self.fingerprint = fingerprint
        self.recipe = recipe or {}
        self.environment = environment or {}
        self._keys: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._bytes = 0
        self._first_row_s = 0.0

    def append(self, keys: np.ndarray, features: np.ndarray) -> Path | None:
        """Add rows; seal if it is time.

        Parameters
        ----------
        keys : ndarray of shape (m, 32), uint8
        features : ndarray of shape (m, d), float32
            Copied, so that the caller may use the array again.

        Returns
        -------
        Path or None
            The shard, if one was sealed.
        """
        if len(keys) != len(features):
            raise ValueError(f"{len(keys)} keys for {len(features)} rows of features")
        if not len(keys):
            return self.seal_if_due()
        if not self._keys:
            # Not time.time, which goes back when the clock is set.
            self._first_row_s = time.monotonic()
        self._keys.append(np.array(keys, np.uint8))
        self._features.append(np.array(features, np.float32))
        self._bytes += self._features[-1].nbytes + self._keys[-1].nbytes
        return self.seal_if_due()

    def seal_if_due(self) -> Path | None:
        """Seal if the first unsealed row is 5 s old, or 64 MB are waiting; call it when idle."""
        if not self._keys:
            return None
        old = time.monotonic() - self._first_row_s >= SEAL_AFTER_S
        return self.seal() if old or self._bytes >= SEAL_AT_BYTES else None

    def seal(self) -> Path | None:
        """Write what has been appended as one shard; None if there is nothing.

        Raises
        ------
        CacheError
            If it cannot be written. The rows stay, so that sealing can be tried again.
        """
        if not self._keys:
            return None
        keys, features = np.concatenate(self._keys), np.concatenate(self._features)
        data = self._build(keys, features)
        path = self.parts_dir / f"{_name(data)}.h5"
        with replace_atomically(path) as file:
            file.write(data)
            # Before the rename: what the disk gives back has to be what was meant.
            sync(file.fileno())
            _require_content(file, data, path)
        self._keys, self._features, self._bytes = [], [], 0
        return path

    def discard(self) -> None:
        """Remove the shards of this fingerprint, once they are published."""
        discard(self.parts_dir, self.fingerprint)

    def _build(self, keys: np.ndarray, features: np.ndarray) -> memoryview:
        import h5py

        memory = io.BytesIO()
        with h5py.File(memory, "w") as h5:
            h5.attrs["format"] = FORMAT
            h5.attrs["format_version"] = FORMAT_VERSION
            h5.attrs["fingerprint"] = self.fingerprint
            h5.attrs["recipe"] = canonical_json(self.recipe).decode()
            h5.attrs["environment"] = canonical_json(self.environment).decode()
            h5.create_dataset("keys", data=keys)
            h5.create_dataset("features", data=features)
        return memory.getbuffer()


def _require_content(file: Descriptor, data: memoryview, path: Path) -> None:
    file.seek(0)
    if blake3(file.readall()).digest() != blake3(data).digest():
        raise CacheError(
            f"{path} reads back other bytes than were written",
            where=str(path),
            next="check the disk (dmesg, SMART), or put the output on another one with -o",
        )


def _name(data: bytes | memoryview) -> str:
    return blake3(data).hexdigest()[:NAME_DIGITS]


def load(
    parts_dir: str | Path, fingerprint: str
) -> tuple[dict[bytes, tuple[Shard, int]], list[str]]:
    """What earlier runs have left in `parts_dir`.

    Parameters
    ----------
    parts_dir : str or Path
        Need not exist.
    fingerprint : str
        Only shards of this one are used.

    Returns
    -------
    index : dict of bytes to (Shard, int)
        For each key the shard and the row in it; features are read by `take`.
    notes : list of str
        What was found and not used, one sentence each: shards of another recipe, which stay where
        they are, and torn ones, which are renamed to ``*.bad``.
    """
    index: dict[bytes, tuple[Shard, int]] = {}
    notes: list[str] = []
    foreign: dict[str, int] = {}
    for path in sorted(Path(parts_dir).glob("*.h5")):
        reason = _torn(path)
        if reason:
            notes.append(_set_aside(path, reason))
            continue
        try:
            shard, keys, made_by = _open(path)
        except CacheError as error:
            notes.append(_set_aside(path, error.what))
            continue
        if made_by != fingerprint:
            foreign[made_by] = foreign.get(made_by, 0) + len(keys)
            continue
        # Equal keys have equal features; the first name wins, so that two runs choose alike.
        for row, key in enumerate(keys):
            index.setdefault(key, (shard, row))
    for made_by, count in foreign.items():
        notes.append(
            f"{parts_dir} also holds {count} finished rows of recipe {made_by[:6]}, "
            f"not of {fingerprint[:6]}; they are not used"
        )
    return index, notes


def take(index: dict[bytes, tuple[Shard, int]], keys: Iterable[bytes]) -> np.ndarray:
    """The features of `keys`, in that order: (m, d) float32; each shard is opened once.

    Parameters
    ----------
    index : dict
        From `load`.
    keys : iterable of bytes
        All of them in `index`, at least one.
    """
    places = [index[key] for key in keys]
    by_shard: dict[Shard, list[int]] = {}
    for position, (shard, _) in enumerate(places):
        by_shard.setdefault(shard, []).append(position)
    if len({shard.shape[1] for shard in by_shard}) > 1:
        where = ", ".join(str(shard.path) for shard in by_shard)
        raise CacheError("shards of one recipe have features of different length", where=where)
    features = np.empty((len(places), places[0][0].shape[1]), np.float32)
    for shard, positions in by_shard.items():
        features[positions] = shard.take([places[position][1] for position in positions])
    return features


def discard(parts_dir: str | Path, fingerprint: str) -> None:
    """Remove the shards of `fingerprint` once they are published, and the folder if that was all.

    Shards of another recipe stay: they are finished work of another run. Torn ones and temporary
    files go with the last shard.
    """
    folder = Path(parts_dir)
    with telling(folder):
        left = 0
        for path in folder.glob("*.h5"):
            try:
                made_by = _open(path)[2]
            except CacheError:
                made_by = fingerprint
            if made_by == fingerprint:
                path.unlink(missing_ok=True)
            else:
                left += 1
        if not left and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _torn(path: Path) -> str:
    """Why the content of a shard is not what its name says; empty if it is."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return "it is empty"
            file.seek(0)
            whole = blake3()
            while piece := file.read(1 << 22):
                whole.update(piece)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return (
        ""
        if whole.hexdigest()[:NAME_DIGITS] == path.stem
        else "its content is not what its name says"
    )


def _open(path: Path) -> tuple[Shard, list[bytes], str]:
    with opened(path) as h5:
        if h5.attrs.get("format") != FORMAT or h5.attrs.get("format_version") != FORMAT_VERSION:
            raise CacheError("it is not a shard that this version reads", where=str(path))
        keys = np.ascontiguousarray(h5["keys"][()])
        shape = tuple(map(int, h5["features"].shape))
        recipe = json.loads(h5.attrs["recipe"])
        environment = json.loads(h5.attrs["environment"])
        made_by = str(h5.attrs["fingerprint"])
    packed = keys.tobytes()
    rows = [packed[start : start + 32] for start in range(0, len(packed), 32)]
    return Shard(path, (shape[0], shape[1]), recipe, environment), rows, made_by


def _set_aside(path: Path, reason: str) -> str:
    bad = path.with_suffix(".bad")
    with suppress(OSError):
        os.replace(path, bad)
    return f"{path.name} was set aside as {bad.name}: {reason}; its images are computed again"
