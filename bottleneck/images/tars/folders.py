"""Folders in tars: the paths of members in, what they say about split and class out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...texts import Texts
from ..layout import Place, read_layout, split_of


@dataclass(slots=True)
class _Common:
    """The folders that all images of some tars lie in."""

    folders: list[str] | None = None
    depth: int = 0  # of the image that lies highest

    def add(self, folders: list[str]) -> None:
        """Take one more image."""
        if self.folders is None:
            self.folders, self.depth = folders, len(folders)
            return
        self.depth = min(self.depth, len(folders))
        if folders[: len(self.folders)] != self.folders:
            pairs = zip(self.folders, folders, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), self.depth)
            self.folders = self.folders[: min(same, len(folders))]

    def surplus(self, split: str) -> int:
        """How many of them say nothing, since another one below them could be the class."""
        count = 0
        for folder in self.folders or []:
            of_folder = split_of(folder)
            if self.depth - count < 2 or (of_folder is not None and of_folder != split):
                break
            count += 1
        return count


class Inside:
    """What the places of images in tars say.

    A tar of a folder (``tar -cf photos.tar photos``) has that folder before each name; it is no class
    as long as there are folders below it. A tar in a folder called as a split, or called so itself,
    holds that split.
    """

    def __init__(self) -> None:
        self._tars: list[tuple[int, int, str]] = []  # first row, length of the tar's name, split
        self._common: dict[str, _Common] = {}
        self._rows = 0
        self._before: str | None = None

    def begin(self, start: int, split: str) -> None:
        """The next images are of another tar, whose name and slash have `start` characters."""
        self._tars.append((self._rows, start, split))
        self._common.setdefault(split, _Common())
        self._before = None

    def add(self, name: str) -> None:
        """Take an image by its stored path below the tar."""
        self._rows += 1
        folder = name.rpartition("/")[0]
        if folder != self._before:  # neighbours are mostly of one folder
            self._before = folder
            self._common[self._tars[-1][2]].add(folder.split("/") if folder else [])

    def read(self, paths: Texts, root: str) -> tuple[list[Place], np.ndarray, list[str]]:
        """What the folders say.

        Parameters
        ----------
        paths : Texts
            The images in the order in which they were added, with their tars' names.
        root : str
            For the notes.

        Returns
        -------
        places : list of Place
        which : ndarray of shape (n,), int32
            For each image one of `places`.
        notes : list of str
        """
        surplus = {split: each.surplus(split) for split, each in self._common.items()}
        layout, notes = read_layout(self._bare(paths, surplus), root)
        for split, count in surplus.items():
            if count:
                folders = "/".join((self._common[split].folders or [])[:count])
                notes.insert(0, f"All images lie in {folders}/ in the tar, which is no class.")
        return layout.places, layout.which, notes

    def _bare(self, paths: Texts, surplus: dict[str, int]) -> Iterator[str]:
        ends = [first for first, _, _ in self._tars[1:]] + [self._rows]
        names = iter(paths)
        row = 0
        for (_, start, split), end in zip(self._tars, ends, strict=True):
            prefix = f"{split}/" if split else ""
            while row < end:
                name = next(names)[start:]
                for _ in range(surplus[split]):
                    name = name.partition("/")[2]
                yield prefix + name
                row += 1
