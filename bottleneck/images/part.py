"""One machine's share of the images (``--part 3/16``): an `ImageSet` in, the part of it out.

An image belongs to a part by a hash of its stored path. So the parts do not depend on the order of
a listing, each image is in exactly one, and adding or removing images moves no other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from blake3 import blake3

from ..errors import InputError
from ..paths import escape
from .sample import ImageSet

MOST = 65_536


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run can say of: its part, without what lies behind the end of a tar that is cut.

    Attributes
    ----------
    part : Part or None
        None for everything.
    unseen : tuple of str
        How the stored paths of the others begin.
    """

    part: Part | None
    unseen: tuple[str, ...]

    def holds(self, paths: Sequence[str]) -> np.ndarray:
        """Which stored paths would be among the images if they were there: (n,) bool."""
        found = np.fromiter((not path.startswith(self.unseen) for path in paths), bool, len(paths))
        return found if self.part is None else found & self.part.holds(paths)


def seen_of(images: ImageSet, part: Part | None, root: str) -> Part | Seen | None:
    """Which paths of a file of `root`, escaped, a run on these images can say of; None for all."""
    if not images.unseen or escape(images.root) != root:
        return part
    return Seen(part, images.unseen)


@dataclass(frozen=True, slots=True)
class Part:
    """One of several shares.

    Attributes
    ----------
    number : int
        From 1 to `count`.
    count : int
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that ``3/16`` means, or an InputError.

        Examples
        --------
        >>> Part.parse("3/16")
        Part(number=3, count=16)
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(text).strip())
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count <= MOST:
            raise InputError(
                f"{text!r} is no part",
                expected=f"NUMBER/COUNT, such as 3/16, with NUMBER from 1 to COUNT, at most {MOST}",
                where="--part",
            )
        return cls(number, count)

    def holds(self, paths: Sequence[str]) -> np.ndarray:
        """Which stored paths are of this part: (n,) bool.

        Path p is of part 1 + (b mod `count`), b being the first eight bytes of BLAKE3(p as UTF-8)
        as a number, the first one the highest.

        Examples
        --------
        >>> paths = ["ants/1.jpg", "ants/2.jpg", "bees/3.jpg"]
        >>> np.sum([Part(number, 2).holds(paths) for number in (1, 2)], axis=0).tolist()
        [1, 1, 1]
        """
        wanted, count = self.number - 1, self.count
        own = (
            int.from_bytes(blake3(path.encode("utf-8", "surrogatepass")).digest(8), "big") % count
            for path in paths
        )
        return np.fromiter((each == wanted for each in own), bool, len(paths))

    def of(self, images: ImageSet) -> ImageSet:
        """Those of the images that are of this part, under a name of its own."""
        columns = images.columns
        rows = np.flatnonzero(self.holds(columns.paths))
        new = np.full(len(columns), -1, np.int64)
        new[rows] = np.arange(len(rows))
        order, entries = np.asarray(images.order, np.int64), np.asarray(images.entries, np.int64)
        left = new[entries]
        return replace(
            images,
            name=f"{images.name}-part-{self.number}-of-{self.count}",
            samples=columns.take(rows),
            order=np.argsort(np.argsort(order[rows])) if len(order) else (),
            entries=left[left >= 0],
            notes=[
                *images.notes,
                f"part {self.number} of {self.count}: {len(rows)} of {len(columns)} images",
            ],
        )
