"""From images to features in memory or in published files: what is known, what is missing, what comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backbones import nodes
from ..backbones.base import Backbone
from ..cache import atomic, lock, media, orphans, sealed, shards
from ..cache.features import Features
from ..cache.remote_storage import RemoteStorage
from ..cache.storage import Storage
from ..engines import devices
from ..errors import CacheError, InputError
from ..images.part import seen_of
from ..images.sample import ImageSet, Sample
from ..reporter import Reporter
from . import conditions, pipeline
from .alone import guarded
from .comparable import Held
from .hashes import Hashes
from .judge import judge, stop_at_first
from .lane import Lane
from .notices import tell_framing
from .options import RecipeOptions, RunOptions
from .preview import write_preview
from .publish import header_of, publish
from .record import Record, clock_of
from .remember import Recalled
from .result import Extraction, result_of
from .rows import rows_of
from .start import Start, recall_for, start_of
from .stores import MemoryStore, RowStore, ShardStore, Store
from .target import parts_folder

# Bytes of disk: of less nobody needs to hear before a run, as long as they are there.
_WORTH_TELLING = 100_000_000


def compute(
    images: ImageSet,
    lanes: Sequence[Lane],
    options: RunOptions,
    reporter: Reporter,
    recalled: Recalled | None = None,
) -> list[pipeline.Outcome]:
    """Run the images through all lanes; how each ended in each."""
    workers = options.workers or devices.cores()

    def stop(sample: Sample, reason: str) -> None:
        stop_at_first(sample, reason, {"seen": len(images.samples), "ignored": images.ignored})

    with reporter.progress("extract", len(images.samples)) as bar:
        outcomes = pipeline.run(
            images.samples,
            lanes=lanes,
            workers=workers,
            progress=bar,
            on_bad=stop if options.strict else None,
            remembered=recalled,
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
        stores[0].append(RowStore(reuse.keys, reuse.features, views, reuse.phash))
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
        None if reuse is None else Held(reuse),
    )
    try:
        with conditions.under(options.limits):
            (outcome,) = compute(images, [lane], options, reporter)
    except pipeline.Interrupted:
        raise KeyboardInterrupt(
            "interrupted; features in memory are lost (`bottleneck extract` keeps them in a file)"
        ) from None
    if judged:
        judge(outcome, images, options)
    rows = rows_of(images.samples, outcome, views)
    arrays = [known.take(rows.keys[::views]).reshape(len(rows), -1) for known in lane.known]
    found = Hashes(lane.known, reporter, "features in memory").of(rows.keys[::views])
    rows.phash = None if found is None else np.repeat(found, views)
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
class Order:
    """One file to bring up to date: how its features are made, and where it is.

    Attributes
    ----------
    recipe : RecipeOptions
    output : pathlib.Path
    by_default : bool
        The user did not name `output`: then rows of images that are still there are not dropped.
    place : Storage or None
        Where the output is a directory of shards; None for a file. `output` is beside what the run
        keeps for itself, its lock and its parts.
    """

    recipe: RecipeOptions
    output: Path
    by_default: bool = False
    place: Storage | None = None


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
        clock = clock_of(
            [
                locks.enter_context(lock.writing(output, waiting=reporter.warn))
                for output in sorted(order.output.absolute() for order in orders)
            ]
        )
        for order in orders:
            if isinstance(order.place, RemoteStorage):
                order.place.require_writable()
            orphans.remove_in(parts_folder(order.output))
        locks.enter_context(guarded(images, [order.output for order in orders], options, reporter))
        starts = [
            start_of(
                images,
                order.recipe,
                options,
                order.output,
                reporter,
                by_default=order.by_default,
                place=order.place,
            )
            for order in orders
        ]
        for start, place in zip(starts, preview_paths(options, starts), strict=True):
            if place is not None:
                write_preview(images, start.backbone, place, reporter)
            if needed := start.disk_need():
                atomic.require_writable(start.output)
                atomic.require_space(start.output.parent, needed)
                if needed >= _WORTH_TELLING:
                    reporter.note(f"{start.named}: takes up to {media.size(needed)} of disk")
        recalled = recall_for(images, starts, options)
        sinks = [_shards(start) for start in starts]
        lanes = [
            start.lane(images, own, reporter) for start, own in zip(starts, sinks, strict=True)
        ]
        try:
            outcomes, n_read = _worked(images, lanes, options, reporter, recalled)
        finally:
            # Also after Ctrl-C: what is finished is kept.
            _seal([sink for own in sinks for sink in own])
        return [
            _published(
                images,
                start,
                lane,
                outcome,
                own,
                started,
                Record(images, outcome, clock, start.index, n_read),
                reporter,
            )
            for start, lane, outcome, own in zip(starts, lanes, outcomes, sinks, strict=True)
        ]


def _worked(
    images: ImageSet,
    lanes: Sequence[Lane],
    options: RunOptions,
    reporter: Reporter,
    recalled: Recalled,
) -> tuple[list[pipeline.Outcome], int]:
    """How each sample ended in each lane, and how many files were read for it."""
    enough = recalled.enough([chain for lane in lanes for chain in lane.known])
    if recalled.whole(enough):
        outcomes = recalled.outcomes(len(lanes))
        if options.strict:
            for i, reason in outcomes[0].reasons.items():
                counts = {
                    "seen": len(images.samples),
                    "ignored": images.ignored,
                    "quarantined": len(outcomes[0].reasons),
                    "kept": len(images.samples),
                }
                stop_at_first(images.samples[i], reason, counts)
        return outcomes, 0
    outcomes = compute(images, lanes, options, reporter, recalled)
    return outcomes, int((outcomes[0].statuses[~enough, 0] >= 0).sum())


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


def _require_still_new(start: Start) -> None:
    """Raise a CacheError where another run has published meanwhile: no lock had kept it from that.

    Of a file that was there before, features are read, and these notice that it was replaced.
    """
    new = start.existing is None and start.place is None and not start.options.force
    if new and start.output.exists():
        raise CacheError(
            f"{start.output} was made by another run while this one worked",
            expected="one writer at a time; on this disk no lock has told them of each other",
            where=str(start.output),
            next="run again: finished features are kept, and those of the other run are used",
        )


def _tidy(output: Path, fingerprints: Sequence[str], reporter: Reporter) -> None:
    """Remove the parts, whose rows are published; where that fails they are only in the way."""
    try:
        sealed.discard_all(parts_folder(output), fingerprints)
    except CacheError as error:
        reporter.warn(f"{output} is complete, but its parts could not be removed: {error.what}")


def _published(
    images: ImageSet,
    start: Start,
    lane: Lane,
    outcome: pipeline.Outcome,
    sinks: Sequence[shards.Shards],
    started: float,
    record: Record,
    reporter: Reporter,
) -> Extraction:
    judge(outcome, images, start.options, start.output)
    _require_still_new(start)
    # Read back from the disk: what is published is what was sealed.
    fingerprints = [sink.fingerprint for sink in sinks]
    finished, _ = sealed.load_all(parts_folder(start.output), fingerprints)
    for stores, each in zip(lane.stores, fingerprints, strict=True):
        stores[0] = ShardStore(finished[each])
    hashes = Hashes(lane.chains(), reporter, str(start.output))
    if start.options.rehash:
        workers = start.options.workers or devices.cores()
        hashes.decoding(images.samples, outcome, start.backbone.preprocessing, workers)
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
            record=record,
            hashes=hashes,
            place=start.place,
            part=seen_of(
                images, start.options.share, start.existing.root if start.existing else ""
            ),
        )
    except KeyboardInterrupt:
        total = len(images.samples)
        raise pipeline.Interrupted(total, total) from None
    _tidy(start.output, fingerprints, reporter)
    return result_of(
        images,
        outcome,
        published,
        start.named,
        started,
        removed,
        written,
        resumed=start.resumed,
        read=record.n_read,
    )
