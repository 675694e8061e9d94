"""Paths of every kind: folders, files, globs and stdin in, image files in the user's order out."""

from __future__ import annotations

import difflib
import glob
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..paths import escape, unescape
from ..remote.door import require
from ..remote.urls import as_path
from ..texts import Texts, concatenated
from .address import address_of
from .folders import Sniff, begins_as_image, file_fault, is_image_file, walk
from .formats import suffix
from .tabular import is_table


@dataclass(slots=True)
class Given:
    """What the arguments stand for.

    Attributes
    ----------
    parts : list of Part
        The images in the user's order, repeated ones included.
    homes : list of str
        The folders given, and those of the files given: their common parent is the root.
    ignored, others
        Files that are no images, and how often each suffix occurs among them.
    singles : int
        How many files were given by themselves, those that are no images included.
    notes : list of str
        What the user should know whatever the labels are.
    begins : callable
        Whether a file begins like an image, where its name says nothing.
    """

    parts: list[Part] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)
    ignored: int = 0
    others: Counter[str] = field(default_factory=Counter)
    singles: int = 0
    notes: list[str] = field(default_factory=list)
    begins: Sniff = begins_as_image

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def folders(self) -> list[str]:
        """The folders given, each once, in the user's order."""
        return list(dict.fromkeys(part.folder for part in self.parts if part.folder is not None))

    def add_file(self, path: str, fault: str | None, *, source: Any = None) -> None:
        """Take one file by its absolute path, or what an address names, and its name."""
        if not self.parts or self.parts[-1].folder is not None:
            self.parts.append(Part(None))
        self.parts[-1].add(path, fault, source)
        if source is None:
            self.add_home(os.path.dirname(path))

    def add_home(self, folder: str) -> None:
        """Take a folder that the root has to hold."""
        if folder not in self.homes[-1:]:
            self.homes.append(folder)


@dataclass(slots=True)
class Part:
    """The images of one folder, or files that were given one after the other.

    Attributes
    ----------
    folder : str or None
        Absolute path; None for files.
    paths : Texts
        Stored form: relative to the folder, or absolute; an address as it was written, escaped.
    faults : dict of int to str
        By place.
    addresses : dict of int to object
        The sources of what is no file here, by place.
    """

    folder: str | None
    paths: Texts = field(default_factory=lambda: Texts.of(()))
    faults: dict[int, str] = field(default_factory=dict)
    addresses: dict[int, Any] = field(default_factory=dict)
    _new: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths) + len(self._new)

    def add(self, path: str, fault: str | None, source: Any = None) -> None:
        """Append one file."""
        if fault is not None:
            self.faults[len(self)] = fault
        if source is not None:
            self.addresses[len(self)] = source
        self._new.append(escape(path))

    def all(self) -> Texts:
        """The paths, with what was appended."""
        if self._new:
            self.paths, self._new = concatenated([self.paths, self._new]), []
        return self.paths


def gather(given: Given, argument: str, strict: bool, *, alone: bool, listed: bool = False) -> None:
    """Add what one argument stands for to what is given."""
    if argument == "-" and not listed:
        for path in _stdin():
            gather(given, path, strict=False, alone=False, listed=True)
        return
    address = address_of(argument)
    if address:
        if address.fault and not listed:
            require(argument)  # raises it as the error of an argument
        given.add_file(address.name, address.fault, source=address.source or address.name)
        given.singles += 1
        return
    argument = as_path(argument)
    if not argument:
        raise InputError("an empty path", expected="files on this computer, or URLs")
    path = os.path.abspath(argument)
    if not os.path.lexists(path):
        path = os.path.abspath(os.path.expanduser(argument))
    if "%" in argument and not os.path.lexists(path):
        # As paths stand in feature files and predictions, whose lists are piped back in.
        stored = os.path.abspath(unescape(argument))
        path = stored if os.path.lexists(stored) else path
    if os.path.lexists(path):
        _add(given, path, argument, alone=alone)
    elif glob.has_magic(argument) and not listed:
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches and strict:
            raise InputError(f"no file matches {argument}", expected="at least one image")
        if not matches:
            _add_missing(given, path)
        for match in matches:
            _add(given, os.path.abspath(match), match, alone=False, chosen=False)
    elif strict:
        existing(argument)
    else:
        _add_missing(given, path)


def _add_missing(given: Given, path: str) -> None:
    given.add_file(path, "no such file")
    given.singles += 1


