"""Files whose names do not say whether they are images: opened, unless an earlier run knows them."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from .. import paths
from ..cache.index import settled, status_of
from ..images.formats import HEAD_BYTES, sniff
from .record import FOREIGN_GRAIN_NS
from .remember import Known, decoders

Status = tuple[int, int, int, int]


class Beginnings:
    """Says whether a file begins like an image, for `images.find.find`.

    Parameters
    ----------
    previous : callable
        Gives the feature file of an earlier run, or None; called at the first file that needs it.

    Attributes
    ----------
    unlike : dict of str to tuple of int
        Files that are no images, by absolute path, with their status before they were opened. Those
        that were changed a moment ago are left out, since they may change again unseen.
    """

    def __init__(self, previous: Callable[[], Known | None]) -> None:
        self._ask = previous
        self.unlike: dict[str, Status] = {}
        # The run's own clock is that of its output, and which that is is not known yet.
        self._settled_before_ns = time.time_ns()

    def __call__(self, path: str) -> bool:
        """Whether the regular file at an absolute path is an image by its first bytes."""
        try:
            status = status_of(os.stat(path))
            image = self._recalled(path, status)
            if image is None:
                with open(path, "rb", buffering=0) as file:
                    image = sniff(file.read(HEAD_BYTES)) is not None
        except OSError:
            return False
        if not image and settled(_row(status), self._settled_before_ns, FOREIGN_GRAIN_NS)[0]:
            self.unlike[path] = status
        return image

    @cached_property
    def _previous(self) -> Known | None:
        return self._ask()

    @cached_property
    def _ignored(self) -> list[str]:
        """What an earlier run took for no images; another version may know more formats."""
        assert self._previous is not None
        index = self._previous.index
        return index.ignored_paths if index.decoders == decoders() else []

    def _recalled(self, path: str, status: Status) -> bool | None:
        """What an earlier run found at the path, if its file is unchanged."""
        known = self._previous
        prefix = os.path.join(paths.unescape(known.features.root), "") if known else ""
        if known is None or not path.startswith(prefix):
            return None
        stored = paths.escape(path[len(prefix) :])
        rows, index = known.features.rows, known.index
        refused = [each for each, _ in rows.quarantine]
        for names, recorded, image in (
            (self._ignored, index.ignored, False),
            (rows.paths, index.files, True),
            (refused, index.quarantine, True),
        ):
            place = _place(names, stored)
            if place is not None and index.unchanged(recorded[place : place + 1], _row(status))[0]:
                return image
        return None


def _place(names: Sequence[str], wanted: str) -> int | None:
    place = bisect_left(names, wanted)
    return place if place < len(names) and names[place] == wanted else None


def _row(status: Status) -> np.ndarray:
    return np.array([status], np.int64)
