"""``--preview``: some of the images as the network will see them, before any is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..backbones.base import Backbone
from ..errors import InputError
from ..images.sample import ImageSet
from ..reporter import Reporter
from .glance import glance

COUNT = 16


def write_preview(
    images: ImageSet, backbone: Backbone, path: str | os.PathLike[str], reporter: Reporter
) -> None:
    """Draw up to 16 views, of images spread over all, and say where they are.

    Parameters
    ----------
    images : ImageSet
    backbone : Backbone
        Its preprocessing is what is seen.
    path : path
        A ``.png``.
    reporter : Reporter

    Raises
    ------
    InputError
        If none of the images that were tried can be used, or the path is no ``.png``.
    """
    from ..report.preview import preview

    p = backbone.preprocessing
    wanted = max(1, COUNT // p.views)
    shown: list[tuple[str, np.ndarray]] = []
    for places in _in_turn(len(images.samples), wanted):
        some = [images.samples[i] for i in places]
        for sample, prepared in zip(some, glance(some, [p]), strict=True):
            framed = prepared.framed.get(0)
            if framed is not None and framed.pixels is not None:  # else the run gives the reason
                name = sample.path
                names = [f"{name} [{v}]" if p.views > 1 else name for v in range(p.views)]
                shown.extend(zip(names, framed.pixels, strict=True))
        if len(shown) >= wanted * p.views:
            break
    if not shown:
        raise InputError("none of the images can be shown", where="--preview")
    preview(shown[:COUNT], path)
    reporter.note(f"{path}: {len(shown[:COUNT])} views as {backbone.entry.name} sees them")


def _in_turn(n: int, wanted: int) -> Iterator[list[int]]:
    """First some spread over all; where some of them cannot be used, the others, a few at a time."""
    spread = np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(int)).tolist()
    yield spread
    others = np.setdiff1d(np.arange(n), spread)
    for start in range(0, len(others), COUNT):
        yield others[start : start + COUNT].tolist()
