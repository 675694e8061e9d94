"""From the values of a table's path column to files: a value in, the files it may name out."""

from __future__ import annotations

import os
from functools import cached_property

from ..paths import unescape
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
        return os.path.normpath(os.path.join(self.root, value))

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
        # The second spelling is how paths stand in feature files and predictions.
        for spelling in dict.fromkeys((value, unescape(value) if "%" in value else value)):
            path = self.absolute(spelling)
            place, name = os.path.split(path)
            names, stems = self._list(place)
            # `lexists` as well: some systems take other spellings of a name (case, NFC and NFD).
            there = name in names or os.path.lexists(path)
            # A folder with the name of an image without its suffix is not what is meant.
            if there and not (name in stems and os.path.isdir(path)):
                return [path]
            if name in stems:
                return [os.path.join(place, file) for file in stems[name]]
        return []

    def find_below(self, value: str) -> list[str]:
        """The images anywhere below the root whose name, with or without suffix, is `value`."""
        return self._below.get(value, [])

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
