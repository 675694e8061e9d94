"""What lies in a tar: any bytes in, its members and where their bytes are out.

Nothing here trusts the tar: sizes are compared with the file's before anything is read, headers of
headers are bounded, and whatever is damaged ends the list where it is damaged.

References
----------
POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual,
"Basic Tar Format".
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
# A name of a member, and the headers that hold one: file systems end at 4,096 bytes; attributes and
# times of a real file take some hundred more.
MAX_NAME = 4096
MAX_EXTENDED = 1 << 20
# After the end mark writers fill up their last record: 20 blocks by default, 1 MiB for some.
_FILLED = 1 << 16

_ENCODING = ("utf-8", "surrogateescape")
_SPARSE = "a sparse file; those are not read"
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    b"M": "the rest of a file of another tar",
}
# GNU's: a folder's list of names, a list of long names, the name of the whole tar.
_NO_FILES = (b"D", b"N", b"V")
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip -k"),
    (b"BZh", "bzip2", "bunzip2 -k"),
    (b"\xfd7zXZ\x00", "xz", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd -k"),
)


class Reader(Protocol):
    """Bytes that can be read at any place."""

    @property
    def size(self) -> int: ...  # noqa: D102

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""


class TarEnds(Exception):
    """The list of members ends before the tar does, or the tar before its end mark.

    Parameters
    ----------
    offset : int
        Bytes from the tar's start: what precedes is whole.
    reason : str
        A sentence's end: "it is cut within the header of a member".
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """One entry that is no folder.

    Attributes
    ----------
    name : str
        As it stands in the tar; bytes that are not UTF-8 are surrogate escapes.
    header : bytes of length 512
        Directly before the member's bytes.
    offset : int
        Where its bytes begin.
    size : int
        In bytes; 0 for what has none.
    fault : str or None
        Why it cannot be used.
    """

    name: str
    header: bytes
    offset: int
    size: int
    fault: str | None = None


def compressed(head: bytes) -> tuple[str, str] | None:
    """By what the bytes that a tar begins with were compressed, and the command that undoes it."""
    for magic, name, command in _COMPRESSED:
        if head.startswith(magic):
            return name, command
    return None


@dataclass(slots=True)
class _Extended:
    """What the headers before a member's own say about it."""

    name: str | None = None
    size: int | None = None
    fault: str | None = None


def members(reader: Reader) -> Iterator[Member]:
    """Go through a tar once, from header to header.

    Parameters
    ----------
    reader : Reader

    Yields
    ------
    Member
        Everything but folders and what stands for no file, in order. One that the tar ends in has a
        fault.

    Raises
    ------
    TarEnds
        After the last member, if the tar is cut or damaged there.
    """
    place, extended = 0, _Extended()
    while True:
        start = place
        header = reader.read(place, BLOCK)
        if len(header) < BLOCK:
            what = "it is cut within a header" if header else "it has no end mark: it may be cut"
            raise TarEnds(start, what)
        if not any(header):
            _require_end(reader, place)
            return
        try:
            kind, size = _kind_and_size(header)
        except ValueError as error:
            raise TarEnds(start, f"a header is damaged ({error})") from error
        place += BLOCK
        if kind in _BEFORE:
            _take(extended, kind, size, reader, place)
            place = _behind(reader, place, size, start)
            continue
        if kind == tarfile.GNUTYPE_SPARSE:
            place = _behind_sparse(reader, header, place, start)
            extended.fault = extended.fault or _SPARSE
        if kind in _EMPTY:
            size = 0
        elif extended.size is not None:
            size = extended.size
        name = _name(header) if extended.name is None else extended.name
        whole = place + size <= reader.size
        folder = kind == tarfile.DIRTYPE or (
            kind == tarfile.AREGTYPE and name.endswith("/")  # how folders were written before 1988
        )
        # POSIX has types that nobody knows read as regular files.
        if not folder and kind not in _NO_FILES:
            fault = extended.fault
            if kind in _KINDS:
                fault = fault or f"not a regular file: {_KINDS[kind]} in a tar"
            elif not whole:
                fault = fault or "the tar is cut within it"
            yield Member(name, header, place, size if whole else 0, fault)
        extended = _Extended()
        place = _behind(reader, place, size, start)


