"""Many short texts in little memory: sequences of str in, the same as a few NumPy arrays out.

A Python list takes 60 to 100 bytes a text beside its characters' own; with a row for each image
that is most of what a run over a million images would hold. Both classes here act like tuples of
str, and build a str when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, TypeAlias, overload

import numpy as np

# Rows that are handled at once: Python objects or index arrays of so many may exist for a moment.
_BLOCK = 4096
# File names may hold lone surrogates (bytes that are not UTF-8), and have to come back as they were.
_CODEC = ("utf-8", "surrogatepass")


class Texts(Sequence[str]):
    """Texts as one block of bytes and where each begins: about 4 bytes a text beside the characters.

    Made by `Texts.of`; read-only.

    Parameters
    ----------
    data : bytes or bytearray
        All texts as UTF-8, without anything between them.
    offsets : ndarray of shape (n + 1,), uint32 or uint64
        Where each begins, and where the last one ends.

    Examples
    --------
    >>> paths = Texts.of(["ants/1.jpg", "bees/2.jpg"])
    >>> len(paths), paths[1], "ants/1.jpg" in paths, paths == ["ants/1.jpg", "bees/2.jpg"]
    (2, 'bees/2.jpg', True, True)
    """

    __slots__ = ("_ascends", "_data", "_offsets")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: bytes | bytearray, offsets: np.ndarray) -> None:
        self._data = data
        self._offsets = offsets
        self._ascends: bool | None = None  # not looked at yet

    @classmethod
    def of(cls, values: Iterable[str]) -> Texts:
        """These texts; an instance is returned as it is."""
        if isinstance(values, Texts):
            return values
        writer = Writer()
        block: list[str] = []
        for value in values:
            block.append(value)
            if len(block) == _BLOCK:
                writer.add(block)
                block.clear()
        writer.add(block)
        return writer.finish()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> str | Texts:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return self._data[self._offsets.item(i) : self._offsets.item(i + 1)].decode(*_CODEC)

    def __iter__(self) -> Iterator[str]:
        return (value.decode(*_CODEC) for value in chain.from_iterable(self.blocks()))

    def blocks(self, rows: int = _BLOCK) -> Iterator[list[bytes]]:
        """All texts as UTF-8 in order, at most `rows` at a time."""
        for start in range(0, len(self), rows):
            ends = self._offsets[start : start + rows + 1].tolist()
            piece = bytes(self._data[ends[0] : ends[-1]])
            first = ends[0]
            yield [piece[a - first : b - first] for a, b in pairwise(ends)]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return self is other or (
                np.array_equal(self._offsets, other._offsets) and self._data == other._data
            )
        return _equal(self, other)

    def __repr__(self) -> str:
        return _shown(self)

    def take(self, rows: np.ndarray) -> Texts:
        """Those of `rows`, (m,) int, in that order."""
        rows = np.asarray(rows, np.intp)
        starts = self._offsets[:-1]
        lengths = (self._offsets[1:] - starts)[rows]
        offsets = np.zeros(len(rows) + 1, np.uint64)
        np.cumsum(lengths, dtype=np.uint64, out=offsets[1:])
        source = np.frombuffer(self._data, np.uint8)
        target = bytearray(int(offsets[-1]))
        new = np.frombuffer(target, np.uint8)
        for first in range(0, len(rows), _BLOCK):
            stop = min(first + _BLOCK, len(rows))
            low, high = int(offsets[first]), int(offsets[stop])
            # For each byte where it comes from: its place in the result, moved by its text's shift.
            shift = starts[rows[first:stop]].astype(np.int64) - offsets[first:stop].astype(np.int64)
            new[low:high] = source[np.arange(low, high) + np.repeat(shift, lengths[first:stop])]
        return Texts(target, _narrow(offsets))

    def valid(self) -> bool:
        """Whether each text by itself is UTF-8, without surrogates."""
        try:
            if not self._data.isascii():
                for value in chain.from_iterable(self.blocks()):
                    value.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def ascending(self) -> bool:
        """Whether each is below the next by its bytes, so that none stands twice."""
        if self._ascends is None:
            self._ascends = bool((self._steps() < 0).all())
        return self._ascends

    def argsort(self) -> np.ndarray:
        """The rows in the order of their bytes, (n,) int; equal texts in the order of the rows."""
        order = np.arange(len(self))
        if self.ascending():
            return order
        lengths = np.diff(self._offsets.astype(np.int64))
        # From the last eight bytes to the first, each pass keeping the order of the one before it.
        # Shorter texts are filled up with zeros; where these are equal to a text's own zero bytes,
        # the length decides.
        if b"\0" in self._data:
            order = np.argsort(lengths, kind="stable")
        for word in reversed(range(-(-int(lengths.max(initial=0)) // 8))):
            values = self._words(word, order)
            order = order[np.argsort(values, kind="stable")]
        return order

    def repeats(self, order: np.ndarray) -> np.ndarray:
        """Whether each text but the first, in the order of `argsort`, is equal to the one before."""
        return self._steps(order) == 0

    def _steps(self, order: np.ndarray | None = None) -> np.ndarray:
        """From each text in `order` (as they are) to the next: -1 up, 0 equal, 1 down; (n - 1,)."""
        result = np.zeros(max(len(self) - 1, 0), np.int8)
        for start in range(0, len(result), _BLOCK):
            left = np.arange(start, min(start + _BLOCK, len(result)))
            word = 0
            while len(left):
                a, b = (left, left + 1) if order is None else (order[left], order[left + 1])
                here, there = self._words(word, a), self._words(word, b)
                ends = [self._offsets[i + 1].astype(np.int64) - self._offsets[i] for i in (a, b)]
                step = (here > there).astype(np.int8) - (here < there).astype(np.int8)
                over = np.maximum(*ends) <= 8 * (word + 1)
                step = np.where((step == 0) & over, np.sign(ends[0] - ends[1]), step)
                result[left] = step
                left = left[(step == 0) & ~over]
                word += 1
        return result

    def _words(self, word: int, rows: np.ndarray) -> np.ndarray:
        """Bytes 8 * `word` to 8 * `word` + 7 of each text as a number, zeros behind its end."""
        if len(self._data) < 8:
            data = bytes(self._data) + bytes(8)
        else:
            data = bytes(0)
        source = np.frombuffer(data or self._data, np.uint8)
        # Every eight bytes that follow each other, without a copy; `starts` stays within them.
        eights = np.ndarray((len(source) - 7,), ">u8", source, strides=(1,))
        starts = self._offsets[rows].astype(np.int64) + 8 * word
        left = self._offsets[rows + 1].astype(np.int64) - starts
        inside = np.minimum(starts, len(eights) - 1)
        values = eights[inside].astype(np.uint64)
        # Near the end of the data the eight bytes begin too early: what precedes is shifted out.
        values <<= (8 * np.minimum(starts - inside, 7)).astype(np.uint64)
        behind = 8 * (8 - np.clip(left, 1, 8)).astype(np.uint64)
        values = (values >> behind) << behind
        values[left <= 0] = 0
        return values


class Coded(Sequence[str]):
    """Texts of which there are few different ones, such as splits: a byte or a few for each.

    Parameters
    ----------
    codes : ndarray of shape (n,), int
        Index into `values`.
    values : sequence of str
        Each once; not all need to occur.

    Examples
    --------
    >>> splits = Coded.of(["train", "", "train"])
    >>> list(splits), splits.codes.dtype
    (['train', '', 'train'], dtype('uint8'))
    """

    __slots__ = ("codes", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, codes: np.ndarray, values: Sequence[str]) -> None:
        self.codes = codes
        self.values = values

    @classmethod
    def of(cls, values: Iterable[str]) -> Coded:
        """These texts; an instance is returned as it is."""
        if isinstance(values, Coded):
            return values
        if isinstance(values, Texts):
            # By their bytes: only those that differ are decoded.
            seen: dict[bytes, int] = {}
            each = chain.from_iterable(values.blocks())
            codes = np.fromiter((seen.setdefault(text, len(seen)) for text in each), np.uint32)
            fitting = np.min_scalar_type(max(len(seen) - 1, 0))
            return cls(codes.astype(fitting), [text.decode(*_CODEC) for text in seen])
        known: dict[str, int] = {}
        codes = np.fromiter((known.setdefault(value, len(known)) for value in values), np.uint32)
        fitting = np.min_scalar_type(max(len(known) - 1, 0))
        return cls(codes.astype(fitting), list(known))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Coded: ...
    def __getitem__(self, index: int | slice) -> str | Coded:
        if isinstance(index, slice):
            return Coded(self.codes[index], self.values)
        return self.values[self.codes[index]]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from (self.values[code] for code in self.codes[start : start + _BLOCK].tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Coded) and list(self.values) == list(other.values):
            return np.array_equal(self.codes, other.codes)
        return _equal(self, other)

    def __repr__(self) -> str:
        return _shown(self)

    def distinct(self) -> set[str]:
        """The texts that occur."""
        return {self.values[code] for code in np.unique(self.codes).tolist()}

    def take(self, rows: np.ndarray) -> Coded:
        """Those of `rows`, (m,) int, in that order."""
        return Coded(self.codes[rows], self.values)


class Writer:
    """Takes texts a list at a time and becomes `Texts`."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lengths: list[np.ndarray] = []

    def add(self, values: Sequence[str]) -> None:
        """Append these texts; best some hundred at a time."""
        joined = "".join(values)
        encoded = joined.encode(*_CODEC)
        plain = len(encoded) == len(joined)  # a character is a byte
        sizes = map(len, values) if plain else (len(value.encode(*_CODEC)) for value in values)
        self._lengths.append(np.fromiter(sizes, np.uint32, len(values)))
        self._data += encoded

    def add_encoded(self, values: Sequence[bytes]) -> None:
        """Append texts that are UTF-8 already."""
        self._lengths.append(np.fromiter(map(len, values), np.uint32, len(values)))
        self._data += b"".join(values)

    def finish(self) -> Texts:
        """All that was added; nothing may be added afterwards."""
        sizes = [len(each) for each in self._lengths]
        # Four bytes each as long as four are enough: no copy of all of them in eight.
        kind = np.uint32 if len(self._data) < 1 << 32 else np.uint64
        offsets = np.zeros(sum(sizes) + 1, kind)
        for stop, lengths in zip(accumulate(sizes), self._lengths, strict=True):
            start = stop - len(lengths)
            piece = offsets[start + 1 : stop + 1]
            np.cumsum(lengths, dtype=kind, out=piece)
            np.add(piece, offsets[start], out=piece)
        self._lengths = []
        return Texts(self._data, offsets)


