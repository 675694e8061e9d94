"""``--preview``: some of the images as the network will see them, before any is computed."""

from __future__ import annotations

import os

import numpy as np

from ..backbones.base import Backbone
from ..errors import InputError
from ..images.decode import BadImage
from ..images.payload import payload
from ..images.preprocess import decoded, frames
from ..images.sample import ImageSet
from ..reporter import Reporter

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
    n = len(images.samples)
    # Spread over all; where one cannot be used, its neighbours are tried.
    spread = np.linspace(0, n - 1, min(n, wanted)).astype(int).tolist()
    for i in dict.fromkeys([*spread, *range(n)]):
        sample = images.samples[i]
        if sample.fault:
            continue
        try:
            views = frames(decoded(payload(sample.source), p).array, p)
        except BadImage:
            continue  # the run itself gives the reason
        numbered = [f"{sample.path} [{v}]" if p.views > 1 else sample.path for v in range(p.views)]
        shown.extend(zip(numbered, views, strict=True))
        if len(shown) >= wanted * p.views:
            break
    if not shown:
        raise InputError("none of the images can be shown", where="--preview")
    preview(shown[:COUNT], path)
    reporter.note(f"{path}: {len(shown[:COUNT])} views as {backbone.entry.name} sees them")
