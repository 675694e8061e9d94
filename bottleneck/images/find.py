"""The way in: folders, tables, files, globs, lists or images from memory in, an `ImageSet` out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from ..paths import escape, order
from ..remote.listing import find_folder, is_remote_folder, refuse_folders, refuse_globs
from ..remote.urls import as_path, is_url, name_of, parent
from ..targets import Targets, require_task, settle
from ..texts import Coded, Texts, concatenated
from .folders import Sniff, begins_as_image
from .gather import Given, Part, common_folder, existing, gather, nothing_found
from .join import join_labels
from .layout import Layout
from .memory import from_memory, read_labels
from .sample import ImageSet, Sample, Samples
from .several import Union, read_loose, read_several
from .tables import samples_of
from .tabular import is_data_frame, is_table, read_table
from .tars.finding import find_tars
from .tars.locations import tars_in, tars_of

# Rows of an image set; more than this many images do not fit into one run.
_INDEX = np.int32


def find(
    inputs: Any,
    *,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_columns: Sequence[str] = (),
    split_column: str | None = None,
    labels: Any = None,
    task: str = "auto",
    missing: Literal["error", "fault"] | None = None,
    begins: Sniff = begins_as_image,
) -> ImageSet:
    """Find the images that were asked for, with their labels and splits.

    Parameters
    ----------
    inputs : object
        One thing or a list (or array) of things: a folder, a table (``.csv``, ``.tsv``, ``.parquet`` or a
        DataFrame), an image, a glob, ``-`` for a list on stdin; bytes, PIL images, arrays, uint8
        tensors, or a torch Dataset.
    root : path, optional
        Folder that paths are relative to. Default: the folder, the table's folder, or the folder
        that holds all that was given. If it is stated, the folders below it say the classes.
    path_column, split_column : str, optional
        Columns of a table; by default ``path`` (or the one column that names files) and ``split``.
    label_columns : sequence of str, default ()
        Columns of a table; by default ``label``. Several hold 0 or 1 each.
    labels : path, DataFrame or sequence, optional
        A table that is joined by path, or a class for each entry of a list.
    task : {"auto", "classification", "multilabel", "regression"}
        What the labels are. ``auto``: several columns and lists such as ``a|b`` are ``multilabel``,
        many numbers with fractions ``regression``, which a note says; folders are classes.
    missing : {"error", "fault"}, optional
        What a path that does not exist is: an error with the names that are near, or a sample with
        the fault ``no such file``. Default: an error for one path, a fault in a list.
    begins : callable, optional
        Whether a file begins like an image, asked where its name says nothing. By default it is
        opened; a run that knows the file from before need not.

    Returns
    -------
    ImageSet
        Ordered by the UTF-8 bytes of the paths.

    Raises
    ------
    InputError
        If there is no image at all, or the inputs contradict themselves.
    """
    require_task(task)
    inputs = _as_list(inputs)
    columns: dict[str, Any] = {
        "task": task,
        "path_column": path_column,
        "label_columns": label_columns,
        "split_column": split_column,
    }
    base = None if root is None else os.path.abspath(root)
    join = labels is not None and (isinstance(labels, (str, os.PathLike)) or is_data_frame(labels))
    sequence = None if join else labels
    arguments = _paths(inputs)
    # What a user wrote by hand; a long list may hold anything, each with its own reason.
    written = missing == "error" or isinstance(inputs, (str, os.PathLike))
    if arguments and (written or len(arguments) == 1):
        refuse_globs(arguments)
    if is_data_frame(inputs) or (arguments and len(arguments) == 1 and is_table(arguments[0])):
        source = inputs if arguments is None else arguments[0]
        if isinstance(source, str) and not is_url(source):
            source = existing(source)
        if labels is not None:
            raise InputError(
                "labels were given twice: the images are named by a table already",
                expected="one table",
                next="leave out --labels, or give the images' folder instead of the table",
            )
        return _from_table(source, base, columns)
    if arguments is None:
        if join:
            raise InputError(
                "images from memory have no paths that a table could name",
                expected="labels as a list, one for each image",
            )
        return _settled(
            from_memory(inputs, sequence), task if sequence is not None else _stated(task)
        )
    tars = None if sequence is not None else _tars(arguments)
    if tars is not None:
        if path_column is not None and not join:
            raise InputError(
                "--path-column was given, but the images are members of tars",
                expected="--label-column and --split-column, which name members or keys of .json",
            )
        return _from_tars(tars, base, columns, labels if join else None)
    if not join and (path_column or label_columns or split_column):
        raise InputError(
            "columns were named, but there is no table",
            expected="a .csv, .tsv or .parquet file as IMAGES or --labels",
        )
    if len(arguments) == 1 and sequence is None and is_remote_folder(arguments[0]):
        return _joined(find_folder(arguments[0]), labels if join else None, columns)
    mode = missing or ("error" if isinstance(inputs, (str, os.PathLike)) else "fault")
    if mode == "error" and len(arguments) > 1:
        refuse_folders(arguments)
    found, listed = _from_paths(arguments, base, mode == "error", begins)
    if sequence is not None:
        found = _align(found, read_labels(sequence, _only_files(listed, arguments)), listed)
    if join:
        table = read_table(labels)
        samples, name, notes = join_labels(found.samples, table, found.root, **columns)
        # What the folders said about labels no longer holds.
        found = replace(found, samples=samples, notes=listed.notes + notes)
        return _settled(found, task, name, table.where)
    return _settled(found, task if sequence is not None else _stated(task))


def _tars(arguments: Sequence[str]) -> list[str] | None:
    """The tars that are meant, or None if something else is."""
    tars = tars_of(arguments)
    if tars is not None or len(arguments) != 1 or not os.path.isdir(arguments[0]):
        return tars
    return tars_in(os.path.abspath(arguments[0]))


def _from_tars(
    tars: Sequence[str], base: str | None, columns: dict[str, Any], labels: Any
) -> ImageSet:
    task = columns["task"]
    named = {} if labels is not None else columns
    found, name = find_tars(
        tars,
        base,
        label_columns=named.get("label_columns", ()),
        split_column=named.get("split_column"),
        task=task,
    )
    if labels is None:
        return _settled(found, task, name, found.name)
    return _joined(found, labels, columns)


def _joined(found: ImageSet, labels: Any, columns: dict[str, Any]) -> ImageSet:
    """The same images with the labels of a table, if there is one."""
    if labels is None:
        return _settled(found, _stated(columns["task"]))
    table = read_table(labels)
    samples, name, notes = join_labels(found.samples, table, found.root, **columns)
    found = replace(found, samples=samples, notes=notes)
    return _settled(found, columns["task"], name, table.where)


def _stated(task: str) -> str:
    """For labels that are folders or a data set's classes: nothing else unless it was asked for."""
    return "classification" if task == "auto" else task