Column: TypeAlias = "np.ndarray | Sequence[str]"


def take(values: Any, rows: np.ndarray) -> Any:
    """Those of `rows` in that order: of an array, of `Texts` or `Coded`, or of a list of texts."""
    if isinstance(values, np.ndarray):
        return values[rows]
    if isinstance(values, Texts | Coded):
        return values.take(rows)
    return [values[row] for row in rows]


def concatenated(parts: Iterable[Iterable[str]]) -> Texts:
    """The texts of all parts, one part after the other."""
    return Texts.of(chain.from_iterable(parts))


def find_texts(wanted: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Where each text stands among others: the first place, or -1; (n,) int.

    Parameters
    ----------
    wanted, among : sequence of str
        Both in the order of their UTF-8 bytes, which is that of their characters, take no memory;
        others are looked up in a dict.

    Examples
    --------
    >>> find_texts(["a", "c", "c", "d"], ["b", "c", "d"]).tolist()
    [-1, 1, 1, 2]
    """
    if isinstance(wanted, Texts) and wanted == among and wanted.ascending():
        return np.arange(len(wanted))
    if not (_ordered(wanted) and _ordered(among)):
        first: dict[str, int] = {}
        for place, other in enumerate(among):
            first.setdefault(other, place)
        return np.fromiter((first.get(text, -1) for text in wanted), np.int64, len(wanted))
    return np.fromiter(_merged(wanted, among), np.int64, len(wanted))


def _merged(wanted: Sequence[str], among: Sequence[str]) -> Iterator[int]:
    others = enumerate(among)
    nothing: tuple[int, str | None] = (-1, None)
    place, other = next(others, nothing)
    for text in wanted:
        while other is not None and other < text:
            place, other = next(others, nothing)
        yield place if other == text else -1


def _ordered(texts: Sequence[str]) -> bool:
    return (isinstance(texts, Texts) and texts.ascending()) or all(
        a <= b for a, b in pairwise(texts)
    )


def _narrow(offsets: np.ndarray) -> np.ndarray:
    return offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets


def _equal(texts: Sequence[str], other: object) -> bool:
    if not isinstance(other, list | tuple | Texts | Coded):
        return NotImplemented
    return len(texts) == len(other) and all(a == b for a, b in zip(texts, other, strict=True))


def _shown(texts: Sequence[str]) -> str:
    first = ", ".join(map(repr, texts[:3]))
    return f"<{len(texts)} texts: {first}{', ...' if len(texts) > 3 else ''}>"
