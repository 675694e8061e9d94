"""A whole bench: each contestant started in a process of its own, then round after round side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.base import Backbone
from ..errors import InputError
from ..extraction.api import find_images
from ..extraction.options import RecipeOptions
from ..extraction.settle import settle_backbone
from ..reporter import Progress, Reporter
from . import machine, measures, order
from .contestant import Spec
from .material import LEAST, Material, of_files, of_images
from .photographs import photographs
from .process import ContestantError, Process, memory_left, memory_watched
from .result import Bench, Ceilings, Standing

# Images of a cold start: the time of the start, not of the images.
COLD_IMAGES = 8
# Images of the warm-up, in which memory is watched: what a loader fetches ahead is among it.
WARM_IMAGES = 128
# Fewer do not say how fast a contestant is that computes in batches of 32.
LEAST_TIMED = 64
# Seconds of each measurement of a ceiling in each round.
_CEILING_S = 0.8
# Below this share of free memory the contestant that waits longest is ended, and started anew later.
_MEMORY_TO_SPARE = 0.2


@dataclass
class Entrant:
    """A contestant while the bench goes on."""

    spec: Spec
    standing: Standing
    cache: Path
    log: Path
    process: Process | None = None
    timed_images: int = 0
    features: Path | None = None
    asked: float = 0.0  # when it was last asked for something
    facts: dict[str, Any] = field(default_factory=dict)


def run(images: tuple[str, ...], options: order.Options, reporter: Reporter) -> Bench:
    """Measure, side by side, everything that can run a backbone over images here.

    Parameters
    ----------
    images : tuple of str
        As `extract` takes them; empty for photographs that are made.
    options : Options
    reporter : Reporter

    Returns
    -------
    Bench

    Raises
    ------
    BottleneckError
        If there are no images, or no backbone; a contestant that fails is told in its row.
    KeyboardInterrupt
        On Ctrl-C, with every process ended and nothing left on the disk but made photographs.
    """
    began = time.monotonic()
    if options.images is not None and options.images < LEAST:
        raise InputError(
            f"{options.images} images are too few", expected=f"at least {LEAST}", where="--images"
        )
    device, why = order.settled_device(options.device)
    backbone = settle_backbone(
        RecipeOptions(backbone=options.backbone, weights=options.weights), None, reporter
    )
    described = machine.describe()
    if described["load"] is not None and described["load"] > 0.5 * described["cores"]:
        reporter.warn(
            f"{described['load']:.1f} processes wanted a core in the last minute: others use this machine, "
            "and the figures will be too low"
        )
    with tempfile.TemporaryDirectory(prefix="bottleneck-bench-") as folder:
        scratch = Path(folder)
        material = _material(images, options, scratch / "images", reporter)
        specs, left_out = order.specs(options, backbone, device, scratch)
        for each in left_out:
            reporter.note(each)
        found = Bench(
            machine=described,
            versions=machine.versions(),
            device=device,
            device_why=why,
            images=material.to_json(),
            backbone=_describe(backbone),
            options=order.to_json(options),
            left_out=left_out,
            ceilings=Ceilings(shared=device == "cpu"),
        )
        with _Field(specs, material, options, scratch, reporter) as contest:
            contest.start()
            contest.rounds(found.ceilings)
            contest.compare()
        found.standings = [entrant.standing for entrant in contest.entrants]
        found.device_name = contest.device_name
    found.settle()
    found.seconds = time.monotonic() - began
    return found


def _material(
    images: tuple[str, ...], options: order.Options, folder: Path, reporter: Reporter
) -> Material:
    folder.mkdir()
    if images:
        return of_images(find_images(list(images)), options.n, folder, reporter)
    width, height = options.size
    made = photographs(options.n, options.size, reporter)
    return of_files(made, folder, f"made: photograph-like JPEGs of {width}x{height}")


def _describe(backbone: Backbone) -> dict[str, Any]:
    return {
        "name": backbone.entry.name,
        "weights_sha256": backbone.weights.sha256,
        "weights": backbone.weights.origin,
        "preprocessing": backbone.preprocessing.to_recipe(),
    }


class _Field:
    """All contestants of one bench, and the ceilings, which run between them."""

    def __init__(
        self,
        specs: list[Spec],
        material: Material,
        options: order.Options,
        scratch: Path,
        reporter: Reporter,
    ) -> None:
        self._material = material
        self._options = options
        self._scratch = scratch
        self._reporter = reporter
        self.device_name: str | None = None
        self.entrants = [self._entrant(spec) for spec in specs]
        self._reference = self.entrants[specs.index(order.reference_of(specs))]
        first = specs[0]
        self._ceilings = self._entrant(
            Spec(
                order.CEILINGS,
                "ceilings",
                first.backbone,
                first.weights,
                first.device,
                str(scratch),
            )
        )
        self._decoders: list[str] = []

    def _entrant(self, spec: Spec) -> Entrant:
        name = spec.name.replace(" ", "-").replace(":", "-")
        standing = Standing(name=spec.name, kind=spec.kind)
        return Entrant(
            spec, standing, self._scratch / f"cache-{name}", self._scratch / f"{name}.log"
        )

    def __enter__(self) -> _Field:
        return self

    def __exit__(self, *_: object) -> None:
        for entrant in (*self.entrants, self._ceilings):
            if entrant.process is not None:
                entrant.process.kill()
                entrant.process = None

    def start(self) -> None:
        """Start each once cold and once more, watch its memory, and see how many images it gets."""
        with self._reporter.progress("start", len(self.entrants)) as bar:
            for entrant in self.entrants:
                self._attempt(entrant, partial(self._start, entrant), bar)

    def _start(self, entrant: Entrant) -> None:
        cold = self._folder(COLD_IMAGES)
        if entrant.spec.kind == "ours" and not self._options.quick:
            # Its own cache is empty: it exports, compiles and measures what a first user waits for.
            entrant.standing.first_start_s = self._cold(entrant, cold)
            self._end(entrant)
        entrant.standing.start_s = self._cold(entrant, cold)
        assert entrant.process is not None
        with memory_watched(entrant.process.pid) as peak:
            found = entrant.process.call("run", folder=str(self._folder(WARM_IMAGES)))
        entrant.standing.peak_memory_bytes = peak[0] if peak else None
        speed, limit = found["images"] / found["seconds"], self._options.limit_s
        n = len(self._material)
        entrant.timed_images = min(n, max(LEAST_TIMED, int(speed * limit))) if limit else n

    def rounds(self, ceilings: Ceilings) -> None:
        """Every contestant once, every ceiling once, and all of it again."""
        total = self._options.rounds * (len(self.entrants) + 1)
        with self._reporter.progress("bench", total) as bar:
            for _ in range(self._options.rounds):
                self._attempt(self._ceilings, partial(self._measure_ceilings, ceilings), bar)
                for entrant in self.entrants:
                    self._attempt(entrant, partial(self._run, entrant), bar)
        ceilings.left_out = self._ceilings.facts.get("left_out", {})
        ceilings.error = self._ceilings.standing.error

    def compare(self) -> None:
        """Cosines of all features to those of the reference."""
        if self._reference.features is None:
            return
        reference = np.load(self._reference.features)
        for entrant in self.entrants:
            if entrant.features is not None:
                features = np.load(entrant.features)
                if features.shape[1] != reference.shape[1]:
                    entrant.standing.note += f" {features.shape[1]} values an image"
                    continue
                found = measures.cosines(features, reference)
                entrant.standing.cosine = {
                    "median": float(np.median(found)),
                    "min": float(found.min()),
                    "images": len(found),
                }

    def _folder(self, k: int) -> Path:
        return self._material.folder(min(k, len(self._material)))

    def _run(self, entrant: Entrant) -> None:
        process = self._running(entrant)
        folder = str(self._folder(entrant.timed_images))
        save = None
        if entrant.features is None:
            save = str(self._scratch / f"features-{self.entrants.index(entrant)}.npy")
        found = process.call("run", folder=folder, save=save)
        if save is not None:
            entrant.features = Path(save)
        standing = entrant.standing
        standing.images = found["images"]
        standing.speeds.append(found["images"] / found["seconds"])
        standing.take(found)
        if entrant.spec.kind == "ours":
            alone = process.call("forward", folder=folder, seconds=_CEILING_S)
            standing.forwards.append(alone["images"] / alone["seconds"])

    def _measure_ceilings(self, ceilings: Ceilings) -> None:
        folder = str(self._folder(WARM_IMAGES))
        process = self._running(self._ceilings)
        if not self._decoders:
            self._ceilings.facts = process.call("check", folder=folder)
            self._decoders = self._ceilings.facts["decoders"]
            for decoder in self._decoders:
                process.call("decode", decoder=decoder, folder=folder, seconds=0.0)
        for decoder in self._decoders:
            found = process.call("decode", decoder=decoder, folder=folder, seconds=_CEILING_S)
            ceilings.add_decode(decoder, found["images"] / found["seconds"])
        found = process.call("write", d=2048, seconds=_CEILING_S / 2)
        ceilings.write.append(found["images"] * 2048 * 4 / found["seconds"])
        if not ceilings.shared:
            for precision in ("fp32", "bf16", "fp16"):
                size = self._options.batch_size or 256
                found = process.call(
                    "card_forward", precision=precision, batch_size=size, seconds=_CEILING_S
                )
                ceilings.add_card(precision, found["images"] / found["seconds"])

    def _cold(self, entrant: Entrant, folder: Path) -> float:
        """Seconds from the start of a process to the features of a few images."""
        self._make_room(entrant)
        process = entrant.process = Process(entrant.spec, entrant.cache, entrant.log)
        facts = process.call("prepare")
        process.call("run", folder=str(folder), save=str(self._scratch / "cold.npy"))
        seconds = time.perf_counter() - process.started
        entrant.standing.take(facts)
        self.device_name = facts.get("device_name", self.device_name)
        entrant.asked = time.monotonic()
        return seconds

    def _running(self, entrant: Entrant) -> Process:
        """Its process; where it was ended to make room, a new one that is warm again."""
        if entrant.process is None:
            self._make_room(entrant)
            entrant.process = Process(entrant.spec, entrant.cache, entrant.log)
            entrant.process.call("prepare")
            if entrant.spec.kind != "ceilings":
                entrant.process.call("run", folder=str(self._folder(WARM_IMAGES)))
        entrant.asked = time.monotonic()
        return entrant.process

    def _make_room(self, entrant: Entrant) -> None:
        left = memory_left()
        others = [e for e in self.entrants if e.process is not None and e is not entrant]
        if left is not None and left < _MEMORY_TO_SPARE and others:
            self._end(min(others, key=lambda each: each.asked))

    def _end(self, entrant: Entrant) -> None:
        if entrant.process is not None:
            entrant.process.close()
            entrant.process = None

    def _attempt(self, entrant: Entrant, work: Callable[[], None], bar: Progress) -> None:
        """One step of a contestant that has not failed; where it fails, its row says why."""
        if not entrant.standing.error:
            try:
                work()
            except ContestantError as error:
                entrant.standing.error = error.what
                self._reporter.warn(f"{entrant.spec.name}: {error.what}")
                self._end(entrant)
        bar.advance()
