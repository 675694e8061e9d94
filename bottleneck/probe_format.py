"""The file of a probe: description and tensors in, bytes out, and back.

A safetensors file whose metadata holds one key, ``bottleneck``, with canonical JSON (safetensors
writes several keys in random order). The JSON has a digest of itself and of all tensors, because
nothing else in the file would tell a weight with a flipped bit from the one that was fitted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from blake3 import blake3

from .errors import ProbeError, RecipeError
from .memory import physical_memory
from .recipe import canonical_json
from .regular import NotRegular, open_regular, unreadable

FORMAT = "bottleneck-probe"
# 1 knew no scaling and no temperature; 2 no digest, and kept the confusion matrix in the JSON.
FORMAT_VERSION = 3
READABLE = (1, 2, 3)
# Bytes of JSON: 180 a class, 300 where images have several labels; of version 2 also 2 a cell of the
# confusion matrix, which is 2 MB for 1,000.
MAX_HEADER = 16 * 2**20
_CONFUSION = "confusion"
# How files begin that hold pickles, or may: of Python and joblib, of PyTorch and .npz, of joblib with
# its usual compression, of .npy.
_PICKLES = (b"\x80", b"PK", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"\x93NUMPY")


def to_bytes(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """The content of a probe file.

    Parameters
    ----------
    description : mapping
        JSON data, without format and version.
    tensors : mapping of str to ndarray

    Raises
    ------
    ProbeError
        If the description is longer than a reader takes.
    """
    from safetensors.numpy import save

    told = {"format": FORMAT, "format_version": FORMAT_VERSION, **description}
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    arrays[_CONFUSION] = np.ascontiguousarray(told.pop(_CONFUSION), np.int64)
    text = canonical_json({**told, "blake3": digest(told, arrays)}).decode()
    if len(text) > MAX_HEADER // 2:  # quotes are escaped once more
        raise ProbeError(
            f"the probe's description takes {len(text) / 2**20:.0f} MiB",
            expected=f"{MAX_HEADER // 2**21} MiB at most, which is enough for 20,000 classes",
        )
    return save(arrays, {"bottleneck": text})


def digest(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """BLAKE3, hexadecimal, of a description without its own digest, then of all tensors.

    Of each tensor, in the byte order of the names: name, type and shape as JSON, then its bytes in
    C order, little-endian.
    """
    whole = blake3(canonical_json(dict(description)))
    for name in sorted(arrays, key=str.encode):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        whole.update(canonical_json([name, little.dtype.str.lstrip("<|"), list(array.shape)]))
        whole.update(little.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and tensors of a probe file of any version, compared with its digest.

    Parameters
    ----------
    path : path

    Returns
    -------
    description : dict
        Not yet looked at beyond format, version and digest.
    arrays : dict of str to ndarray
        Finite, where they are numbers with a fraction.

    Raises
    ------
    ProbeError
        If there is no such file, or it is no probe, damaged, or of a newer version.
    """
    from safetensors.numpy import load

    file = Path(path)
    data = _content(file)
    length = int.from_bytes(data[:8], "little")
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + length])
    # The library raises what it stumbles over: its own error, KeyError for a type that NumPy lacks.
    except Exception as error:
        raise ProbeError(f"{file} is damaged: {_short(error)}", next="fit it again") from error
    description = _description(header, file)
    _require_version(description, file)
    _require_digest(description, arrays, file)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ProbeError(f"{file} holds NaN or infinity in {name}", next="fit it again")
    if _CONFUSION in arrays:
        description[_CONFUSION] = arrays.pop(_CONFUSION).tolist()
    return description, arrays


def _content(file: Path) -> bytes:
    """The bytes of a file that begins as a probe does."""
    if not os.path.lexists(file):
        raise ProbeError(f"no probe at {file}", next="bottleneck fit FILE.h5 -o PROBE makes one")
    try:
        with open_regular(file) as opened:
            head = opened.read(9)
            size = os.fstat(opened.fileno()).st_size
            require_header(head, size, file)
            if size > physical_memory():
                raise ProbeError(f"{file} has {size / 1e9:.1f} GB, more than this machine's memory")
            opened.seek(0)
            return opened.read(size)
    except NotRegular as kind:
        raise ProbeError(f"{file} is {kind}", expected="a probe, which is a file") from None
    except OSError as error:
        raise ProbeError(f"{file} cannot be read: {unreadable(error)}") from error


def require_header(head: bytes, size: int, file: Path) -> None:
    """Refuse what is no probe before a reader takes memory for what it declares.

    Parameters
    ----------
    head : bytes
        The first nine of the file.
    size : int
        Of the file.
    file : Path
        For the message.
    """
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or length > min(MAX_HEADER, size):
        hint = "" if head else ": it is empty"
        if head.startswith(b"\x89HDF"):
            hint = "; it is a feature file: bottleneck fit makes a probe from it"
        elif head.startswith(_PICKLES):
            hint = "; pickle is refused, because reading it could run code"
        raise ProbeError(f"{file} is no probe{hint}", expected="a file that bottleneck fit wrote")


def _description(header: Any, file: Path) -> dict[str, Any]:
    try:
        text = header["__metadata__"]["bottleneck"]
        description = json.loads(text, parse_constant=_refuse_constant)
        if description["format"] != FORMAT:
            raise KeyError("format")
        return dict(description)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ProbeError(
            f"{file} is a safetensors file, but no probe",
            expected=f"metadata key `bottleneck` with format {FORMAT}",
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _require_version(description: Mapping[str, Any], file: Path) -> None:
    version = description.get("format_version")
    if type(version) is int and version in READABLE:
        return
    if type(version) is int and version > FORMAT_VERSION:
        raise ProbeError(
            f"{file} was made by format version {version}",
            expected=f"version {FORMAT_VERSION} or older",
            next="pip install -U bottleneck-probe",
        )
    found = "it does not say which" if version is None else f"it says {version!r}"
    raise ProbeError(
        f"{file} is of no known format version: {found[:80]}",
        expected=f"an integer from 1 to {FORMAT_VERSION}",
        next="restore it from a backup, or fit it again",
    )


def _require_digest(
    description: dict[str, Any], arrays: Mapping[str, np.ndarray], file: Path
) -> None:
    """Compare the digest, and take it out of the description."""
    # Also where the version says that there is none: that may be what was damaged.
    if description["format_version"] < 3 and "blake3" not in description:
        return
    said = description.pop("blake3", None)
    try:
        right = said == digest(description, arrays)
    except (RecipeError, RecursionError):
        right = False
    if not right:
        raise ProbeError(
            f"{file} is damaged: its content differs from its digest",
            next="restore it from a backup, or fit it again",
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
