"""From images to features in memory or in published files: what is known, what is missing, what comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backbones import nodes
from ..backbones.base import Backbone
from ..cache import atomic, lock, sealed, shards
from ..cache.features import Features
from ..engines import devices, select
from ..errors import InputError
from ..images.sample import ImageSet
from ..reporter import Reporter
from . import pipeline
from .judge import judge, stop_at_first
from .lane import Lane
from .notices import tell_framing
from .options import RecipeOptions, RunOptions
from .preview import write_preview
from .publish import header_of, publish
from .result import Extraction, result_of
from .rows import rows_of
from .settle import settle_backbone, settle_outputs, warn_if_enormous, warn_of_a_frame
from .stores import MemoryStore, RowStore, ShardStore, Store
from .target import (
    compatible,
    disk_need,
    open_target,
    parts_folder,
    precise_enough,
    refuse_to_lose,
    refuse_unfillable,
    sealed_shards,
)


def compute(
    images: ImageSet, lanes: Sequence[Lane], options: RunOptions, reporter: Reporter
) -> list[pipeline.Outcome]:
    """Run the images through all lanes; how each ended in each."""
    workers = options.workers or devices.cores()
    batch = options.batch_size or select.BATCH_SIZE["cpu"]
    with reporter.progress("extract", len(images.samples)) as bar:
        outcomes = pipeline.run(
            images.samples,
            lanes=lanes,
            workers=workers,
            window=2 * batch + workers,
            progress=bar,
            on_bad=stop_at_first if options.strict else None,
        )
    for lane, outcome in zip(lanes, outcomes, strict=True):
        lane.note_speed(outcome)
        tell_framing(lane.backbone, outcome, reporter)
    return outcomes


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
    if options.preview is not None:
        write_preview(images, backbone, options.preview, reporter)
    sizes = nodes.sizes_of(backbone)
    views = backbone.preprocessing.views
    memory = [MemoryStore(views * size) for size in sizes]
    stores: list[list[Store]] = [[each] for each in memory]
    environments = []
    if reuse is not None:
        stores[0].append(RowStore(reuse.keys, reuse.features, views))
        environments.append(reuse.environment)
    lane = Lane(
        backbone,
        options,
        images.samples,
        stores,
        sizes,
        environments,
        memory,
        len(images.samples),
        reporter,
    )
    try:
        (outcome,) = compute(images, [lane], options, reporter)
    except pipeline.Interrupted:
        raise KeyboardInterrupt(
            "interrupted; features in memory are lost (`bottleneck extract` keeps them in a file)"
        ) from None
    if judged:
        judge(outcome, images, options)
    rows = rows_of(images.samples, outcome, views)
    keys = [key.tobytes() for key in rows.keys[::views]]
    arrays = [known.take(keys).reshape(len(rows), -1) for known in lane.known]
    features = Features(
        header_of(images, backbone, lane.environment, options),
        rows,
        arrays[0],
        layers={
            output.id: array for output, array in zip(backbone.outputs[1:], arrays[1:], strict=True)
        },
    )
    return result_of(images, outcome, features, None, started, removed=0, written=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Where an extraction into a file begins; the same for a run and for ``--dry-run``.

    Attributes
    ----------
    output : pathlib.Path
    existing : Features or None
        The file as it is, if it is one to go on with.
    backbone : Backbone
    options : RunOptions
        With the file's own `store` where none was stated.
    sizes : list of int
        Length of the vector of each output.
    stores : list of list of Store
        For each output the features that need not be computed; the first are sealed shards.
    environments : list of dict
        Those the stored features were made in.
    resumed : int
        Features that a run that did not end has left.
    n_missing : int
        Images to compute at the most, by their number.
    """

    output: Path
    existing: Features | None
    backbone: Backbone
    options: RunOptions
    sizes: list[int]
    stores: list[list[Store]]
    environments: list[dict[str, Any]]
    resumed: int
    n_missing: int

    def lane(self, images: ImageSet, sinks: Sequence[pipeline.Sink], reporter: Reporter) -> Lane:
        """The backbone, ready to take the images."""
        return Lane(
            self.backbone,
            self.options,
            images.samples,
            self.stores,
            self.sizes,
            self.environments,
            sinks,
            self.n_missing,
            reporter,
        )

    def disk_need(self) -> int:
        """Bytes while it runs, at the most."""
        return disk_need(self.n_missing, self.sizes, self.backbone.preprocessing.views)


def start_of(
    images: ImageSet,
    recipe_options: RecipeOptions,
    options: RunOptions,
    output: Path,
    reporter: Reporter,
    *,
    by_default: bool,
    fetch: bool = True,
) -> Start:
    """Look at the file and at what was left beside it; refuse what must not be mixed or lost.

    Parameters and errors are those of `extract_to_files`; nothing is written, and without `fetch`
    no weights are downloaded.
    """
    existing = open_target(output, recipe_options, options)
    recorded = existing.recipe if existing is not None else None
    backbone = settle_backbone(recipe_options, recorded, reporter, fetch=fetch)
    existing = compatible(existing, backbone, images, output, options)
    present = backbone.outputs if existing is not None else ()
    # A file that is replaced (--force) keeps its layers, unless others are stated.
    kept = present if recipe_options.layer else backbone.outputs
    backbone = settle_outputs(backbone, recipe_options, kept)
    new = [each for each in backbone.outputs if each not in present]
    views = backbone.preprocessing.views
    finished, resumed = sealed_shards(output, backbone, reporter)
    stores: list[list[Store]] = [[each] for each in finished]
    environments = [each for store in finished for each in store.environments()]
    if existing is not None:
        refuse_to_lose(existing, images, options, by_default=by_default)
        refuse_unfillable(existing, new, images, options)
        options = replace(options, store=options.store or existing.header.store)
        if precise_enough(existing, images, options, reporter):
            arrays = [existing.features, *existing.layers.values()]
            for i, array in enumerate(arrays):
                stores[i].append(RowStore(existing.keys, array, views))
            environments.insert(0, existing.environment)
    if existing is None:
        warn_of_a_frame(backbone, reporter)
    sizes = _sizes(backbone, existing)
    warn_if_enormous(backbone, sizes, new, len(images.samples), options.store, reporter)
    done = 0 if new or existing is None else len(existing) // views
    return Start(
        output=output,
        existing=existing,
        backbone=backbone,
        options=options,
        sizes=sizes,
        stores=stores,
        environments=environments,
        resumed=resumed,
        n_missing=max(0, len(images.samples) - resumed - done),
    )


