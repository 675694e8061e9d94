"""Real images for the precision's gate: the user's own, and where they are few, two photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..engines import devices, gate
from ..engines.base import Engine
from ..images.preprocess import Preprocessing, frames
from ..images.sample import Sample
from .contract import Sink
from .crew import Crew
from .decoders import Decoders
from .prepare import Prepared, Preparer

# More than are needed, since some may be unreadable or copies.
_TRIED = 2 * gate.IMAGES
# How far threads run ahead, each.
_AHEAD = 4


def gate_images(samples: Sequence[Sample], p: Preprocessing) -> np.ndarray:
    """Views of real images, as the network would see them.

    Parameters
    ----------
    samples : sequence of Sample
        The images of this run: some of them, spread evenly, are taken.
    p : Preprocessing

    Returns
    -------
    ndarray of shape (`gate.IMAGES`, h, w, 3), uint8
        Each another one. Where the samples give fewer, parts of the two photographs that
        scikit-learn brings along (``sklearn.datasets.load_sample_images``) fill up. Images that
        cannot be read, or take too long, are passed over: the pipeline gives the reason.
    """
    last = max(0, len(samples) - 1)
    places = np.unique(np.linspace(0, last, _TRIED).astype(int))[: len(samples)]
    found: dict[bytes, np.ndarray] = {}
    step = gate.IMAGES  # not all at once: usually the first ones suffice
    spread = [*places[::2], *places[1::2]]
    for start in range(0, len(spread), step):
        some = [samples[int(i)] for i in spread[start : start + step]]
        for view in _views(some, p):
            found.setdefault(view.tobytes(), view)
        if len(found) >= gate.IMAGES:
            break
    pictures = list(found.values())[: gate.IMAGES]
    pictures += _photographs(p, gate.IMAGES - len(pictures))
    return np.stack(pictures)


class _Everything:
    """A lane that knows no feature and computes none: what the pipeline's threads prepare images for."""

    sinks: Sequence[Sink] = ()

    def __init__(self, p: Preprocessing) -> None:
        self.preprocessing = p

    def missing(self, key: bytes) -> tuple[int, ...]:
        return (0,)

    def start(self, outputs: tuple[int, ...]) -> Engine:
        raise NotImplementedError

    def smaller(self, outputs: tuple[int, ...], engine: Engine) -> Engine:
        raise NotImplementedError


def _views(samples: Sequence[Sample], p: Preprocessing) -> Iterator[np.ndarray]:
    """The views of each, by the pipeline's own threads: they are watched, and Ctrl-C leaves at once."""
    n, workers = len(samples), devices.cores()
    keys, statuses = np.zeros((n, 32), np.uint8), np.full((n, 4), -1, np.int64)
    crew = Crew()
    decoders = Decoders(
        Preparer(samples, [_Everything(p)], keys, statuses),
        n,
        workers=workers,
        window=_AHEAD * workers,
        crew=crew,
        name_of=lambda index: samples[index].path,
    )
    try:
        for _ in samples:
            prepared: Prepared = decoders.next()
            for framed in prepared.framed.values():
                if framed.pixels is not None:
                    yield from framed.pixels
        crew.join()
    finally:
        crew.stopping = True
        decoders.dismiss()


def _photographs(p: Preprocessing, count: int) -> list[np.ndarray]:
    """Parts of two photographs, of growing size, each another one."""
    if count < 1:
        return []
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images  # (427, 640, 3) uint8 each
    rng = np.random.default_rng(0)
    views: list[np.ndarray] = []
    while len(views) < count:
        image = photographs[len(views) % len(photographs)]
        side = int(rng.integers(200, min(image.shape[:2]) + 1))
        top = int(rng.integers(0, image.shape[0] - side + 1))
        left = int(rng.integers(0, image.shape[1] - side + 1))
        part = np.ascontiguousarray(image[top : top + side, left : left + side])
        views.extend(frames(part, p)[: count - len(views)])
    return views
