"""Finished features of a run that is not published yet: sealed shards, named by their content.

A shard is built in memory and appears under its name only when it is whole and on the medium. So
a run that is killed loses at most the rows since its last seal, and what the next run finds under
a name either has that content or is set aside. `Shards` writes them, `sealed` finds them again.
"""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CacheError
from ..recipe import canonical_json
from .atomic import replace_atomically, telling
from .sealed import (
    FORMAT,
    FORMAT_VERSION,
    NAME_DIGITS,
    Shard,
    digest_of,
    discard,
    discard_all,
    load,
    load_all,
    name_of,
    take,
)

__all__ = ["Shard", "Shards", "discard", "discard_all", "load", "load_all", "take"]

# What a crash may cost. Sealing a small file takes about 10 ms, most of it fsync.
SEAL_AFTER_S = 5.0
SEAL_AT_BYTES = 64 << 20


class Shards:
    """Collects rows of one output and seals them, at the latest 5 s after the first one or at 64 MB.

    Several outputs have one each, in the same folder.

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
        # Appended to one block each: arrays of a batch's rows would cost as much again as small rows.
        self._keys, self._features = bytearray(), bytearray()
        self._hashes = bytearray()
        self._feature_size = 0
        self._first_row_s = 0.0

    def append(
        self, keys: np.ndarray, features: np.ndarray, hashes: np.ndarray | None = None
    ) -> Path | None:
        """Add rows; seal if it is time.

        Parameters
        ----------
        keys : ndarray of shape (m, 32), uint8
        features : ndarray of shape (m, d), float32
            Copied, so that the caller may use the array again.
        hashes : ndarray of shape (m,), uint64, optional
            Perceptual hash of each image. A shard with a row that has none keeps none.

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
            self._feature_size = features.shape[1]
        if features.shape[1] != self._feature_size:
            raise ValueError(f"features of length {features.shape[1]} after {self._feature_size}")
        self._keys += np.ascontiguousarray(keys, np.uint8).data.cast("B")
        self._features += np.ascontiguousarray(features, np.float32).data.cast("B")
        if hashes is not None:
            self._hashes += np.ascontiguousarray(hashes, np.uint64).data.cast("B")
        return self.seal_if_due()

    def seal_if_due(self) -> Path | None:
        """Seal if the first unsealed row is 5 s old, or 64 MB are waiting; call it when idle."""
        if not self._keys:
            return None
        old = time.monotonic() - self._first_row_s >= SEAL_AFTER_S
        full = len(self._features) + len(self._keys) + len(self._hashes) >= SEAL_AT_BYTES
        return self.seal() if old or full else None

    def seal(self) -> Path | None:
        """Write what has been appended as one shard; None if there is nothing.

        Raises
        ------
        CacheError
            If it cannot be written. The rows stay, so that sealing can be tried again.
        """
        if not self._keys:
            return None
        data = self._build()
        path = self.parts_dir / f"{name_of(data)}.h5"
        # Before the rename: what the disk gives back has to be what was meant.
        with replace_atomically(
            path, needs=len(data), check=lambda written: _require_content(written, path)
        ) as file:
            file.write(data)
        self._keys, self._features, self._hashes = bytearray(), bytearray(), bytearray()
        return path

    def discard(self) -> None:
        """Remove the shards of this fingerprint, once they are published."""
        discard(self.parts_dir, self.fingerprint)

    def _build(self) -> memoryview:
        import h5py

        features = np.frombuffer(self._features, np.float32).reshape(-1, self._feature_size)
        memory = io.BytesIO()
        with h5py.File(memory, "w") as h5:
            h5.attrs["format"] = FORMAT
            h5.attrs["format_version"] = FORMAT_VERSION
            h5.attrs["fingerprint"] = self.fingerprint
            h5.attrs["recipe"] = canonical_json(self.recipe).decode()
            h5.attrs["environment"] = canonical_json(self.environment).decode()
            h5.create_dataset("keys", data=np.frombuffer(self._keys, np.uint8).reshape(-1, 32))
            h5.create_dataset("features", data=features)
            if len(self._hashes) == 8 * len(features):
                h5.create_dataset("phash", data=np.frombuffer(self._hashes, np.uint64))
        return memory.getbuffer()


def _require_content(written: Path, path: Path) -> None:
    """Read a new shard once more, opened anew; its name says what its content has to be."""
    with telling(path, "read"), written.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):  # else the answer comes from memory, not from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found = digest_of(file).hex()
    if found[:NAME_DIGITS] != path.stem:
        raise CacheError(
            f"{path} reads back other bytes than were written",
            where=str(path),
            next="check the disk (dmesg, SMART), or put the output on another one with -o",
        )
