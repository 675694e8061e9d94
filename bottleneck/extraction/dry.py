"""``--dry-run``: what an extraction would do, how much disk and about how long it would take."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np

from ..engines import devices, select
from ..images.part import seen_of
from ..images.preprocess import get_ready
from ..images.sample import ImageSet, Sample
from ..reporter import Reporter
from . import job
from .alone import known_crashes
from .api import orders, share_of
from .claims import Claims
from .conditions import under
from .glance import glance
from .options import RunOptions, split_backbones
from .preview import write_preview
from .remember import Recalled
from .rows import leaving
from .start import Start, recall_for, start_of

_TIMED_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What an extraction would do.

    Attributes
    ----------
    output : str
    seen, to_compute, reused, unreadable, ignored, removed : int
        Images; unreadable ones are known before decoding, or from an earlier run; others may still
        fail in it.
    disk_bytes : int
        Needed while it runs: sealed shards, and the new file beside the old one.
    images_per_second : float or None
        Measured on some of the missing images with the engine that would run; None if none is
        missing.
    seconds : float
        Of computing, start-up apart.
    engine : str
    broken : tuple of str
        Tars that end too early, and where.
    """

    output: str
    seen: int
    to_compute: int
    reused: int
    unreadable: int
    ignored: int
    removed: int
    disk_bytes: int
    images_per_second: float | None
    seconds: float
    engine: str
    broken: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The reply of ``bottleneck extract --dry-run --json``."""
        return {"dry_run": True, **{f.name: getattr(self, f.name) for f in fields(self)}}


def dry_run(
    images: ImageSet,
    *,
    output: str | os.PathLike[str] | None,
    reporter: Reporter,
    **options: Any,
) -> list[Plan]:
    """Hash every image that may have changed, compute none but a few to time them, write nothing.

    Parameters
    ----------
    images : ImageSet
    output, **options
        As for `extraction.api.run`.
    reporter : Reporter

    Returns
    -------
    list of Plan
        One for each backbone.
    """
    recipes, run_options = split_backbones(options)
    images = share_of(images, run_options)
    wanted = orders(images, output, recipes)
    crashed = known_crashes([order.output for order in wanted])
    with under(run_options.limits, crashed=crashed):
        return _plans(images, wanted, run_options, reporter)


def _plans(
    images: ImageSet, wanted: Sequence[job.Order], run_options: RunOptions, reporter: Reporter
) -> list[Plan]:
    starts = [
        start_of(
            images,
            order.recipe,
            run_options,
            order.output,
            reporter,
            by_default=order.by_default,
            fetch=False,
            place=order.place,
        )
        for order in wanted
    ]
    for start, place in zip(starts, job.preview_paths(run_options, starts), strict=True):
        if place is not None:
            write_preview(images, start.backbone, place, reporter)
    recalled = recall_for(images, starts, run_options)
    return [_plan(images, start, run_options, recalled, reporter) for start in starts]


def _plan(
    images: ImageSet,
    start: Start,
    run_options: RunOptions,
    recalled: Recalled,
    reporter: Reporter,
) -> Plan:
    backbone, existing, environments = start.backbone, start.existing, start.environments
    views = backbone.preprocessing.views
    lane = start.lane(images, [], reporter)
    removed = 0
    if existing is not None and not run_options.add:
        share = seen_of(images, run_options.share, existing.root)
        removed = len(leaving(existing.rows.paths, images.columns.paths, share))
        removed //= views
    keys = np.zeros((len(images.samples), 32), np.uint8)
    claims = Claims(keys)
    missing = array("q")  # the first sample of each key
    unreadable = 0
    with reporter.progress("hash", len(images.samples)) as bar:
        nothing = glance(images.samples, [], remembered=recalled, workers=run_options.workers)
        for i, prepared in enumerate(nothing):
            bar.advance()
            key = prepared.key
            if prepared.reason is not None or key is None:
                unreadable += 1
                continue
            if lane.missing(key):
                keys[i] = np.frombuffer(key, np.uint8)
                if claims.claim(i):
                    missing.append(i)
    choice = select.choose(
        backbone,
        engine=run_options.engine,
        device=run_options.device,
        batch_size=run_options.batch_size,
        n_missing=len(missing),
        recorded=environments[0] if environments else None,
    )
    rate = None
    if missing:
        some = (images.samples[i] for i in missing)
        rate = _rate(some, choice, backbone, run_options, reporter)
    return Plan(
        output=str(start.output),
        seen=len(images.samples),
        to_compute=len(missing),
        reused=len(images.samples) - unreadable - len(missing),
        unreadable=unreadable,
        ignored=images.ignored,
        removed=removed,
        disk_bytes=start.disk_need(len(missing)),
        images_per_second=rate,
        seconds=len(missing) / rate if rate else 0.0,
        engine=choice.label,
        broken=images.broken,
    )


def _rate(
    samples: Iterator[Sample],
    choice: select.Choice,
    backbone: Any,
    options: RunOptions,
    reporter: Reporter,
) -> float | None:
    """Images per second where stages share the cores: 1 / (decode / workers + forward / streams)."""
    engine, _ = select.start(choice, backbone, reporter)
    p = backbone.preprocessing
    get_ready()  # once a process, so not a part of what each image takes
    tried = list(islice(samples, _TIMED_BATCHES * engine.batch_size))
    workers = options.workers or devices.cores()
    started = time.monotonic()
    pixels = [  # of all views
        view
        for prepared in glance(tried, [p], workers=workers)
        for framed in prepared.framed.values()
        for view in (() if framed.pixels is None else framed.pixels)
    ]
    if not pixels:
        return None  # the run itself gives the reasons
    decode_s = (time.monotonic() - started) * p.views / len(pixels)
    batch = np.resize(np.stack(pixels), (engine.batch_size, *pixels[0].shape))
    engine.run(batch)  # the first call is slower: memory is planned in it
    started = time.monotonic()
    engine.run(batch)
    forward_s = (time.monotonic() - started) / engine.batch_size * p.views / engine.streams
    return 1 / (decode_s + forward_s)
