"""Addresses: a value as the user wrote it in, what it names on another machine out."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BottleneckError
from ..remote.urls import as_path, is_url, protocol_of, stored
from .formats import is_image_name
from .origin import Origin


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL names.

    Attributes
    ----------
    name : str
        Without anything secret: what is kept as its path.
    source : Origin or None
        None if it has a fault.
    fault : str or None
        Why nothing can be read from there.
    """

    name: str
    source: Origin | None
    fault: str | None = None


def address_of(value: str, home: str | None = None) -> Address | None:
    """What a value names on another machine; None for a path, and for a ``file://`` URL of one.

    Parameters
    ----------
    value : str
        As it was written.
    home : str, optional
        The URL of the folder of the table that holds the value: then paths are relative to it.

    Examples
    --------
    >>> address_of("photos/a.jpg") is None
    True
    >>> address_of("ssh://host/a.jpg").fault
    'ssh:// is not read'
    >>> address_of("1.jpg", home="memory://photos").name
    'memory://photos/1.jpg'
    """
    if home is None and "://" not in value:  # of 100,000 rows mostly all
        return None
    if home is not None and not is_url(value):
        value = f"{home}/{value.lstrip('/')}"
    elif home is not None and protocol_of(value) == "file":
        return Address(value, None, "a file of this computer, in a table that is not from here")
    if not is_url(value):
        return None
    from ..remote.door import require
    from ..remote.objects import RemoteObject

    try:
        if protocol_of(value) == "file":
            as_path(value)
            return None
        require(value)
    except BottleneckError as error:
        how = error.next.partition(", or ")[0]
        return Address(stored(value), None, f"{error.what}: {how}" if "pip" in how else error.what)
    return Address(stored(value), RemoteObject(value))


def may_name_image(value: str) -> bool:
    """Whether a value of a table that is not on this computer looks like the name of an image."""
    return is_url(value) or is_image_name(value)