def _sizes(backbone: Backbone, existing: Features | None) -> list[int]:
    """Length of each vector; where a file has them all, the network need not be asked."""
    if existing is not None and len(existing.layers) + 1 == len(backbone.outputs):
        return [int(array.shape[1]) for array in (existing.features, *existing.layers.values())]
    return nodes.sizes_of(backbone)


@dataclass(frozen=True, slots=True)
class Order:
    """One file to bring up to date: how its features are made, and where it is.

    Attributes
    ----------
    recipe : RecipeOptions
    output : pathlib.Path
    by_default : bool
        The user did not name `output`: then rows of images that are still there are not dropped.
    """

    recipe: RecipeOptions
    output: Path
    by_default: bool = False


def extract_to_files(
    images: ImageSet, orders: Sequence[Order], options: RunOptions, reporter: Reporter
) -> list[Extraction]:
    """Bring feature files up to date with the images: compute what is missing, publish.

    Each image is read and decoded once, whatever the number of backbones.

    Parameters
    ----------
    images : ImageSet
    orders : sequence of Order
        One for each backbone; each file mirrors the images afterwards.
    options : RunOptions
    reporter : Reporter

    Returns
    -------
    list of Extraction
        In the order of the orders.

    Raises
    ------
    RecipeError
        If a file's features were made in another way.
    InputError
        If too many inputs are unusable, or a file belongs to other images.
    CacheError
        If a file cannot be read or written.
    Interrupted
        On Ctrl-C, after the finished features were sealed.
    """
    started = time.monotonic()
    _require_distinct([order.output for order in orders])
    with contextlib.ExitStack() as locks:
        # In one order for all programs: two that want the same two files never wait for each other.
        for output in sorted(order.output.absolute() for order in orders):
            locks.enter_context(lock.writing(output, waiting=reporter.note))
        starts = [
            start_of(
                images, order.recipe, options, order.output, reporter, by_default=order.by_default
            )
            for order in orders
        ]
        for start, place in zip(starts, preview_paths(options, starts), strict=True):
            if place is not None:
                write_preview(images, start.backbone, place, reporter)
            atomic.require_space(start.output.parent, start.disk_need())
        sinks = [_shards(start) for start in starts]
        lanes = [
            start.lane(images, own, reporter) for start, own in zip(starts, sinks, strict=True)
        ]
        try:
            outcomes = compute(images, lanes, options, reporter)
        finally:
            # Also after Ctrl-C: what is finished is kept.
            _seal([sink for own in sinks for sink in own])
        return [
            _published(images, start, lane, outcome, own, started)
            for start, lane, outcome, own in zip(starts, lanes, outcomes, sinks, strict=True)
        ]


def preview_paths(options: RunOptions, starts: Sequence[Start]) -> list[Path | None]:
    """Where each backbone's preview goes: into the file that was named, or into one for each."""
    if options.preview is None:
        return [None] * len(starts)
    path = Path(options.preview)
    if len(starts) == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{start.backbone.entry.label}") for start in starts]


def _require_distinct(outputs: Sequence[Path]) -> None:
    if len({output.absolute() for output in outputs}) < len(outputs):
        raise InputError(
            "two backbones would write one file",
            expected="a file for each",
            where="--backbone",
            next="give each backbone once",
        )


def _shards(start: Start) -> list[shards.Shards]:
    backbone = start.backbone
    return [
        shards.Shards(
            parts_folder(start.output), backbone.fingerprint(output), recipe=backbone.recipe()
        )
        for output in backbone.outputs
    ]


def _seal(sinks: Sequence[shards.Shards]) -> None:
    """Seal what is finished; a Ctrl-C in the middle of it waits until that is done."""
    try:
        for sink in sinks:
            sink.seal()
    except KeyboardInterrupt:
        for sink in sinks:
            sink.seal()
        raise


def _published(
    images: ImageSet,
    start: Start,
    lane: Lane,
    outcome: pipeline.Outcome,
    sinks: Sequence[shards.Shards],
    started: float,
) -> Extraction:
    judge(outcome, images, start.options, start.output)
    # Read back from the disk: what is published is what was sealed.
    fingerprints = [sink.fingerprint for sink in sinks]
    finished, _ = sealed.load_all(parts_folder(start.output), fingerprints)
    for stores, each in zip(lane.stores, fingerprints, strict=True):
        stores[0] = ShardStore(finished[each])
    try:
        published, removed, written = publish(
            images,
            outcome,
            header_of(images, start.backbone, lane.environment, start.options),
            start.backbone,
            lane.chains(),
            start.output,
            existing=start.existing,
            add=start.options.add,
        )
    except KeyboardInterrupt:
        total = len(images.samples)
        raise pipeline.Interrupted(total, total) from None
    sealed.discard_all(parts_folder(start.output), fingerprints)
    return result_of(
        images,
        outcome,
        published,
        start.output,
        started,
        removed,
        written,
        resumed=start.resumed,
    )
