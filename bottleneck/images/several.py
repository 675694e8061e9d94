"""Several folders at once: the images of each in, samples with split and class out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..paths import escape
from .folders import is_unlisted
from .layout import File, as_text, read_layout, relative, split_of
from .sample import Sample

SHOWN = 5  # names in one note


def read_several(
    files: Iterable[File], folders: Mapping[str, list[File]], root: str
) -> tuple[list[Sample], list[str]]:
    """Give each file the split and class that the folder it was given in says.

    A folder named like a split (``A/train B/test``) is that split, and the folders in it are the
    classes. A folder with images directly in it and none further below (``photos/*``, as the shell
    expands it) is a class. Any other folder is read on its own by `read_layout`. The first folder
    that holds a file decides; files in none of them are read by `read_layout` below the root.

    Parameters
    ----------
    files : iterable of (str, str or None)
        Absolute path and fault of each image, each path once.
    folders : mapping of str to list of (str, str or None)
        The images of each folder given, by its absolute path, in the user's order.
    root : str
        Absolute folder that holds all; stored paths are relative to it.

    Returns
    -------
    samples : list of Sample
        In the order of `files`.
    notes : list of str
        What was taken for granted.
    """
    files = list(files)
    known: dict[str, Sample] = {}
    taken: dict[str, list[str]] = {}
    notes: list[str] = []
    splits = {split for folder in folders if (split := split_of(os.path.basename(folder)))}
    for folder, inside in folders.items():
        name = os.path.basename(folder)
        split = split_of(name)
        if split is None and _only_direct(inside, folder):
            kind = "classes"
            label = as_text(name) or None
            samples = [Sample(escape(relative(p, root)), p, label, fault=f) for p, f in inside]
        else:
            kind = "read by the folders in them" if split is None else "splits"
            samples, told = read_layout(inside, folder, base=root, split=split)
            notes += told
        if split is None and splits and "train" not in splits:
            # As in one folder with ants/ bees/ test/: what is beside the test images trains.
            samples = [replace(s, split=s.split or "train") for s in samples]
        taken.setdefault(kind, []).append(escape(relative(folder, root) or name))
        for sample in samples:
            known.setdefault(sample.source, sample)
    loose = [file for file in files if file[0] not in known]
    if loose:
        samples, told = read_layout(loose, root, beside=list(known))
        known.update((sample.source, sample) for sample in samples)
        notes += told
    told = [f"{_listed(names)}: taken as {kind}" for kind, names in taken.items()]
    notes.insert(0, "Several folders: " + "; ".join(told) + ".")
    return _same_columns([known[path] for path, _ in files]), notes


def _only_direct(files: list[File], folder: str) -> bool:
    depths = {
        relative(path, folder).count(os.sep) for path, fault in files if not is_unlisted(fault)
    }
    return depths == {0}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _same_columns(samples: list[Sample]) -> list[Sample]:
    if not any(sample.meta for sample in samples):
        return samples
    return [s if s.meta else replace(s, meta={"folder": ""}) for s in samples]
