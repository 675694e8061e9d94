"""A tar on another machine: read at any place, by ranges."""

from __future__ import annotations

from functools import cached_property

from ..images.color import BadImage
from ..images.origin import Status
from . import door
from .urls import is_web


class RemoteFile:
    """Parts of an object; nothing is asked for before it is needed, and nothing stays open.

    Parameters
    ----------
    url : str
    """

    #: A listing says nothing that a range could be compared with.
    status: Status | None = None

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    @cached_property
    def size(self) -> int:
        """In bytes.

        Raises
        ------
        BadImage
            If it is not there, or no parts of it can be had.
        """
        try:
            found = door.info(self._url)
        except door.RemoteError as error:
            raise BadImage(str(error)) from None
        if found.size is None or not found.ranges:
            raise BadImage("the server sends no parts of a file: download the tar first")
        return found.size

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""
        if "size" in self.__dict__:
            size = max(0, min(size, self.size - offset))
        try:
            return door.read_range(self._url, offset, offset + size)
        except door.RemoteError as error:
            hint = ": download the tar first" if is_web(self._url) and "parts" in str(error) else ""
            raise BadImage(f"{error}{hint}") from None

    def look(self) -> Status | None:
        """How it looks now: that cannot be told."""
        return None
