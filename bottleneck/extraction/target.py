"""The file an extraction goes on with: whether it fits, and what a run that was cut off has left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..backbones import registry
from ..backbones.base import Backbone, Output
from ..backbones.weights import from_file
from ..cache import sealed
from ..cache.directory import check, load, open_directory, require_ours
from ..cache.directory.manifest import SHARD, without_manifest
from ..cache.features import Features
from ..cache.features import open as open_features
from ..cache.keys import KeyIndex
from ..cache.locate import MANIFEST
from ..cache.storage import Storage
from ..errors import CacheError, InputError
from ..images.decode import BadImage
from ..images.folders import is_unlisted
from ..images.part import seen_of
from ..images.payload import key_of, payload
from ..images.sample import ImageSet
from ..images.there import count_there
from ..recipe import recipe_conflict
from ..reporter import Reporter, Silent
from .options import RecipeOptions, RunOptions
from .rows import leaving, staying
from .settle import names_another, other_weights
from .stores import ShardStore

_PARTS = ".parts"
_NAME_BYTES = 255  # where the system does not say


def open_target(
    output: Path,
    recipe_options: RecipeOptions,
    options: RunOptions,
    place: Storage | None = None,
    reporter: Reporter | None = None,
) -> Features | None:
    """The file that is there, unless its name alone shows that it holds something else.

    Parameters
    ----------
    output : pathlib.Path
    recipe_options : RecipeOptions
    options : RunOptions
        With `force` a misfit counts as not there.
    place : Storage, optional
        Where the output is a directory.
    reporter : Reporter, optional
        Warned of a damaged directory that `force` replaces.

    Raises
    ------
    RecipeError
        If another backbone was stated than the file's: said before any weights are fetched.
    InputError
        If the file holds features of no images.
    CacheError
        If a directory is damaged, or has lost its manifest; not with `force`.
    """
    if place is not None:
        found = _open_directory(place, output, options, reporter or Silent())
        if found is None:
            return None
        existing = found
    elif not output.exists():
        return None
    else:
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


def _open_directory(
    place: Storage, output: Path, options: RunOptions, reporter: Reporter
) -> Features | None:
    """The directory that is there; None for a new one, such as in the place of a damaged one."""
    if options.force:
        found = check(place)
        if found.manifest is not None and not found.faults:
            return open_directory(place)
        require_ours(place)
        if MANIFEST in place.list():
            name, fault = found.faults[0]
            reporter.warn(f"{place.name}{name} {fault}: --force computes every feature again")
        return None
    if load(place) is not None:
        return open_directory(place)
    require_ours(place)
    lost = [
        name
        for name in place.list()
        if SHARD.fullmatch(name) and not _also_sealed(place.path(name), output)
    ]
    if lost:
        raise CacheError(
            f"{place.name} holds {len(lost)} shards and no {MANIFEST}",
            expected=f"the {MANIFEST} that lists them; a copy that is not complete lacks it",
            where=place.name,
            next=f"{without_manifest(place.name)}; or --force deletes them and begins anew",
        )
    return None


def _also_sealed(shard: Path, output: Path) -> bool:
    """Whether all rows of a shard lie in the parts too, as those of a first run that was killed do."""
    try:
        features = open_features(shard)
    except CacheError:
        return False
    fingerprint = features.fingerprint
    found, _ = sealed.load_all(parts_folder(output), [fingerprint])
    return bool(found[fingerprint].holds(features.keys).all())


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
    if options.part and existing.root != root and len(_staying(existing, images, options)):
        raise InputError(
            f"--part: {existing.file} holds images of {existing.root or 'memory'}, "
            f"and these are of {root or 'memory'}",
            expected="parts of one folder",
            where="--part",
            next="give each part an -o of its own; `bottleneck cache merge` joins them",
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
    share = seen_of(images, options.share, existing.root)
    lost = existing.rows.take(leaving(existing.rows.paths, columns.paths, share))
    there = count_there(existing.root, lost.paths)
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
        left = len(_staying(existing, images, options))
        if left:
            raise InputError(
                f"{existing.file} holds float16, and {left} of its rows have no image here to "
                "compute them again from",
                expected="float16, or all images of the file",
                where="--store float32 with --add or --part",
                next="leave one of the two away, or give another -o",
            )
        reporter.warn("the file holds float16: for float32 every feature is computed again")
        return False
    return True


def refuse_unfillable(
    existing: Features, new: Sequence[Output], images: ImageSet, options: RunOptions
) -> None:
    """Raise an InputError where a new layer would lack rows, whose images are not here."""
    left = len(_staying(existing, images, options)) if new else 0
    if left:
        raise InputError(
            f"{left} rows of {existing.file} have no image here to compute {new[0].id} from",
            expected="all images of the file, where it is to get another layer",
            where="--layer with --add or --part",
            next="leave the other option away and give all images, or give another -o",
        )


def _staying(existing: Features, images: ImageSet, options: RunOptions) -> np.ndarray:
    """Rows of the file that stay without an image of this run."""
    share = seen_of(images, options.share, existing.root)
    return staying(existing.rows.paths, images.columns.paths, options.add, share)


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
    return output.with_name(output.name + _PARTS)


def require_room_for_parts(output: Path) -> None:
    """Raise a CacheError where the name is too long for what has to lie beside the output.

    The lock, the journal and temporary files get shorter names where need be; the parts do not.
    """
    place = Path(output).absolute().parent
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    most = _NAME_BYTES
    if hasattr(os, "pathconf"):
        with contextlib.suppress(OSError, ValueError):
            told = os.pathconf(place, "PC_NAME_MAX")
            most = told if told > 0 else most
    size = len(os.fsencode(output.name))
    if size > most - len(_PARTS):
        raise CacheError(
            f"{output.name}: the name has {size} bytes",
            expected=f"at most {most - len(_PARTS)}, since {_PARTS} is added to it for the "
            "features of a run that is not finished",
            where=str(output),
            next="give a shorter name with -o",
        )
