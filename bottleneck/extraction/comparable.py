"""Which stored features can be computed again: a file and the images at hand in, keys and pixels out.

The rows of the file come first, found by their paths wherever its images lie: what this run was given
may be other images altogether, or so many that a few stored ones would be met by chance only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ..cache.features import Features
from ..images.preprocess import Preprocessing
from ..images.sample import Sample
from ..paths import unescape
from ..texts import find_texts
from .glance import glance
from .stores import Store

# Candidates at a time, when the first ones were not there.
_LARGEST = 1024


@dataclass(frozen=True, slots=True)
class Held:
    """The file that a run goes on with.

    Attributes
    ----------
    features : Features
    kept : bool
        Its rows stay also where their image is not among those of the run (``--add``).
    """

    features: Features
    kept: bool = False


@dataclass(slots=True)
class Comparable:
    """Images whose feature is stored.

    Attributes
    ----------
    keys : list of bytes
    pixels : list of ndarray of shape (views, h, w, 3), uint8
        What the network sees of each.
    undecodable : list of str
        Why the others, which could be decoded once, cannot be any more.
    """

    keys: list[bytes] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)

    def look(
        self, candidates: Iterator[Sample], known: Store, p: Preprocessing, count: int
    ) -> bool:
        """Read candidates until there are `count` stored ones among them; whether there were."""

        def fits(key: bytes) -> bool:
            return key in known and key not in self.keys

        size = count
        while block := list(islice(candidates, size)):
            # What cannot be read or is not stored is in none of the ways: the pipeline says why.
            for prepared in glance(block, [p], wanted=fits):
                for framed in prepared.framed.values():
                    if framed.pixels is None:
                        self.undecodable.append(framed.reason or "")
                    elif prepared.key is not None:
                        self.keys.append(prepared.key)
                        self.pixels.append(framed.pixels)
                if len(self.keys) == count:
                    return True
            size = min(4 * size, _LARGEST)
        return False


def comparable(
    samples: Sequence[Sample],
    held: Held | None,
    known: Store,
    p: Preprocessing,
    count: int,
) -> Comparable:
    """Find stored features whose images can still be read, spread over all of them.

    Parameters
    ----------
    samples : sequence of Sample
        The images of this run.
    held : Held or None
        The file whose rows are in `known`; None where there are only sealed shards, which know no
        paths.
    known : Store
        The stored features of one output.
    p : Preprocessing
    count : int
        How many are enough.

    Returns
    -------
    Comparable
        With fewer than `count` only after every image was tried by which one could be found.
    """
    found = Comparable()
    at_paths: set[int] = set()
    # Of some that are found: more would cost reading all images of the run, which are read again.
    if found.look(_rows(samples, held, known, at_paths), known, p, count) or found.keys:
        return found
    # Renamed since, or known from shards only: any of the images may be a stored one.
    others = (samples[i] for i in spread(len(samples)) if i not in at_paths)
    found.look((each for each in others if not each.fault), known, p, count)
    return found


def _rows(
    samples: Sequence[Sample], held: Held | None, known: Store, at_paths: set[int]
) -> Iterator[Sample]:
    """Where the image of each row of the file should lie; `at_paths` takes the samples that were met."""
    if held is None or not len(held.features):
        return
    features = held.features
    views = features.views_per_image
    paths = features.rows.paths
    place = find_texts(paths, getattr(samples, "paths", [sample.path for sample in samples]))
    root = unescape(features.root)
    for image in spread(len(features) // views):
        row = image * views
        if features.keys[row].tobytes() not in known:
            continue
        if place[row] >= 0:
            at_paths.add(int(place[row]))
            if not (sample := samples[place[row]]).fault:
                yield sample
        elif held.kept and root:
            yield Sample(paths[row], os.path.join(root, unescape(paths[row])))


def spread(n: int) -> Iterator[int]:
    """All numbers below `n`, each once, in an order whose every beginning is spread over all of them.

    Examples
    --------
    >>> list(spread(10))
    [0, 7, 4, 1, 8, 5, 2, 9, 6, 3]
    """
    # Multiples of the golden ratio lie evenly however many there are (Weyl's sequence); a step
    # without a common divisor meets each number once.
    step = max(1, round(n * 0.6180339887))
    while math.gcd(step, n) > 1:
        step += 1
    return (i * step % n for i in range(n))
