"""One backbone on its way through the images: what is known of it, its engines, its environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..backbones.base import Backbone
from ..cache import shards
from ..engines import select
from ..engines.base import Engine, OutOfMemoryError
from ..images.preprocess import Preprocessing
from ..images.sample import Sample
from ..reporter import Reporter
from . import pipeline, scaled, spotcheck
from .comparable import Held
from .options import RunOptions
from .stores import Chain, Store

# Fewer images than this say little about a speed.
_TIMED = 32
# What Pillow calls the libraries that decide the pixels of lossy formats. Its wheels bring their own;
# the packages of conda and of Linux distributions use the system's, which change on their own.
_CODECS = {
    "libjpeg-turbo": "libjpeg_turbo",
    "openjpeg": "jpg_2000",
    "libwebp": "webp",
    "libavif": "avif",
}


def environment_of(choice: select.Choice, backbone: Backbone) -> dict[str, Any]:
    """Engine, device, batch size and library versions, without starting the engine.

    The versions are of everything that decodes, resamples or computes.
    """
    libraries = ["pillow", "pillow-heif", "simplejpeg", "numba", "numpy"]
    if choice.engine in ("eager", "compile"):
        # torchvision comes along with timm, and the other way round, in every file made so far.
        libraries += ["torch", "torchvision", "timm"]
        libraries += [name for name in backbone.entry.libraries if name not in libraries]
    versions = {}
    for name in libraries:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    versions |= _codecs()
    versions |= select.versions_of(choice.engine)
    return {
        "engine": choice.label,
        "device": choice.device,
        "batch_size": choice.batch_size,
        "versions": versions,
    }


def _codecs() -> dict[str, str]:
    """Versions of the lossy decoders inside of Pillow, which a system may replace under it."""
    from PIL import features

    found = {name: features.version(feature) for name, feature in _CODECS.items()}
    return {name: str(known) for name, known in found.items() if known}


class Lane:
    """One backbone over one set of images, and where the features are looked up and put.

    Parameters
    ----------
    backbone : Backbone
    options : RunOptions
    samples : sequence of Sample
    stores : sequence of list of Store
        For each output those whose features need not be computed.
    sizes : sequence of int
        Length of the vector of each output.
    environments : sequence of dict
        Those the stored features were made in.
    sinks : sequence of Sink
        Take the new ones, one for each output.
    n_missing : int
        An upper bound, by which `auto` decides whether an export pays.
    reporter : Reporter
    held : Held, optional
        The file whose features are in `stores`.
    """

    def __init__(
        self,
        backbone: Backbone,
        options: RunOptions,
        samples: Sequence[Sample],
        stores: Sequence[list[Store]],
        sizes: Sequence[int],
        environments: Sequence[dict[str, Any]],
        sinks: Sequence[pipeline.Sink],
        n_missing: int,
        reporter: Reporter,
        held: Held | None = None,
    ) -> None:
        self.backbone = backbone
        self.sinks = list(sinks)
        self.stores = [list(each) for each in stores]
        self._sizes = [backbone.preprocessing.views * size for size in sizes]
        self.known = self.chains()
        self._options = options
        self._samples = samples
        self._recorded = list(environments)
        self._n_missing = n_missing
        self._reporter = reporter
        self._held = held
        # Where nothing is computed: of several, the one that knows of the others.
        nothing: dict[str, Any] = {}
        knowing = max(environments, key=lambda e: len(e.get("earlier", ())), default=nothing)
        self.environment = dict(knowing)
        self._told: set[str] = set()
        self._checked = False
        self._choices: dict[tuple[int, ...], select.Choice] = {}
        self._fitting: int | None = None  # the batch size after one did not fit

    def chains(self) -> list[Chain]:
        """For each output all features that are in its stores now."""
        return [Chain(each, size) for each, size in zip(self.stores, self._sizes, strict=True)]

    @property
    def preprocessing(self) -> Preprocessing:
        """What its images go through."""
        return self.backbone.preprocessing

    def missing(self, key: bytes) -> tuple[int, ...]:
        """Outputs, by their index, without a feature for this key."""
        return tuple(i for i, known in enumerate(self.known) if key not in known)

    def start(self, outputs: tuple[int, ...]) -> Engine:
        """An engine for these outputs, after it has been seen to agree with what is stored."""
        engine, environment = self._engine(outputs)
        while not self._checked:
            try:
                self._check(engine, outputs, environment)
                break
            except OutOfMemoryError:
                if engine.batch_size == 1:
                    raise
            engine = self.smaller(outputs, engine)
            environment = environment_of(self._choices[outputs], self.backbone)
        return engine

    def _check(self, engine: Engine, outputs: tuple[int, ...], environment: dict[str, Any]) -> None:
        """See that an engine agrees with what is stored, and make its environment the lane's."""
        earlier = spotcheck.earlier_environments(environment, self._recorded)
        checked = dict(environment)
        if earlier:
            checked["earlier"] = earlier
            found = self._gap(engine, outputs, environment, earlier[0])
            checked["parity_gap"] = found and found[0]
            if found is not None:
                self._reporter.note(
                    f"{self.backbone.entry.name}: environment changed "
                    f"({spotcheck.describe_change(earlier[0], environment)}); {found[1]} stored "
                    f"features, computed again, agree within {found[0]:.1g}"
                )
        if "speed" in self.environment:
            checked["speed"] = self.environment["speed"]
        self.environment = checked
        for sink in self.sinks:
            if isinstance(sink, shards.Shards):
                sink.environment = dict(self.environment)
        scaled.tell_gap(engine, self._samples, self.preprocessing, self._reporter)
        self._checked = True

    def _engine(self, outputs: tuple[int, ...]) -> tuple[Engine, dict[str, Any]]:
        cut = self.backbone.with_outputs(tuple(self.backbone.outputs[i] for i in outputs))
        choice = select.choose(
            cut,
            engine=self._options.engine,
            device=self._options.device,
            batch_size=self._options.batch_size,
            n_missing=self._n_missing,
            recorded=self._recorded[0] if self._recorded else None,
        )
        if choice.reason not in self._told:
            self._told.add(choice.reason)
            self._reporter.note(f"{self.backbone.entry.name}: {choice.reason}")
        if self._fitting is not None and self._fitting < choice.batch_size:
            choice = replace(choice, batch_size=self._fitting, open_batch=False)
        engine, choice = self._started(choice, cut)
        self._choices[outputs] = choice
        return engine, environment_of(choice, self.backbone)

    def _started(self, choice: select.Choice, cut: Backbone) -> tuple[Engine, select.Choice]:
        """An engine, for fewer images where it runs out of memory while it is built."""
        while True:
            try:
                return select.start(choice, cut, self._reporter)
            except OutOfMemoryError:
                if choice.batch_size == 1:
                    raise
            choice = self._halved(choice, choice.batch_size)

    def _halved(self, choice: select.Choice, batch_size: int) -> select.Choice:
        """The choice for half of a batch that did not fit; told."""
        self._fitting = batch_size // 2
        self._reporter.warn(
            f"{self.backbone.entry.name}: {batch_size} images do not fit into the memory of "
            f"{choice.device}; going on with batches of {self._fitting}"
        )
        # Rows from here on are those of another batch shape: the environment names the last one.
        self.environment["batch_size"] = self._fitting
        for sink in self.sinks:
            if isinstance(sink, shards.Shards):
                sink.environment = dict(self.environment)
        return replace(choice, batch_size=self._fitting, open_batch=False)

    def smaller(self, outputs: tuple[int, ...], engine: Engine) -> Engine:
        """The same engine for half the images, after its batch did not fit into the memory; told.

        Parameters
        ----------
        outputs : tuple of int
            What it was started for.
        engine : Engine
            The one that failed.
        """
        choice = self._halved(self._choices[outputs], engine.batch_size)
        cut = self.backbone.with_outputs(tuple(self.backbone.outputs[i] for i in outputs))
        engine, choice = self._started(choice, cut)
        self._choices[outputs] = choice
        return engine

    def _gap(
        self,
        engine: Engine,
        outputs: tuple[int, ...],
        environment: dict[str, Any],
        earlier: dict[str, Any],
    ) -> tuple[float, int] | None:
        """How far stored features of one output lie from what this environment gives."""
        stored = [i for i, each in enumerate(self.stores) if any(map(_holds, each))]
        if not stored:
            return None
        shared = [i for i in stored if i in outputs]
        output = (shared or stored)[0]
        if not shared:
            # Only a further layer is missing: what is stored is of layers that this engine lacks.
            engine, _ = self._engine((output,))
            outputs = (output,)
        return spotcheck.gap(
            engine,
            outputs.index(output),
            environment,
            earlier,
            self._samples,
            self.known[output],
            self.backbone,
            self._held,
        )

    def note_speed(self, outcome: pipeline.Outcome) -> None:
        """Keep what the network alone does in a second, for who compares backbones."""
        rate = outcome.images_per_second
        if rate is None or (outcome.computed < _TIMED and "speed" in self.environment):
            return
        self.environment["speed"] = {"images_per_second": float(f"{rate:.3g}")}


def _holds(store: Store) -> bool:
    return len(store) > 0