# Headers that are about the member behind them.
_BEFORE = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


# These have no bytes, whatever size they state.
_EMPTY = (*(kind for kind in _KINDS if kind != b"M"), tarfile.DIRTYPE)


def _kind_and_size(header: bytes) -> tuple[bytes, int]:
    """The type of a member and its size, if the checksum is that of the header."""
    # The checksum counts as eight spaces in itself.
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156]) != total:
        # Some old programs added up signed bytes.
        signed = total - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
        if _number(header[148:156]) != signed:
            raise ValueError("its checksum is wrong")
    size = _number(header[124:136])
    if size < 0:
        raise ValueError(f"a size of {size} bytes")
    return header[156:157], size


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or base 256 behind a byte of 80 or FF (hexadecimal)."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value - (1 << 8 * (len(field) - 1)) if field[0] == 0xFF else value
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise ValueError("a number that is none")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    """The name in a member's own header."""
    name = header[:100].partition(b"\0")[0]
    # GNU's headers keep other things where POSIX has the name's first part.
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode(*_ENCODING)


def _behind(reader: Reader, place: int, size: int, start: int) -> int:
    """The place of the next header, or an error if the tar ends before."""
    if place + size > reader.size:
        missing = place + size - reader.size
        raise TarEnds(start, f"it is cut: {missing} of the {size} bytes of a member are missing")
    # The last bytes that only fill up a block may be missing: all of the member is there.
    return min(place + -(-size // BLOCK) * BLOCK, max(reader.size, place + size))


def _behind_sparse(reader: Reader, header: bytes, place: int, start: int) -> int:
    """Step over the further headers of a sparse file of GNU's old kind."""
    more = header[482] != 0
    while more:
        block = reader.read(place, BLOCK)
        if len(block) < BLOCK:
            raise TarEnds(start, "it is cut within the map of a sparse file")
        more = block[504] != 0
        place += BLOCK
    return place


def _require_end(reader: Reader, place: int) -> None:
    """Raise if there is more behind the end mark: members that nobody would see."""
    rest = reader.read(place, _FILLED)
    if any(rest):
        first = place + next(i for i, byte in enumerate(rest) if byte)
        raise TarEnds(
            place, f"behind its end mark, from byte {first} on, there is more (joined tars?)"
        )


def _take(extended: _Extended, kind: bytes, size: int, reader: Reader, place: int) -> None:
    """Read a header that is about the next member; one that is no such thing becomes its fault."""
    if kind in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
        # Defaults for all members hold comments and times; a link's target is not wanted.
        return
    if size > MAX_EXTENDED:
        extended.fault = f"a header of {size} bytes before it; up to {MAX_EXTENDED} are read"
        return
    data = reader.read(place, size)
    if kind == tarfile.GNUTYPE_LONGNAME:
        extended.name = data.partition(b"\0")[0].decode(*_ENCODING)
        return
    try:
        values = dict(_pax(data))
    except ValueError:
        extended.fault = "the pax header before it is damaged"
        return
    if b"path" in values:
        extended.name = values[b"path"].decode(*_ENCODING)
    if b"size" in values:
        extended.size = _whole_number(values[b"size"])
        if extended.size is None:
            extended.size, extended.fault = 0, "the pax header before it says no size"
    if any(key.startswith(b"GNU.sparse") for key in values):
        extended.fault = _SPARSE


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a pax header: ``<length> <key>=<value>\\n``, the length counting itself."""
    place = 0
    while place < len(data) and data[place]:
        space = data.find(b" ", place, place + 20)
        length = _whole_number(data[place:space]) if space > 0 else None
        if not length or place + length > len(data) or place + length <= space:
            raise ValueError("a length that is none")
        record = data[space + 1 : place + length]
        key, equals, value = record[:-1].partition(b"=")
        if not record.endswith(b"\n") or not equals:
            raise ValueError("a record that is none")
        yield key, value
        place += length


def _whole_number(text: bytes) -> int | None:
    # Not `int` alone, which takes signs, spaces and underscores; 19 digits fit into 64 bits.
    return int(text) if text.isdigit() and len(text) <= 19 else None
