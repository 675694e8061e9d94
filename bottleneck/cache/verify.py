"""Whether values of a feature file are those that were written, by the group ``checksums``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CacheError
from . import checksums

if TYPE_CHECKING:
    import h5py

# What `created_by` begins with in files that this program has written: they all have checksums.
PROGRAM = "bottleneck-probe "


def checked_sums(h5: h5py.File, path: Path) -> dict[str, np.ndarray]:
    """The digests by dataset name, of a file that has any.

    Parameters
    ----------
    h5 : h5py.File
    path : Path
        For the message.

    Returns
    -------
    dict of str to ndarray of shape (m, 32), uint8
        Empty for a file that somebody has made without checksums.

    Raises
    ------
    CacheError
        If they are damaged, if a dataset that has one is gone, or if the file was written by this
        program, which always writes them, and has none.
    """
    import h5py

    group = h5.get("checksums")
    if not isinstance(group, h5py.Group):
        if _is_ours(h5):
            raise _broken(path, "its checksums are gone")
        return {}
    found: dict[str, np.ndarray] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype != np.uint8 or item.ndim != 2 or item.shape[1] != 32:
                raise _broken(path, f"checksums/{name} is no (m, 32) uint8")
            if not isinstance(item.attrs.get("rows"), int | np.integer):
                raise _broken(path, f"checksums/{name} does not say of how many rows each is")
            found[name] = item[()]

    group.visititems(collect)
    without_stat = checksums.content_without_stat(found)
    if (
        group.attrs.get("content") != checksums.content(found)
        or group.attrs.get("content_without_stat", without_stat) != without_stat
    ):
        raise _broken(path, "its checksums contradict each other")
    _require_matching(h5, found, path)
    return found


def _is_ours(h5: h5py.File) -> bool:
    """Whether this program says that it has written the file."""
    created_by = h5.attrs.get("created_by")
    return isinstance(created_by, str) and created_by.startswith(PROGRAM)


def _require_matching(h5: h5py.File, found: dict[str, np.ndarray], path: Path) -> None:
    """Raise a CacheError if what a digest is of is not there.

    A link whose name was damaged is a dataset that nobody knows, and would be ignored as such; of
    layers the recipe says which there are. What somebody has added has no digest, and may stay.
    """
    import h5py

    for name in sorted(found.keys() - {"attributes", "task"}):
        if not name.startswith("layers/") and not isinstance(h5.get(name), h5py.Dataset):
            raise _broken(path, f"it has a checksum of {name}, and no {name}")


def mended(path: Path) -> str:
    """What can be done about a damaged feature file."""
    return (
        f"`bottleneck cache repair {path} -o NEW.h5` saves the rows that are whole; or restore it "
        "from a backup, or extract again under another name"
    )


def _broken(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} is damaged: {reason}",
        where=f"{path}, checksums",
        next=mended(path),
    )


def verify(
    values: checksums.Values, sums: dict[str, np.ndarray], h5: h5py.File, name: str, path: Path
) -> None:
    """Raise a CacheError if the values of dataset `name` differ from its digests, if it has any."""
    if name in sums:
        rows = block_rows(h5, name, sums)
        compare(checksums.digests(values, rows), sums[name], rows, name, path)


def block_rows(h5: h5py.File, name: str, sums: dict[str, np.ndarray]) -> int:
    """How many rows of dataset `name` one of its digests covers."""
    return max(1, int(h5[f"checksums/{name}"].attrs["rows"])) if name in sums else checksums.ROWS


def compare(found: np.ndarray, wanted: np.ndarray, rows: int, name: str, path: Path) -> None:
    """Raise a CacheError naming the first block of `rows` rows whose digest is another."""
    if found.shape != wanted.shape:
        raise _broken(path, f"it has {len(wanted)} checksums of {name}, of {len(found)} blocks")
    wrong = np.flatnonzero((found != wanted).any(axis=1))
    if len(wrong):
        raise damaged(path, name, int(wrong[0]) * rows, (int(wrong[0]) + 1) * rows)


def damaged(path: Path, name: str, start: int, stop: int) -> CacheError:
    """The error for values that are not those that were written; raise what it returns."""
    return CacheError(
        f"{path} is damaged: {name}, rows {start} to {stop - 1}, differ from their checksum",
        where=f"{path}, {name}",
        next=mended(path),
    )
