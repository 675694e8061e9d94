"""What takes part in a bench: its order to a process of its own, and what that process can be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..backbones.base import Backbone

# kind -> module and class; a further peer is a module and a line here.
KINDS = {
    "loop": ("loop", "UsualLoop"),
    "timm": ("timm_way", "TimmWay"),
    "img2vec": ("img2vec", "Img2VecWay"),
    "ours": ("ours", "Ours"),
    "ceilings": ("ceilings", "Ceilings"),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What a process is told to be. Plain data: it goes through a pipe as JSON.

    Attributes
    ----------
    name : str
        In tables: ``usual loop``, ``openvino bf16``.
    kind : str
        One of `KINDS`.
    backbone, weights : str or None
        As `extract` takes them.
    device : str
        ``cpu`` or ``cuda:N``.
    scratch : str
        A folder that is removed after the bench.
    engine, precision : str
        Of the contestants of this package.
    batch_size, workers : int or None
        None is what the contestant itself would take.
    """

    name: str
    kind: str
    backbone: str | None
    weights: str | None
    device: str
    scratch: str
    engine: str = "eager"
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Back again with ``Spec(**data)``."""
        return asdict(self)

    def resolve(self) -> Backbone:
        """The backbone, cut before its classifier."""
        from ..extraction.options import RecipeOptions
        from ..extraction.settle import settle_backbone
        from ..reporter import Silent

        options = RecipeOptions(backbone=self.backbone, weights=self.weights)
        return settle_backbone(options, None, Silent())


class Contestant(Protocol):
    """What a process can be asked for. Every other public method can be called by its name, too."""

    def prepare(self) -> dict[str, Any]:
        """Import and load; facts about it for the table: ``batch_size``, ``note``, ``device_name``."""

    def run(self, folder: str, save: str | None = None) -> dict[str, Any]:
        """Features of all images below a folder: ``images``, ``seconds``; the array into `save`."""


def build(spec: Spec) -> Contestant:
    """The contestant of a spec, nothing heavy loaded."""
    module, name = KINDS[spec.kind]
    return getattr(import_module(f".{module}", __package__), name)(spec)


def timed(work: Callable[[], np.ndarray], save: str | None) -> dict[str, Any]:
    """Run `work` once against the clock; its features (n, d) go into the file `save`, untimed."""
    started = time.perf_counter()
    features = work()
    seconds = time.perf_counter() - started
    if save is not None:
        np.save(save, np.asarray(features, np.float32))
    return {"images": len(features), "seconds": seconds}


def files_of(folder: str) -> list[str]:
    """The images of a folder that `Material` made, in the order of their numbers."""
    return [str(path) for path in sorted(Path(folder, "photographs").iterdir())]
