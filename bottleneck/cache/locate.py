"""The file and the output that a user names: ``FILE.h5`` or ``FILE.h5::ID``, ``NAME/`` or ``NAME/::ID``."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ..errors import CacheError
from .outputs import SEPARATOR

# What makes a folder a directory of features (`cache.directory`).
MANIFEST = "manifest.json"

SUFFIXES = (".h5", ".hdf5")


def locate(name: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file and the output that ``FILE.h5::ID`` means; None where no output is chosen.

    A file that is really called so is that file: an existing name is never cut.

    Examples
    --------
    >>> locate("photos.h5::layer3:avg")[1]
    'layer3:avg'
    """
    text = os.fspath(name)
    whole = Path(text)
    # os.path: a name too long for a file is no file, and no error.
    if SEPARATOR not in text or os.path.exists(text):
        return whole, None
    cuts = [i for i in range(len(text)) if text.startswith(SEPARATOR, i)]
    candidates = [(Path(text[:i]), text[i + len(SEPARATOR) :]) for i in cuts]
    # The longest one: a file called a.h5::b may have outputs too.
    for file, wanted in reversed(candidates):
        if os.path.isfile(file) or is_directory(file):
            return file, wanted
    for file, wanted in candidates:
        if file.suffix.lower() in SUFFIXES:
            return file, wanted
    return whole, None


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a directory of features: whether it has a manifest."""
    return os.path.lexists(os.path.join(path, MANIFEST))


def missing(file: Path) -> CacheError:
    """The error for a file that is not there, with names that are near to it."""
    parts = file.with_name(f"{file.name}.parts")
    if file.name and os.path.isdir(parts):  # also where the name is too long to exist
        own = str(file) if file.suffix.lower() in SUFFIXES else f"{file}{os.sep}"
        return CacheError(
            f"{file} does not exist yet: a run that did not end has left {parts}",
            expected="a feature file (.h5), or a directory of features",
            where=str(file.parent),
            next=f"`bottleneck verify {own}` lists what is there; `bottleneck extract IMAGES -o {own}` "
            "goes on with it",
        )
    try:
        there = [entry.name for entry in file.parent.iterdir() if entry.suffix in SUFFIXES]
    except OSError:
        return CacheError(f"{file}: there is no folder {file.parent}", where=str(file))
    near = difflib.get_close_matches(file.name, there, n=3, cutoff=0.5)
    found = f"did you mean {' or '.join(str(file.with_name(name)) for name in near)}?"
    return CacheError(
        f"{file} does not exist",
        expected="a feature file (.h5)",
        where=str(file.parent),
        next=found if near else f"`bottleneck extract IMAGES -o {file}` makes it",
    )
