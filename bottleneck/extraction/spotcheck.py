"""The guard against a changed environment: a few stored features are computed again and compared.

A recipe says what is meant to decide a feature. Another Pillow, another engine or a GPU is not meant
to; whether it does is measured on images of the file itself before anything is added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backbones.base import Backbone
from ..backbones.proof import relative_error
from ..engines import gate
from ..engines.base import Engine
from ..errors import CacheError
from ..images.decode import BadImage
from ..images.payload import key_of, payload
from ..images.preprocess import decoded, frames
from ..images.sample import Sample
from .stores import Store

COUNT = 8
_TRIED = 64
# Between two engines of one precision, on any one image: in fp32 the largest relative error
# ||a - b|| / ||b||, in the others the largest 1 - cosine, by which their gate measures them too.
TOLERANCE = {"fp32": 1e-3, "bf16": 1 - gate.MINIMUM, "fp16": 1 - gate.MINIMUM}


def earlier_environments(
    environment: dict[str, Any], recorded: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those among `recorded` that differ from the one of this run, each once.

    Parameters
    ----------
    environment : dict
        What this run computes with.
    recorded : sequence of dict
        What the stored features were computed with; empty for a new file.
    """
    earlier: list[dict[str, Any]] = []
    for past in recorded:
        for each in (past, *past.get("earlier", ())):
            plain = {k: v for k, v in each.items() if k not in ("earlier", "parity_gap", "speed")}
            if plain and plain != environment and plain not in earlier:
                earlier.append(plain)
    return earlier


def gap(
    engine: Engine,
    output: int,
    environment: dict[str, Any],
    earlier: dict[str, Any],
    samples: Sequence[Sample],
    known: Store,
    backbone: Backbone,
) -> float | None:
    """How far a few stored features lie from what is computed now, by the measure of `TOLERANCE`.

    Parameters
    ----------
    engine : Engine
        Just started.
    output : int
        Which of its outputs `known` holds.
    environment, earlier : dict
        Of this run, and of the one it differs from.
    samples : sequence of Sample
    known : Store
        The stored features of one output.
    backbone : Backbone

    Returns
    -------
    float or None
        None if no stored image was at hand.

    Raises
    ------
    CacheError
        If the features differ by more than the precision allows; nothing has been stored yet.
    """
    views = backbone.preprocessing.views
    count = max(1, min(COUNT, engine.batch_size // views))
    keys, pixels = _stored_images(samples, known, backbone, count)
    if not keys:
        return None
    flat = np.concatenate(pixels)
    again = [
        engine.run(flat[start : start + engine.batch_size])[output]
        for start in range(0, len(flat), engine.batch_size)
    ]
    found = np.concatenate(again).reshape(len(keys), -1)
    tolerance = TOLERANCE[backbone.precision]
    if backbone.precision == "fp32":
        largest = float(relative_error(found, known.take(keys)).max())
        measure = "of their length"
    else:
        largest = float(1 - gate.cosine(found, known.take(keys)).min())
        measure = "in cosine"
    if not largest <= tolerance:
        raise CacheError(
            f"environment changed: {describe_change(earlier, environment)}; {len(keys)} stored "
            f"features, computed again, differ by up to {largest:.2g} {measure}",
            expected=f"at most {tolerance:g}; nothing was written",
            next="run with the versions and the engine the file was made with, or extract into "
            "a new file with -o",
        )
    return largest


def describe_change(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two environments, in a few words.

    Examples
    --------
    >>> describe_change({"versions": {"pillow": "12.0"}}, {"versions": {"pillow": "13.0"}})
    'pillow 12.0 -> 13.0'
    """
    flat = [
        {**{k: v for k, v in each.items() if k != "versions"}, **each.get("versions", {})}
        for each in (old, new)
    ]
    names = list(dict.fromkeys([*flat[0], *flat[1]]))
    changes = [
        f"{name} {flat[0].get(name, 'none')} -> {flat[1].get(name, 'none')}"
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]
    return ", ".join(changes)


def _stored_images(
    samples: Sequence[Sample], known: Store, backbone: Backbone, count: int
) -> tuple[list[bytes], list[np.ndarray]]:
    """Keys and pixels (views, h, w, 3) of a few images whose feature is stored, spread over all."""
    keys: list[bytes] = []
    pixels: list[np.ndarray] = []
    for i in np.unique(np.linspace(0, len(samples) - 1, _TRIED).astype(int)):
        if samples[i].fault:
            continue
        try:
            content = payload(samples[i].source)
            key = key_of(content)
            if key in known and key not in keys:
                p = backbone.preprocessing
                pixels.append(frames(decoded(content, p).array, p))
                keys.append(key)
        except BadImage:
            continue  # the pipeline gives the reason
        if len(keys) == count:
            break
    return keys, pixels
