r"""Text for people: any name in, characters out that neither steer a terminal nor feign another line.

A file name may hold anything but NUL: a newline and ``error:``, escape sequences, marks that turn the
direction of writing. What is stored and what ``--json`` says stays as it is; only what is shown changes.
"""

from __future__ import annotations


class Lines(str):
    """Text whose line breaks are ours, not a name's: it is shown on several lines."""

    __slots__ = ()


def printable(text: str) -> str:
    r"""Text in one line, its unprintable characters as ``\n``, ``\x1b``, ``\u202e``.

    Parameters
    ----------
    text : str
        Of `Lines` the line breaks stay.

    Examples
    --------
    >>> print(printable("a\x1b[31m\nerror: none.png"))
    a\x1b[31m\nerror: none.png
    >>> print(printable(Lines("first\nsecond")))
    first
    second
    """
    kept = "\n" if isinstance(text, Lines) else ""
    if text.isprintable():
        return str(text)
    return "".join(
        c if c.isprintable() or c == kept else c.encode("unicode_escape").decode() for c in text
    )
