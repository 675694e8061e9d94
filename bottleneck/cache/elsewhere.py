"""Features on another machine: a URL in, `Features` out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from .. import usercache
from ..errors import CacheError, InputError
from ..remote import door
from ..remote.urls import as_path, is_url, is_web, name_of, protocol_of, shown
from .locate import MANIFEST, SUFFIXES
from .outputs import SEPARATOR
from .remote_storage import RemoteStorage

if TYPE_CHECKING:
    from .features import Features


def split_output(url: str) -> tuple[str, str | None]:
    """The URL and the output that ``URL::ID`` means; None where no output is chosen.

    Examples
    --------
    >>> split_output("s3://bucket/photos/::layer3:avg")
    ('s3://bucket/photos/', 'layer3:avg')
    """
    start = url.index("://") + 3
    place, separator, wanted = url[start:].rpartition(SEPARATOR)
    return (url[:start] + place, wanted) if separator else (url, None)


def is_features(url: str) -> bool:
    """Whether a URL names features: a feature file by its suffix, or a directory with a manifest."""
    place, _ = split_output(url)
    if name_of(place).lower().endswith(SUFFIXES):
        return True
    if is_web(place) or protocol_of(place) == "file":
        return False
    return RemoteStorage(place).size(MANIFEST) is not None


def open_url(url: str) -> Features:
    """The features at a URL: of a directory, or of one file, which is fetched whole.

    Raises
    ------
    CacheError
        If there is nothing, or no sound features.
    """
    from .directory import open_directory
    from .features import opened

    place, wanted = split_output(url)
    door.require(place)
    if name_of(place).lower().endswith(SUFFIXES):
        whole = opened(fetch(place))
        whole.file = shown(place)
    else:
        storage = RemoteStorage(place)
        if storage.size(MANIFEST) is None:
            raise CacheError(
                f"{storage.name} has no {MANIFEST}",
                expected="a directory of features, or the URL of a feature file (.h5)",
                where=storage.name,
                next=f"`bottleneck extract IMAGES -o {storage.name}` makes it",
            )
        whole = open_directory(storage)
        whole.file = storage.name
    return whole if wanted is None else whole.output(wanted)


def fetch(url: str) -> Path:
    """A copy of a feature file in the user's cache; fetched again unless it is the same version."""
    try:
        found = door.info(url)
        version = f"{shown(url)}\n{found.size}\n{found.version}"
        folder = usercache.folder("remote", "files", blake3(version.encode()).hexdigest()[:32])
        copy = folder / name_of(url).rpartition("/")[2]
        # Without a version of its content nobody knows whether it is still the same.
        if not found.version or not copy.exists():
            descriptor, part = tempfile.mkstemp(prefix=".", dir=folder)
            os.close(descriptor)
            door.download(url, part)
            os.replace(part, copy)
    except door.RemoteError as error:
        raise CacheError(
            f"{shown(url)}: {error}",
            expected="a feature file (.h5)",
            where=shown(url),
            next="check the address and your access to it",
        ) from None
    return copy


def of_this_computer(path: str | os.PathLike[str]) -> Path:
    """The path of what is changed or replaced in place, of a ``file://`` URL too.

    Raises
    ------
    CacheError
        For any other URL.
    """
    text = as_path(os.fspath(path))
    if is_url(text):
        raise CacheError(
            f"{shown(text)} is on another machine",
            expected="a feature file or a directory of this computer",
            where=shown(text),
            next="copy it here first (aws s3 cp, gcloud storage cp, azcopy)",
        )
    return Path(text)


def here(url: str) -> Path:
    """A copy of a feature file for what reads whole files of this computer only.

    Raises
    ------
    InputError
        For a directory, with the way out.
    """
    place, _ = split_output(url)
    if name_of(place).lower().endswith(SUFFIXES):
        return fetch(place)
    raise InputError(
        f"{shown(url)} is on another machine",
        expected="a directory of this computer, or the URL of a feature file (.h5)",
        next=f"copy it here first (aws s3 cp --recursive {shown(place)} NAME/), then verify NAME/",
    )
