"""Real images for the precision's gate: the user's own, and where they are few, two photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..engines import gate
from ..images.preprocess import Preprocessing, frames
from ..images.sample import Sample
from .glance import glance

# More than are needed, since some may be unreadable or copies.
_TRIED = 2 * gate.IMAGES


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


def _views(samples: Sequence[Sample], p: Preprocessing) -> Iterator[np.ndarray]:
    """The views of each that can be decoded."""
    for prepared in glance(samples, [p]):
        for framed in prepared.framed.values():
            if framed.pixels is not None:
                yield from framed.pixels


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
