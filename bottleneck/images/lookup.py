"""From the values of a table's path column to files: a value in, the files it may name out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property

from ..paths import as_name, unescape
from ..remote.urls import as_path
from .folders import walk
from .formats import is_image_name


def stem(name: str) -> str:
    """A name without the suffix of an image format; other suffixes belong to it.

    Examples
    --------
    >>> stem("ants/0013.jpg"), stem("scan.001")
    ('ants/0013', 'scan.001')
    """
    return name[: name.rindex(".")] if is_image_name(name) else name


class Readings:
    """The two ways to read a value with ``%XX``: as a file is called, or as paths are stored.

    Feature files and predictions write ``50%25.jpg`` for ``50%.jpg``. Where there is a file of each
    name, one value alone could mean either.

    Parameters
    ----------
    written, stored : callable, str -> list of str
        What a value names if it is read as it is written, and if it is a stored path.
    """

    def __init__(
        self, written: Callable[[str], list[str]], stored: Callable[[str], list[str]]
    ) -> None:
        self._readings = (written, stored)

    def __call__(self, value: str) -> list[str]:
        """What a value names: by each reading, unless only one is left."""
        readings = self._readings if "%" in value else self._readings[:1]
        return list(dict.fromkeys(found for read in readings for found in read(value)))

    def settle(self, values: Iterable[str]) -> None:
        """Leave the one reading by which all of a table's values name something, if it is one."""
        marked = [value for value in values if "%" in value]
        fitting = [read for read in self._readings if all(map(read, marked))]
        if len(fitting) == 1:
            self._readings = (fitting[0], fitting[0])


class Lookup:
    """Finds files by path, or by path without suffix, below a root.

    Each folder is listed once and asked often: a table of 100,000 rows names few folders.

    Parameters
    ----------
    root : str
        Absolute folder that relative values start from.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, tuple[set[str], dict[str, list[str]]]] = {}

    def absolute(self, value: str) -> str:
        """The normalised absolute path that a value spells."""
        return os.path.normpath(os.path.join(self.root, as_name(as_path(value))))

    def find(self, value: str) -> list[str]:
        """The files that a value names: none, one, or several of one stem.

        Parameters
        ----------
        value : str
            A path, relative to the root or absolute, with or without the suffix.

        Returns
        -------
        list of str
            Absolute paths.
        """
        path = self.absolute(value)
        place, name = os.path.split(path)
        names, stems = self._list(place)
        # `lexists` as well: some systems take other spellings of a name (case, NFC and NFD).
        there = name in names or os.path.lexists(path)
        # A folder with the name of an image without its suffix is not what is meant.
        if there and not (name in stems and os.path.isdir(path)):
            return [path]
        return [os.path.join(place, file) for file in stems.get(name, ())]

    def find_below(self, value: str) -> list[str]:
        """The images anywhere below the root whose name, with or without suffix, is `value`."""
        return self._below.get(as_name(value)) or self._below.get(unescape(value), [])

    def _list(self, folder: str) -> tuple[set[str], dict[str, list[str]]]:
        if folder not in self._folders:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            stems: dict[str, list[str]] = {}
            for name in filter(is_image_name, names):
                stems.setdefault(stem(name), []).append(name)
            self._folders[folder] = set(names), stems
        return self._folders[folder]

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for path, _ in sorted(walk(self.root).files):
            name = os.path.basename(path)
            for spelling in {name, stem(name)}:
                index.setdefault(spelling, []).append(path)
        return index
