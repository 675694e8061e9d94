"""What a library says about a network of its own, kept so that the next run need not import it.

Importing torchvision or timm to read a few numbers takes seconds. They change only with the library, so
they are kept in the user's cache by its version.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from .. import usercache
from ..errors import BottleneckError
from ..images.preprocess import Preprocessing

# Raise it when sources keep other fields, or mean something else by them.
_MEMO_VERSION = 2


def kept(
    subject: str, libraries: Sequence[str], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `make` returns, asked for once per version of the libraries it asks.

    Parameters
    ----------
    subject : str
        What it is about: ``"timm/resnet26d.bt_in1k"``.
    libraries : sequence of str
        Distributions whose versions decide the answer.
    make : callable
        Returns plain JSON data. What it raises is raised, and nothing is kept.

    Returns
    -------
    dict

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If one of the libraries is not installed.
    """
    versions = {name: version(name) for name in libraries}
    identity = json.dumps([_MEMO_VERSION, subject, versions], sort_keys=True)
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, BottleneckError):
        # A memo that is not there or damaged is asked for again and written anew.
        known = json.loads(usercache.read(usercache.folder("preprocessing") / name))
        if isinstance(known, dict) and known.get("identity") == identity:
            return dict(known["content"])
    content = make()
    with contextlib.suppress(OSError, BottleneckError):  # slower next time, that is all
        data = json.dumps({"identity": identity, "content": content}).encode()
        usercache.write(usercache.folder("preprocessing") / name, data)
    return content


def preprocessing_of(fields: dict[str, Any]) -> Preprocessing:
    """The `Preprocessing` whose fields a source kept as plain data."""
    data: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return Preprocessing(**data)