def _settled(found: ImageSet, task: str, name: str = "value", where: str = "") -> ImageSet:
    """The same images with targets where the labels are not plain classes."""
    samples, notes = found.columns, list(found.notes)
    if samples.targets is not None:
        return found
    targets = settle(
        task, samples.classes, samples.labels, name=name, where=where, tell=notes.append
    )
    if targets is not None:
        nothing = np.full(len(samples), -1, np.int32)
        samples = samples.but(labels=nothing, classes=[], targets=targets)
    return replace(found, samples=samples, notes=notes)


def _as_list(inputs: Any) -> Any:
    """An array of text or of objects as a list; those of numbers are pixels and stay."""
    named = isinstance(inputs, np.ndarray) and inputs.dtype.kind in "UOT"
    column = type(inputs).__name__ in ("Series", "Index") and hasattr(inputs, "tolist")
    return inputs.tolist() if named or column else inputs


def _paths(inputs: Any) -> list[str] | None:
    """The arguments as paths, or None if they are something else."""
    if isinstance(inputs, (str, os.PathLike)):
        return [as_path(os.fsdecode(inputs))]
    if not isinstance(inputs, (list, tuple)):
        return None
    if not inputs:
        raise InputError("no images were given: an empty list", expected="at least one image")
    if all(isinstance(item, (str, os.PathLike)) for item in inputs):
        return [as_path(os.fsdecode(item)) for item in inputs]
    return None


def _from_table(source: Any, base: str | None, columns: dict[str, Any]) -> ImageSet:
    table = read_table(source)
    named = isinstance(source, str)
    home = None
    if base is None and named and is_url(source):
        base = home = parent(source)
    elif base is None:
        base = os.path.dirname(os.path.abspath(source)) if named else os.getcwd()
    samples, root, rows, entries, labels, notes = samples_of(table, base, home=home, **columns)
    faults = {sample.fault for sample in samples}
    if None not in faults and "no such file" in faults:
        notes.append(f"{table.where}: no path exists below {base}: wrong --root?")
    name = _stem(source) if named else "table"
    found = _ordered(root, name, samples, labels.targets, notes, rows, entries)
    return _settled(found, columns["task"], labels.name, table.where)


def _from_paths(
    arguments: list[str], base: str | None, strict: bool, begins: Sniff
) -> tuple[ImageSet, Given]:
    given = Given(begins=begins)
    for argument in arguments:
        gather(given, argument, strict, alone=len(arguments) == 1)
    if not len(given):
        raise nothing_found(arguments, given)
    stated = base is not None
    if base is None or not all(_inside(part, base) for part in given.parts):
        homes = given.homes or [os.getcwd()]
        base = common_folder(homes if base is None else [base, *homes])
    union, places, entries = _once(given.parts, base)
    if given.folders and len(given.folders) + given.singles > 1 and not stated:
        layout, notes = read_several(given.parts, union, base)
    else:
        layout, notes = read_loose(union, np.ones(len(union.paths), bool), base)
    if again := len(given) - len(union.paths):
        given.notes.append(f"{again} files were given more than once and count once.")
    lone = len(arguments) == 1 and not given.folders and len(union.paths) == 1
    notes = given.notes + ([] if lone else notes)
    samples = samples_in(union, layout, base)
    name = _stem(samples[0].path) if lone else os.path.basename(base)
    name = escape(name or "images")
    return ImageSet(base, name, samples, given.ignored, notes, places, entries), given


