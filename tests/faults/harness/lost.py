"""A disk without power: from a log of calls, what a file system may have kept of them.

Only what was synced is sure. Of each file the writes since its last fsync may be there or not, in any
order, the last ones cut at a sector; of each folder the names made, moved and removed since its last
fsync, likewise. POSIX promises no more, and file systems differ in what they add to it.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

SECTOR = 512
T = TypeVar("T")


@dataclass
class File:
    """Content that is sure, and the changes that are not."""

    sure: bytearray = field(default_factory=bytearray)
    open_: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        """All of it is sure now."""
        for change in self.open_:
            _change(self.sure, change)
        self.open_ = []

    def cut(self, rng: random.Random) -> bytes:
        """What may be left."""
        left = bytearray(self.sure)
        chosen = _kept(rng, self.open_)
        if rng.random() < 0.3:
            rng.shuffle(chosen)
        for offset, data in chosen:
            if data and rng.random() < 0.3:  # torn in the middle
                data = data[: rng.randrange(len(data) // SECTOR + 1) * SECTOR]
            _change(left, (offset, data))
        return bytes(left)


@dataclass
class Folder:
    """Names that are sure, and changes of names that are not: (name, what it is now) each."""

    sure: dict[str, Any] = field(default_factory=dict)
    open_: list[list[tuple[str, Any]]] = field(default_factory=list)

    def sync(self) -> None:
        """All of it is sure now."""
        for change in self.open_:
            _name(self.sure, change)
        self.open_ = []


class Disk:
    """What was there, and what the calls have made of it.

    Parameters
    ----------
    folder : pathlib.Path
        Whose content, as it was before the calls, is sure.
    """

    def __init__(self, folder: Path) -> None:
        self.root = Folder()
        self._place = str(folder)
        self._now: dict[str, File | Folder] = {str(folder): self.root}
        self._descriptors: dict[int, str] = {}
        for path in sorted(folder.rglob("*")):
            made: File | Folder = Folder() if path.is_dir() else File(bytearray(path.read_bytes()))
            self._now[str(path)] = made
            self._folder(str(path)).sure[path.name] = made

    def apply(self, told: dict[str, Any]) -> None:
        """One call of the log."""
        call, path = told["call"], told["path"]
        name = PurePath(path).name
        if call == "open":
            self._descriptors[told["fd"]] = path
            if told["new"]:
                self._now[path] = File()
                self._folder(path).open_.append([(name, self._now[path])])
            elif told["cut"]:
                self._file(path).open_.append((0, None))
        elif call == "write":
            self._file(path).open_.append((told["at"], base64.b64decode(told["data"])))
        elif call == "ftruncate":
            self._file(path).open_.append((told["length"], None))
        elif call == "fsync":
            self._now[path].sync()
        elif call == "replace":
            self._now[path] = self._now.pop(told["source"])
            source = PurePath(told["source"])
            assert source.parent == PurePath(path).parent, "a rename between folders"
            self._folder(path).open_.append([(source.name, None), (name, self._now[path])])
        elif call == "mkdir":
            self._now[path] = Folder()
            self._folder(path).open_.append([(name, self._now[path])])
        else:  # unlink, rmdir
            del self._now[path]
            self._folder(path).open_.append([(name, None)])

    def cut(self, target: Path, rng: random.Random) -> None:
        """Write what may be left into a new folder."""
        self._leave(self.root, target, rng)

    def _leave(self, folder: Folder, target: Path, rng: random.Random) -> None:
        target.mkdir()
        names = dict(folder.sure)
        for change in _kept(rng, folder.open_):
            _name(names, change)
        for name, made in names.items():
            if isinstance(made, Folder):
                self._leave(made, target / name, rng)
            else:
                (target / name).write_bytes(made.cut(rng))

    def _folder(self, path: str) -> Folder:
        found = self._now[str(PurePath(path).parent)]
        assert isinstance(found, Folder)
        return found

    def _file(self, path: str) -> File:
        found = self._now[path]
        assert isinstance(found, File)
        return found


def read_log(trace: Path) -> list[dict[str, Any]]:
    """The calls that `harness.shim` has noted."""
    return [json.loads(line) for line in trace.read_text().splitlines()]


def _kept(rng: random.Random, changes: Sequence[T]) -> list[T]:
    """Which of some changes reached the medium: none, all, the first ones, or any."""
    way = rng.randrange(4)
    if way == 0:
        return []
    if way == 1:
        return list(changes)
    if way == 2:
        return list(changes[: rng.randint(0, len(changes))])
    return [each for each in changes if rng.random() < 0.5]


def _change(content: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    if data is None:  # a new length
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))  # a hole reads as zeros
    content[offset : offset + len(data)] = data


def _name(names: dict[str, Any], change: list[tuple[str, Any]]) -> None:
    for name, made in change:
        if made is None:
            names.pop(name, None)
        else:
            names[name] = made
