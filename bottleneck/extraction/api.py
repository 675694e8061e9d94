"""`extract` and `embed`: from whatever holds images to features."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..backbones import registry
from ..backbones.base import Backbone
from ..cache.features import open as open_features
from ..cache.index import index_of
from ..cache.locate import is_directory
from ..cache.storage import LocalStorage
from ..errors import BottleneckError, InputError
from ..images.find import find
from ..images.framing import parse_framing
from ..images.sample import ImageSet, Sample
from ..paths import escape
from ..remote.door import require_writable
from ..remote.urls import as_path, is_url, name_of, shown
from ..report.terminal import TerminalReporter
from ..reporter import Reporter, Silent
from . import job
from .beginnings import Beginnings
from .options import RecipeOptions, RunOptions, split_backbones
from .remember import Known
from .result import Extraction
from .settle import settle_backbone, settle_outputs, settle_precision
from .target import require_room_for_parts


def extract(
    images: Any,
    *,
    output: str | os.PathLike[str] | None = None,
    labels: Any = None,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    split_column: str | None = None,
    task: str = "auto",
    quiet: bool = False,
    **options: Any,
) -> Any:
    """Features of images from a frozen network, computed once and kept in a file.

    Parameters
    ----------
    images : str, Path, DataFrame, list, ndarray or torch data set
        A folder (class = first folder below the split), a table (``.csv``, ``.tsv``, ``.parquet``),
        an image, a glob; a DataFrame; a list of paths, bytes, PIL images or arrays.
    output : path, optional
        The feature file. By default ``cache/<name of images>-<backbone>.h5`` for images on disk;
        images that are in memory keep their features in memory.
    labels : path or sequence, optional
        A table that joins labels by path, or class names in the order of a list of images.
    root : path, optional
        Folder that a table's paths are relative to; by default the table's own.
    path_column, label_column, split_column : str, optional
        Columns of a table; by default ``path``, ``label``, ``split``. A list of label columns holds
        0, 1 or nothing (unknown) each.
    task : {"auto", "classification", "multilabel", "regression"}
        What the labels are; ``auto`` is told by several label columns, lists such as ``a|b``, and
        numbers with fractions.
    quiet : bool, default False
        Show warnings only.
    **options
        What decides a feature: ``backbone`` (a name, an ONNX file, a `torch.nn.Module`, or a list of
        these), ``weights, layer, pooling, framing, range, decode, resize, crop, interpolation,
        mean, std, precision``; ``preset`` sets of these what a published protocol asks for. Where it
        runs: ``engine, device, batch_size, workers``. What is kept: ``store, add, part, force,
        strict, allow_bad, allow_bad_rate``. What is looked at again: ``retry, rehash``. See `RecipeOptions`
        and `RunOptions`.

    Returns
    -------
    Features, or list of Features
        Rows ordered by the bytes of their paths. Inputs that cannot be used are in `.quarantine`.
        Further layers are in `.outputs` and `.output(id)`. A list for a list of backbones, each with a
        file of its own; `output` is then a folder.

    Raises
    ------
    BottleneckError
        If there are no images, too many of them cannot be used, the weights are not here, or the
        file holds features of another recipe.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> cache = bp.extract("photos/", backbone="efficientnet_lite0")  # doctest: +SKIP
    >>> cache.features.shape  # doctest: +SKIP
    (398, 1280)
    """
    found = find_images(
        images,
        labels=labels,
        root=root,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        task=task,
        previous=lambda: previous(images, output, options),
    )
    reporter = TerminalReporter(quiet=quiet)
    results = [
        each.features for each in run_all(found, output=output, reporter=reporter, **options)
    ]
    return results if isinstance(options.get("backbone"), list | tuple) else results[0]


def embed(images: Any, **options: Any) -> np.ndarray:
    """Features of images as an array: no file, nothing printed.

    Parameters
    ----------
    images : anything `extract` takes
    **options
        As for `extract`.

    Returns
    -------
    ndarray of shape (n, d), float32
        One row per image, in the order of the input.

    Raises
    ------
    InputError
        If any image cannot be used: a row must never stand for another image; or if the options mean
        several rows or vectors an image.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> bp.embed([np.zeros((300, 400, 3), np.uint8)]).shape
    (1, 1280)
    """
    found = _as_given(images) if isinstance(images, list | tuple) else find_images(images)
    (recipe_options,), run_options = split_backbones(options)
    backbone = _new(found, recipe_options, run_options, Silent())
    if len(backbone.outputs) > 1 or backbone.preprocessing.views > 1:
        raise InputError(
            f"{len(backbone.outputs)} layers and {backbone.preprocessing.views} views an image",
            expected="one row per image",
            where="bp.embed",
            next="bp.extract keeps several layers and tiles",
        )
    result = job.extract_to_memory(found, backbone, run_options, Silent())
    if result.quarantined:
        bad, reason = result.features.quarantine[0]
        raise InputError(
            f"{result.quarantined} of {result.seen} images cannot be used; {bad}: {reason}",
            expected="images that can all be decoded: a row must never stand for another image",
            next="leave them out, or use bp.extract, which quarantines them",
        )
    return np.asarray(result.features.features)[found.entries]


def _new(
    images: ImageSet, options: RecipeOptions, run_options: RunOptions, reporter: Reporter
) -> Backbone:
    """The backbone of features that go into no existing file."""
    backbone = settle_outputs(settle_backbone(options, None, reporter), options, present=())
    return settle_precision(backbone, options, run_options, images, reporter)


def _as_given(images: Sequence[Any]) -> ImageSet:
    """Each item of a list as an image of its own, so that a path given twice has two rows."""
    if not images:
        raise InputError("no images were given: an empty list", expected="at least one image")
    samples = []
    for i, item in enumerate(images):
        on_disk = isinstance(item, str | os.PathLike)
        name = f"item {i:08d}" + (f", {escape(os.fspath(item))}" if on_disk else "")
        samples.append(Sample(name, os.path.abspath(item) if on_disk else item))
    return ImageSet("", "images", samples, entries=list(range(len(samples))))


def find_images(
    images: Any,
    *,
    labels: Any = None,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    split_column: str | None = None,
    task: str = "auto",
    missing: Literal["error", "fault"] | None = None,
    previous: Callable[[], Known | None] = lambda: None,
) -> ImageSet:
    """`images.find.find` with the keywords of the command line.

    What `previous` gives is the feature file of an earlier run: files that are unchanged since need
    not be opened to see that they are no images.
    """
    columns = [label_column] if isinstance(label_column, str) else list(label_column or ())
    begins = Beginnings(previous)
    found = find(
        images,
        root=root,
        path_column=path_column,
        label_columns=columns,
        split_column=split_column,
        labels=labels,
        task=task,
        missing=missing,
        begins=begins,
    )
    return replace(found, unlike=begins.unlike)


def previous(
    images: Any, output: str | os.PathLike[str] | None, options: dict[str, Any]
) -> Known | None:
    """The file that an extraction will most likely go on with, if it has an index of its files.

    Parameters
    ----------
    images, output, options
        As for `extract`. Without an output only one folder's file can be told beforehand.
    """
    several = list(images) if isinstance(images, list | tuple) else [images]
    if options.get("rehash") or len(several) != 1 or not isinstance(several[0], str | os.PathLike):
        return None
    name = escape(os.path.basename(os.path.abspath(several[0])))
    # Whatever is wrong with the options or the file is told by the run itself.
    with suppress(BottleneckError, TypeError):
        recipes, run_options = split_backbones(dict(options))
        nothing = ImageSet("", name, [])
        if run_options.share is not None:
            nothing = run_options.share.of(nothing)
        for order in orders(nothing, output, recipes):
            if order.output.exists() and (order.place is None or is_directory(order.output)):
                features = open_features(order.output)
                index = index_of(features)
                if index is not None:
                    return Known(features, index)
    return None


def run(
    images: ImageSet,
    *,
    output: str | os.PathLike[str] | None,
    reporter: Reporter,
    **options: Any,
) -> Extraction:
    """`extract` with one backbone on images already found, with everything that came of it."""
    (result,) = run_all(images, output=output, reporter=reporter, **options)
    return result


def run_all(
    images: ImageSet,
    *,
    output: str | os.PathLike[str] | None,
    reporter: Reporter,
    **options: Any,
) -> list[Extraction]:
    """`extract` on images already found, with everything that came of it for each backbone."""
    recipes, run_options = split_backbones(options)
    images = share_of(images, run_options)
    for note in images.notes:
        reporter.note(note)
    if output is None and not images.root:
        return [
            job.extract_to_memory(
                images,
                _new(images, recipe, run_options, reporter),
                run_options,
                reporter,
                judged=True,
            )
            for recipe in recipes
        ]
    wanted = orders(images, output, recipes)
    for order in wanted:
        if output is None and order.place is not None and not is_directory(order.output):
            reporter.note(
                f"{len(images.samples)} images are more than a file should hold: the output is a "
                f"directory of shards, {order.output}{os.sep} (-o FILE.h5 for a file all the same)"
            )
    return job.extract_to_files(images, wanted, run_options, reporter)


def share_of(images: ImageSet, options: RunOptions) -> ImageSet:
    """The images that the run is about; an InputError if its part holds none."""
    if options.share is None:
        return images
    own = options.share.of(images)
    if not len(own.samples) and len(images.samples):
        raise InputError(
            f"part {options.part} holds none of the {len(images.samples)} images",
            expected="fewer parts than images",
            where="--part",
            next="leave this part out, or make fewer",
        )
    return own


def orders(
    images: ImageSet, output: str | os.PathLike[str] | None, recipes: Sequence[RecipeOptions]
) -> list[job.Order]:
    """The output of each backbone: the one that was named, else ``cache/<images>-<backbone>.h5``.

    Parameters and errors are those of `_orders`; a CacheError for a name that is too long.
    """
    wanted = _orders(images, output, recipes)
    for order in wanted:
        require_room_for_parts(order.output)
    return wanted


def _orders(
    images: ImageSet, output: str | os.PathLike[str] | None, recipes: Sequence[RecipeOptions]
) -> list[job.Order]:
    """Where each output goes.

    A name that ends in a slash, or of a directory of features that is there, is a directory; so is
    the default for more than a million rows.

    Raises
    ------
    InputError
        If a folder of other files was named for one backbone, or a file for several.
    """
    by_default = output is None
    if output is not None and is_url(as_path(os.fspath(output))):
        return [_remote_order(recipe, os.fspath(output), len(recipes)) for recipe in recipes]
    if len(recipes) == 1 and output is not None:
        path = Path(as_path(os.fspath(output)))
        slash = os.fspath(output).endswith(("/", os.sep))
        if path.name in ("", "..") and (slash or is_directory(path)):
            # Its lock and parts lie beside it, under names made from its own.
            whole = Path(os.path.realpath(path))
            use = whole if whole.name and is_directory(path) else path / images.name
            raise InputError(
                f"{output} has no name of its own",
                expected="a file name, such as photos.h5, or a new directory, such as photos/",
                where="-o",
                next=f"-o {use}{os.sep}",
            )
        if is_directory(path) or (slash and not path.is_file()):
            return [job.Order(recipes[0], path, place=LocalStorage(path))]
        if path.is_dir() or slash:
            raise InputError(
                f"{output} is a {'folder' if path.is_dir() else 'file'}",
                expected="a file name, such as photos.h5, or a new directory, such as photos/",
                where="-o",
                next=f"-o {path / (images.name + '.h5')}" if path.is_dir() else f"-o {path}",
            )
        return [job.Order(recipes[0], path)]
    folder = Path(output) if output is not None else Path("cache")
    if (folder.exists() and not folder.is_dir()) or folder.suffix in (".h5", ".hdf5"):
        raise InputError(
            f"{folder} is the name of a file, and there are {len(recipes)} backbones",
            expected="a folder, where each backbone gets a file",
            where="-o",
            next=f"-o {folder.with_suffix('')}",
        )
    names = [folder / f"{images.name}-{_label(recipe)}" for recipe in recipes]
    return [
        _order_of(recipe, name, by_default, len(images.samples))
        for recipe, name in zip(recipes, names, strict=True)
    ]


# Beyond, each small change of one file would write gigabytes.
MOST_ROWS_OF_A_FILE = 1_000_000


def _order_of(recipe: RecipeOptions, name: Path, by_default: bool, n: int) -> job.Order:
    """A file, or a directory if there is one already or there will be very many rows."""
    file = name.with_name(f"{name.name}.h5")
    many = not file.exists() and n * _views(recipe) > MOST_ROWS_OF_A_FILE
    if is_directory(name) or (many and by_default):
        return job.Order(recipe, name, by_default, LocalStorage(name))
    return job.Order(recipe, file, by_default)


def _views(options: RecipeOptions) -> int:
    """Rows of one image, as far as it is stated."""
    with suppress(BottleneckError):
        _, rows, columns = parse_framing(options.framing or "crop")
        return rows * columns
    return 1  # the run itself says what is wrong with it


def _remote_order(recipe: RecipeOptions, url: str, n_recipes: int) -> job.Order:
    """A directory in a bucket; with several backbones one below it for each."""
    from ..cache.remote_storage import RemoteStorage

    if name_of(url).lower().endswith((".h5", ".hdf5")):
        folder = name_of(url).rpartition(".")[0] + "/"
        raise InputError(
            f"{shown(url)} would be one file on another machine, written anew for each small change",
            expected="a directory of shards, whose URL ends in a slash",
            where="-o",
            next=f"-o {folder}",
        )
    require_writable(url)
    place = RemoteStorage(url if n_recipes == 1 else f"{url.rstrip('/')}/{_label(recipe)}")
    beside = place.beside
    beside.parent.mkdir(parents=True, exist_ok=True)
    return job.Order(recipe, beside, place=place)


def _label(options: RecipeOptions) -> str:
    """What a backbone is called in a file's name."""
    if options.backbone is None or options.by_name:
        return registry.find_entry(options.backbone or registry.DEFAULT).label
    changes = options.preprocessing_changes()
    return registry.resolve(options.backbone, changes=changes).entry.label
