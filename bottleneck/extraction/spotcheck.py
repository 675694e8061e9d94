"""The guard against a changed environment: a few stored features are computed again and compared.

A recipe says what is meant to decide a feature. Another Pillow, another engine or a GPU is not meant
to; whether it does is measured on images of the file itself before anything is added to it. Where
none of them can be read any more, nothing is added: an unmeasured mixture looks like a measured one
ever after, and a file of its own costs nothing, since `fit` reads several.
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
from ..images.sample import Sample
from .comparable import Held, comparable
from .stores import Store

COUNT = 8
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
    held: Held | None = None,
) -> tuple[float, int] | None:
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
    held : Held, optional
        The file they are in, whose rows say where their images lie.

    Returns
    -------
    tuple of float and int, or None
        The largest gap, and of how many images. None if this run uses none of the stored features.

    Raises
    ------
    CacheError
        If the features differ by more than the precision allows, or rows stay of which no image can
        be read to compare; nothing has been stored yet.
    """
    views = backbone.preprocessing.views
    count = max(1, min(COUNT, engine.batch_size // views))
    found = comparable(samples, held, known, backbone.preprocessing, count)
    if not found.keys:
        _require_unused(held, found.undecodable, describe_change(earlier, environment))
        return None
    flat = np.concatenate(found.pixels)
    again = [
        engine.run(flat[start : start + engine.batch_size])[output]
        for start in range(0, len(flat), engine.batch_size)
    ]
    now = np.concatenate(again).reshape(len(found.keys), -1)
    stored = known.take(found.keys)
    tolerance = TOLERANCE[backbone.precision]
    if backbone.precision == "fp32":
        largest = float(relative_error(now, stored).max())
        measure = "of their length"
    else:
        largest = float(1 - gate.cosine(now, stored).min())
        measure = "in cosine"
    if not largest <= tolerance:
        raise CacheError(
            f"environment changed: {describe_change(earlier, environment)}; {len(found.keys)} stored "
            f"features, computed again, differ by up to {largest:.2g} {measure}",
            expected=f"at most {tolerance:g}; nothing was written",
            where="finished rows of a run that did not end"
            if held is None
            else str(held.features.file or "features"),
            next="run with the versions and the engine the file was made with, or extract into "
            "a new file with -o",
        )
    return largest, len(found.keys)


def _require_unused(held: Held | None, undecodable: Sequence[str], change: str) -> None:
    """Raise a CacheError if stored features stay in use that nothing could be compared with."""
    if undecodable:
        what = f"images of stored features cannot be decoded any more: {undecodable[0]}"
    elif held is not None and held.kept and len(held.features):
        what = f"none of the images of its {len(held.features)} rows can be read to compare"
    else:
        return
    raise CacheError(
        f"environment changed: {change}; {what}",
        expected="a few of the file's images, to compute again; nothing was written",
        where="" if held is None else f"{held.features.file}, images below {held.features.root}",
        next="bring some of these images back, run with the versions and the engine the file was "
        "made with, or extract into a new file with -o (`bottleneck fit` takes both)",
    )


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
