"""Images that are no files of their own: where their bytes come from, and how that looks now."""

from __future__ import annotations

from abc import ABC, abstractmethod

# Size in bytes, mtime_ns, ctime_ns and inode, as `cache.index` has them.
Status = tuple[int, int, int, int]


class Origin(ABC):
    """A member of a tar, or an object on another machine: the source of a `Sample`.

    Instances are small and can be pickled, so that another process can read the same bytes.
    """

    __slots__ = ()

    #: Whether reading waits for a network, so that it is worth to begin before the bytes are needed.
    slow = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in messages; holds no password."""

    @property
    def file(self) -> str | None:
        """The file on this computer that holds the bytes; None if there is none."""
        return None

    @property
    def status(self) -> Status | None:
        """How it looked when it was listed; None if an unchanged one cannot be told.

        Four numbers with the meaning of a file's: equal ones must mean equal bytes.
        """
        return None

    @abstractmethod
    def read(self, limit: int) -> tuple[bytes, Status | None]:
        """The bytes, and the status that is certainly theirs, or `unsure`.

        Parameters
        ----------
        limit : int
            Bytes; more are not read.

        Raises
        ------
        BadImage
            If there are no such bytes, or not those that were listed.
        """


def unsure(size: int) -> Status:
    """The status of what was read, and cannot be told to be unchanged the next time."""
    return size, -1, -1, 0
