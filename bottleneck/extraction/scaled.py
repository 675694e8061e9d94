"""What ``--decode scaled`` changes: some of the images and an engine in, the gap in a sentence out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..engines.base import Engine
from ..engines.gate import cosine
from ..images.preprocess import Preprocessing
from ..images.sample import Sample
from ..reporter import Reporter
from .glance import glance

# Images that are decoded both ways: enough for a median, and a second or two of 12 megapixels.
COUNT = 16
# Where many are too small to be scaled, or broken, not all of them are looked at.
_TRIED = 4 * COUNT


def tell_gap(
    engine: Engine, samples: Sequence[Sample], p: Preprocessing, reporter: Reporter
) -> dict[str, float] | None:
    """Say how far features of scaled images lie from those of whole ones, on some of the images.

    Parameters
    ----------
    engine : Engine
        As it will compute the features.
    samples : sequence of Sample
        Some, spread evenly, are read.
    p : Preprocessing
        Nothing is done unless its `decode` is ``scaled``.
    reporter : Reporter

    Returns
    -------
    dict or None
        ``images``, and ``median`` and ``minimum`` of the cosine between the two features of a view.
        None where no image is large enough to be decoded smaller, or none was asked to be.
    """
    if p.decode != "scaled":
        return None
    pairs = _pairs(samples, p)
    if not pairs:
        reporter.note(
            "none of the images that were tried is a JPEG large enough for --decode scaled"
        )
        return None
    scaled, full = (_features(engine, np.concatenate(each)) for each in zip(*pairs, strict=True))
    cosines = cosine(scaled, full)
    gap = {
        "images": len(pairs),
        "median": float(np.median(cosines)),
        "minimum": float(cosines.min()),
    }
    reporter.note(
        f"--decode scaled: cosine to the features of the whole images {gap['median']:.5f} (median), "
        f"{gap['minimum']:.5f} (minimum), on {len(pairs)} of them"
    )
    return gap


def _pairs(samples: Sequence[Sample], p: Preprocessing) -> list[tuple[np.ndarray, np.ndarray]]:
    """The views (views, h, w, 3) of images decoded scaled and full, of those where it matters."""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    places = np.unique(np.linspace(0, max(0, len(samples) - 1), _TRIED).astype(int))
    some = [samples[i] for i in places.tolist() if i < len(samples)]
    for prepared in glance(some, [p, replace(p, decode="full")]):
        views = [framed.pixels for framed in prepared.framed.values()]
        # None is what the pipeline gives the reason for; equal pixels were not decoded smaller.
        if len(views) < 2 or views[0] is None or views[1] is None:
            continue
        if not np.array_equal(views[0], views[1]):
            pairs.append((views[0], views[1]))
        if len(pairs) == COUNT:
            break
    return pairs


def _features(engine: Engine, views: np.ndarray) -> np.ndarray:
    size = engine.batch_size
    return np.concatenate(
        [engine.run(views[start : start + size])[0] for start in range(0, len(views), size)]
    )
