"""What came of an extraction: counts that add up, and the features."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.features import Features
from ..images.sample import ImageSet
from .pipeline import Outcome


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of an extraction.

    Attributes
    ----------
    features : Features
    output : pathlib.Path, str or None
        None if the features stayed in memory.
    seen, computed, reused, quarantined : int
        Images; the last three sum to the first.
    ignored, removed : int
        Files that are no images; rows whose path is gone.
    resumed : int
        Rows taken from an earlier run that did not end; part of `reused`.
    engine : str
        Empty if nothing had to be computed and the file does not say.
    seconds : float
    written : bool
        False if the file already was what it would have become.
    read : int
        Images whose files were read; the others are unchanged since an earlier run.
    broken : tuple of str
        Tars that end too early, and where; rows of what an earlier run found behind that are kept.
    bad : tuple of (str, str)
        Path and reason of the images that `quarantined` counts; the file may list those of other
        parts or folders beside them.
    """

    features: Features
    output: Path | str | None
    seen: int
    computed: int
    reused: int
    quarantined: int
    ignored: int
    removed: int
    resumed: int
    engine: str
    seconds: float
    written: bool
    read: int = 0
    broken: tuple[str, ...] = ()
    bad: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The reply of ``bottleneck extract --json``."""
        f = self.features
        return {
            "output": None if self.output is None else str(self.output),
            "fingerprint": f.fingerprint,
            "recipe": f.recipe,
            "environment": f.environment,
            "seen": self.seen,
            "computed": self.computed,
            "reused": self.reused,
            "resumed": self.resumed,
            "quarantined": self.quarantined,
            "ignored": self.ignored,
            "removed": self.removed,
            "read": self.read,
            "broken": list(self.broken),
            "features": [int(x) for x in f.features.shape],
            "layers": {
                name: [int(x) for x in array.shape]
                for name, array in zip(f.outputs, (f.features, *f.layers.values()), strict=True)
            },
            "engine": self.engine,
            "precision": f.recipe["precision"],
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.seen / max(self.seconds, 1e-9), 1),
        }


def result_of(
    images: ImageSet,
    outcome: Outcome,
    features: Features,
    output: Path | str | None,
    started: float,
    removed: int,
    written: bool,
    resumed: int = 0,
    read: int = 0,
) -> Extraction:
    """Put together what the parts of a run have found.

    Parameters
    ----------
    images : ImageSet
    outcome : Outcome
        Of all their samples.
    features : Features
    output : pathlib.Path, str or None
    started : float
        By `time.monotonic`, in seconds.
    removed, resumed, read : int
    written : bool
        See `Extraction`.
    """
    return Extraction(
        features=features,
        output=output,
        seen=len(images.samples),
        computed=outcome.computed,
        reused=outcome.reused,
        quarantined=len(outcome.reasons),
        ignored=images.ignored,
        removed=removed,
        resumed=resumed,
        engine=str(features.environment.get("engine", "")),
        seconds=time.monotonic() - started,
        written=written,
        read=read,
        broken=images.broken,
        bad=tuple((images.samples[i].path, why) for i, why in sorted(outcome.reasons.items())),
    )
