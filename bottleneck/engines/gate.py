"""The gate that a faster precision has to pass: features of real images against those of fp32.

A verdict belongs to one network, its cuts, one engine in one version, and one model of processor or
card. It is kept beside the exported network, so that a later run needs no reference.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import usercache
from ..backbones.base import Backbone
from ..errors import CacheError, EngineError
from ..reporter import Reporter
from . import devices, export, select
from .base import Engine, OutOfMemoryError

IMAGES = 64
# Cosine between the feature vectors of one image, over the images.
MEDIAN = 0.999
MINIMUM = 0.99
# Raise it when what is measured changes: earlier verdicts then no longer count.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a precision is from fp32, in cosines over real images.

    Attributes
    ----------
    median, minimum : float
        Of the worst of the backbone's outputs.
    images : int
    """

    median: float
    minimum: float
    images: int

    @property
    def passed(self) -> bool:
        """Whether the precision may stand for fp32. NaN never passes."""
        return self.median >= MEDIAN and self.minimum >= MINIMUM

    def describe(self) -> str:
        """In a few words, for the line that says what was picked and why."""
        # Cut off, not rounded: no cosine is said to be higher than it is.
        median, minimum = (np.floor(each * 1e5) / 1e5 for each in (self.median, self.minimum))
        return f"cosine to fp32 {median:.5f} median, {minimum:.5f} minimum on {self.images} images"


def find(backbone: Backbone, choice: select.Choice) -> Verdict | None:
    """The verdict on `backbone`'s precision with this engine here, if it was measured before."""
    try:
        note = json.loads(usercache.read(_path(backbone, choice)))["verdict"]
        median, minimum, images = (note[name] for name in ("median", "minimum", "images"))
    except (OSError, ValueError, KeyError, TypeError, CacheError):
        return None
    numbers = type(median) is float and type(minimum) is float and -1 <= minimum <= median <= 1.001
    return Verdict(median, minimum, images) if numbers and images == IMAGES else None


def measure(
    backbone: Backbone, choice: select.Choice, pictures: np.ndarray, reporter: Reporter
) -> Verdict:
    """Compute features of real images in both precisions, compare, and keep the verdict.

    Parameters
    ----------
    backbone : Backbone
        In the precision in question.
    choice : select.Choice
        The engine that would run it.
    pictures : ndarray of shape (m, h, w, 3), uint8
        Views of real images: noise makes a precision look better than it is.
    reporter : Reporter

    Raises
    ------
    OutOfMemoryError
        If not even a batch of one fits into the memory, which says nothing about the precision.
    EngineError
        If the engine does not start in one of the two precisions.
    """
    while True:
        try:
            cosines = _cosines(backbone, choice, pictures, reporter)
            break
        except OutOfMemoryError:
            if choice.batch_size == 1:
                raise
            choice = replace(choice, batch_size=choice.batch_size // 2)
    verdict = Verdict(
        median=float(np.min([np.median(each) for each in cosines])),  # NaN stays NaN
        minimum=float(np.min(cosines)),
        images=len(pictures),
    )
    _keep(backbone, choice, verdict, reporter)
    return verdict


def _cosines(
    backbone: Backbone, choice: select.Choice, pictures: np.ndarray, reporter: Reporter
) -> list[np.ndarray]:
    """For each output, the cosine of each image's features to those in fp32."""
    fast, taken = select.start(choice, backbone, reporter)
    if taken.engine != choice.engine:
        raise EngineError(f"engine {choice.engine} cannot run {backbone.entry.name}")
    features = _features(fast, pictures)
    del fast
    # Compiling twice would take half a minute; PyTorch as it is gives the same in fp32.
    plain = "eager" if choice.engine == "compile" else choice.label
    reference = backbone.with_precision("fp32")
    other = select.choose(
        reference,
        engine=plain,
        device=choice.device,
        batch_size=choice.batch_size,
        n_missing=len(pictures),
    )
    engine, _ = select.start(other, reference, reporter)
    return [cosine(a, b) for a, b in zip(features, _features(engine, pictures), strict=True)]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine between the rows of two arrays (m, d), in float64; 1 for two zero rows, 0 for one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    both = lengths[0] * lengths[1]
    nothing = (lengths[0] == 0) & (lengths[1] == 0)
    return np.where(nothing, 1.0, (a * b).sum(axis=1) / np.where(both == 0, 1.0, both))


def _features(engine: Engine, pictures: np.ndarray) -> list[np.ndarray]:
    found = [
        engine.run(pictures[start : start + engine.batch_size])
        for start in range(0, len(pictures), engine.batch_size)
    ]
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def _identity(backbone: Backbone, choice: select.Choice) -> dict[str, Any]:
    return {
        "gate_version": _VERSION,
        "network": export.identity(backbone),
        "precision": backbone.precision,
        "engine": choice.label,
        "versions": select.versions_of(choice.engine),
        "device": devices.device_model(choice.device),
    }


def _path(backbone: Backbone, choice: select.Choice) -> Path:
    return usercache.note(_identity(backbone, choice), "networks", suffix=".gate.json")


def _keep(backbone: Backbone, choice: select.Choice, verdict: Verdict, reporter: Reporter) -> None:
    note = {**_identity(backbone, choice), "verdict": asdict(verdict), "passed": verdict.passed}
    try:
        usercache.write(_path(backbone, choice), json.dumps(note, indent=1).encode())
    except (OSError, CacheError) as error:
        # It costs the next run a second, not this one its result.
        reporter.warn(f"the verdict on {backbone.precision} cannot be kept: {error}")
