"""What the sources of images hand on: samples, in order, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to be labelled.

    Attributes
    ----------
    path : str
        The stored path: relative to the root, with ``/``, escaped by
        `bottleneck_probe.paths.escape`. Unique in its `ImageSet`.
    source : str, bytes, ndarray, PIL.Image.Image, torch.Tensor or callable
        Where its pixels come from. `str`: an absolute path for `open`; `bytes`: an encoded
        file; an array (h, w), (h, w, 3) or (h, w, 4), a uint8 tensor (c, h, w), or a PIL image:
        pixels; a callable without arguments returns one of these, when it is needed.
    label : str or None
        Class name; None is unlabelled.
    split : str
        ``train``, ``val``, ``test`` or empty.
    meta : mapping of str to str or float
        The table's other columns; ``folder`` for folders below the class.
    fault : str or None
        Known before reading to be unusable, and why: ``"no such file"``, ``"broken link"``.
    """

    path: str
    source: Any
    label: str | None = None
    split: str = ""
    meta: Mapping[str, str | float] = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """All images of one call, ordered by the UTF-8 bytes of their paths.

    Attributes
    ----------
    root : str
        Absolute folder the paths are relative to; empty for images from memory.
    name : str
        What the output is named after by default: the folder, the table's stem, the image's stem.
    samples : list of Sample
        Every image seen, those with a `fault` included.
    ignored : int
        Files that are no images (``.xml``, hidden files), which are counted and left alone.
    notes : list of str
        What was taken for granted, one sentence each, for the user to see.
    entries : list of int
        For each entry of the user, in the user's order, the index of its image in `samples`: a
        table's rows, a list's items, the lines of stdin; for a folder its images by path. Entries
        of one path lead to the same sample; files that are ignored have no entry.
    order : list of int
        ``order[i]`` is the place in the user's own order of ``samples[i]`` (a table's rows, a
        list's entries), so that `predict` can answer in input order.
    """

    root: str
    name: str
    samples: list[Sample]
    ignored: int = 0
    notes: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