def _stem(path: str) -> str:
    """The name of a file, or of what a URL names, without its suffix."""
    return os.path.splitext(os.path.basename(name_of(path)))[0]


def _inside(part: Part, base: str) -> bool:
    """Whether all files of a part lie below a folder; addresses lie nowhere."""
    start = escape(os.path.join(base, ""))
    folder = "" if part.folder is None else escape(os.path.join(part.folder, ""))
    return (bool(folder) and folder.startswith(start)) or all(
        (folder + path).startswith(start) or i in part.addresses
        for i, path in enumerate(part.all())
    )


def _once(
    parts: Sequence[Part], base: str
) -> tuple[Union, Sequence[int] | np.ndarray, Sequence[int] | np.ndarray]:
    """Everything that was given, each path once and in order.

    Returns
    -------
    union : Union
    places : sequence of int
        Where each path was given first.
    entries : sequence of int
        For all that was given its place in ``union.paths``.
    """
    start = escape(os.path.join(base, ""))
    texts = [_relative(part, start) for part in parts]
    given = texts[0] if len(texts) == 1 else concatenated(texts)
    if len(parts) == 1 and given.ascending():  # one folder, listed in order
        only = parts[0]
        everything = range(len(given))
        whole = [np.arange(len(given), dtype=_INDEX)]
        return Union(given, only.faults, only.addresses, whole), everything, everything
    offsets = np.cumsum([0, *map(len, texts)])
    order = given.argsort()
    new = np.ones(len(order), bool)
    new[1:] = ~given.repeats(order)
    entries = np.empty(len(order), _INDEX)
    entries[order] = np.cumsum(new) - 1
    places = order[new].astype(_INDEX)
    faults, addresses = dict[int, str](), dict[int, Any]()
    for part, offset in zip(parts, offsets.tolist(), strict=False):
        for of_part, of_all in ((part.faults, faults), (part.addresses, addresses)):
            for i, text in of_part.items():
                rank = int(entries[i + offset])
                if places[rank] == i + offset:
                    of_all[rank] = text
    by_part = np.split(entries, offsets[1:-1])
    return Union(given.take(places), faults, addresses, by_part), places, entries


def _relative(part: Part, start: str) -> Texts:
    """The paths of a part without `start`, the escaped root; addresses as they are."""
    folder = "" if part.folder is None else escape(os.path.join(part.folder, ""))
    if folder == start:
        return part.all()
    return Texts.of(
        path if i in part.addresses else (folder + path)[len(start) :]
        for i, path in enumerate(part.all())
    )


def samples_in(union: Union, layout: Layout, base: str) -> Samples:
    """Paths and what their folders say, as columns."""
    which, places = layout.which, layout.places
    # In the order of the feature file, which then need not number them again.
    classes = sorted({place.label for place in places if place.label is not None}, key=order)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number.get(place.label or "", -1) for place in places], np.int32)
    splits = Coded.of(place.split for place in places)
    below = Coded.of(place.folder for place in places)
    deeper = any(below.values[code] for code in np.unique(below.codes[which]))
    return Samples(
        base,
        union.paths,
        labels[which],
        classes,
        splits.take(which),
        {"folder": below.take(which)} if deeper else {},
        union.faults,
        union.addresses,
    )


def _only_files(given: Given, arguments: list[str]) -> int:
    """How many entries a sequence of labels must have: one for each file of the list."""
    if given.folders or given.ignored or len(given) != len(arguments):
        raise InputError(
            "labels as a sequence need a list of images, one path each",
            expected="no folders, globs or other files in the list",
            next="give labels as a table, which is joined by path",
        )
    return len(given)


def _align(found: ImageSet, labels: list[str | None], given: Given) -> ImageSet:
    """Set the labels of a list of paths; `found.order` leads from samples to the list."""
    for place, i in enumerate(found.entries):
        first = found.order[i]
        if labels[place] != labels[first]:
            raise InputError(
                f"one path with two labels, {labels[first]!r} and {labels[place]!r}: "
                f"{found.samples[i].source}",
                expected="one",
                where=f"items {first} and {place} of the list",
            )
    samples = [
        replace(sample, label=labels[place])
        for sample, place in zip(found.samples, found.order, strict=True)
    ]
    return replace(found, samples=Samples.of(samples, found.root), notes=given.notes)


def _ordered(
    root: str,
    name: str,
    samples: list[Sample],
    targets: Targets | None,
    notes: list[str],
    places: list[int],
    entries: list[int],
) -> ImageSet:
    """Sort samples by the bytes of their paths; `entries` leads to them before and after."""
    columns = Samples.of(samples, root).but(targets=targets)
    order = columns.paths.argsort()
    rank = np.empty(len(order), _INDEX)
    rank[order] = np.arange(len(order))
    return ImageSet(
        root,
        escape(name),
        columns.take(order),
        0,
        notes,
        np.array(places, _INDEX)[order],
        rank[np.array(entries, np.intp)],
    )
