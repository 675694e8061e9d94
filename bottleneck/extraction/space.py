"""How much disk an extraction takes: sealed shards, and a new file beside the old one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..cache.layout import STORES

# Of a sealed row beside its features: key, hash, and its share of a shard's structure.
_SHARD_ROW = 64
# Of a published row beside its features and its path: key, label, hash, the index of unchanged
# files, checksums, and the ends of texts. Measured: 143 bytes, without columns of a table.
_FILE_ROW = 150
_PATHS = 1000


def shards_need(n: int, sizes: Sequence[int], views: int) -> int:
    """Bytes of the sealed shards of `n` images: float32, a row for each of their outputs."""
    return n * views * (4 * sum(sizes) + _SHARD_ROW * len(sizes))


def file_need(n: int, sizes: Sequence[int], views: int, store: str, path_bytes: int = 0) -> int:
    """Bytes of a feature file of `n` images.

    Parameters
    ----------
    n : int
    sizes : sequence of int
        Length of the vector of each output.
    views : int
        Rows that an image has.
    store : str
        ``float32`` or ``float16``.
    path_bytes : int, default 0
        Of a stored path, on average.
    """
    return n * views * (STORES[store].itemsize * sum(sizes) + _FILE_ROW + path_bytes)


def path_bytes_of(paths: Sequence[str]) -> int:
    """Bytes of a path, on average over some that are spread over all; rounded up."""
    if not len(paths):
        return 0
    some = np.unique(np.linspace(0, len(paths) - 1, _PATHS).astype(int)).tolist()
    return -(-sum(len(paths[i].encode()) for i in some) // len(some))