def _add(given: Given, path: str, argument: str, *, alone: bool, chosen: bool = True) -> None:
    """Add a path that exists; `chosen` says that the user wrote it, rather than a pattern."""
    if os.path.isdir(path):
        found = walk(path, given.begins)
        given.parts.append(Part(path, found.paths, found.faults))
        given.add_home(path)
        given.ignored += found.ignored
        given.others += found.others
        return
    given.singles += 1
    if chosen:
        _refuse_others(path, argument, alone, given.begins)
    image = is_image_file(path, given.begins)
    if image or (alone and os.path.lexists(path)):
        given.add_file(path, file_fault(path))
    else:
        given.ignored += 1
        given.others[suffix(os.path.basename(path)) or "without suffix"] += 1


def _refuse_others(path: str, argument: str, alone: bool, begins: Sniff) -> None:
    """Errors for files that mean something, but not images."""
    if path.lower().endswith((".tar", ".tgz")):
        raise InputError(
            f"{argument} is a tar in a list of images",
            expected="tars as IMAGES, and nothing else beside them",
            next=f"bottleneck extract {argument}",
        )
    if is_table(path):
        raise InputError(
            f"{argument} is a table among other inputs",
            expected="a table alone, or images with --labels TABLE",
            next=f"give the images, and --labels {argument}",
        )
    if alone and os.path.isfile(path) and not is_image_file(path, begins):
        is_list = suffix(path) == ".txt"
        raise InputError(
            f"{argument} is not an image, by its suffix and by its first bytes",
            expected="a folder, a table (.csv, .tsv, .parquet), images, a glob or -",
            next=f"a list of paths is read from stdin: ... - < {argument}" if is_list else "",
        )


def _stdin() -> list[str]:
    try:
        data = sys.stdin.buffer.read()
    except (AttributeError, ValueError, OSError) as error:
        # None where there is no console (pythonw, services); closed by a host or by `<&-`; a
        # notebook's has no bytes.
        raise InputError(
            "stdin cannot be read: it is closed, or no file or pipe",
            expected="a list of paths, one on each line",
            where="-",
            next="pipe the list in: find photos -name '*.jpg' | bottleneck extract -",
        ) from error
    paths = [os.fsdecode(line) for line in entries_of(data)]
    if not paths:
        raise InputError("the list on stdin is empty", expected="a path on each line", where="-")
    return paths


def entries_of(data: bytes) -> list[bytes]:
    r"""The entries of a list of paths: each ended by NUL if there is one at all, else by a line break.

    No name holds a NUL, and ``find -print0``, ``git ls-files -z`` and the like end each name with one:
    a list can be told from its bytes, without an option that could be forgotten.

    Examples
    --------
    >>> entries_of(b"a.png\r\nb.png\r\n"), entries_of(b"a\nb.png\0c.png\0"), entries_of(b"a\rb.png\n")
    ([b'a.png', b'b.png'], [b'a\nb.png', b'c.png'], [b'a\rb.png'])
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        return [entry for entry in data.split(b"\0") if entry]
    # A carriage return may be a part of a name; at the end of one it takes a list that ends with NUL.
    lines = (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return [line for line in lines if line.strip()]


def existing(argument: str) -> str:
    """The argument, or an error that names what is near."""
    if os.path.exists(argument):
        return argument
    folder, name = os.path.split(os.path.abspath(argument))
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    # By small letters: the commonest near miss is the wrong case.
    small = {other.lower(): other for other in names}
    near = [small[n] for n in difflib.get_close_matches(name.lower(), list(small), n=3, cutoff=0.6)]
    hints = " or ".join(escape(os.path.join(os.path.dirname(argument), other)) for other in near)
    raise InputError(
        f"there is no {escape(argument)}",
        expected="a folder, a table, an image, a glob or -",
        where=f"{escape(folder)} has no {escape(name)}",
        next=f"did you mean {hints}?"
        if near
        else "check the path; the current folder is " + escape(os.getcwd()),
    )


def common_folder(homes: list[str]) -> str:
    """The folder that holds all of these."""
    try:
        return os.path.commonpath(homes)
    except ValueError as error:  # Windows: several drives
        raise InputError(
            "the images lie on several drives",
            expected="one folder that holds them all",
            next="run once for each drive",
        ) from error


def nothing_found(arguments: list[str], given: Given) -> InputError:
    """The error for inputs without an image, with what was there instead."""
    named = ", ".join(escape(argument) for argument in arguments[:3])
    instead = ", ".join(f"{count} {what}" for what, count in given.others.most_common(5))
    return InputError(
        f"0 images in {named}" + ("; no files at all" if not given.ignored else ""),
        expected="files that are images by suffix or content",
        where=f"{given.ignored} other files: {instead}" if given.ignored else "",
        next="check the path",
    )
