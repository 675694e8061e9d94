"""Finished features of a run that is not published yet: sealed shards, named by their content.

A shard is built in memory and appears under its name only when it is whole and on the medium. So
a run that is killed loses at most the rows since its last seal, and what the next run finds under
a name either has that content or is set aside. `Shards` writes them, `sealed` finds them again.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from ..errors import CacheError
from ..recipe import canonical_json
from .atomic import Descriptor, replace_atomically, sync
from .sealed import (
    FORMAT,
    FORMAT_VERSION,
    Shard,
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
        path = self.parts_dir / f"{name_of(data)}.h5"
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
