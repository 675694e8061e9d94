"""Header and rows of a feature file, checked; the features themselves are read by `array`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CacheError
from . import checksums
from .checks import opened
from .layout import (
    ATTRIBUTES,
    FORMAT,
    FORMAT_VERSION,
    STORES,
    Header,
    Rows,
    decode_name,
    require_equal_counts,
)
from .writing import attributes_digest

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class Stored:
    """Where the features of a file are, and how to tell that they are still the same.

    Parameters
    ----------
    path : Path
        Absolute, so that a change of the working folder does not matter.
    shape : tuple of int
        (n, d).
    digests : ndarray of shape (m, 32), uint8, or None
        BLAKE3 of each block of `block_rows` rows; None if the file has no checksums.
    block_rows : int
    identity : str
        Digest of all that the file holds, or its size and time if it has no checksums.
    """

    path: Path
    shape: tuple[int, int]
    digests: np.ndarray | None
    block_rows: int
    identity: str


def read_header(path: str | Path) -> Header:
    """The header of a feature file, after the checks of `read`, except those of values.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Header

    Raises
    ------
    CacheError
        If it is no feature file, or one that must not be read.
    """
    with opened(Path(path)) as h5:
        _require_format(h5, Path(path))
        _require_columns(h5, Path(path))
        return _header(h5, _checked_sums(h5, Path(path)), Path(path))


def read(path: str | Path) -> tuple[Header, Rows, Stored]:
    """All of a feature file but its features.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    header : Header
    rows : Rows
    stored : Stored
        What `array.FeatureArray` needs to read the features later.

    Raises
    ------
    CacheError
        If the file cannot be read, was made by a newer version, lacks a dataset, has columns of
        different length or wrong type, points outside itself, or differs from its checksums.
    """
    path = Path(path)
    with opened(path) as h5:
        _require_format(h5, path)
        shape = _require_columns(h5, path)
        sums = _checked_sums(h5, path)
        header = _header(h5, sums, path)
        rows = _rows(h5, sums, path)
        digests = sums.get("features")
        block_rows = (
            int(h5["checksums/features"].attrs["rows"]) if digests is not None else shape[0]
        )
        identity = identity_of(h5, path)
    if digests is not None and (block_rows < 1 or len(digests) != -(-shape[0] // block_rows)):
        raise CacheError(f"{path}: {len(digests)} checksums for {shape[0]} rows", where=str(path))
    rows.require_sound(str(path))
    return header, rows, Stored(path.absolute(), shape, digests, block_rows, identity)


def identity_of(h5: h5py.File, path: Path) -> str:
    """What changes whenever the file's content does."""
    content = h5["checksums"].attrs.get("content") if "checksums" in h5 else None
    if isinstance(content, str):
        return content
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _require_format(h5: h5py.File, path: Path) -> None:
    found = _attribute(h5, "format")
    if found != FORMAT:
        raise CacheError(
            f"{path} is an HDF5 file, but not of ours: its format is {found!r}",
            expected=f"the root attribute format = {FORMAT!r}",
            where=str(path),
            next="bring features of your own with bp.Features.from_arrays(X, labels, ids)",
        )
    version = h5.attrs.get("format_version")
    if not isinstance(version, int | np.integer) or version != FORMAT_VERSION:
        made = "no format version" if version is None else f"format version {version}"
        raise CacheError(
            f"{path} was made by {made}, this reads {FORMAT_VERSION}",
            where=str(path),
            next="pip install --upgrade bottleneck-probe",
        )


def _header(h5: h5py.File, sums: dict[str, np.ndarray], path: Path) -> Header:
    text = {name: _attribute(h5, name) for name in ATTRIBUTES if name != "format_version"}
    missing = [name for name, value in text.items() if value is None and name != "created_by"]
    if missing:
        raise CacheError(
            f"{path} lacks the root attribute {missing[0]}", expected="text", where=str(path)
        )
    if "attributes" in sums:
        values = [
            str(FORMAT_VERSION) if name == "format_version" else str(text[name])
            for name in ATTRIBUTES
        ]
        _compare(attributes_digest(values), sums["attributes"], 1, "the root attributes", path)
    stored = h5["features"].dtype.newbyteorder("<")
    header = Header(
        recipe=_json(text["recipe"], "recipe", path),
        environment=_json(text["environment"], "environment", path),
        fingerprint=str(text["fingerprint"]),
        root=str(text["root"]),
        store=next(name for name, dtype in STORES.items() if dtype == stored),
        created_by=str(text["created_by"] or ""),
    )
    header.require_sound(str(path))
    return header


def _attribute(h5: h5py.File, name: str) -> str | None:
    """A root attribute that is one text; None if it is missing or anything else."""
    import h5py

    if name not in h5.attrs:
        return None
    attribute = h5.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        return None
    value = h5.attrs[name]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    # h5py gives bytes that are not UTF-8 as surrogates, which no checksum and no JSON can hold.
    return text.encode("utf-8", "backslashreplace").decode()


