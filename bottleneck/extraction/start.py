"""Where an extraction into a file begins: what is there, what fits, and what need not be done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backbones import nodes
from ..backbones.base import PRECISIONS, Backbone
from ..cache.atomic import require_space
from ..cache.features import Features
from ..cache.index import FileIndex, index_of
from ..cache.storage import LocalStorage, Storage
from ..images.part import seen_of
from ..images.sample import ImageSet
from ..reporter import Reporter, Silent
from .comparable import Held
from .contract import Sink
from .lane import Lane
from .options import RecipeOptions, RunOptions
from .remember import Known, Recalled, recall
from .rows import staying
from .settle import (
    refuse_unfit_layers,
    settle_backbone,
    settle_outputs,
    settle_precision,
    warn_if_enormous,
    warn_of_a_frame,
)
from .space import column_bytes_of, file_need, shards_need
from .stores import RowStore, Store
from .target import (
    compatible,
    open_target,
    parts_folder,
    precise_enough,
    refuse_to_lose,
    refuse_unfillable,
    sealed_shards,
)


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
    index : FileIndex or None
        How the files looked that the existing file was made from.
    resumed : int
        Features that a run that did not end has left.
    n_missing : int
        Images to compute at the most, by their number.
    place : Storage or None
        Where the output is a directory.
    n_whole : int
        Images of the new file, those included whose path is gone and that are kept.
    column_bytes : int
        Of an image in a file beside its features, on average.
    """

    output: Path
    existing: Features | None
    backbone: Backbone
    options: RunOptions
    sizes: list[int]
    stores: list[list[Store]]
    environments: list[dict[str, Any]]
    index: FileIndex | None
    resumed: int
    n_missing: int
    place: Storage | None = None
    n_whole: int = 0
    column_bytes: int = 0

    @property
    def named(self) -> Path | str:
        """The output as the user named it: a URL for one on another machine."""
        place = self.place
        return self.output if place is None or isinstance(place, LocalStorage) else place.name

    def lane(self, images: ImageSet, sinks: Sequence[Sink], reporter: Reporter) -> Lane:
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
            None if self.existing is None else Held(self.existing, self.options.add),
        )

    def disk_need(self, n_missing: int | None = None) -> int:
        """Bytes while it runs, at the most: sealed shards, and the whole new file beside the old one.

        Parameters
        ----------
        n_missing : int, optional
            Images to compute, where that is known better. If it is 0, nothing may be written at all.
        """
        n = self.n_missing if n_missing is None else n_missing
        views, store = self.backbone.preprocessing.views, self.options.store or "float32"
        if not n:
            return 0
        # Of a directory only the new rows are written.
        written = self.n_whole if self.place is None else n + self.resumed
        whole = file_need(written, self.sizes, views, store, self.column_bytes)
        return shards_need(n, self.sizes, views) + whole


def start_of(
    images: ImageSet,
    recipe_options: RecipeOptions,
    options: RunOptions,
    output: Path,
    reporter: Reporter,
    *,
    by_default: bool,
    fetch: bool = True,
    place: Storage | None = None,
) -> Start:
    """Look at the file and at what was left beside it; refuse what must not be mixed or lost.

    Parameters and errors are those of `job.extract_to_files`; nothing is written, and without `fetch`
    no weights are downloaded.
    """
    existing = open_target(output, recipe_options, options, place, reporter)
    recorded = existing.recipe if existing is not None else None
    backbone = settle_backbone(recipe_options, recorded, reporter, fetch=fetch)
    existing = compatible(existing, backbone, images, output, options)
    present = backbone.outputs if existing is not None else ()
    # A file that is replaced (--force) keeps its layers, unless others are stated.
    kept = present if recipe_options.layer else backbone.outputs
    backbone = settle_outputs(backbone, recipe_options, kept)
    left = _precision_of_parts(output, backbone) if recorded is None else None
    if left is not None and recipe_options.precision == "auto":
        backbone = backbone.with_precision(left)
    elif recorded is None:
        # Before any weights are loaded; what runs before this one have sealed is known only then.
        if fetch:
            require_space(output.parent, least_need(backbone, images, options))
        backbone = settle_precision(
            backbone, recipe_options, options, images, reporter, measure=fetch
        )
    new = [each for each in backbone.outputs if each not in present]
    if existing is not None and fetch:
        refuse_unfit_layers(backbone, new, recipe_options, options, images, reporter)
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
                stores[i].append(RowStore(existing.keys, array, views, existing.phash))
            environments.insert(0, existing.environment)
    if existing is None:
        warn_of_a_frame(backbone, reporter)
    sizes = _sizes(backbone, existing)
    warn_if_enormous(backbone, sizes, new, len(images.samples), options.store, reporter)
    done = kept_rows = 0
    if existing is not None:
        # What is in the quarantine is mostly not computed either.
        done = 0 if new else len(existing) // views + len(existing.quarantine)
        share = seen_of(images, options.share, existing.root)
        kept_rows = len(staying(existing.rows.paths, images.columns.paths, options.add, share))
    return Start(
        output=output,
        existing=existing,
        backbone=backbone,
        options=options,
        sizes=sizes,
        stores=stores,
        environments=environments,
        index=None if existing is None else index_of(existing),
        resumed=resumed,
        place=place,
        n_missing=max(0, len(images.samples) - resumed - done),
        n_whole=len(images.samples) + kept_rows // views,
        column_bytes=column_bytes_of(images.columns),
    )


def _precision_of_parts(output: Path, backbone: Backbone) -> str | None:
    """The precision of what a run that did not end has left, where no file says it yet."""
    if not parts_folder(output).exists():
        return None
    left = {
        precision: sealed_shards(output, backbone.with_precision(precision), Silent())[1]
        for precision in PRECISIONS
    }
    return max(left, key=lambda precision: left[precision]) if any(left.values()) else None


def least_need(backbone: Backbone, images: ImageSet, options: RunOptions) -> int:
    """Bytes that a new file takes, whatever is computed already."""
    n, views = len(images.samples), backbone.preprocessing.views
    return file_need(n, nodes.sizes_of(backbone), views, options.store or "float32")


def _sizes(backbone: Backbone, existing: Features | None) -> list[int]:
    """Length of each vector; where a file has them all, the network need not be asked."""
    if existing is not None and len(existing.layers) + 1 == len(backbone.outputs):
        return [int(array.shape[1]) for array in (existing.features, *existing.layers.values())]
    return nodes.sizes_of(backbone)


def recall_for(images: ImageSet, starts: Sequence[Start], options: RunOptions) -> Recalled:
    """The samples whose files are unchanged since the existing files were made, unless all are read."""
    known = [
        Known(start.existing, start.index)
        for start in starts
        if start.existing is not None and start.index is not None and not options.rehash
    ]
    return recall(images.columns, known, len(starts), retry=options.retry, limits=options.limits)
