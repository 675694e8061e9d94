"""Members of tars as sources of samples: where their bytes are, in few bytes each."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..color import BadImage
from ..limits import too_many_bytes
from ..origin import Origin, Status, unsure
from .headers import BLOCK
from .readers import open_tar

_CHANGED = "its tar changed while it was read"


@dataclass(frozen=True, slots=True)
class Tar:
    """One tar as it was when its headers were read.

    Attributes
    ----------
    location : str
        An absolute path, or a URL.
    name : str
        What to call it in messages.
    status : tuple of int or None
        Of the whole file, the same before and after its headers were read; None if it cannot say
        later on that it is unchanged.
    file : str or None
        `location` if that is on this computer.
    """

    location: str = field(repr=False)
    name: str
    status: Status | None
    file: str | None


@dataclass(frozen=True, slots=True)
class TarMember(Origin):
    """An image in a tar.

    Attributes
    ----------
    tar : Tar
    offset, size : int
        Where its bytes are.
    check : int
        `digest` of the header before them: bytes that follow another header are another image's.
    """

    tar: Tar
    offset: int
    size: int
    check: int

    @property
    def name(self) -> str:
        """The tar, and where in it."""
        return f"{self.tar.name}, byte {self.offset}"

    @property
    def slow(self) -> bool:  # type: ignore[override]
        """Whether the tar is on another machine."""
        return self.tar.file is None

    @property
    def file(self) -> str | None:
        """The tar."""
        return self.tar.file

    @property
    def status(self) -> Status | None:
        """The member's size, the tar's times, and a number of the tar's own number and the place."""
        if self.tar.status is None:
            return None
        size, mtime_ns, ctime_ns, inode = self.tar.status
        number = digest(struct.pack("<5q", size, inode, self.offset, self.size, self.check))
        return self.size, mtime_ns, ctime_ns, number if inode else 0

    def read(self, limit: int) -> tuple[bytes, Status | None]:
        """The member's bytes, if the tar still has its header before them."""
        if self.size > limit:
            raise BadImage(too_many_bytes(self.size, limit))
        with open_tar(self.tar.location) as reader:
            before = reader.status
            data = reader.read(self.offset - BLOCK, BLOCK + self.size)
            after = reader.look()
        if len(data) < BLOCK + self.size or digest(data[:BLOCK]) != self.check:
            raise BadImage(_CHANGED)
        if before is not None and after is not None and before[:2] != after[:2]:
            raise BadImage(_CHANGED)
        same = self.tar.status == before == after
        return data[BLOCK:], (self.status if same else None) or unsure(self.size)


def digest(data: bytes) -> int:
    """A number of 62 bits, never 0, that other bytes do not have."""
    from blake3 import blake3

    return int.from_bytes(blake3(data).digest(length=8), "little") >> 2 | 1


class TarMembers(Mapping[int, Origin]):
    """The sources of samples by their place, some 28 bytes each; made when asked for.

    Parameters
    ----------
    tars : sequence of Tar
    which : ndarray of shape (n,), int32
        For each sample its tar; -1 for one without bytes.
    offsets, sizes, checks : ndarray of shape (n,), int64
    """

    def __init__(
        self,
        tars: Sequence[Tar],
        which: np.ndarray,
        offsets: np.ndarray,
        sizes: np.ndarray,
        checks: np.ndarray,
    ) -> None:
        self._tars = tars
        self._which = which
        self._columns = offsets, sizes, checks

    def __len__(self) -> int:
        return int((self._which >= 0).sum())

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._which >= 0).tolist())

    def __contains__(self, place: object) -> bool:
        return isinstance(place, int) and 0 <= place < len(self._which) and self._which[place] >= 0

    def __getitem__(self, place: int) -> TarMember:
        if place not in self:
            raise KeyError(place)
        offset, size, check = (column.item(place) for column in self._columns)
        return TarMember(self._tars[self._which[place]], offset, size, check)

    def take(self, rows: np.ndarray) -> TarMembers:
        """Those at `rows`, (m,) int, in that order."""
        return TarMembers(
            self._tars, self._which[rows], *(column[rows] for column in self._columns)
        )


@dataclass(slots=True)
class Places:
    """Collects where members are; becomes `TarMembers`."""

    tars: list[Tar] = field(default_factory=list)
    _which: array[int] = field(default_factory=lambda: array("i"))
    _columns: tuple[array[int], ...] = field(
        default_factory=lambda: (array("q"), array("q"), array("q"))
    )

    def __len__(self) -> int:
        return len(self._which)

    def add(self, offset: int, size: int, check: int) -> None:
        """Append a member of the tar that was added last."""
        self._which.append(len(self.tars) - 1)
        for column, value in zip(self._columns, (offset, size, check), strict=True):
            column.append(value)

    def finish(self) -> TarMembers:
        """All that were added, in that order."""
        columns = (np.frombuffer(column, np.int64).copy() for column in self._columns)
        return TarMembers(self.tars, np.frombuffer(self._which, np.intc).copy(), *columns)


def settled(status: Status, time_ns: int, grain_ns: int) -> bool:
    """Whether a file of this status would look different if it were changed after `time_ns`."""
    return max(status[1:3]) < time_ns - grain_ns and status[3] > 0
