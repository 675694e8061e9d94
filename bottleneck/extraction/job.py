"""One extraction from images to a published file: what is known, what is missing, what comes out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..backbones import registry
from ..backbones.base import Backbone
from ..cache import atomic, lock, shards
from ..cache.features import Features
from ..engines import devices, onnx, select
from ..engines.base import Engine
from ..images.preprocess import Preprocessing
from ..images.sample import ImageSet
from ..reporter import Reporter
from . import pipeline, spotcheck
from .judge import judge, stop_at_first
from .options import RecipeOptions, RunOptions
from .publish import header_of, publish
from .result import Extraction, result_of
from .rows import rows_of
from .stores import Chain, MemoryStore, RowStore, ShardStore, Store
from .target import (
    compatible,
    disk_need,
    open_target,
    parts_folder,
    precise_enough,
    refuse_to_lose,
    sealed_shards,
)


def settle_backbone(
    options: RecipeOptions, recorded: Mapping[str, Any] | None, reporter: Reporter
) -> Backbone:
    """The backbone of this run: what was stated, else the file's own, else the default.

    Parameters
    ----------
    options : RecipeOptions
    recorded : mapping or None
        The recipe of the file that is extended.
    reporter : Reporter
    """
    changes = options.preprocessing_changes()
    if recorded is not None and options.backbone in (None, recorded["backbone"]):
        if options.weights is None:
            return registry.from_recipe(dict(recorded), lazy=True).with_preprocessing(**changes)
        theirs = Preprocessing.from_recipe(recorded["preprocessing"])
        changes = {f.name: getattr(theirs, f.name) for f in fields(theirs)} | changes
    return registry.resolve(
        options.backbone or registry.DEFAULT,
        weights=options.weights,
        changes=changes,
        reporter=reporter,
    )


def environment_of(choice: select.Choice) -> dict[str, Any]:
    """Engine, device, batch size and library versions, without starting the engine."""
    libraries = ["pillow", "numpy"]
    libraries += ["torch", "torchvision", "timm"] if choice.engine == "eager" else []
    versions = {name: version(name) for name in libraries}
    if choice.engine == "onnx":
        versions |= onnx.installed_packages()
    return {
        "engine": choice.label,
        "device": choice.device,
        "batch_size": choice.batch_size,
        "versions": versions,
    }


@dataclass(slots=True)
class Job:
    """One backbone over one set of images, and where the features are looked up and put.

    Attributes
    ----------
    images : ImageSet
    backbone : Backbone
    options : RunOptions
    stores : list of Store
        Features that need not be computed.
    environments : list of dict
        Those the stored features were made in.
    sink : Sink
        Takes the new ones.
    reporter : Reporter
    """

    images: ImageSet
    backbone: Backbone
    options: RunOptions
    stores: list[Store]
    environments: list[dict[str, Any]]
    sink: pipeline.Sink
    reporter: Reporter

    def known(self) -> Chain:
        """All features that are there, new ones included once they are in the sink."""
        return Chain(self.stores, self.backbone.entry.feature_size)

    def compute(self, n_missing: int) -> tuple[pipeline.Outcome, dict[str, Any]]:
        """Run the images; returns how each ended, and the environment of the file.

        Parameters
        ----------
        n_missing : int
            An upper bound, by which `auto` decides whether an export pays.
        """
        known = self.known()
        recorded = self.environments[0] if self.environments else None
        engine: list[Engine] = []
        # Where nothing is computed: of several, the one that knows of the others.
        knowing = max(self.environments, key=lambda e: len(e.get("earlier", ())), default={})
        environment = dict(knowing)

        def start() -> Engine:
            choice = select.choose(
                self.backbone,
                engine=self.options.engine,
                device=self.options.device,
                batch_size=self.options.batch_size,
                n_missing=n_missing,
                recorded=recorded,
            )
            self.reporter.note(choice.reason)
            engine.append(select.start(choice, self.backbone, self.reporter))
            environment.clear()
            environment.update(
                spotcheck.agree(
                    engine[0],
                    environment_of(choice),
                    self.environments,
                    self.images.samples,
                    known,
                    self.backbone,
                )
            )
            if isinstance(self.sink, shards.Shards):
                self.sink.environment = dict(environment)
            return engine[0]

        workers = self.options.workers or devices.cores()
        batch = self.options.batch_size or select.BATCH_SIZE["cpu"]
        with self.reporter.progress("extract", len(self.images.samples)) as bar:
            outcome = pipeline.run(
                self.images.samples,
                preprocessing=self.backbone.preprocessing,
                known=known,
                sink=self.sink,
                start_engine=start,
                workers=workers,
                window=2 * batch + workers,
                progress=bar,
                on_bad=stop_at_first if self.options.strict else None,
            )
        return outcome, environment


def extract_to_memory(
    images: ImageSet,
    backbone: Backbone,
    options: RunOptions,
    reporter: Reporter,
    *,
    reuse: Features | None = None,
    judged: bool = False,
) -> Extraction:
    """Features of all images that can be used, kept in memory.

    Parameters
    ----------
    images : ImageSet
    backbone : Backbone
    options : RunOptions
    reporter : Reporter
    reuse : Features, optional
        Of the same recipe: what it holds is not computed again.
    judged : bool, default False
        Refuse to go on where too many images cannot be used, as for a file.
    """
    started = time.monotonic()
    memory = MemoryStore(backbone.entry.feature_size)
    stores: list[Store] = [memory]
    environments = []
    if reuse is not None:
        stores.append(RowStore(reuse.keys, reuse.features))
        environments.append(reuse.environment)
    job = Job(images, backbone, options, stores, environments, memory, reporter)
    try:
        outcome, environment = job.compute(len(images.samples))
    except pipeline.Interrupted:
        raise KeyboardInterrupt(
            "interrupted; features in memory are lost (`bottleneck extract` keeps them in a file)"
        ) from None
    if judged:
        judge(outcome, images, options)
    rows = rows_of(images.samples, outcome)
    features = Features(
        header_of(images, backbone, environment, options),
        rows,
        job.known().take([key.tobytes() for key in rows.keys]),
    )
    return result_of(images, outcome, features, None, started, removed=0, written=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Where an extraction into a file begins; the same for a run and for ``--dry-run``.

    Attributes
    ----------
    existing : Features or None
        The file as it is, if it is one to go on with.
    backbone : Backbone
    options : RunOptions
        With the file's own `store` where none was stated.
    stores : list of Store
        Features that need not be computed; the first are sealed shards.
    environments : list of dict
        Those the stored features were made in.
    resumed : int
        Features that a run that did not end has left.
    """

    existing: Features | None
    backbone: Backbone
    options: RunOptions
    stores: list[Store]
    environments: list[dict[str, Any]]
    resumed: int


