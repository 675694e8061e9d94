"""Folders: a folder in, all its image files out, each once, and a count of everything else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import InputError
from .formats import HEAD_BYTES, NOT_IMAGES, is_image_name, sniff, suffix

# How the fault of a folder begins that stands for images nobody could see.
UNLISTED = "cannot be listed"


@dataclass(slots=True)
class Walk:
    """What lies in a folder.

    Attributes
    ----------
    files : list of (str, str or None)
        Absolute path of each image, and why it cannot be used where that shows already.
    ignored : int
        Files that are no images.
    others : Counter
        How often each suffix occurs among the ignored files.
    """

    files: list[tuple[str, str | None]] = field(default_factory=list)
    ignored: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def leave_out(self, name: str, count: int = 1) -> None:
        """Count files as no images."""
        if count:
            self.ignored += count
            hidden = name.startswith(".")
            self.others["hidden files" if hidden else suffix(name) or "without suffix"] += count


def walk(folder: str) -> Walk:
    """List the images of a folder and of all folders below it.

    Links are followed; each folder is visited once, at its real place if that is below `folder`.
    A file is opened only if its name says neither image nor one of the well-known other things.

    Parameters
    ----------
    folder : str
        Absolute path.

    Returns
    -------
    Walk
        `files` in no particular order.

    Raises
    ------
    InputError
        If `folder` itself cannot be listed.
    """
    found = Walk()
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
            entries = list(os.scandir(place))
        except OSError as error:
            if place == folder:
                raise InputError(
                    f"the folder cannot be listed: {error.strerror}",
                    where=folder,
                    next="check its permissions",
                ) from error
            found.files.append((place, f"{UNLISTED}: {error.strerror}"))
            continue
        for entry in entries:
            if not _is_folder(entry) or entry.name.startswith("."):
                _add_file(found, entry)
            elif is_image_name(entry.name):
                found.files.append((entry.path, "not a regular file: a folder"))
                found.leave_out("x", 0 if entry.is_symlink() else _count(entry.path))
            elif entry.is_symlink():
                links.append(entry.path)
            elif (identity := _identity(entry.path)) not in seen:
                seen.add(identity)
                pending.append(entry.path)
    return found


def _add_file(found: Walk, entry: os.DirEntry[str]) -> None:
    name = entry.name
    if name.startswith("."):
        real_folder = entry.is_dir(follow_symlinks=False)
        found.leave_out(name, _count(entry.path) if real_folder else 1)
    elif is_image_name(name):
        found.files.append((entry.path, file_fault(entry.path)))
    elif is_image_file(entry.path):
        found.files.append((entry.path, None))
    else:
        found.leave_out(name)


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


def is_image_file(path: str) -> bool:
    """Whether a file is an image by its name, or else by its first bytes."""
    if is_image_name(path):
        return True
    # `isfile` first: opening a FIFO would wait for a writer.
    if suffix(os.path.basename(path)) in NOT_IMAGES or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


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
