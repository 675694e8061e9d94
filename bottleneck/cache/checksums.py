"""BLAKE3 of a dataset's values, block of rows by block of rows, and one digest over all of them.

The digests are over values, not over how HDF5 lays them out, so a copy made with h5py keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from blake3 import blake3

# A reader has to hash a whole block before it trusts one row of it. 64 rows of 1,280 float32 are
# 0.3 MB (0.1 ms); the digests are then 32 bytes for 64 rows. All other columns are read whole.
FEATURE_ROWS = 64
ROWS = 4096

Values: TypeAlias = "np.ndarray | Sequence[bytes]"


def digest(values: Values) -> bytes:
    """BLAKE3 of one block.

    Parameters
    ----------
    values : ndarray, or list of bytes
        Numbers: their little-endian bytes in C order. Text as UTF-8: the length of each string as
        little-endian uint32, then all strings without anything between them.

    Returns
    -------
    bytes
        32 of them.
    """
    if isinstance(values, np.ndarray):
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        return blake3(np.ascontiguousarray(little).view(np.uint8).data).digest()
    lengths = np.fromiter(map(len, values), dtype="<u4", count=len(values))
    return blake3(lengths.tobytes() + b"".join(values)).digest()


def digests(values: Values, rows: int) -> np.ndarray:
    """The digest of each block of `rows` rows, the last one shorter: (ceil(n / rows), 32) uint8."""
    blocks = [digest(values[start : start + rows]) for start in range(0, len(values), rows)]
    return np.frombuffer(b"".join(blocks), np.uint8).reshape(len(blocks), 32)


def content(named: dict[str, np.ndarray]) -> str:
    """One digest over those of all datasets: 64 hexadecimal digits.

    Parameters
    ----------
    named : dict of str to ndarray of shape (m, 32), uint8
        Dataset name, and the digests of its blocks.

    Returns
    -------
    str
        BLAKE3 over name in UTF-8, a zero byte, and the digests, for each name in byte order.
    """
    whole = blake3()
    for name in sorted(named, key=str.encode):
        whole.update(name.encode() + b"\0" + named[name].tobytes())
    return whole.hexdigest()


def content_without_stat(named: dict[str, np.ndarray]) -> str:
    """`content` of all but the index of files, which changes where no row does."""
    return content({name: found for name, found in named.items() if not name.startswith("stat/")})
