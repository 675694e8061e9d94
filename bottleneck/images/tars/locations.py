"""Which tars are meant: arguments as they were written in, the places of tars in order out."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import InputError
from ...paths import escape
from ..formats import NOT_IMAGES, suffix
from ..gather import common_folder
from ..layout import relative, split_of
from .readers import is_url

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
# Names that one pair of braces may stand for.
MAX_NAMES = 1_000_000

_RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
_CHOICE = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
# `train.tar`, `val-0001.tar`: a split, and the number of the shard.
_SHARD = re.compile(r"([a-z]+)[-_.]?\d*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """Where one tar is.

    Attributes
    ----------
    location : str
        An absolute path, or a URL, passwords included.
    name : str
        Relative to the root of all, as the system writes it.
    shown : str
        For messages.
    split : str
        What its folder, or else its name, says.
    """

    location: str
    name: str
    shown: str
    split: str


def is_tar_name(path: str) -> bool:
    """Whether a path ends like a tar, compressed or not; of a URL what precedes its query."""
    name = path.partition("?")[0] if is_url(path) else path
    return name.lower().endswith((SUFFIX, *COMPRESSED))


def expand_braces(pattern: str) -> list[str]:
    """The names that ``{000..099}`` and ``{train,val}`` stand for; the shell's rule.

    Examples
    --------
    >>> expand_braces("{a,b}/{08..10}.tar")
    ['a/08.tar', 'a/09.tar', 'a/10.tar', 'b/08.tar', 'b/09.tar', 'b/10.tar']
    >>> expand_braces("plain.tar")
    ['plain.tar']
    """
    names = [pattern]
    # What precedes the first braces is the same in all names, or was expanded: so are the braces.
    while found := _first(names[0]):
        if (total := len(names) * _count(found)) > MAX_NAMES:
            raise InputError(
                f"{escape(pattern)} stands for {total} names",
                expected=f"up to {MAX_NAMES}",
                next="name fewer tars at once",
            )
        names = [
            name[: match.start()] + each + name[match.end() :]
            for name in names
            if (match := _first(name))
            for each in _each(match)
        ]
    return names


def _first(name: str) -> re.Match[str] | None:
    found = [match for rule in (_RANGE, _CHOICE) if (match := rule.search(name))]
    return min(found, key=lambda match: match.start(), default=None)


def _count(match: re.Match[str]) -> int:
    if match.re is _CHOICE:
        return match[1].count(",") + 1
    return abs(int(match[2]) - int(match[1])) + 1


def _each(match: re.Match[str]) -> Iterator[str]:
    if match.re is _CHOICE:
        yield from match[1].split(",")
        return
    first, last = int(match[1]), int(match[2])
    # A zero in front says how many digits each has.
    padded = any(len(text) > 1 and text[0] == "0" for text in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield f"{number:0{width}d}"


def tars_of(arguments: Sequence[str]) -> list[str] | None:
    """The tars that arguments stand for, in the user's order; None if there is none among them.

    Raises
    ------
    InputError
        If there are tars and other things, a tar is not there, or a pattern has no match.
    """
    meant = [argument for argument in arguments if is_tar_name(argument)]
    if not meant:
        return None
    if len(meant) < len(arguments):
        other = next(argument for argument in arguments if not is_tar_name(argument))
        raise InputError(
            f"{escape(meant[0])} is a tar among other inputs, such as {escape(other)}",
            expected="tars alone, or none",
            next="run once for the tars and once for the rest, with --add and the same -o",
        )
    return list(dict.fromkeys(each for argument in arguments for each in _expand(argument)))


def _expand(argument: str) -> Iterator[str]:
    if is_url(argument):
        yield from expand_braces(argument)
        return
    path = os.path.abspath(argument)
    if os.path.lexists(path):
        yield path
        return
    for name in expand_braces(argument):
        path = os.path.abspath(name)
        if not os.path.lexists(path) and name.startswith("~"):
            path = os.path.abspath(os.path.expanduser(name))
        if os.path.lexists(path) or not glob.has_magic(name):
            yield path
        elif matches := sorted(glob.glob(name, recursive=True)):
            yield from map(os.path.abspath, matches)
        else:
            raise InputError(f"no file matches {escape(name)}", expected="at least one tar")


def tars_in(folder: str) -> list[str] | None:
    """The tars of a folder and of all folders below it, ordered; None if there may be images as well.

    Folders of images are large, those of tars are not: the first such file ends the search.
    """
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [name for name in files if not name.startswith(".")]
        if not all(is_tar_name(name) or suffix(name) in NOT_IMAGES for name in files):
            return None
        found += [os.path.join(place, name) for name in files if is_tar_name(name)]
    return sorted(found, key=os.fsencode) or None


def locate(tars: Sequence[str], base: str | None = None) -> tuple[list[Location], str, str]:
    """Where tars are, relative to the folder that holds them all.

    Parameters
    ----------
    tars : sequence of str
        Absolute paths, or URLs; one of both.
    base : str, optional
        That folder, if it was stated.

    Returns
    -------
    locations : list of Location
    root : str
        The folder; of URLs with nothing that is secret.
    name : str
        What to call all of them.
    """
    urls = [tar for tar in tars if is_url(tar)]
    if urls and len(urls) < len(tars):
        raise InputError(
            "tars of this computer and others were given at once",
            expected="one or the other",
            next="run once for each, with --add and the same -o",
        )
    if urls:
        from ...remote.urls import common_parent, relative_to, shown

        folder = common_parent(urls)
        if folder is None:
            raise InputError(
                "the tars lie on several servers or in several buckets",
                expected="one folder that holds them all",
                next="run once for each, with --add and the same -o",
            )
        root = folder
        names = [relative_to(url, root) for url in urls]
        labels = [shown(url) for url in urls]
    else:
        folders = [os.path.dirname(tar) for tar in tars]
        inside = base is not None and all(
            f"{tar}".startswith(os.path.join(base, "")) for tar in tars
        )
        root = base if base is not None and inside else common_folder(folders)
        names = [relative(tar, root) for tar in tars]
        labels = [escape(tar) for tar in tars]
    name = os.path.basename(names[0])[: -len(SUFFIX)] if len(tars) == 1 else os.path.basename(root)
    found = [
        Location(tar, name, label, split_from(name))
        for tar, name, label in zip(tars, names, labels, strict=True)
    ]
    return found, root, escape(name or "images")


def split_from(name: str) -> str:
    """The split that a tar's folder says, or else its name; empty for none.

    Examples
    --------
    >>> split_from("train/ants/01.tar"), split_from("val-0001.tar"), split_from("trainee.tar")
    ('train', 'val', '')
    """
    *folders, base = name.replace(os.sep, "/").split("/")
    for folder in reversed(folders):
        if split := split_of(folder):
            return split
    stem = base[: base.lower().rfind(SUFFIX)]
    shard = _SHARD.fullmatch(stem)
    return (split_of(shard[1]) or "") if shard else ""