def _json(text: str | None, name: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{path}: {name} is not JSON: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise CacheError(f"{path}: {name} is not a JSON object", where=str(path))
    return value


def _require_columns(h5: h5py.File, path: Path) -> tuple[int, int]:
    """Raise a CacheError if a required dataset is missing, or any has a wrong type or length."""
    import h5py

    wanted = {"features": 2, "keys": 2, "paths": 1, "labels": 1, "splits": 1, "classes": 1}
    # `Group.get` and `in` follow nothing outside: the links have been looked at.
    missing = [name for name in wanted if not isinstance(h5.get(name), h5py.Dataset)]
    if missing:
        raise CacheError(
            f"{path} lacks {', '.join(missing)}",
            expected="a feature file, made by `bottleneck extract`",
            where=str(path),
        )
    types = {"keys": "|u1", "labels": "<i4", "view": "<i4"}
    columns = {name: h5[name] for name in wanted if name != "classes"}
    for name, link in (("view", h5.get("view")), *_meta(h5).items()):
        if isinstance(link, h5py.Dataset):
            columns[name] = link
    for name, dataset in {**columns, "classes": h5["classes"]}.items():
        dtype = types.get(name)
        if name == "features":
            right = dataset.dtype.newbyteorder("<") in STORES.values()
        elif dtype:
            right = dataset.dtype.newbyteorder("<") == np.dtype(dtype)
        else:
            right = _is_text(dataset) or (
                name.startswith("meta/") and dataset.dtype.newbyteorder("<") == np.dtype("<f8")
            )
        if not right or dataset.ndim != wanted.get(name, 1):
            raise CacheError(
                f"{path}: {name} is {dataset.ndim}-dimensional {dataset.dtype}",
                expected="the type that the specification (cache/README.md) gives",
                where=f"{path}, {name}",
            )
    require_equal_counts({name: len(dataset) for name, dataset in columns.items()}, str(path))
    if h5["keys"].shape[1] != 32:
        raise CacheError(f"{path}: keys have {h5['keys'].shape[1]} bytes", expected="32")
    n, d = h5["features"].shape
    return int(n), int(d)


def _meta(h5: h5py.File) -> dict[str, h5py.Dataset]:
    import h5py

    group = h5.get("meta")
    return {f"meta/{name}": group[name] for name in group} if isinstance(group, h5py.Group) else {}


def _is_text(dataset: h5py.Dataset) -> bool:
    import h5py

    return h5py.check_string_dtype(dataset.dtype) is not None


def _rows(h5: h5py.File, sums: dict[str, np.ndarray], path: Path) -> Rows:
    import h5py

    def column(name: str) -> Any:
        dataset = h5[name]
        if not _is_text(dataset):
            values = dataset[()]
            _verify(values, sums, h5, name, path)
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        raw = [bytes(value) for value in dataset[()]]
        _verify(raw, sums, h5, name, path)
        try:
            return [value.decode("utf-8") for value in raw]
        except UnicodeDecodeError as error:
            raise CacheError(f"{path}: {name} is not UTF-8", where=f"{path}, {name}") from error

    quarantine: list[tuple[str, str]] = []
    parts = [h5.get(f"quarantine/{name}") for name in ("paths", "reasons")]
    if all(isinstance(part, h5py.Dataset) and part.ndim == 1 and _is_text(part) for part in parts):
        lists = column("quarantine/paths"), column("quarantine/reasons")
        require_equal_counts(
            {"quarantine/paths": len(lists[0]), "quarantine/reasons": len(lists[1])}, str(path)
        )
        quarantine = list(zip(*lists, strict=True))
    return Rows(
        paths=column("paths"),
        keys=column("keys"),
        labels=column("labels"),
        splits=column("splits"),
        classes=column("classes"),
        meta={decode_name(name.removeprefix("meta/")): column(name) for name in _meta(h5)},
        view=column("view") if "view" in h5 else None,
        quarantine=quarantine,
    )


def _checked_sums(h5: h5py.File, path: Path) -> dict[str, np.ndarray]:
    """The digests by dataset name; empty if the file has none, a CacheError if they are damaged."""
    import h5py

    group = h5.get("checksums")
    if not isinstance(group, h5py.Group):
        return {}
    found: dict[str, np.ndarray] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype != np.uint8 or item.ndim != 2 or item.shape[1] != 32:
                raise CacheError(f"{path}: checksums/{name} is no (m, 32) uint8", where=str(path))
            if np.ndim(item.attrs.get("rows")) or not isinstance(
                item.attrs.get("rows"), int | np.integer
            ):
                raise CacheError(f"{path}: checksums/{name} has no attribute rows", where=str(path))
            found[name] = item[()]

    group.visititems(collect)
    if group.attrs.get("content") != checksums.content(found):
        raise CacheError(
            f"{path} is damaged: its checksums contradict each other",
            where=f"{path}, checksums",
            next="restore the file from a backup, or extract again under another name",
        )
    return found


def _verify(
    values: checksums.Values, sums: dict[str, np.ndarray], h5: h5py.File, name: str, path: Path
) -> None:
    if name in sums:
        rows = max(1, int(h5[f"checksums/{name}"].attrs["rows"]))
        _compare(checksums.digests(values, rows), sums[name], rows, name, path)


def _compare(found: np.ndarray, wanted: np.ndarray, rows: int, name: str, path: Path) -> None:
    if found.shape != wanted.shape:
        raise CacheError(f"{path}: {len(wanted)} checksums for {name}", where=f"{path}, {name}")
    wrong = np.flatnonzero((found != wanted).any(axis=1))
    if len(wrong):
        raise damaged(path, name, int(wrong[0]) * rows, (int(wrong[0]) + 1) * rows)


def damaged(path: Path, name: str, start: int, stop: int) -> CacheError:
    """The error for values that are not those that were written; raise what it returns."""
    return CacheError(
        f"{path} is damaged: {name}, rows {start} to {stop - 1}, differ from their checksum",
        where=f"{path}, {name}",
        next="restore the file from a backup, or extract again under another name",
    )
