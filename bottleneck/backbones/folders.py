"""Folders that a backbone is defined by, found again by a digest of what is in them.

A recipe names such a backbone by the folder's name and the digest, never by a path: a folder that was
moved is the same one, and a folder whose files were edited is another.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from .. import usercache
from ..errors import BottleneckError, InputError

# Digits of a SHA-256 in a name.
DIGITS = 12
_REMEMBERED = 8  # places of one folder
_DIGEST = re.compile(rf"(.+)\+([0-9a-f]{{{DIGITS}}})")


def is_path(name: str) -> bool:
    """Whether a name means a folder on this machine rather than one of the source's own.

    Examples
    --------
    >>> is_path("/models/vit"), is_path("./vit"), is_path("google/vit")
    (True, True, False)
    """
    starts = ("/", "./", "../", "~", ".\\", "..\\")
    return name.startswith(starts) or re.match(r"[A-Za-z]:[\\/]", name) is not None


def split(name: str) -> tuple[str, str]:
    """A name and the digest behind it, empty where there is none.

    Examples
    --------
    >>> split("my-vit+0123456789ab")
    ('my-vit', '0123456789ab')
    """
    found = _DIGEST.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def open_folder(path: str) -> Path:
    """A folder that the user names.

    Raises
    ------
    InputError
        If there is none.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", where="--backbone", next="check the path")
    return folder


def remember(folder: Path, digest: str) -> None:
    """Keep where a folder lies; a hint only."""
    known = [str(folder), *(each for each in _places(digest) if each != str(folder))]
    with contextlib.suppress(OSError, BottleneckError):
        note = usercache.folder("folders") / f"{digest}.json"
        usercache.write(note, json.dumps(known[:_REMEMBERED]).encode())


def recall(digest: str, digest_of: Callable[[Path], str]) -> Path | None:
    """Where a folder with this digest lies now, among the places where it was seen."""
    for place in _places(digest):
        with contextlib.suppress(OSError, BottleneckError):
            if digest_of(Path(place)) == digest:
                return Path(place)
    return None


def _places(digest: str) -> list[str]:
    try:
        found = json.loads(usercache.read(usercache.folder("folders") / f"{digest}.json"))
        return [str(place) for place in found]
    except (OSError, BottleneckError, ValueError, TypeError):
        return []


def changed(name: str, digest: str, files: str) -> InputError:
    """The error for a folder that is not here any more as it was.

    Parameters
    ----------
    name : str
        The backbone, as the recipe has it.
    digest : str
    files : str
        What the digest is of.
    """
    return InputError(
        f"the folder of {name} is not where it was last seen, or its {files} were changed",
        expected=f"{files} with the digest {digest}",
        where="--backbone",
        next="name the folder as it is now; its features go to a file of their own",
    )
