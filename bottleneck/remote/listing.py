"""A folder on another machine as IMAGES: its URL in, an `ImageSet` out."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import InputError
from ..images.formats import HEAD_BYTES, NOT_IMAGES, is_image_name, sniff, suffix
from ..images.layout import read_layout
from ..images.sample import ImageSet, Samples
from ..images.tars.names import escape_name, stored_name
from ..texts import Texts, Writer
from . import door
from .ahead import in_order
from .objects import RemoteObjects
from .urls import is_url, is_web, name_of, protocol_of, shown

_BLOCK = 4096
# The slash behind an empty part: at the start, or behind another slash.
_EMPTY_PART = re.compile(r"(?<![^/])/")


class _Found:
    """The images of a folder so far."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.start = len(door.strip(base).rstrip("/")) + 1
        self.names = Writer()
        self.paths = Writer()
        self.sizes = array("q")
        self.md5 = bytearray()
        self.faults: dict[int, str] = {}
        self.ignored = 0
        self.others: Counter[str] = Counter()

    def add(self, objects: list[door.Info]) -> None:
        """Take the images among the objects of one folder."""
        for start in range(0, len(objects), _BLOCK):
            block = objects[start : start + _BLOCK]
            chosen = list(self._images(block))
            names, paths = [], []
            for each in chosen:
                name = each.name[self.start :]
                path, fault = _stored_key(name, len(self.sizes))
                if fault is not None:
                    self.faults[len(self.sizes)] = fault
                names.append(name)
                paths.append(path)
                self.sizes.append(-1 if each.size is None else each.size)
                self.md5 += each.md5 or bytes(16)
            self.names.add(names)
            self.paths.add(paths)

    def _images(self, objects: list[door.Info]) -> Iterator[door.Info]:
        unsure = []
        for each in objects:
            name = each.name.rpartition("/")[2]
            hidden = name.startswith(".") or any(
                part.startswith(".") for part in each.name[self.start :].split("/")
            )
            if not hidden and is_image_name(name):
                yield each
            elif not name and not each.size:
                continue  # what some tools put there to stand for the folder
            elif hidden or suffix(name) in NOT_IMAGES:
                self.leave_out("hidden files" if hidden else suffix(name))
            else:
                unsure.append(each)
        for each, image in zip(unsure, in_order(self._begins, unsure), strict=True):
            if image:
                yield each
            else:
                self.leave_out(suffix(each.name.rpartition("/")[2]) or "without suffix")

    def _begins(self, each: door.Info) -> bool:
        url = self.base + each.name[self.start :]
        size = HEAD_BYTES if each.size is None else min(HEAD_BYTES, each.size)
        return sniff(door.read_range(url, 0, size)) is not None

    def leave_out(self, kind: str) -> None:
        """Count one object as no image."""
        self.ignored += 1
        self.others[kind] += 1


def _stored_key(name: str, number: int) -> tuple[str, str | None]:
    """`stored_name` of a key: an empty part of it tells it from another key, and stays as ``%2F``.

    Examples
    --------
    >>> _stored_key("b//1.jpg", 0), _stored_key("b/1.jpg", 1), _stored_key("/b/1.jpg", 2)
    (('b/%2F1.jpg', None), ('b/1.jpg', None), ('%2Fb/1.jpg', None))
    """
    path, fault = stored_name(name.lstrip("/"), number)
    if not _EMPTY_PART.search(name) or path.endswith(f"...@{number}"):
        return path, fault
    parts = ["%2E" * len(p) if p in (".", "..") else escape_name(p) for p in name.split("/")]
    return _EMPTY_PART.sub("%2F", "/".join(parts)), fault


def is_remote_folder(url: str) -> bool:
    """Whether an argument names a folder on another machine.

    Raises
    ------
    InputError
        If there is nothing of that name.
    """
    if not is_url(url) or protocol_of(url) == "file" or is_image_name(name_of(url)):
        return False
    door.require(url)
    if is_web(url):
        # An image may have any name there; a slash at the end is a page.
        return name_of(url).endswith("/")
    try:
        if url.endswith("/") or door.is_folder(url):
            return True
        door.info(url)
    except door.RemoteError as error:
        raise door.explain(error, url) from None
    return False


def refuse_globs(arguments: Sequence[str]) -> None:
    """Raise an InputError for a URL with ``*``: nothing on another machine is matched."""
    for url in arguments:
        if is_url(url) and protocol_of(url) != "file" and "*" in name_of(url):
            raise InputError(
                f"{shown(url)}: globs do not work on URLs",
                expected="for tars braces, such as {000..099}.tar; for images a folder",
                next=f"name the numbers, or the folder: {shown(url).partition('*')[0]}...",
            )


def refuse_folders(arguments: Sequence[str]) -> None:
    """Raise an InputError for a folder of another machine, which is listed only where it is alone."""
    for url in arguments:
        if not is_url(url) or protocol_of(url) == "file" or is_web(url):
            continue
        if is_image_name(name_of(url)):
            continue
        door.require(url)
        try:
            folder = url.endswith("/") or door.is_folder(url)
        except door.RemoteError:
            continue  # read as an image it has its reason
        if folder:
            raise InputError(
                f"{shown(url)} is a folder on another machine among other inputs",
                expected="such a folder alone, or none",
                next="run once for it and once for the rest, each with its own -o, and join both with "
                "`bottleneck cache merge`",
            )


def find_folder(url: str) -> ImageSet:
    """The images of a folder on another machine and of all folders below it.

    Parameters
    ----------
    url : str

    Raises
    ------
    InputError
        If there is no image, or the folder cannot be listed.
    """
    if is_web(url):
        raise InputError(
            f"{shown(url)} is no image by its suffix, and a web server lists no folders",
            expected="the URL of an image, a table or a tar",
            next="give a table (.csv) with a column path that holds the images' URLs",
        )
    base = url.rstrip("/") + "/"
    found = _Found(base)
    try:
        for objects in door.listing(base):
            found.add(objects)
    except door.RemoteError as error:
        raise door.explain(error, url) from None
    root = shown(base).rstrip("/")
    paths = found.paths.finish()
    if not len(paths):
        instead = ", ".join(f"{count} {what}" for what, count in found.others.most_common(5))
        raise InputError(
            f"0 images in {root}",
            expected="objects that are images by suffix or content",
            where=f"{found.ignored} other objects: {instead}" if found.ignored else "",
            next="check the name of the bucket and the folder",
        )
    order = paths.argsort()
    sources = RemoteObjects(
        base,
        found.names.finish(),
        np.frombuffer(found.sizes, np.int64),
        np.frombuffer(bytes(found.md5), np.uint8).reshape(-1, 16),
    ).take(order)
    place = {row: i for i, row in enumerate(order.tolist())} if found.faults else {}
    faults = {place[row]: fault for row, fault in found.faults.items()}
    samples, notes = _samples(root, paths.take(order), faults, sources)
    everything = np.arange(len(samples), dtype=np.int32)
    name = root.rpartition("/")[2] or "images"
    return ImageSet(root, name, samples, found.ignored, notes, everything, everything)


def _samples(
    root: str, paths: Texts, faults: dict[int, str], sources: RemoteObjects
) -> tuple[Samples, list[str]]:
    from ..images.find import samples_in
    from ..images.several import Union

    # An empty part of a name is no class.
    plain = [path.replace("%2F", "") for path in paths] if any("%2F" in p for p in paths) else paths
    layout, notes = read_layout(plain, root, faults)
    samples = samples_in(Union(paths, faults, {}, []), layout, root)
    return samples.but(sources=sources), notes
