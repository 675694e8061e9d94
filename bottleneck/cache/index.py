"""The index of files: how each image's file looked when it was read, so that it need not be again.

A feature file's group ``stat`` in, a `FileIndex` out. It belongs to one feature file as one run left
it: what is made from a file (a subset, a copy, joined rows) has none.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CacheError
from .checks import opened
from .columns import is_text
from .reading import Stored, identity_of
from .verify import checked_sums, verify

if TYPE_CHECKING:
    import h5py

    from .features import Features

# Of what is no file, or was not read in the run that wrote the index.
UNKNOWN = (-1, -1, -1, -1)
# NTFS and some network disks have file numbers of 64 bits, int64 has one fewer. A number is only
# ever compared with itself, beside three other values.
_INODE_BITS = (1 << 63) - 1


@dataclass(frozen=True)
class FileIndex:
    """How files looked when their bytes were hashed.

    A status is size in bytes, mtime_ns, ctime_ns and inode, int64; four times -1 is unknown.

    Parameters
    ----------
    files : ndarray of shape (n, 4), int64
        Status of the file of each row.
    quarantine : ndarray of shape (q, 4), int64
        Status of each file in the quarantine.
    quarantine_keys : ndarray of shape (q, 32), uint8
        BLAKE3 of their bytes; zeros where the status is unknown.
    ignored_paths : list of str
        Stored paths of files that had to be opened to see that they are no images.
    ignored : ndarray of shape (i, 4), int64
        Their status.
    time_ns : int
        A moment before the first file was read, by the clock that stamps files.
    grain_ns : int
        What that clock may be off or late by.
    decoders : dict of str to str
        Versions of what found the files in the quarantine unusable, and the ignored no images.
    """

    files: np.ndarray
    quarantine: np.ndarray
    quarantine_keys: np.ndarray
    ignored_paths: list[str] = field(default_factory=list)
    ignored: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.int64))
    time_ns: int = 0
    grain_ns: int = 0
    decoders: dict[str, str] = field(default_factory=dict)

    def unchanged(self, recorded: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Which files are surely those of the index: (m,) bool.

        Parameters
        ----------
        recorded : ndarray of shape (m, 4), int64
            Rows of `files`, `quarantine` or `ignored`.
        now : ndarray of shape (m, 4), int64
            How the same paths look now.
        """
        same: np.ndarray = (recorded == now).all(axis=1)
        return same & settled(recorded, self.time_ns, self.grain_ns)


def settled(statuses: np.ndarray, time_ns: int, grain_ns: int) -> np.ndarray:
    """Which files would look different if they were changed after `time_ns`: (m,) bool.

    A file that was changed within the clock's grain of the moment it was read may change once more
    and keep its times. Git has the same rule for its index.

    Parameters
    ----------
    statuses : ndarray of shape (m, 4), int64
    time_ns, grain_ns : int
        See `FileIndex`.

    References
    ----------
    https://git-scm.com/docs/racy-git

    Examples
    --------
    >>> one_second = 10**9
    >>> settled(np.array([[9, 5, 5, 7]]) * [1, one_second, one_second, 1], 8 * one_second, 2 * one_second)
    array([ True])
    """
    latest = statuses[:, 1:3].max(axis=1, initial=-1)
    # Without a number another file of this size and age could have taken the path.
    numbered = statuses[:, 3] > 0
    return (statuses[:, 0] >= 0) & numbered & (latest < time_ns - grain_ns)


def status_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """Size, mtime_ns, ctime_ns and inode, each of which int64 can hold."""
    return as_row((found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))


def as_row(status: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Make a file's status fit into int64; one dated after 2262 is as good as without a number.

    Examples
    --------
    >>> as_row((120_000, 5, 5, 2**63 + 7))
    (120000, 5, 5, 7)
    >>> as_row((120_000, 10**19, 5, 7))
    (120000, -1, -1, 0)
    """
    size, mtime_ns, ctime_ns, inode = status
    if not all(-(1 << 63) <= time_ns < 1 << 63 for time_ns in (mtime_ns, ctime_ns)):
        return size, -1, -1, 0  # so that it is never settled, and read every time
    return size, mtime_ns, ctime_ns, inode & _INODE_BITS


def index_of(features: Features) -> FileIndex | None:
    """The index of the file that features were opened from, as `read_index` has it."""
    if hasattr(features.features, "directory"):
        from .directory import index_of_directory

        return index_of_directory(features)
    stored = getattr(features.features, "stored", None)
    return None if stored is None else read_index(stored, len(features.quarantine))


def read_index(stored: Stored, n_quarantined: int) -> FileIndex | None:
    """The index of a feature file; None if it has none, or one that this version cannot use.

    Parameters
    ----------
    stored : Stored
        The features of the file, as `reading.read` describes it.
    n_quarantined : int
        Inputs in its quarantine.

    Raises
    ------
    CacheError
        If the file is damaged, or was replaced after `stored` was read.
    """
    path = stored.path
    with opened(path) as h5:
        if identity_of(h5, path) != stored.identity:
            raise CacheError(
                f"{path} was replaced while it was read", where=str(path), next="run again"
            )
        wanted = {
            "files": (stored.shape[0], 4),
            "quarantine": (n_quarantined, 4),
            "quarantine_keys": (n_quarantined, 32),
            "ignored": (None, 4),
            "ignored_paths": (None,),
            "clock": (2,),
            "decoders": (1,),
        }
        if not all(_fits(h5, f"stat/{name}", shape) for name, shape in wanted.items()):
            return None
        sums = checked_sums(h5, path)
        numbers, texts = {}, {}
        for name in wanted:
            values = h5[f"stat/{name}"][()]
            if is_text(h5[f"stat/{name}"]):
                texts[name] = [bytes(value) for value in values]
                verify(texts[name], sums, h5, f"stat/{name}", path)
            else:
                verify(values, sums, h5, f"stat/{name}", path)
                numbers[name] = values.astype(values.dtype.newbyteorder("="), copy=False)
    time_ns, grain_ns = numbers.pop("clock").tolist()
    ignored_paths = [value.decode("utf-8", "replace") for value in texts["ignored_paths"]]
    if len(ignored_paths) != len(numbers["ignored"]):
        return None
    return FileIndex(
        **numbers,
        ignored_paths=ignored_paths,
        time_ns=time_ns,
        grain_ns=grain_ns,
        decoders=_versions(texts["decoders"][0]),
    )


def _fits(h5: h5py.File, name: str, shape: tuple[int | None, ...]) -> bool:
    """Whether a dataset is there with this shape, where None is any length, and its type."""
    import h5py

    dataset = h5.get(name)
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != len(shape):
        return False
    if any(side not in (None, found) for side, found in zip(shape, dataset.shape, strict=True)):
        return False
    if len(shape) == 1 and name != "stat/clock":
        return is_text(dataset)
    wanted = "|u1" if shape[-1] == 32 else "<i8"
    return bool(dataset.dtype.newbyteorder("<") == np.dtype(wanted))


def _versions(text: bytes) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
