"""The one door to fsspec: a URL in, bytes, sizes and names out, errors in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from ..errors import InputError, MissingExtraError
from .urls import PROTOCOLS, is_web, protocol_of, scrubbed, shown

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
# Without a byte from the other side.
READ_TIMEOUT_S = 30.0
# An image or a piece of a tar, all in all.
TOTAL_TIMEOUT_S = 300.0
# What a web server answers may differ a moment later; clients of buckets try again by themselves.
TRIES = 3
PAUSE_S = 0.5
_PIECE = 1 << 20

_MISSING = "no such object"
_FORBIDDEN = "no permission"


class RemoteError(Exception):
    """What went wrong, as a reason for the quarantine; holds nothing that is secret.

    Parameters
    ----------
    reason : str
    missing : bool
        Whether there is no such object.
    """

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Info:
    """What a listing says of an object.

    Attributes
    ----------
    name : str
        Its URL, without anything secret.
    size : int or None
        In bytes.
    folder : bool
    md5 : bytes or None
        Of its content, where the store says so.
    version : str
        Changes with the content, where the store says so; else empty.
    ranges : bool
        Whether a part of it can be asked for.
    """

    name: str
    size: int | None
    folder: bool = False
    md5: bytes | None = None
    version: str = ""
    ranges: bool = True


def require(url: str) -> None:
    """Raise if a URL's protocol cannot be read here.

    Raises
    ------
    InputError
        If it is none that is known.
    MissingExtraError
        If a package is missing, with the line that installs it.
    """
    filesystem(protocol_of(url))


@cache
def filesystem(protocol: str) -> Any:
    """fsspec's file system for a protocol, set up by its own configuration and environment."""
    if protocol not in PROTOCOLS:
        raise InputError(
            f"{protocol}:// is not read",
            expected=", ".join(f"{each}://" for each in ("s3", "gs", "az", "https", "file")),
            next="download the files first",
        )
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"reading {protocol}:// needs the package fsspec, which is not installed",
            next="pip install 'bottleneck-probe[remote]', or download the files first",
        ) from error
    package = PROTOCOLS[protocol]
    try:
        return fsspec.filesystem(protocol, **_options(protocol))
    except ImportError as error:
        raise MissingExtraError(
            f"reading {protocol}:// needs the package {package}, which is not installed",
            next=f"pip install {package}, or download the files first",
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    # Listings are never kept: what a second run in one program sees has to be what is there.
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("http", "https"):
        import aiohttp

        options["client_kwargs"] = {
            "timeout": aiohttp.ClientTimeout(
                total=TOTAL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
            )
        }
    elif PROTOCOLS[protocol] == "s3fs":
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
        }
    elif protocol == "memory":
        return {}
    return options


def read(url: str, limit: int, size: int | None = None) -> bytes | int:
    """All bytes of an object, or how many there are at least if that is over `limit`.

    Raises
    ------
    RemoteError
    """

    def once() -> bytes | int:
        system = filesystem(protocol_of(url))
        if is_web(url):
            return _streamed(system, url, limit)
        known = system.info(url)["size"] if size is None else size
        if known is not None and known > limit:
            return int(known)
        data: bytes = system.cat_file(url)
        return data if len(data) <= limit else len(data)

    return _tried(once, url)


def _streamed(system: Any, url: str, limit: int) -> bytes | int:
    """Read no more than the limit, whatever the server sends and says about it."""
    parts, held = [], 0
    # A size of one so that it is not asked for beforehand: what comes is counted.
    with system.open(url, "rb", block_size=0, size=1) as file:
        while part := file.read(_PIECE):
            parts.append(part)
            held += len(part)
            if held > limit:
                return held
    return b"".join(parts)


def read_range(url: str, start: int, stop: int) -> bytes:
    """The bytes of an object from `start` to before `stop`, as far as there are any.

    Raises
    ------
    RemoteError
        Also if the server sends more than that: it cannot send a part.
    """

    def once() -> bytes:
        data: bytes = filesystem(protocol_of(url)).cat_file(url, start=start, end=stop)
        if len(data) > stop - start:
            raise RemoteError("the server sends no parts of a file")
        return data

    return _tried(once, url) if stop > start else b""


def info(url: str) -> Info:
    """What a store or server says of an object.

    Raises
    ------
    RemoteError
    """
    return _tried(lambda: _info(filesystem(protocol_of(url)).info(url), url), url)


def listing(url: str) -> Iterator[list[Info]]:
    """The objects in a folder and in all folders below it, a folder at a time.

    Raises
    ------
    RemoteError
    """
    system = filesystem(protocol_of(url))

    def folder(path: str) -> tuple[list[str], list[Info]]:
        found = system.ls(path, detail=True)
        same = path.rstrip("/")
        inner = [each["name"] for each in found if each["type"] == "directory"]
        if any(each.rstrip("/") == same for each in inner):
            # Names with an empty part (`a//1.jpg`) lie in what is shown as the folder itself, and
            # cannot be asked for: everything below it is listed at once.
            found, inner = list(system.find(path, detail=True).values()), []
        return inner, [_info(each, url) for each in found if each["type"] != "directory"]

    pending = [system._strip_protocol(url)]
    while pending:
        path = pending.pop()
        folders, objects = _tried(lambda path=path: folder(path), url)  # type: ignore[misc]
        pending += sorted(folders, reverse=True)
        # A bucket may hold an object that is called as its folder.
        same = path.rstrip("/")
        yield [each for each in objects if each.name.rstrip("/") != same]


def strip(url: str) -> str:
    """A URL as the names of `listing` begin."""
    return str(filesystem(protocol_of(url))._strip_protocol(url))


