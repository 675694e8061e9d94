"""Files of the Hugging Face hub, kept in that library's own cache and checked by the hub's hashes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._version import __version__
from ..errors import WeightsError
from .base import Weights
from .downloads import TIMEOUT_S, damaged, megabytes
from .hashes import git_blob_of, sha256_of

_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its switches


def hf_cache_folder() -> Path:
    """Where huggingface_hub keeps files (its own rule, without importing it)."""
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(os.path.expandvars(cache or os.path.join(home, "hub"))).expanduser().absolute()


def hf_offline() -> bool:
    """Whether the user has told Hugging Face's libraries to keep off the network."""
    switch = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return switch.upper() in _TRUE


@dataclass(frozen=True, slots=True)
class HubWeights:
    """A file in a repository of the Hugging Face hub, kept in that library's own cache.

    Attributes
    ----------
    repo : str
        ``timm/resnet26d.bt_in1k``.
    filename : str
    licence, label : str
    size_mb : float or None
        Where it is known before asking.
    sha256 : str or None
        Where it is known before asking: then the hub's file must have it.
    revision : str or None
        Branch, tag or commit; the hub's ``main`` by default.
    """

    repo: str
    filename: str
    licence: str
    label: str
    size_mb: float | None = None
    sha256: str | None = None
    revision: str | None = None

    @property
    def folder(self) -> Path:
        """The repository's place in the cache."""
        return hf_cache_folder() / f"models--{self.repo.replace('/', '--')}"

    @property
    def url(self) -> str:
        """Its address, at ``HF_ENDPOINT`` where that is set."""
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        return f"{endpoint}/{self.repo}/resolve/{self.revision or 'main'}/{self.filename}"

    @property
    def path(self) -> Path | None:
        """The file in the cache, or None."""
        revision = self.revision or "main"
        with contextlib.suppress(OSError, UnicodeDecodeError):
            revision = (self.folder / "refs" / revision).read_text("utf-8").strip()
        path = self.folder / "snapshots" / revision / self.filename
        return path if path.is_file() else None

    def here(self) -> bool:
        """Whether the file is in the cache."""
        return self.path is not None

    def find(self) -> Weights | None:
        """The file in the cache, or None.

        Raises
        ------
        WeightsError
            If its content is not what its name in the cache, the hub's hash, says.
        """
        path = self.path
        if path is None:
            return None
        digest = sha256_of(path)
        if self.sha256 and digest != self.sha256:
            raise damaged(path, digest, self.sha256[:16])
        # The cache keeps contents under the hub's own hash: a file's SHA-256, or git's where it is
        # small. Where links cannot be made there is a plain copy, and nothing to compare it with.
        blob = path.resolve().name if path.is_symlink() else ""
        if re.fullmatch(r"[0-9a-f]{64}", blob) and digest != blob:
            raise damaged(path.resolve(), digest, blob[:16])
        if re.fullmatch(r"[0-9a-f]{40}", blob) and git_blob_of(path) != blob:
            raise damaged(path.resolve(), digest, f"the file that git calls {blob[:16]}")
        return Weights(path, digest, f"{self.repo} on Hugging Face")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Ask the hub for size and hash, tell them, download, and check."""
        if hf_offline():
            raise self._error("HF_HUB_OFFLINE is set", self.size_mb, self.sha256)
        import huggingface_hub
        from huggingface_hub.utils import are_progress_bars_disabled as silent
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

        size_mb, sha256 = self.size_mb, self.sha256
        was_silent = silent()
        try:
            about = huggingface_hub.get_hf_file_metadata(self.url, timeout=TIMEOUT_S)
            size_mb = about.size / 1e6 if about.size is not None else size_mb
            told = about.etag if re.fullmatch(r"[0-9a-f]{64}", about.etag or "") else None
            if sha256 and told and told != sha256:
                raise OSError(f"the hub now has another file there, SHA-256 {told[:16]}...")
            sha256 = sha256 or told
            tell(f"fetching {self.url} ({self._facts(size_mb, sha256)}) to {self.folder}")
            if not was_silent:
                disable_progress_bars()  # they would stand between what --json prints
            huggingface_hub.hf_hub_download(
                self.repo,
                self.filename,
                revision=self.revision,
                cache_dir=hf_cache_folder(),
                endpoint=os.environ.get("HF_ENDPOINT") or None,
                library_name="bottleneck-probe",
                library_version=__version__,
            )
            return self._fetched(sha256)
        # Its HTTP library's exceptions have changed with its versions, and share no base but this.
        except Exception as error:
            lines = (error.what if isinstance(error, WeightsError) else str(error)).splitlines()
            reason = next((line for line in lines if line.strip()), type(error).__name__)
            raise self._error(reason.strip(), size_mb, sha256) from error
        finally:
            if not was_silent:
                enable_progress_bars()

    def _fetched(self, sha256: str | None) -> Weights:
        """The file that has just come; removed again if it is not the right one."""
        path = self.path
        try:
            found = self.find()
            if path is None or found is None:
                raise OSError("the file is not in the cache after it was fetched")
            if sha256 and found.sha256 != sha256:
                raise damaged(path, found.sha256, sha256[:16])
        except WeightsError:
            if path is not None:  # or every later run would find it
                blob = path.resolve()
                path.unlink(missing_ok=True)
                blob.unlink(missing_ok=True)
            raise
        return found

    def _facts(self, size_mb: float | None, sha256: str | None) -> str:
        hash_ = f"SHA-256 {sha256}" if sha256 else "the hub gives no SHA-256"
        return ", ".join([*megabytes(size_mb), hash_])

    def _error(self, reason: str, size_mb: float | None, sha256: str | None) -> WeightsError:
        size = megabytes(size_mb) or ["size known to the hub only"]
        hash_ = f"SHA-256 {sha256}" if sha256 else "SHA-256 as the hub states it"
        return WeightsError(
            f"could not fetch {self.url}: {reason}",
            expected=", ".join([self.filename, *size, hash_]),
            next="download it elsewhere and give --weights FILE; or run `hf download "
            f"{self.repo} {self.filename}` elsewhere and copy its cache folder {self.folder.name} "
            f"to {self.folder.parent}; or name a mirror in HF_ENDPOINT",
        )
