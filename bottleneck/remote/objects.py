"""Objects on other machines as sources of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..images.color import BadImage
from ..images.limits import too_many_bytes
from ..images.origin import Origin, Status, unsure
from . import door
from .urls import shown

_NO_MD5 = bytes(16)


@dataclass(frozen=True, slots=True)
class RemoteObject(Origin):
    """One image on another machine.

    An object counts as unchanged, and is not read again, only where its store lists the MD5 of its
    content (S3 for uploads in one part, Google Cloud Storage) and that is what was read: times and
    sizes of other machines, and what web servers call a version, say less than a file's status does.

    Attributes
    ----------
    url : str
        With whatever it takes to read it.
    size : int or None
        In bytes, if it was listed.
    md5 : bytes or None
        As it was listed.
    """

    slow = True

    url: str = field(repr=False)
    size: int | None = None
    md5: bytes | None = None

    @property
    def name(self) -> str:
        """The URL, without anything secret."""
        return shown(self.url)

    @property
    def status(self) -> Status | None:
        """The size and the MD5, in places where a file's times would be."""
        if self.md5 is None or self.size is None:
            return None
        digest = int.from_bytes(self.md5, "big")
        mask = (1 << 62) - 1
        # Below zero, as no file's are: they lie before every clock.
        return self.size, -(digest & mask) - 2, -(digest >> 62 & mask) - 2, (digest >> 124) + 1

    def read(self, limit: int) -> tuple[bytes, Status | None]:
        """The bytes; the status if they are those that were listed."""
        if self.size is not None and self.size > limit:
            raise BadImage(too_many_bytes(self.size, limit))
        try:
            data = door.read(self.url, limit, self.size)
        except door.RemoteError as error:
            raise BadImage(str(error)) from None
        if isinstance(data, int):
            raise BadImage(too_many_bytes(data, limit))
        if self.md5 is None or len(data) != self.size:
            return data, unsure(len(data))
        same = hashlib.md5(data, usedforsecurity=False).digest() == self.md5
        return data, (self.status if same else None) or unsure(len(data))


class RemoteObjects(Mapping[int, Origin]):
    """The sources of all objects of a folder by their place; made when asked for.

    Parameters
    ----------
    base : str
        The folder's URL, with a slash at its end.
    names : sequence of str
        What follows it, for each object.
    sizes : ndarray of shape (n,), int64
        -1 where it is not known.
    md5 : ndarray of shape (n, 16), uint8
        Zeros where there is none.
    """

    def __init__(self, base: str, names: Sequence[str], sizes: np.ndarray, md5: np.ndarray) -> None:
        self._base = base
        self._names = names
        self._sizes = sizes
        self._md5 = md5

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __contains__(self, place: object) -> bool:
        return isinstance(place, int) and 0 <= place < len(self)

    def __getitem__(self, place: int) -> RemoteObject:
        if place not in self:
            raise KeyError(place)
        size, md5 = self._sizes.item(place), self._md5[place].tobytes()
        return RemoteObject(
            self._base + self._names[place],
            size if size >= 0 else None,
            md5 if md5 != _NO_MD5 else None,
        )

    def take(self, rows: np.ndarray) -> RemoteObjects:
        """Those at `rows`, (m,) int, in that order."""
        from ..texts import take

        return RemoteObjects(
            self._base, take(self._names, rows), self._sizes[rows], self._md5[rows]
        )
