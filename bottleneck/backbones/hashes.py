"""Hashes of weights: of a file, of tensors in memory, and git's own of a file in a repository."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import usercache
from ..errors import BottleneckError

if TYPE_CHECKING:
    import torch


# Hashing goes at 0.4 to 2 GB/s: below this it takes no longer than looking up what it was.
_WORTH_KEEPING = 64 << 20
# A file that was changed so shortly before may change once more and look the same: clocks tick, and
# that of a network disk is another computer's.
_SETTLED_NS = 60 * 10**9


def sha256_kept(path: Path) -> str:
    """`sha256_of`, for a large file that is unchanged since the last time without reading it.

    Unchanged is a file with the same size, mtime, ctime and inode, if it was a minute old when it
    was hashed. The user's cache keeps the hash.
    """
    found = path.stat()
    status = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    latest = max(found.st_mtime_ns, found.st_ctime_ns)
    if found.st_size < _WORTH_KEEPING or not found.st_ino:
        return sha256_of(path)
    place = os.path.abspath(path)
    name = f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, BottleneckError):
        # A note that is not there or damaged is made anew.
        known = json.loads(usercache.read(usercache.folder("hashes") / name))
        if isinstance(known, dict) and (known.get("path"), known.get("status")) == (place, status):
            return str(known["sha256"])
    settled = latest < time.time_ns() - _SETTLED_NS
    digest = sha256_of(path)
    if settled:
        with contextlib.suppress(OSError, ValueError, BottleneckError):
            data = json.dumps({"path": place, "status": status, "sha256": digest}).encode()
            usercache.write(usercache.folder("hashes") / name, data)
    return digest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_of(path: Path) -> str:
    """What git calls a file's content, 40 hexadecimal digits.

    The Hugging Face hub names small files by it; large ones by their SHA-256.
    """
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def add_tensors(digest: hashlib._Hash, tensors: Mapping[str, torch.Tensor]) -> None:
    """Add tensors to a digest by name: data type, shape and bytes of each, wherever it lies."""
    import torch

    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # NumPy knows no bfloat16; the bytes are the same whatever they are called.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
