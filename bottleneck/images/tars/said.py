"""What members beside the images say: bytes of ``.cls``, ``.json`` and the like in, texts out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..labels import as_text

# Where the label stands unless it was said; the first that is there counts.
CLS = "cls"
JSON_LABELS = ("label", "class", CLS)
# Of a text, and of a JSON member, whose caption and EXIF come along.
MAX_TEXT = 1000
MAX_JSON = 1 << 20
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which texts are looked for.

    Attributes
    ----------
    labels : tuple of str
        Suffixes of members or keys of JSON members; empty for the usual ones.
    split : str or None
        Likewise; None for the key ``split``.
    """

    labels: tuple[str, ...] = ()
    split: str | None = None

    @property
    def suffixes(self) -> frozenset[str]:
        """Members whose text may be wanted."""
        return frozenset({*(self.labels or (CLS,)), *([self.split] if self.split else ())})

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of JSON members that may be wanted."""
        return (*(self.labels or JSON_LABELS), self.split or "split")


@dataclass(slots=True)
class Said:
    """What the members of one sample say.

    Attributes
    ----------
    texts : dict of str to str
        By suffix, what a member of its own says.
    values : dict of str to str
        By key, what the JSON member says.
    fault : str or None
        Why it cannot be told what they say.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    fault: str | None = None

    def take(self, suffix: str, data: bytes, wanted: Wanted, seen: Seen) -> None:
        """Read a member beside the image."""
        name = f"its .{suffix} member"
        if suffix in self.texts or (suffix == "json" and self.values.get("")):
            self.fault = f"two .{suffix} members in the tar"
            return
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.fault = f"{name} is not UTF-8"
            return
        if suffix in wanted.suffixes:
            seen.add(seen.suffixes, suffix)
            self.texts[suffix] = text.strip("\r\n")
            return
        self.values[""] = "here"
        try:
            # Numbers as they are written: 007, 1.0 and 1e3 are labels as well.
            found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            self.fault = f"{name} is no JSON"
            return
        if not isinstance(found, dict):
            self.fault = f"{name} is no JSON object"
            return
        for key in found:
            seen.add(seen.keys, key)
        for key in wanted.keys:
            if key in found:
                self._keep(key, found[key], name)

    def _keep(self, key: str, value: Any, name: str) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            value = "true" if value else "false"
        simple = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in simple):
            self.fault = f"{name} has no text, number or list of these as {key!r}"
            return
        text = as_text(value)
        if len(text) > MAX_TEXT:
            self.fault = f"{name} has {len(text)} characters as {key!r}; up to {MAX_TEXT} are read"
            return
        self.values[key] = text

    def label(self, wanted: Wanted) -> str:
        """The class; empty for none."""
        if CLS in self.texts and not wanted.labels:
            return self.texts[CLS]
        return self.first(wanted.labels or JSON_LABELS)

    def first(self, names: Sequence[str]) -> str:
        """The first of these that is said; empty for none."""
        for name in names:
            if name in self.texts:
                return self.texts[name]
            if name in self.values:
                return self.values[name]
        return ""


@dataclass(slots=True)
class Seen:
    """Which suffixes and keys there were, for messages."""

    suffixes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def add(self, where: list[str], name: str) -> None:
        """Take note of a name; of a few."""
        if len(where) < _SHOWN and name not in where:
            where.append(name[:100])

    def any(self, names: Sequence[str]) -> bool:
        """Whether one of these was there."""
        return any(name in self.suffixes or name in self.keys for name in names)


Frozen = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], str | None]


class Sayings:
    """What the members of all samples of a tar say: little memory where many say the same.

    The members of a sample mostly follow each other, so only the last one is kept open.
    """

    def __init__(self) -> None:
        self._known: dict[Frozen, int] = {}
        self._all: list[Frozen] = []
        self._by_key: dict[str, int] = {}
        self._key: str | None = None
        self._open = Said()

    def __len__(self) -> int:
        return len(self._by_key) + (self._key is not None)

    def open(self, key: str) -> Said:
        """What a sample says, to add to it; until the next call."""
        if key != self._key:
            self.close()
            self._key, self._open = key, self.get(key) or Said()
        return self._open

    def close(self) -> None:
        """Nothing more is added."""
        if self._key is None:
            return
        each = self._open
        frozen = tuple(each.texts.items()), tuple(each.values.items()), each.fault
        number = self._known.setdefault(frozen, len(self._all))
        if number == len(self._all):
            self._all.append(frozen)
        self._by_key[self._key] = number
        self._key = None

    def get(self, key: str) -> Said | None:
        """What a sample says; None if it has no such member."""
        number = self._by_key.get(key)
        if number is None:
            return None
        texts, values, fault = self._all[number]
        return Said(dict(texts), dict(values), fault)