def start_of(
    images: ImageSet,
    recipe_options: RecipeOptions,
    options: RunOptions,
    output: Path,
    reporter: Reporter,
    *,
    by_default: bool,
) -> Start:
    """Look at the file and at what was left beside it; refuse what must not be mixed or lost.

    Parameters and errors are those of `extract_to_file`; nothing is written.
    """
    existing = open_target(output, recipe_options, options)
    recorded = existing.recipe if existing is not None else None
    backbone = settle_backbone(recipe_options, recorded, reporter)
    existing = compatible(existing, backbone, images, output, options)
    sealed, resumed = sealed_shards(output, backbone, reporter)
    stores: list[Store] = [sealed]
    environments = sealed.environments()
    if existing is not None:
        refuse_to_lose(existing, images, options, by_default=by_default)
        options = replace(options, store=options.store or existing.header.store)
        if precise_enough(existing, images, options, reporter):
            stores.append(RowStore(existing.keys, existing.features))
            environments.insert(0, existing.environment)
    return Start(existing, backbone, options, stores, environments, resumed)


def _seal(sink: shards.Shards) -> None:
    """Seal what is finished; a Ctrl-C in the middle of it waits until that is done."""
    try:
        sink.seal()
    except KeyboardInterrupt:
        sink.seal()
        raise


def extract_to_file(
    images: ImageSet,
    recipe_options: RecipeOptions,
    options: RunOptions,
    output: Path,
    reporter: Reporter,
    *,
    by_default: bool = False,
) -> Extraction:
    """Bring a feature file up to date with the images: compute what is missing, publish.

    Parameters
    ----------
    images : ImageSet
    recipe_options : RecipeOptions
    options : RunOptions
    output : pathlib.Path
        A file that is made, or extended; it mirrors the images afterwards.
    reporter : Reporter
    by_default : bool, default False
        The user did not name `output`: then rows of images that are still there are not dropped.

    Returns
    -------
    Extraction

    Raises
    ------
    RecipeError
        If the file's features were made in another way.
    InputError
        If too many inputs are unusable, or the file belongs to other images.
    CacheError
        If the file cannot be read or written.
    Interrupted
        On Ctrl-C, after the finished features were sealed.
    """
    started = time.monotonic()
    with lock.writing(output, waiting=reporter.note):
        start = start_of(images, recipe_options, options, output, reporter, by_default=by_default)
        backbone, existing, options = start.backbone, start.existing, start.options
        n_missing = max(0, len(images.samples) - start.resumed - len(existing or ()))
        atomic.require_space(output.parent, disk_need(n_missing, backbone))
        sink = shards.Shards(parts_folder(output), backbone.fingerprint(), recipe=backbone.recipe())
        job = Job(images, backbone, options, start.stores, start.environments, sink, reporter)
        try:
            outcome, environment = job.compute(n_missing)
        finally:
            _seal(sink)  # also after Ctrl-C: what is finished is kept
        judge(outcome, images, options, output)
        # Read back from the disk: what is published is what was sealed.
        job.stores[0] = ShardStore(shards.load(sink.parts_dir, sink.fingerprint)[0])
        try:
            published, removed, written = publish(
                images,
                outcome,
                header_of(images, backbone, environment, options),
                job.known(),
                output,
                existing=existing,
                add=options.add,
            )
        except KeyboardInterrupt:
            total = len(images.samples)
            raise pipeline.Interrupted(total, total) from None
        sink.discard()
    return result_of(
        images, outcome, published, output, started, removed, written, resumed=start.resumed
    )
