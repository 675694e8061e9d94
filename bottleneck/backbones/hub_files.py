"""What a clone of PyTorch Hub consists of: a digest of all files that its code may read.

Code reads tables, vocabularies and configurations beside it, so Python files alone do not decide what
is built.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .folders import DIGITS

# Documents, pictures and what this package writes itself: no network is built from these, and a run
# from inside the clone would else change the clone.
_IGNORED = {
    *(".md", ".rst", ".ipynb", ".html", ".css", ".pdf", ".log"),
    *(".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".bmp", ".tif", ".tiff", ".mp4", ".avi"),
    *(".h5", ".hdf5", ".probe", ".part", ".lock"),
}
# A second of hashing; larger ones are known by size and time of change.
_LARGE_BYTES = 100_000_000
# Smaller ones are read anew each time, so that no two edits within one tick of the clock look alike.
_SMALL_BYTES = 1_000_000
# Far more than any repository of networks has; a folder of images beside the code has them.
MOST_FILES = 20_000


def digest_of(folder: Path) -> str:
    """Of all files below a folder that code may read: names and contents.

    Hidden files and folders (``.git``), ``__pycache__``, documents, pictures, and feature files are
    left out. Links are followed. Files above 100 MB count by size and time of change.

    Raises
    ------
    InputError
        If a file cannot be read, or there are more than `MOST_FILES`.
    """
    digest = hashlib.sha256()
    for count, (name, path) in enumerate(_walk(folder, "", {})):
        if count == MOST_FILES:
            raise InputError(
                f"{folder} holds more than {MOST_FILES} files",
                expected="a clone with code; all that it may read is hashed",
                where="--backbone",
                next="give a clone without the images and results beside the code",
            )
        content = path if isinstance(path, str) else _content(path)
        digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:DIGITS]


def _walk(folder: Path, prefix: str, seen: dict[str, str]) -> Iterator[tuple[str, Path | str]]:
    """Files by their names below the clone, in order; for a folder met again, where it was first."""
    real = os.path.realpath(folder)
    if real in seen:  # a link to a folder above it would go on for ever
        yield prefix, f"as {seen[real]}"
        return
    seen[real] = prefix
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen)
            elif entry.is_file() and Path(entry.name).suffix.lower() not in _IGNORED:
                yield f"{prefix}{entry.name}", Path(entry.path)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _content(path: Path) -> str:
    try:
        state = path.stat()
        if state.st_size > _LARGE_BYTES:
            return f"{state.st_size} bytes of {state.st_mtime_ns}"
        if state.st_size > _SMALL_BYTES:
            return _hashed(path, state.st_size, state.st_mtime_ns, state.st_ino)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, *state: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be read: {error.strerror}",
        expected="a clone that can be read whole: all that its code may read is hashed",
        where="--backbone",
        next="allow reading it, or move it out of the clone",
    )
