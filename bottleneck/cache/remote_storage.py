"""A folder of a bucket as `Storage`: what is large is fetched once and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from .. import usercache
from ..errors import CacheError
from ..remote import door
from ..remote.urls import protocol_of, shown
from . import atomic, lock
from .locate import MANIFEST

# Below the user's cache; `bottleneck cache clear` empties it.
_COPIES = "remote"
_STEM = 32  # hexadecimal digits of a shard's BLAKE3 in its name


class RemoteStorage:
    """A folder of a bucket.

    An object appears whole or not at all, and `put` replaces one at once; but a bucket has no locks.
    Two programs of this computer wait for each other; of two computers that write into one folder the
    later manifest counts, and what only the other one listed is lost. Give each of them an output of
    its own (``--part``), and merge.

    Parameters
    ----------
    url : str
    """

    def __init__(self, url: str) -> None:
        door.require(url)
        self.url = url.rstrip("/") + "/"

    def __repr__(self) -> str:
        return f"RemoteStorage({self.name!r})"

    @property
    def name(self) -> str:
        """The URL, with a slash at its end and without anything secret."""
        return shown(self.url)

    @property
    def beside(self) -> Path:
        """A place of this computer for what a run keeps beside its output: sealed parts, the lock."""
        rest = self.name.partition("://")[2].strip("/")
        return usercache.folder(_COPIES, protocol_of(self.url)).joinpath(*rest.split("/"))

    def read(self, name: str, limit: int) -> bytes | None:
        """All of a small file, as of `Storage`."""
        with self._telling(name):
            try:
                data = door.read(self.url + name, limit)
            except door.RemoteError as error:
                if error.missing:
                    return None
                raise
        if isinstance(data, int):
            raise CacheError(
                f"{self.name}{name} has at least {atomic.size(data)}",
                expected=f"at most {atomic.size(limit)}",
                where=self.name,
            )
        return data

    def size(self, name: str) -> int | None:
        """Bytes of an object, as of `Storage`."""
        with self._telling(name):
            try:
                found = door.info(self.url + name)
            except door.RemoteError as error:
                if error.missing:
                    return None
                raise
        return None if found.folder else found.size

    def path(self, name: str) -> Path:
        """A copy in the user's cache, fetched unless it is there: its name says what it holds."""
        copy = self._copy(name)
        if copy.exists():
            return copy
        with _near(copy.parent) as folder, self._telling(name):
            door.download(self.url + name, str(folder / name))
            digest = _digest(folder / name)
            if digest[:_STEM] != copy.stem:
                raise CacheError(
                    f"{self.name}{name} is damaged: its name is not that of its content",
                    expected=f"BLAKE3 {copy.stem}...",
                    where=self.name,
                    next="restore it from a backup, or extract the images again under another name",
                )
            os.replace(folder / name, copy)
        return copy

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder in the user's cache, gone afterwards."""
        with _near(usercache.folder(_COPIES, "shards")) as folder:
            yield folder

    def adopt(self, built: Path, name: str) -> None:
        """Upload a file; it stays in the user's cache as its own copy, as of `Storage`."""
        with self._telling(name):
            door.upload(str(built), self.url + name)
            there = door.info(self.url + name).size
        if there != built.stat().st_size:
            raise CacheError(
                f"{self.name}{name} has {there} bytes after it was written, not "
                f"{built.stat().st_size}",
                where=self.name,
                next="run again",
            )
        os.replace(built, self._copy(name))

    def put(self, name: str, data: bytes) -> None:
        """Replace an object, as of `Storage`."""
        with self._telling(name):
            door.write(self.url + name, data)

    def list(self) -> list[str]:
        """The names of all objects, as of `Storage`, ordered."""
        with self._telling(""):
            return door.names(self.url)

    def delete(self, name: str) -> None:
        """Remove an object, as of `Storage`."""
        with self._telling(name):
            door.delete(self.url + name)

    def tidy(self) -> None:
        """Nothing: an object appears whole or not at all, as of `Storage`."""

    def require_space(self, needed: int) -> None:
        """Ask the disk of the user's cache, where shards are built; a bucket has no end."""
        atomic.require_space(usercache.folder(_COPIES), needed)

    def require_writable(self) -> None:
        """Raise a CacheError where nothing can be written: known before anything is computed.

        Of a new folder that is tried out with an object that is removed again.
        """
        bucket = self.url[: self.url.index("/", self.url.index("://") + 3)]
        try:
            door.info(bucket)
        except door.RemoteError as error:
            # Who may write need not be allowed to look at the bucket itself.
            if error.missing and not protocol_of(self.url) == "memory":
                raise CacheError(
                    f"there is no bucket {shown(bucket)}",
                    expected="a bucket that is there, for which you may write",
                    where="-o",
                    next="check its name, or make it first",
                ) from None
        if self.size(MANIFEST) is not None:
            return
        name = f".writable-{os.urandom(4).hex()}"
        try:
            door.write(self.url + name, b"")
            door.delete(self.url + name)
        except door.RemoteError as error:
            raise CacheError(
                f"nothing can be written to {self.name}: {error}",
                expected=f"an address below {shown(bucket)} that you may write to",
                where="-o",
                next="check the address and your access to it; nothing was computed",
            ) from None

    def writing(
        self, waiting: Callable[[str], None] | None = None
    ) -> AbstractContextManager[object]:
        """Hold a lock of this computer for the URL."""
        self.beside.parent.mkdir(parents=True, exist_ok=True)
        return lock.writing(self.beside, waiting=waiting)

    def _copy(self, name: str) -> Path:
        # One place for all buckets: names are those of the content, which is compared.
        return usercache.folder(_COPIES, "shards") / name

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except door.RemoteError as error:
            raise CacheError(
                f"{self.name}{name}: {error}",
                where=self.name,
                next="check the address and your access to it; what was computed is kept",
            ) from None


@contextmanager
def _near(folder: Path) -> Iterator[Path]:
    """A folder of one's own on the same disk, so that a file in it can be renamed into `folder`."""
    made = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    try:
        yield made
    finally:
        with suppress(OSError):
            shutil.rmtree(made)


def _digest(path: Path) -> str:
    digest = blake3()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
