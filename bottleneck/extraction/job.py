"""One extraction from images to a published file: what is known, what is missing, what comes out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..backbones import registry
from ..backbones.base import Backbone
from ..cache import atomic, lock, shards
from ..cache.features import Features
from ..cache.features import open as open_features
from ..cache.format import Header, write
from ..engines import devices, onnx, select
from ..engines.base import Engine
from ..errors import InputError
from ..images.decode import BadImage
from ..images.payload import key_of, payload
from ..images.preprocess import Preprocessing
from ..images.sample import ImageSet, Sample
from ..recipe import recipe_conflict
from ..reporter import Reporter
from . import pipeline, spotcheck
from .options import RecipeOptions, RunOptions
from .rows import rows_of, same, with_kept
from .stores import Chain, MemoryStore, RowStore, ShardStore, Store

# A tenth may be bad before a whole run is doubted, but ten files always may.
BAD_SHARE = 0.1
BAD_COUNT = 10
_BLOCK = 4096  # rows gathered at a time when a file is written


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of an extraction.

    Attributes
    ----------
    features : Features
    output : pathlib.Path or None
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
    """

    features: Features
    output: Path | None
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
            "quarantined": self.quarantined,
            "ignored": self.ignored,
            "removed": self.removed,
            "features": [int(x) for x in f.features.shape],
            "engine": self.engine,
            "precision": f.recipe["precision"],
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.seen / max(self.seconds, 1e-9), 1),
        }


class TooManyBadError(InputError):
    """More inputs are unusable than a run may pass over; carries the counts for ``--json``."""

    def __init__(self, what: str, *, counts: dict[str, int], **parts: str) -> None:
        super().__init__(what, **parts)
        self.counts = counts


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
            return registry.from_recipe(dict(recorded)).with_preprocessing(**changes)
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
                on_bad=_stop_at_first if self.options.strict else None,
            )
        return outcome, environment