def is_folder(url: str) -> bool:
    """Whether there is something below a URL, rather than an object of that name.

    Raises
    ------
    RemoteError
    """
    return _tried(lambda: bool(filesystem(protocol_of(url)).isdir(url)), url)


def _info(found: dict[str, Any], url: str) -> Info:
    size = found.get("size")
    return Info(
        str(found["name"]),
        int(size) if size is not None else None,
        found.get("type") == "directory",
        _md5(found, url),
        str(found.get("ETag") or found.get("etag") or found.get("generation") or ""),
        found.get("partial", True) is not False,
    )


def _md5(found: dict[str, Any], url: str) -> bytes | None:
    """The MD5 of an object's content, where its store says one; it is compared with what is read."""
    import base64
    import binascii

    try:
        if protocol_of(url) in ("s3", "s3a"):
            # Of what was sent in one part and not encrypted by a key of the user's; else another
            # number with a dash, or one that will not agree.
            digest = bytes.fromhex(str(found.get("ETag", "")).strip('"'))
        elif protocol_of(url) in ("gs", "gcs"):
            digest = base64.b64decode(str(found.get("md5Hash", "")), validate=True)
        else:
            return None
    except (ValueError, binascii.Error):
        return None
    return digest if len(digest) == 16 else None


def _tried(work: Callable[[], T], url: str) -> T:
    """Do something up to three times where it may go better the next time; errors in words."""
    tries = TRIES if is_web(url) else 1
    for attempt in range(1, tries + 1):
        try:
            return work()
        except (MissingExtraError, InputError, RemoteError):
            raise
        except MemoryError:
            raise RemoteError("an object that needs more memory than there is") from None
        except Exception as error:
            failure, again = _in_words(error, url)
        if not again or attempt == tries:
            break
        time.sleep(PAUSE_S * attempt)
    # Without the library's own error, whose text and fields hold the whole URL.
    raise failure from None


def _in_words(error: Exception, url: str) -> tuple[RemoteError, bool]:
    """What an error of fsspec or of the libraries below it means, and whether to try again."""
    status = getattr(error, "status", None)
    if status is None and isinstance(error, FileNotFoundError):
        # What fsspec says of a web server whatever it answered, when it only asks for the size.
        status = getattr(error.__cause__, "status", None)
    if not isinstance(status, int):
        response = getattr(error, "response", None)
        meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        status = meta.get("HTTPStatusCode")
    if status in (401, 403) or isinstance(error, PermissionError):
        return RemoteError(_FORBIDDEN + (f" (HTTP {status})" if status else "")), False
    if status in (404, 410) or isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return RemoteError(_MISSING, missing=True), False
    if isinstance(error, IsADirectoryError):
        return RemoteError("a folder, no object"), False
    if isinstance(status, int) and status >= 400:
        again = status >= 500 or status in (408, 425, 429)
        return RemoteError(f"the server answered HTTP {status}"), again
    name = type(error).__name__
    if "Credentials" in name:
        return RemoteError(f"no credentials were found ({scrubbed(str(error), url)})"), False
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return RemoteError(f"no answer within {READ_TIMEOUT_S:g} s"), True
    if name in ("ClientPayloadError", "ServerDisconnectedError", "IncompleteRead"):
        return RemoteError("the connection broke before the end"), True
    text = scrubbed(str(error), url)
    if isinstance(error, ConnectionError) or "Connect" in name:
        return RemoteError(f"no connection ({text})" if text else "no connection"), True
    return RemoteError(f"cannot be read: {name}" + (f", {text}" if text else "")), True


def explain(error: RemoteError, url: str) -> InputError:
    """The error for something that must be there, for the user."""
    return InputError(
        f"{shown(url)}: {error}",
        expected="an object that can be read",
        next="check the name" if error.missing else "check the address and your access to it",
    )


def write(url: str, data: bytes) -> None:
    """Make `data` the whole content of an object, at once: stores of objects show no halves.

    Raises
    ------
    RemoteError
    """
    require_writable(url)
    _tried(lambda: filesystem(protocol_of(url)).pipe_file(url, data), url)


def upload(path: str, url: str) -> None:
    """Make an object of a file.

    Raises
    ------
    RemoteError
    """
    require_writable(url)
    _tried(lambda: filesystem(protocol_of(url)).put_file(path, url), url)


def download(url: str, path: str) -> None:
    """Make a file of an object, at a path that is nobody else's.

    Raises
    ------
    RemoteError
    """
    _tried(lambda: filesystem(protocol_of(url)).get_file(url, path), url)


def names(url: str) -> list[str]:
    """The names of the objects that lie directly in a folder, ordered; empty if there is none.

    Raises
    ------
    RemoteError
    """
    system = filesystem(protocol_of(url))
    try:
        found = _tried(lambda: system.ls(system._strip_protocol(url), detail=True), url)
    except RemoteError as error:
        if error.missing:
            return []
        raise
    own = strip(url).rstrip("/")
    whole = [str(each["name"]) for each in found if each["type"] != "directory"]
    return sorted(name.rpartition("/")[2] for name in whole if name.rstrip("/") != own)


def delete(url: str) -> None:
    """Remove an object, if it is there.

    Raises
    ------
    RemoteError
    """
    try:
        _tried(lambda: filesystem(protocol_of(url)).rm_file(url), url)
    except RemoteError as error:
        if not error.missing:
            raise


def require_writable(url: str) -> None:
    """Raise an InputError where nothing can be written."""
    if is_web(url):
        raise InputError(
            f"{shown(url)} is on a web server, which takes no files",
            expected="a folder of this computer, or a bucket (s3://, gs://, az://)",
            where="-o",
        )
