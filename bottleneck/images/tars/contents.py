"""One tar: its headers in, its images and what stands beside them out."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ...errors import InputError
from ..color import BadImage
from ..formats import HEAD_BYTES, NOT_IMAGES, describe, is_image_name, sniff, suffix
from .headers import Member, Reader, TarEnds, compressed, members
from .members import Tar, digest, settled
from .names import key_and_suffix, stored_name
from .readers import TarReader, Windowed, is_url, open_tar
from .said import MAX_JSON, MAX_TEXT, Sayings, Seen, Wanted

# A tar that was changed so short a time before its headers were read may change once more and keep
# its times; it may lie on another machine, whose clock is not ours (`extraction.record`).
GRAIN_NS = 60_000_000_000


@dataclass(slots=True)
class Contents:
    """What lies in one tar.

    Attributes
    ----------
    tar : Tar
    names : list of str
        Stored paths of its images below the tar, in the order of the tar.
    offsets, sizes, checks : array of int
        As `TarMember` has them, for each image.
    faults : dict of int to str
        By place among the images.
    said : Sayings
        What members beside the images say.
    seen : Seen
    ignored : int
        Members that are neither images nor say anything.
    others : Counter
        How often each suffix occurs among them.
    end : str or None
        What is wrong with the rest of the tar, and where.
    """

    tar: Tar
    names: list[str] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    checks: array[int] = field(default_factory=lambda: array("q"))
    faults: dict[int, str] = field(default_factory=dict)
    said: Sayings = field(default_factory=Sayings)
    seen: Seen = field(default_factory=Seen)
    ignored: int = 0
    others: Counter[str] = field(default_factory=Counter)
    end: str | None = None

    def add(self, name: str, member: Member, fault: str | None) -> None:
        """Append an image."""
        if fault is not None:
            self.faults[len(self.names)] = fault
        self.names.append(name)
        self.offsets.append(member.offset)
        self.sizes.append(member.size)
        self.checks.append(digest(member.header))


def list_tar(location: str, shown: str, wanted: Wanted) -> Contents:
    """Read a tar's headers once, and the few small members that say something.

    Parameters
    ----------
    location : str
        An absolute path, or a URL.
    shown : str
        How to call it in messages.
    wanted : Wanted

    Raises
    ------
    InputError
        If it cannot be read, or is no tar at all.
    """
    try:
        with open_tar(location) as reader:
            return _list(location, shown, wanted, reader, time.time_ns())
    except BadImage as error:
        raise InputError(f"{shown} cannot be read: {error}", expected="a tar") from error


def _list(location: str, shown: str, wanted: Wanted, reader: TarReader, now_ns: int) -> Contents:
    windowed = Windowed(reader)
    _require_tar(windowed, shown)
    before = reader.status
    found = Contents(Tar(location, shown, before, None if is_url(location) else location))
    take = _Taker(found, wanted, windowed)
    try:
        for member in members(windowed):
            take(member)
    except TarEnds as end:
        if not end.offset:
            raise InputError(
                f"{shown} is no tar: {end.reason}",
                expected="a tar, or images",
                where=describe(windowed.read(0, HEAD_BYTES)),
            ) from end
        found.end = f"byte {end.offset} of {reader.size}: {end.reason}"
    after = reader.look()
    if before is not None and after is not None and before[:2] != after[:2]:
        raise BadImage("it changed while its headers were read")
    if found.tar.file is not None and not (
        before is not None and before == after and settled(before, now_ns, GRAIN_NS)
    ):
        found.tar = Tar(location, shown, None, found.tar.file)
    return found


def _require_tar(reader: Reader, shown: str) -> None:
    head = reader.read(0, HEAD_BYTES)
    packed = compressed(head)
    if packed:
        name, command = packed
        raise InputError(
            f"{shown} is compressed ({name}): its members cannot be read at their places",
            expected="a tar that is not compressed",
            next=f"{command} {shown} (images are compressed already: the tar grows little)",
        )
    if not head:
        raise InputError(f"{shown} is empty", expected="a tar")


class _Taker:
    """Sorts the members of one tar in."""

    def __init__(self, found: Contents, wanted: Wanted, reader: Reader) -> None:
        self._found = found
        self._wanted = wanted
        self._read: Callable[[int, int], bytes] = reader.read
        self._suffixes = wanted.suffixes | {"json"}

    def __call__(self, member: Member) -> None:
        name, fault = stored_name(member.name, member.offset)
        base = name.rpartition("/")[2]
        fault = fault or member.fault
        if not base or base.startswith("."):
            self._leave_out("hidden files" if base else "without a name")
            return
        if self._is_image(member, base):
            self._found.add(name, member, fault)
            return
        key, kind = key_and_suffix(name)
        if kind in self._suffixes:
            self._take(key, kind, member, fault)
        else:
            self._leave_out(suffix(base) or "without suffix")

    def _is_image(self, member: Member, base: str) -> bool:
        if is_image_name(base):
            return True
        if member.fault or suffix(base) in NOT_IMAGES or suffix(base)[1:] in self._suffixes:
            return False
        return sniff(self._read(member.offset, min(HEAD_BYTES, member.size))) is not None

    def _take(self, key: str, kind: str, member: Member, fault: str | None) -> None:
        said = self._found.said.open(key)
        limit = MAX_JSON if kind == "json" and kind not in self._wanted.suffixes else MAX_TEXT
        if fault:
            said.fault = f"its .{kind} member: {fault}"
        elif member.size > limit:
            said.fault = f"its .{kind} member has {member.size} bytes; up to {limit} are read"
        else:
            data = self._read(member.offset, member.size)
            said.take(kind, data, self._wanted, self._found.seen)

    def _leave_out(self, kind: str) -> None:
        self._found.ignored += 1
        self._found.others[kind] += 1
