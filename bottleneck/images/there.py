"""Whether an image of an earlier run is still where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import BottleneckError
from ..remote.urls import is_url, where

_TAR = ".tar"


# Questions to other machines, which answer some dozen a second.
_ASKED = 20


def count_there(root: str, paths: Sequence[str]) -> int:
    """How many of an earlier run's images are still there, as far as that takes few questions.

    Parameters
    ----------
    root : str
    paths : sequence of str
        As they are stored. Of those on other machines some are asked for, and no more.
    """
    asked = 0
    found = 0
    for path in paths:
        if is_url(where(root, path)):
            if asked == _ASKED:
                continue
            asked += 1
        found += is_there(root, path)
    return found


def is_there(root: str, path: str) -> bool:
    """Whether there is still something at a stored path below a root.

    Of a member of a tar it is the tar that counts. An object on another machine is there unless
    that machine says that it is not.
    """
    place = where(root, path)
    if is_url(place):
        return _is_there_remotely(_tar_of(place) or place)
    if os.path.exists(place):
        return True
    tar = _tar_of(place)
    return tar is not None and os.path.isfile(tar)


def _tar_of(place: str) -> str | None:
    """The part of a place that names a tar, if something lies in that."""
    end = place.replace(os.sep, "/").lower().rfind(f"{_TAR}/")
    return place[: end + len(_TAR)] if end >= 0 else None


def _is_there_remotely(url: str) -> bool:
    from ..remote import door

    try:
        door.require(url)
        door.info(url)
    except door.RemoteError as error:
        return not error.missing
    except BottleneckError:  # a package is missing: then nothing can be read from there either
        return True
    return True
