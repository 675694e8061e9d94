"""The folder of this user for what can be made again: exported networks, small look-up files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from .errors import CacheError
from .regular import NotRegular, open_regular


def folder(*parts: str) -> Path:
    """A folder below the user's cache, made if it is not there.

    Parameters
    ----------
    *parts : str
        Names below it, for example ``"networks"``.

    Returns
    -------
    pathlib.Path
        Below ``BOTTLENECK_CACHE_DIR`` where that is set, else where the system keeps caches
        (``~/.cache/bottleneck-probe`` on Linux, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%``
        on Windows).

    Raises
    ------
    CacheError
        If there is no such folder and it cannot be made.
    """
    base = os.environ.get("BOTTLENECK_CACHE_DIR") or platformdirs.user_cache_dir(
        "bottleneck-probe", appauthor=False
    )
    path = Path(base).expanduser().absolute().joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"the user's cache {path} cannot be used: {error.strerror}",
            expected="a folder that can be written",
            where="BOTTLENECK_CACHE_DIR" if "BOTTLENECK_CACHE_DIR" in os.environ else str(path),
            next="set BOTTLENECK_CACHE_DIR to a folder of yours",
        ) from error
    return path


def note(identity: Mapping[str, Any], *parts: str, suffix: str = ".json") -> Path:
    """Where a note about something lies, found again by what that something is.

    Parameters
    ----------
    identity : mapping
        JSON data: all that decides what the note says.
    *parts : str
        The folder, as `folder` has it.
    suffix : str
        Tells notes of several kinds in one folder apart.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return folder(*parts) / f"{digest[:32]}{suffix}"


def read(path: Path) -> str:
    """The text of a file below the cache; an OSError also for what is no file, which is not waited for."""
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8")
    except NotRegular as kind:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path)) from None


def write(path: Path, content: bytes) -> None:
    """Write a file below the cache so that no other process, and no power cut, ever leaves half of it.

    Raises
    ------
    CacheError
        If it cannot be written.
    """
    from .cache.atomic import replace_atomically

    with replace_atomically(path, needs=len(content)) as file:
        file.write(content)


def files() -> list[Path]:
    """Everything in the cache, in order."""
    return sorted(path for path in folder().rglob("*") if path.is_file())


def clear() -> tuple[int, int]:
    """Remove everything in the cache; how many files that was, and their bytes."""
    found = files()
    freed = sum(path.stat().st_size for path in found)
    for path in found:
        path.unlink(missing_ok=True)
    return len(found), freed
