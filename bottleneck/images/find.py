"""The way in: folders, tables, files, globs, lists or images from memory in, an `ImageSet` out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from ..paths import escape, order
from .address import address_fault
from .gather import Given, common_folder, existing, gather, nothing_found
from .join import join_labels
from .layout import read_layout
from .memory import from_memory, read_labels
from .sample import ImageSet, Sample
from .several import read_several
from .tables import samples_of
from .tabular import is_data_frame, is_table, read_table


def find(
    inputs: Any,
    *,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_columns: Sequence[str] = (),
    split_column: str | None = None,
    labels: Any = None,
    missing: Literal["error", "fault"] | None = None,
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
        One column of a table; by default ``label``.
    labels : path, DataFrame or sequence, optional
        A table that is joined by path, or a class for each entry of a list.
    missing : {"error", "fault"}, optional
        What a path that does not exist is: an error with the names that are near, or a sample with
        the fault ``no such file``. Default: an error for one path, a fault in a list.

    Returns
    -------
    ImageSet
        Ordered by the UTF-8 bytes of the paths.

    Raises
    ------
    InputError
        If there is no image at all, or the inputs contradict themselves.
    """
    inputs = _as_list(inputs)
    columns: dict[str, Any] = {
        "path_column": path_column,
        "label_columns": label_columns,
        "split_column": split_column,
    }
    base = None if root is None else os.path.abspath(root)
    join = labels is not None and (isinstance(labels, (str, os.PathLike)) or is_data_frame(labels))
    sequence = None if join else labels
    arguments = _paths(inputs)
    if is_data_frame(inputs) or (arguments and len(arguments) == 1 and is_table(arguments[0])):
        source = inputs if arguments is None else existing(arguments[0])
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
        return from_memory(inputs, sequence)
    if not join and (path_column or label_columns or split_column):
        raise InputError(
            "columns were named, but there is no table",
            expected="a .csv, .tsv or .parquet file as IMAGES or --labels",
        )
    mode = missing or ("error" if isinstance(inputs, (str, os.PathLike)) else "fault")
    found, listed = _from_paths(arguments, base, mode == "error")
    if sequence is not None:
        found = _align(found, read_labels(sequence, _only_files(listed, arguments)), listed)
    if join:
        joined, notes = join_labels(found.samples, read_table(labels), found.root, **columns)
        # What the folders said about labels no longer holds.
        found = replace(found, samples=joined, notes=listed.notes + notes)
    return found


def _as_list(inputs: Any) -> Any:
    """An array of text or of objects as a list; those of numbers are pixels and stay."""
    named = isinstance(inputs, np.ndarray) and inputs.dtype.kind in "UOT"
    column = type(inputs).__name__ in ("Series", "Index") and hasattr(inputs, "tolist")
    return inputs.tolist() if named or column else inputs


def _paths(inputs: Any) -> list[str] | None:
    """The arguments as paths, or None if they are something else."""
    if isinstance(inputs, (str, os.PathLike)):
        return [os.fsdecode(inputs)]
    if not isinstance(inputs, (list, tuple)):
        return None
    if not inputs:
        raise InputError("no images were given: an empty list", expected="at least one image")
    if all(isinstance(item, (str, os.PathLike)) for item in inputs):
        return [os.fsdecode(item) for item in inputs]
    return None


def _from_table(source: Any, base: str | None, columns: dict[str, Any]) -> ImageSet:
    table = read_table(source)
    named = isinstance(source, str)
    if base is None:
        base = os.path.dirname(os.path.abspath(source)) if named else os.getcwd()
    samples, root, rows, entries, notes = samples_of(table, base, **columns)
    faults = {sample.fault for sample in samples}
    if None not in faults and "no such file" in faults:
        notes.append(f"{table.where}: no path exists below {base}: wrong --root?")
    name = os.path.splitext(os.path.basename(source))[0] if named else "table"
    return _ordered(root, name, samples, 0, notes, rows, entries)


def _from_paths(arguments: list[str], base: str | None, strict: bool) -> tuple[ImageSet, Given]:
    given = Given()
    for argument in arguments:
        gather(given, argument, strict, alone=len(arguments) == 1)
    first: dict[str, int] = {}
    for place, (path, _) in enumerate(given.files):
        first.setdefault(path, place)
    if not first:
        raise nothing_found(arguments, given)
    local = [path for path in first if not address_fault(path)]
    stated = base is not None
    if base is None or not all(path.startswith(os.path.join(base, "")) for path in local):
        homes = given.homes or [os.getcwd()]
        base = common_folder(homes if base is None else [base, *homes])
    files = [given.files[first[path]] for path in local]
    if given.folders and len(given.folders) + given.singles > 1 and not stated:
        samples, notes = read_several(files, given.folders, base)
    else:
        samples, notes = read_layout(files, base)
    found = {sample.source: sample for sample in samples}
    for path in first.keys() - found.keys():
        found[path] = Sample(escape(path), path, fault=address_fault(path))
    samples = [found[path] for path in first]
    at = {path: i for i, path in enumerate(first)}
    if again := len(given.files) - len(first):
        given.notes.append(f"{again} files were given more than once and count once.")
    lone = len(arguments) == 1 and not given.folders and len(first) == 1
    notes = given.notes + ([] if lone else notes)
    name = (
        os.path.splitext(os.path.basename(next(iter(first))))[0] if lone else os.path.basename(base)
    )
    places, entries = list(first.values()), [at[path] for path, _ in given.files]
    name = name or "images"
    return _ordered(base, name, samples, given.ignored, notes, places, entries), given


def _only_files(given: Given, arguments: list[str]) -> int:
    """How many entries a sequence of labels must have: one for each file of the list."""
    if given.folders or given.ignored or len(given.files) != len(arguments):
        raise InputError(
            "labels as a sequence need a list of images, one path each",
            expected="no folders, globs or other files in the list",
            next="give labels as a table, which is joined by path",
        )
    return len(given.files)


def _align(found: ImageSet, labels: list[str | None], given: Given) -> ImageSet:
    """Set the labels of a list of paths; `found.order` leads from samples to the list."""
    first = {given.files[place][0]: place for place in found.order}
    for place, (path, _) in enumerate(given.files):
        if labels[place] != labels[first[path]]:
            raise InputError(
                f"one path with two labels, {labels[first[path]]!r} and {labels[place]!r}: {path}",
                expected="one",
                where=f"items {first[path]} and {place} of the list",
            )
    samples = [
        replace(sample, label=labels[place])
        for sample, place in zip(found.samples, found.order, strict=True)
    ]
    return replace(found, samples=samples, notes=given.notes)


def _ordered(
    root: str,
    name: str,
    samples: list[Sample],
    ignored: int,
    notes: list[str],
    places: list[int],
    entries: list[int],
) -> ImageSet:
    """Sort samples by the bytes of their paths; `entries` leads to them before and after."""
    ranks = sorted(range(len(samples)), key=lambda i: order(samples[i].path))
    rank_of = {i: rank for rank, i in enumerate(ranks)}
    return ImageSet(
        root,
        escape(name),
        [samples[i] for i in ranks],
        ignored,
        notes,
        [places[i] for i in ranks],
        [rank_of[i] for i in entries],
    )
