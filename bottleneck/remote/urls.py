"""URLs: text in, what it names out, and how it may be shown; nothing is opened here."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote
from urllib.request import url2pathname

from ..errors import InputError
from ..paths import unescape

# protocol -> package that fsspec needs for it, as pip knows it
PROTOCOLS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "https": "aiohttp",
    "http": "aiohttp",
    "memory": "",
}
WEB = ("http", "https")

# Two letters at least: `C://photos` is a folder on Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
# Query parameters that let anybody in who has read them, or that only belong to such: AWS, Google,
# Azure, CloudFront, and what others call theirs.
_SECRET = re.compile(
    r"x-(amz|goog|oss|obs)-.*|awsaccesskeyid|googleaccessid|(key-pair-|access-?key-?)?id_?token"
    r"|signature|sig|expires|policy|key-pair-id|s[vreiptks]|srt|skoid|sktid|skt|ske|sks|skv|sdd|spr"
    r"|(access|auth|api|security|session|private|refresh)?[-_]?(token|key|secret)|authorization|auth"
    r"|hmac|hash|password|passwd|pwd|credentials?|jwt|code",
    re.IGNORECASE,
)
# Of these the short names say what they are only beside a signature (Azure's `sv`, `sp`, `se`).
_SHORT = re.compile(
    r"s[vreiptks]|srt|ske|sks|skv|sdd|spr|expires|policy|hash|code|key", re.IGNORECASE
)


def is_url(text: str) -> bool:
    """Whether something is written as a URL.

    Examples
    --------
    >>> is_url("s3://bucket/1.jpg"), is_url("C://photos"), is_url("photos/1.jpg")
    (True, False, False)
    """
    return _URL.match(text) is not None


def protocol_of(url: str) -> str:
    """What stands before ``://``, in lower case."""
    match = _URL.match(url)
    return match[1].lower() if match else ""


def is_web(url: str) -> bool:
    """Whether a URL is a web server's, where queries count and nothing can be listed."""
    return protocol_of(url) in WEB


def stored(url: str) -> str:
    """A URL as it may be kept and shown: without user, password, signature and fragment.

    Examples
    --------
    >>> stored("https://me:secret@host/a.jpg?width=80&X-Amz-Signature=abc#top")
    'https://host/a.jpg?width=80'
    >>> stored("s3://bucket/what?.jpg")
    's3://bucket/what?.jpg'
    """
    match = _URL.match(url)
    if match is None:
        return url
    rest = url[match.end() :]
    host, slash, path = rest.partition("/")
    if match[1].lower() not in WEB:  # there `?` and `#` are characters of a name
        return f"{match[1]}://{host.rpartition('@')[2]}{slash}{path}"
    rest = rest.partition("#")[0]
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    kept = _kept(query)
    return f"{match[1]}://{host.rpartition('@')[2]}{slash}{path}" + (f"?{kept}" if kept else "")


def _kept(query: str) -> str:
    pairs = query.split("&") if query else []
    names = [unquote(pair.partition("=")[0]) for pair in pairs]
    secret = [_SECRET.fullmatch(name) is not None for name in names]
    signed = any(s and not _SHORT.fullmatch(n) for s, n in zip(secret, names, strict=True))
    return "&".join(
        pair
        for pair, name, hidden in zip(pairs, names, secret, strict=True)
        if not hidden or (_SHORT.fullmatch(name) and not signed)
    )


def shown(url: str) -> str:
    """`stored`, for messages."""
    return stored(url)


def scrubbed(text: str, url: str) -> str:
    """A message of some library without what is secret in a URL, or in any other it names."""
    text = _IN_TEXT.sub(lambda match: stored(match[0]), " ".join(text.split()))
    for value in _secrets(url):
        for spelling in {value, unquote(value)}:
            if len(spelling) > 3:
                text = text.replace(spelling, "***")
    return text[:200]


def _secrets(url: str) -> list[str]:
    """The user, the password and the values of all parameters that are not kept."""
    match = _URL.match(url)
    rest = url[match.end() :] if match else ""
    user = rest.partition("/")[0].rpartition("@")[0]
    found = [part for part in (user, *user.split(":")) if part]
    if is_web(url):
        query = rest.partition("#")[0].partition("?")[2]
        kept = set(_kept(query).split("&"))
        found += [pair.partition("=")[2] for pair in query.split("&") if pair and pair not in kept]
    return found


def name_of(url: str) -> str:
    """The part of a URL that names a file: no query, fragment or user.

    Examples
    --------
    >>> name_of("https://me@host/a/b.tar?sig=x")
    'https://host/a/b.tar'
    """
    bare = stored(url)
    return bare.partition("?")[0] if is_web(bare) else bare


def parent(url: str) -> str:
    """The folder of a URL, without a slash at its end.

    Examples
    --------
    >>> parent("s3://bucket/photos/1.jpg"), parent("https://host/1.jpg?a=/b/")
    ('s3://bucket/photos', 'https://host')
    """
    name = name_of(url).rstrip("/")
    match = _URL.match(name)
    start = match.end() if match else 0
    cut = name.rfind("/", start)
    return name[:cut] if cut >= 0 else name


def relative_to(url: str, root: str) -> str:
    """What follows a folder in a URL's name."""
    return name_of(url)[len(root) :].lstrip("/")


def common_parent(urls: list[str]) -> str | None:
    """The deepest folder that holds them all; None if they are of several servers or buckets."""
    split = [parent(url).split("/") for url in urls]
    first = split[0]
    same = next(
        (
            i
            for i in range(len(first))
            if any(each[i : i + 1] != first[i : i + 1] for each in split)
        ),
        len(first),
    )
    return "/".join(first[:same]) if same > 2 else None


def as_path(text: str) -> str:
    """The path that a ``file://`` URL names; anything else as it is.

    Raises
    ------
    InputError
        If it names a file of another computer.

    Examples
    --------
    >>> as_path("file:///data/a%20b.jpg").replace(os.sep, "/"), as_path("photos/1.jpg")
    ('/data/a b.jpg', 'photos/1.jpg')
    """
    if "://" not in text or protocol_of(text) != "file":
        return text
    # By hand: what follows `?` or `#` belongs to the name, since nobody escapes these in a path, and
    # `urlsplit` raises for brackets, which are ordinary in names.
    computer, slash, path = text.partition("://")[2].partition("/")
    if computer not in ("", "localhost"):
        raise InputError(
            f"{text} names a file of the computer {computer}",
            expected="file:///, three slashes, before an absolute path",
        )
    return os.path.abspath(url2pathname(slash + path or "/"))


def where(root: str, path: str) -> str:
    """The place of an image of a feature file: a path for `open`, or a URL; both as they are stored.

    Examples
    --------
    >>> where("s3://bucket/photos", "ants/1.jpg"), where("/data", "https://host/100%25.jpg")
    ('s3://bucket/photos/ants/1.jpg', 'https://host/100%.jpg')
    """
    place = path if is_url(path) else f"{root}/{path}"
    if is_url(place):
        return unescape(place).replace(os.sep, "/")
    return os.path.join(unescape(root), unescape(path))
