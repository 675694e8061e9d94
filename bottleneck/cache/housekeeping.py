"""Feature files as things that take up room: which lie in ``cache/``, and how to be rid of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CacheError
from .atomic import telling
from .checks import is_hdf5
from .elsewhere import of_this_computer
from .locate import MANIFEST, SUFFIXES, is_directory
from .lock import writing

FOLDER = "cache"
PARTS = ".parts"


def feature_files(folder: str | os.PathLike[str] = FOLDER) -> dict[str, Any]:
    """The feature files and directories in a folder, with what unfinished runs left beside them.

    Parameters
    ----------
    folder : path, default ``cache``

    Returns
    -------
    dict
        ``features_folder`` and ``features``: a list of ``path bytes parts_bytes``. A file that is gone
        while its parts are there has 0 bytes.
    """
    found: dict[Path, dict[str, Any]] = {}
    place = Path(folder)
    for entry in sorted(place.iterdir()) if place.is_dir() else ():
        parts = entry.name.endswith(PARTS) and entry.is_dir()
        own = entry.with_name(entry.name.removesuffix(PARTS)) if parts else entry
        if not parts and not (_is_file(entry) or is_directory(entry)):
            continue
        each = found.setdefault(own, {"path": str(own), "bytes": 0, "parts_bytes": 0})
        each["parts_bytes" if parts else "bytes"] = _bytes(entry)[1]
    return {"features_folder": str(place.absolute()), "features": list(found.values())}


def _is_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _bytes(path: Path) -> tuple[int, int]:
    """How many files lie at a path, and their bytes."""
    if not path.is_dir():
        return 1, path.stat().st_size
    files = [each for each in path.rglob("*") if each.is_file()]
    return len(files), sum(each.stat().st_size for each in files)


def remove(files: Sequence[str | os.PathLike[str]], *, parts_only: bool = False) -> tuple[int, int]:
    """Remove feature files that are named, with their parts; each under its lock.

    Parameters
    ----------
    files : sequence of path
        Feature files or directories; of one that is gone the parts may be left.
    parts_only : bool, default False
        Leave the files themselves.

    Returns
    -------
    count, freed : int
        Files and bytes.

    Raises
    ------
    CacheError
        If one of them is no feature file, or a run is writing it. Nothing is removed before all
        have been looked at.
    """
    named = [of_this_computer(file) for file in files]
    for path in named:
        _require_feature_file(path)
    count = freed = 0
    for path in map(Path, map(os.path.normpath, named)):
        with writing(path, timeout_s=0) as lock, telling(path):
            for each in (path.with_name(path.name + PARTS), *([] if parts_only else [path])):
                if not os.path.lexists(each):
                    continue
                n, size = _bytes(each)
                count, freed = count + n, freed + size
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                else:
                    each.unlink()
        if not parts_only and isinstance(lock, Path):
            lock.unlink(missing_ok=True)
    return count, freed


def _require_feature_file(path: Path) -> None:
    parts = Path(os.path.normpath(path)).with_name(path.name + PARTS)
    if path.is_dir() and is_directory(path):
        strangers = [e.name for e in path.iterdir() if e.suffix not in (".h5", ".json", ".bad")]
        strangers = [name for name in strangers if not name.startswith(".")]
        if not strangers:
            return
        what = f"{path} holds other files too, such as {strangers[0]}"
    elif parts.is_dir() or (path.is_file() and is_hdf5(path)):
        return
    else:
        what = f"{path} is no feature file" if path.exists() else f"{path} does not exist"
    raise CacheError(
        what,
        expected=f"a feature file (.h5), or a directory with {MANIFEST}",
        where=str(path),
        next="nothing was removed; `bottleneck cache where` lists the feature files in cache/",
    )
