"""Several folders at once: the images of each in, split and class of every image out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..paths import escape
from ..texts import Texts
from .folders import is_unlisted
from .gather import Part
from .layout import Layout, Place, as_text, read_layout, relative, split_of

SHOWN = 5  # names in one note
NOWHERE = Place(None, "", "")  # of an address


@dataclass(frozen=True, slots=True)
class Union:
    """The images of all parts, each once.

    Attributes
    ----------
    paths : Texts
        Relative to the root, in stored form.
    faults : mapping of int to str
        By place.
    addresses : mapping of int to object
        The sources of what is no file here, by place: it lies in no folder.
    entries : sequence of ndarray of int
        For each part the places of its images in `paths`.
    """

    paths: Texts
    faults: Mapping[int, str]
    addresses: Mapping[int, Any]
    entries: Sequence[np.ndarray]


def read_several(parts: Sequence[Part], union: Union, root: str) -> tuple[Layout, list[str]]:
    """Give each file the split and class that the folder it was given in says.

    A folder named like a split (``A/train B/test``) is that split, and the folders in it are the
    classes. A folder with images directly in it and none further below (``photos/*``, as the shell
    expands it) is a class. Any other folder is read on its own by `read_layout`. The first folder
    that holds a file decides; files in none of them are read by `read_layout` below the root.

    Parameters
    ----------
    parts : sequence of Part
        In the user's order.
    union : Union
        Their images.
    root : str
        Absolute folder that holds all.

    Returns
    -------
    layout : Layout
        In the order of ``union.paths``.
    notes : list of str
        What was taken for granted.
    """
    which = np.full(len(union.paths), -1, np.int32)
    places: list[Place] = []
    taken: dict[str, list[str]] = {}
    notes: list[str] = []
    folders = list(dict.fromkeys(part.folder for part in parts if part.folder is not None))
    splits = {split for folder in folders if (split := split_of(os.path.basename(folder)))}
    done = set()
    for part, entries in zip(parts, union.entries, strict=True):
        folder = part.folder
        if folder is None or folder in done:
            continue
        done.add(folder)
        name = os.path.basename(folder)
        split = split_of(name)
        if split is None and _only_direct(part):
            kind = "classes"
            place = Place(as_text(name) or None, "", "")
            layout = Layout(np.zeros(len(entries), np.int32), [place])
        else:
            kind = "read by the folders in them" if split is None else "splits"
            layout, told = read_layout(part.all(), folder, part.faults, split=split)
            notes += told
        own = layout.places
        if split is None and splits and "train" not in splits:
            # As in one folder with ants/ bees/ test/: what is beside the test images trains.
            own = [place._replace(split=place.split or "train") for place in own]
        taken.setdefault(kind, []).append(escape(relative(folder, root) or name))
        new = which[entries] < 0
        which[entries[new]] = layout.which[new] + len(places)
        places += own
    loose = which < 0
    if loose.any():
        layout, told = read_loose(union, loose, root)
        which[loose] = layout.which + len(places)
        places += layout.places
        notes += told if len(union.addresses) < loose.sum() else []
    told = [f"{_listed(names)}: taken as {kind}" for kind, names in taken.items()]
    notes.insert(0, "Several folders: " + "; ".join(told) + ".")
    return Layout(which, places), notes


def read_loose(union: Union, loose: np.ndarray, root: str) -> tuple[Layout, list[str]]:
    """What the folders below the root say about some of the images.

    Parameters
    ----------
    union : Union
    loose : ndarray of shape (n,), bool
        Which of them; the others only say which folders are split folders.
    root : str

    Returns
    -------
    layout : Layout
        Of the loose ones, in order.
    notes : list of str
    """
    if loose.all() and not union.addresses:
        return read_layout(union.paths, root, union.faults)
    files = loose.copy()
    files[list(union.addresses)] = False
    rows = np.flatnonzero(files)
    layout, notes = read_layout(
        union.paths.take(rows),
        root,
        {i: union.faults[row] for i, row in enumerate(rows.tolist()) if row in union.faults},
        beside=union.paths.take(np.flatnonzero(~loose)),
    )
    which = np.full(len(union.paths), len(layout.places), np.int32)
    which[rows] = layout.which
    return Layout(which[loose], [*layout.places, NOWHERE]), notes


def _only_direct(part: Part) -> bool:
    """Whether all images of a folder lie directly in it, and there is one."""
    depths = {
        path.count("/") for i, path in enumerate(part.all()) if not is_unlisted(part.faults.get(i))
    }
    return depths == {0}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
