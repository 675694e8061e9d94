"""How much disk an extraction takes: sealed shards, and a new file beside the old one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..cache.layout import STORES
from ..images.sample import Samples

# Of a sealed row beside its features: key, hash, and its share of a shard's structure.
_SHARD_ROW = 64
# Of a published row beside its features and its path: key, label, hash, the index of unchanged
# files, checksums, and the ends of texts. Measured: 143 bytes, without columns of a table.
_FILE_ROW = 150
# Of a text of a column beside its bytes: its reference, and its head and padding in HDF5's heap.
_TEXT = 48
_SOME = 1000


def shards_need(n: int, sizes: Sequence[int], views: int) -> int:
    """Bytes of the sealed shards of `n` images: float32, a row for each of their outputs."""
    return n * views * (4 * sum(sizes) + _SHARD_ROW * len(sizes))


def file_need(n: int, sizes: Sequence[int], views: int, store: str, column_bytes: int = 0) -> int:
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
    column_bytes : int, default 0
        Of a path and of what a table says of an image (`column_bytes_of`).
    """
    return n * views * (STORES[store].itemsize * sum(sizes) + _FILE_ROW + column_bytes)


def column_bytes_of(samples: Samples) -> int:
    """Bytes of a path and of the columns of a table for an image, on average, rounded up."""
    taken = _text_bytes(samples.paths)
    if samples.targets is not None:
        taken += 4 * int(samples.targets.values.shape[1])
    for column in samples.meta.values():
        taken += 8 if isinstance(column, np.ndarray) else _TEXT + _text_bytes(column)
    return taken


def _text_bytes(texts: Sequence[str]) -> int:
    """Of a text in UTF-8, on average over some that are spread over all."""
    if not len(texts):
        return 0
    some = np.unique(np.linspace(0, len(texts) - 1, _SOME).astype(int)).tolist()
    return -(-sum(len(texts[i].encode(errors="surrogatepass")) for i in some) // len(some))
