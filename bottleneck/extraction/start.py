"""Where an extraction into a file begins: what is there, what fits, and what need not be done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backbones import nodes
from ..backbones.base import PRECISIONS, Backbone
from ..cache.features import Features
from ..cache.index import FileIndex, index_of
from ..images.sample import ImageSet
from ..reporter import Reporter, Silent
from .contract import Sink
from .lane import Lane
from .options import RecipeOptions, RunOptions
from .remember import Known, Recalled, recall
from .settle import (
    refuse_unfit_layers,
    settle_backbone,
    settle_outputs,
    settle_precision,
    warn_if_enormous,
    warn_of_a_frame,
)
from .stores import RowStore, Store
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

    Parameters and errors are those of `job.extract_to_files`; nothing is written, and without `fetch`
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
    left = _precision_of_parts(output, backbone) if recorded is None else None
    if left is not None and recipe_options.precision == "auto":
        backbone = backbone.with_precision(left)
    elif recorded is None:
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
    done = 0 if new or existing is None else len(existing) // views
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
        n_missing=max(0, len(images.samples) - resumed - done),
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
    return recall(images.columns, known, len(starts), retry=options.retry)