def extract_to_memory(
    images: ImageSet,
    backbone: Backbone,
    options: RunOptions,
    reporter: Reporter,
    *,
    reuse: Features | None = None,
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
    """
    started = time.monotonic()
    memory = MemoryStore(backbone.entry.feature_size)
    stores: list[Store] = [memory]
    environments = []
    if reuse is not None:
        stores.append(RowStore(reuse.keys, reuse.features))
        environments.append(reuse.environment)
    job = Job(images, backbone, options, stores, environments, memory, reporter)
    outcome, environment = job.compute(len(images.samples))
    rows = rows_of(images.samples, outcome)
    features = Features(
        _header(job, environment),
        rows,
        job.known().take([key.tobytes() for key in rows.keys]),
    )
    return _extraction(images, outcome, features, None, started, removed=0, written=False)


def extract_to_file(
    images: ImageSet,
    recipe_options: RecipeOptions,
    options: RunOptions,
    output: Path,
    reporter: Reporter,
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
        existing = open_features(output) if output.exists() else None
        backbone = settle_backbone(
            recipe_options, existing.recipe if existing is not None else None, reporter
        )
        existing = compatible(existing, backbone, images, output, options)
        if existing is not None and options.store is None:
            options = replace(options, store=existing.header.store)
        sealed, resumed = sealed_shards(output, backbone, reporter)
        stores: list[Store] = [sealed]
        environments = sealed.environments()
        if existing is not None and _precise_enough(existing, images, options, reporter):
            stores.append(RowStore(existing.keys, existing.features))
            environments.insert(0, existing.environment)
        n_missing = max(0, len(images.samples) - resumed - (len(existing) if existing else 0))
        atomic.require_space(output.parent, disk_need(n_missing, backbone))
        sink = shards.Shards(parts_folder(output), backbone.fingerprint(), recipe=backbone.recipe())
        job = Job(images, backbone, options, stores, environments, sink, reporter)
        try:
            outcome, environment = job.compute(n_missing)
        finally:
            sink.seal()  # also after Ctrl-C: what is finished is kept
        _judge(outcome, images, options, output)
        # Read back from the disk: what is published is what was sealed.
        job.stores[0] = ShardStore(shards.load(sink.parts_dir, sink.fingerprint)[0])
        published, removed, written = _publish(job, outcome, existing, environment, output)
        sink.discard()
    return _extraction(
        images, outcome, published, output, started, removed, written, resumed=resumed
    )


def sealed_shards(output: Path, backbone: Backbone, reporter: Reporter) -> tuple[ShardStore, int]:
    """What a run that did not end has left for this recipe, and how many features that is."""
    index, notes = shards.load(parts_folder(output), backbone.fingerprint())
    for note in notes:
        reporter.warn(note)
    if index:
        reporter.note(f"resumed: {len(index)} features were kept from a run that did not end")
    return ShardStore(index), len(index)


def parts_folder(output: Path) -> Path:
    """Where the sealed shards of a run lie until it publishes `output`."""
    return output.with_name(output.name + ".parts")


def disk_need(n: int, backbone: Backbone) -> int:
    """Bytes for `n` rows, twice: sealed shards, and the new file beside the old one."""
    return n * (4 * backbone.entry.feature_size + 64) * 2


def compatible(
    existing: Features | None,
    backbone: Backbone,
    images: ImageSet,
    output: Path,
    options: RunOptions,
) -> Features | None:
    """The file to extend; None for a new one. Refuses to mix recipes or collections of images."""
    if existing is None:
        return None
    if existing.fingerprint != backbone.fingerprint():
        if options.force:
            return None
        raise recipe_conflict(existing.recipe, backbone.recipe(), output)
    if existing.root != images.root and len(existing) and not _shares_a_key(existing, images):
        if options.force:
            return None
        raise InputError(
            f"{output} holds features of {existing.root or 'images from memory'}, "
            f"and none of the images of {images.root or 'this list'} is among them",
            expected="a file of these images, or a new name",
            next="give another -o, or --force to replace the file",
        )
    return existing


def _shares_a_key(existing: Features, images: ImageSet) -> bool:
    """Whether any image is in the file; reads images only until the first that is."""
    keys = {key.tobytes() for key in existing.keys}
    for sample in images.samples:
        try:
            if not sample.fault and key_of(payload(sample.source)) in keys:
                return True
        except BadImage:
            continue
    return False


def _precise_enough(
    existing: Features, images: ImageSet, options: RunOptions, reporter: Reporter
) -> bool:
    """Whether stored values may stand in the new file: float16 never passes for float32."""
    if existing.header.store == "float16" and options.store == "float32":
        there = {sample.path for sample in images.samples}
        gone = sum(path not in there for path in existing.paths) if options.add else 0
        if gone:
            raise InputError(
                f"{existing.file} holds float16, and {gone} of its rows have no image here to "
                "compute them again from",
                expected="float16, or all images of the file",
                where="--store float32 with --add",
                next="leave one of the two away, or give another -o",
            )
        reporter.warn("the file holds float16: for float32 every feature is computed again")
        return False
    return True


def _stop_at_first(sample: Sample, reason: str) -> None:
    raise InputError(
        f"{sample.path}: {reason}",
        where="--strict",
        next="mend or remove the file, or leave --strict away to quarantine it",
    )


def _judge(outcome: pipeline.Outcome, images: ImageSet, options: RunOptions, output: Path) -> None:
    """Refuse to publish where so much is unusable that something else must be wrong."""
    bad, seen = len(outcome.reasons), len(images.samples)
    counts = {
        "seen": seen,
        "computed": outcome.computed,
        "reused": outcome.reused,
        "quarantined": bad,
        "ignored": images.ignored,
    }
    examples = "; ".join(
        f"{images.samples[i].path}: {reason}" for i, reason in list(outcome.reasons.items())[:3]
    )
    if bad == seen:
        raise TooManyBadError(
            f"none of the {seen} images can be used: {examples}",
            expected="at least one image that can be decoded",
            where=images.root,
            next="check the folder; a table may need --root",
            counts=counts,
        )
    if options.allow_bad:
        return
    limit = options.allow_bad_rate
    if limit is not None and bad / seen > limit:
        raise TooManyBadError(
            f"{bad} of {seen} images cannot be used: {examples}",
            expected=f"at most {limit:.1%}",
            where="--allow-bad-rate",
            next="mend the files, or raise the rate; what was computed is kept",
            counts=counts,
        )
    if limit is None and bad > BAD_COUNT and bad > BAD_SHARE * seen:
        missing = all(reason == "no such file" for reason in outcome.reasons.values())
        hint = "wrong --root? otherwise " if missing else ""
        raise TooManyBadError(
            f"{bad} of {seen} images cannot be used: {examples}",
            expected=f"at most {BAD_SHARE:.0%}, or {BAD_COUNT} images",
            where=str(output),
            next=f"{hint}give --allow-bad to publish the others; what was computed is kept",
            counts=counts,
        )


def _header(job: Job, environment: dict[str, Any]) -> Header:
    return Header(
        recipe=job.backbone.recipe(),
        environment=environment,
        fingerprint=job.backbone.fingerprint(),
        root=paths.escape(job.images.root),
        store=job.options.store or "float32",
    )


def _publish(
    job: Job,
    outcome: pipeline.Outcome,
    existing: Features | None,
    environment: dict[str, Any],
    output: Path,
) -> tuple[Features, int, bool]:
    """Write the file unless it is the same already; also how many of its paths are gone."""
    rows = rows_of(job.images.samples, outcome)
    header = _header(job, environment)
    removed = 0
    if existing is not None:
        seen = {sample.path for sample in job.images.samples}
        if job.options.add:
            rows = with_kept(rows, existing.rows, seen)
        else:
            removed = sum(path not in seen for path in existing.paths)
        if (
            outcome.computed == 0
            and _same_header(existing.header, header)
            and same(rows, existing.rows)
        ):
            return existing, removed, False
    write(output, header, rows, _blocks(job.known(), rows.keys))
    return open_features(output), removed, True


def _same_header(a: Header, b: Header) -> bool:
    """Whether two headers say the same; who wrote them and what with does not count."""
    return (a.recipe, a.root, a.store) == (b.recipe, b.root, b.store)


def _blocks(store: Store, keys: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(keys), _BLOCK):
        yield store.take([key.tobytes() for key in keys[start : start + _BLOCK]])


def _extraction(
    images: ImageSet,
    outcome: pipeline.Outcome,
    features: Features,
    output: Path | None,
    started: float,
    removed: int,
    written: bool,
    resumed: int = 0,
) -> Extraction:
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
    )
