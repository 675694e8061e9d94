"""Folders: a folder in, all its image files out, each once, and a count of everything else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..paths import escape, unescape
from ..texts import Texts, Writer
from .formats import HEAD_BYTES, NOT_IMAGES, is_image_name, sniff, suffix

# How the fault of a folder begins that stands for images nobody could see.
UNLISTED = "cannot be listed"
_BLOCK = 4096  # names that are put together at once

# Whether the regular file at a path begins like an image; asked where its name says nothing.
Sniff = Callable[[str], bool]


def begins_as_image(path: str) -> bool:
    """Whether the first bytes of a file are those of an image; opens it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


@dataclass(slots=True)
class Walk:
    """What lies in a folder.

    Attributes
    ----------
    folder : str
        Absolute path.
    paths : Texts
        Each image, relative to `folder` in stored form (`bottleneck_probe.paths`), ordered by its
        bytes.
    faults : dict of int to str
        Why an image cannot be used, by its place, where that shows already.
    ignored : int
        Files that are no images.
    others : Counter
        How often each suffix occurs among the ignored files.
    """

    folder: str
    paths: Texts = field(default_factory=lambda: Texts.of(()))
    faults: dict[int, str] = field(default_factory=dict)
    ignored: int = 0
    others: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> list[tuple[str, str | None]]:
        """Absolute path and fault of each image."""
        return [
            (os.path.join(self.folder, unescape(path)), self.faults.get(i))
            for i, path in enumerate(self.paths)
        ]

    def leave_out(self, name: str, count: int = 1) -> None:
        """Count files as no images."""
        if count:
            self.ignored += count
            hidden = name.startswith(".")
            self.others["hidden files" if hidden else suffix(name) or "without suffix"] += count


def walk(folder: str, begins: Sniff = begins_as_image) -> Walk:
    """List the images of a folder and of all folders below it.

    Links are followed; each folder is visited once, at its real place if that is below `folder`.
    A file is opened only if its name says neither image nor one of the well-known other things.

    Parameters
    ----------
    folder : str
        Absolute path.
    begins : callable, optional
        Whether a file begins like an image, asked where its name says nothing.

    Returns
    -------
    Walk

    Raises
    ------
    InputError
        If `folder` itself cannot be listed.
    """
    listing = _Listing(Walk(folder), begins)
    seen = {_identity(folder)}
    pending, links = [folder], list[str]()
    while pending or links:
        if not pending:
            # Links wait until every real folder was seen, so that none is listed under an alias.
            links.sort(reverse=True)
            place = links.pop()
            if (identity := _identity(place)) in seen:
                continue
            seen.add(identity)
        else:
            place = pending.pop()
        try:
            folders = listing.add(place)
        except OSError as error:
            if place == folder:
                raise InputError(
                    f"the folder cannot be listed: {error.strerror}",
                    where=folder,
                    next="check its permissions",
                ) from error
            listing.add_unlisted(place, f"{UNLISTED}: {error.strerror}")
            continue
        for path, is_link in folders:
            if is_link:
                links.append(path)
            elif (identity := _identity(path)) not in seen:
                seen.add(identity)
                pending.append(path)
    return listing.finish()


class _Listing:
    """The images found so far, in no order; no folder's entries are kept."""

    def __init__(self, found: Walk, begins: Sniff) -> None:
        self._found = found
        self._begins = begins
        self._start = len(os.path.join(found.folder, ""))
        self._writer = Writer()
        self._count = 0

    def add(self, place: str) -> list[tuple[str, bool]]:
        """Take the files of one folder; its folders, and whether each is a link."""
        names: list[str] = []
        faults: list[tuple[int, str]] = []
        folders: list[tuple[str, bool]] = []
        # Entries that are not taken at once are few: links, hidden files, files of other kinds.
        with os.scandir(place) as entries:
            for entry in entries:
                name = entry.name
                # What a listing says of a regular file and of a folder takes no look at the disk.
                regular = entry.is_file(follow_symlinks=False)
                if regular and is_image_name(name) and not name.startswith("."):
                    names.append(name)
                elif not regular and _is_folder(entry) and not name.startswith("."):
                    if not is_image_name(name):
                        folders.append((entry.path, entry.is_symlink()))
                        continue
                    faults.append((len(names), "not a regular file: a folder"))
                    names.append(name)
                    self._found.leave_out("x", 0 if entry.is_symlink() else _count(entry.path))
                elif self._is_image(entry):
                    if not regular and is_image_name(name) and (fault := file_fault(entry.path)):
                        faults.append((len(names), fault))
                    names.append(name)
        self._add(os.path.join(place, "")[self._start :], names, faults)
        return folders

    def add_unlisted(self, place: str, fault: str) -> None:
        """Take a folder whose images nobody could see as one image with a fault."""
        self._add("", [place[self._start :]], [(0, fault)])

    def finish(self) -> Walk:
        """Everything, in order."""
        found, paths = self._found, self._writer.finish()
        order = paths.argsort()
        found.paths = paths.take(order)
        if found.faults:
            place = np.empty(len(order), np.intp)
            place[order] = np.arange(len(order))
            found.faults = {int(place[i]): found.faults[i] for i in found.faults}
        return found

    def _add(self, prefix: str, names: list[str], faults: list[tuple[int, str]]) -> None:
        escaped = escape(prefix)
        for start in range(0, len(names), _BLOCK):
            block = names[start : start + _BLOCK]
            joined = "".join(block)
            plain = joined.isascii() and "%" not in joined
            self._writer.add([escaped + (name if plain else escape(name)) for name in block])
        self._found.faults.update((self._count + i, fault) for i, fault in faults)
        self._count += len(names)

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry that is no folder is an image; what is none is counted."""
        name = entry.name
        if name.startswith("."):
            real_folder = entry.is_dir(follow_symlinks=False)
            self._found.leave_out(name, _count(entry.path) if real_folder else 1)
            return False
        if is_image_file(entry.path, self._begins):
            return True
        self._found.leave_out(name)
        return False


def is_unlisted(fault: str | None) -> bool:
    """Whether a fault says that its path is a folder whose images are not known."""
    return fault is not None and fault.startswith(UNLISTED)


def file_fault(path: str) -> str | None:
    """Why a path is no file that can be read, or None; does not open it."""
    if os.path.isfile(path):
        return None
    if not os.path.lexists(path):
        return "no such file"
    return "not a regular file" if os.path.exists(path) else "broken link"


def is_image_file(path: str, begins: Sniff = begins_as_image) -> bool:
    """Whether a file is an image by its name, or else by its first bytes."""
    if is_image_name(path):
        return True
    # `isfile` first: opening a FIFO would wait for a writer.
    if suffix(os.path.basename(path)) in NOT_IMAGES or not os.path.isfile(path):
        return False
    return begins(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: str) -> object:
    try:
        status = os.stat(folder)
    except OSError:
        return folder
    # Some network drives on Windows have no file numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _count(folder: str) -> int:
    """How many files lie below a hidden folder."""
    return sum(len(files) for files in _files_below(folder))


def _files_below(folder: str) -> Iterator[list[str]]:
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield files + links
