"""Which keys are somebody's work already, at 6 bytes a row, and which rows have certain keys."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

_KEY_BYTES = 32


class Claims:
    """Lets the first sample of equal bytes through, and no other. The caller sees to one thread at a time.

    A table with open addressing: the first 8 bytes of a key, which is a hash, say where to look,
    and what lies there is the row of a key, so that all 32 bytes are compared.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), uint8
        Read when a row is claimed or compared; contiguous.

    Examples
    --------
    >>> claims = Claims(np.zeros((2, 32), np.uint8))
    >>> claims.claim(0), claims.claim(1)
    (True, False)
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys.reshape(-1).data
        # Half as many slots again as rows: a key that is not there takes 5 looks on average when all
        # rows are claimed (linear probing, Knuth vol. 3, 6.4), and 2 until half of them are.
        self._size = 3 * len(keys) // 2 + 8
        # 0 is a free slot, else row + 1. Pages of a table that nobody writes to take no memory.
        dtype = np.int32 if len(keys) < 2**31 - 1 else np.int64
        self._rows = np.zeros(self._size, dtype).data

    def claim(self, row: int) -> bool:
        """True for the first row of its key; the key must be in `keys` already."""
        keys, rows, size = self._keys, self._rows, self._size
        key = keys[row * _KEY_BYTES : (row + 1) * _KEY_BYTES]
        slot = int.from_bytes(key[:8], "little") % size
        while taken := rows[slot]:
            start = (taken - 1) * _KEY_BYTES
            if keys[start : start + _KEY_BYTES] == key:
                return False
            slot = (slot + 1) % size
        rows[slot] = row + 1
        return True


def rows_of(keys: np.ndarray, wanted: Collection[bytes]) -> list[int]:
    """Find a few keys among many.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), uint8
    wanted : set or dict of bytes

    Returns
    -------
    list of int
        The rows whose key is wanted, in order.

    Examples
    --------
    >>> rows_of(np.eye(32, dtype=np.uint8), {bytes(31) + bytes([1])})
    [31]
    """
    if not wanted or not len(keys):
        return []
    # By their first 8 bytes, then exactly: no object for each of a million rows.
    heads = np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, 32)[:, :8]
    like = np.isin(_numbers(keys[:, :8]), _numbers(heads))
    return [int(row) for row in np.flatnonzero(like) if keys[row].tobytes() in wanted]


def _numbers(heads: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(heads).view(np.uint64).ravel()
