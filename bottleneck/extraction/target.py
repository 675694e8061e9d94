"""The file an extraction goes on with: whether it fits, and what a run that was cut off has left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import paths
from ..backbones import registry
from ..backbones.base import Backbone, Output
from ..backbones.weights import from_file
from ..cache import sealed
from ..cache.features import Features
from ..cache.features import open as open_features
from ..cache.keys import KeyIndex
from ..errors import InputError
from ..images.decode import BadImage
from ..images.folders import is_unlisted
from ..images.payload import key_of, payload
from ..images.sample import ImageSet
from ..recipe import recipe_conflict
from ..reporter import Reporter
from .options import RecipeOptions, RunOptions
from .rows import gone
from .settle import names_another, other_weights
from .stores import ShardStore


def open_target(
    output: Path, recipe_options: RecipeOptions, options: RunOptions
) -> Features | None:
    """The file that is there, unless its name alone shows that it holds something else.

    Parameters
    ----------
    output : pathlib.Path
    recipe_options : RecipeOptions
    options : RunOptions
        With `force` a misfit counts as not there.

    Raises
    ------
    RecipeError
        If another backbone was stated than the file's: said before any weights are fetched.
    InputError
        If the file holds features of no images.
    """
    if not output.exists():
        return None
    existing = open_features(output)
    stored = existing.recipe
    from_images = stored.get("modality") == "image"
    if from_images and not names_another(recipe_options, stored):
        weights = other_weights(recipe_options, stored)
        if weights is None:
            return existing
        if not options.force:
            raise recipe_conflict(stored, {**stored, "weights_sha256": weights}, output)
    if options.force:
        return None
    if not from_images:
        raise InputError(
            f"{output} holds features that were not made from images",
            expected="a file that `bottleneck extract` made, or a new name",
            next="give another -o, or --force to replace the file",
        )
    raise recipe_conflict(stored, _stated_recipe(recipe_options, stored), output)


def _stated_recipe(options: RecipeOptions, stored: dict[str, Any]) -> dict[str, Any]:
    """The recipe of what was stated, as far as it is known without fetching any weights."""
    entry = registry.find_entry(str(options.backbone))
    if options.weights is not None:
        none = str(options.weights) == "none"
        weights = registry.UNTRAINED.sha256 if none else from_file(options.weights).sha256
    else:
        found = entry.weights.find() if entry.weights is not None else None
        weights = found.sha256 if found else "(not on this machine)"
    wanted: dict[str, Any] = {**stored, "backbone": entry.name, "weights_sha256": weights}
    with contextlib.suppress(InputError):  # a source that states no preprocessing
        p = replace(entry.preprocessing(), **options.preprocessing_changes())
        wanted["preprocessing"] = p.to_recipe()
    return wanted


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
    if (
        existing.root != paths.escape(images.root)
        and len(existing)
        and not _shares_a_key(existing, images)
    ):
        if options.force:
            return None
        raise InputError(
            f"{output} holds features of {existing.root or 'images from memory'}, "
            f"and none of the images of {images.root or 'this list'} is among them",
            expected="a file of these images, or a new name",
            next="give another -o, or --force to replace the file",
        )
    if existing.rows.paths == images.columns.paths:
        existing.rows.paths = images.columns.paths  # in memory once
    return existing


def _shares_a_key(existing: Features, images: ImageSet) -> bool:
    """Whether any image is in the file; reads images only until the first that is."""
    keys = KeyIndex(existing.keys)
    for sample in images.samples:
        try:
            if not sample.fault and key_of(payload(sample.source)) in keys:
                return True
        except BadImage:
            continue
    return False


def refuse_to_lose(
    existing: Features, images: ImageSet, options: RunOptions, *, by_default: bool
) -> None:
    """Raise an InputError where rows would go whose images are not gone.

    Parameters
    ----------
    existing : Features
        The file that will mirror the images.
    images : ImageSet
    options : RunOptions
    by_default : bool
        The user did not name the file.
    """
    root = paths.escape(images.root)
    if options.add and (not root or existing.root != root):
        raise InputError(
            f"--add: {existing.file} holds images of {existing.root or 'memory'}, "
            f"and these are of {root or 'memory'}, where the same path is another image",
            expected="images below the same folder",
            where="--add",
            next="extract the folder that holds both, or give another -o and fit on both files",
        )
    columns = images.columns
    for i, fault in columns.faults.items():
        if is_unlisted(fault):
            folder = columns.paths[i]
            below = sum(path.startswith(f"{folder}/") for path in existing.rows.paths)
            if below and not options.force:
                raise InputError(
                    f"{folder}: {fault}; {below} rows of {existing.file} lie below it",
                    next="make the folder readable, or --force to drop these rows",
                )
    if not by_default or options.add or options.force:
        return
    lost = existing.rows.take(gone(existing.rows.paths, columns.paths))
    folder = paths.unescape(existing.root)
    there = sum(os.path.exists(os.path.join(folder, paths.unescape(p))) for p in lost.paths)
    if there:
        raise InputError(
            f"{existing.file} would lose {there} rows whose images are still there",
            expected="the same images as before, or more",
            next="give -o for a file of these images alone, or --add to keep the others too",
        )


def precise_enough(
    existing: Features, images: ImageSet, options: RunOptions, reporter: Reporter
) -> bool:
    """Whether stored values may stand in the new file: float16 never passes for float32."""
    if existing.header.store == "float16" and options.store == "float32":
        left = len(gone(existing.rows.paths, images.columns.paths)) if options.add else 0
        if left:
            raise InputError(
                f"{existing.file} holds float16, and {left} of its rows have no image here to "
                "compute them again from",
                expected="float16, or all images of the file",
                where="--store float32 with --add",
                next="leave one of the two away, or give another -o",
            )
        reporter.warn("the file holds float16: for float32 every feature is computed again")
        return False
    return True


def refuse_unfillable(
    existing: Features, new: Sequence[Output], images: ImageSet, options: RunOptions
) -> None:
    """Raise an InputError where a new layer would lack rows, whose images are not here."""
    if not (options.add and new):
        return
    left = len(gone(existing.rows.paths, images.columns.paths))
    if left:
        raise InputError(
            f"{left} rows of {existing.file} have no image here to compute {new[0].id} from",
            expected="all images of the file, where it is to get another layer",
            where="--layer with --add",
            next="leave --add away and give all images, or give another -o",
        )


def sealed_shards(
    output: Path, backbone: Backbone, reporter: Reporter
) -> tuple[list[ShardStore], int]:
    """What a run that did not end has left of each output, and of how many images that is."""
    fingerprints = backbone.fingerprints()
    found, notes = sealed.load_all(parts_folder(output), fingerprints)
    for note in notes:
        reporter.warn(note)
    stores = [ShardStore(found[each]) for each in fingerprints]
    resumed = max(len(store) for store in stores)
    if resumed:
        reporter.note(f"resumed: {resumed} features were kept from a run that did not end")
    return stores, resumed


def parts_folder(output: Path) -> Path:
    """Where the sealed shards of a run lie until it publishes `output`."""
    return output.with_name(output.name + ".parts")


def disk_need(n: int, sizes: Sequence[int], views: int) -> int:
    """Bytes for the rows of `n` images, twice: sealed shards, and the new file beside the old one."""
    return n * views * (4 * sum(sizes) + 64 * len(sizes)) * 2
