"""Header and rows of a feature file, checked; the features themselves are read by `array`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CacheError
from ..memory import physical_memory
from .checks import opened
from .checksums import FEATURE_ROWS
from .columns import is_text, read_rows, require_columns, wrong_type
from .layout import ATTRIBUTES, FORMAT, FORMAT_VERSION, STORES, Header, Rows, require_equal_counts
from .outputs import dataset_of, id_of, output_id, output_ids, require_fingerprint, require_outputs
from .verify import checked_sums, compare
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
        1 if the file has no checksums: rows are read one by one then.
    identity : str
        Digest of all that the file holds but ``stat``, or its size and time if it has no checksums.
    dataset : str, default 'features'
    layers : dict of str to Stored
        The further outputs by id, in the order of the recipe; of a layer itself, none.
    """

    path: Path
    shape: tuple[int, int]
    digests: np.ndarray | None
    block_rows: int
    identity: str
    dataset: str = "features"
    layers: dict[str, Stored] = field(default_factory=dict)


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
    path = Path(path)
    with opened(path) as h5:
        _require_format(h5, path)
        n, _ = require_columns(h5, path)
        header = _header(h5, checked_sums(h5, path), path)
        _require_layers(h5, header, n, path)
        return header


def read(path: str | Path, rows: Rows | None = None) -> tuple[Header, Rows, Stored]:
    """All of a feature file but its features.

    Parameters
    ----------
    path : str or Path
    rows : Rows, optional
        What its columns are known to be, by who has just written them: they are not read again.

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
        n, _ = require_columns(h5, path)
        sums = checked_sums(h5, path)
        header = _header(h5, sums, path)
        _require_layers(h5, header, n, path)
        if rows is None:
            rows = read_rows(h5, sums, path)
            rows.require_sound(str(path))
        layers = {
            name: _stored(h5, dataset_of(name), sums, path) for name in output_ids(header)[1:]
        }
        return header, rows, replace(_stored(h5, "features", sums, path), layers=layers)


def _stored(h5: h5py.File, dataset: str, sums: dict[str, np.ndarray], path: Path) -> Stored:
    """A dataset of features as `array.FeatureArray` reads it."""
    n, d = map(int, h5[dataset].shape)
    digests, block_rows = sums.get(dataset), 1
    if digests is not None:
        block_rows = int(h5[f"checksums/{dataset}"].attrs["rows"])
        if block_rows < 1 or len(digests) != -(-n // block_rows):
            raise CacheError(
                f"{path}: {len(digests)} checksums for {n} rows", where=f"{path}, {dataset}"
            )
    # A block is read whole for one row of it, and so is a row.
    if min(block_rows, n) * d * 4 > physical_memory() // 2:
        raise CacheError(
            f"{path}: one block of {dataset} is larger than half of this machine's memory",
            expected=f"blocks of {FEATURE_ROWS} rows",
            where=f"{path}, {dataset}",
        )
    return Stored(path.absolute(), (n, d), digests, block_rows, identity_of(h5, path), dataset)


def _require_layers(h5: h5py.File, header: Header, n: int, path: Path) -> None:
    """Raise a CacheError if ``layers`` is not what the recipe's further outputs say."""
    import h5py

    require_outputs(header, str(path))
    group = h5.get("layers")
    there = set(group) if isinstance(group, h5py.Group) else set()
    wanted = {dataset_of(name).removeprefix("layers/") for name in output_ids(header)[1:]}
    for link in sorted(there ^ wanted):
        raise CacheError(
            f"{path} lacks the output {id_of(link)}"
            if link in wanted
            else f"{path}: its recipe knows no output {id_of(link)}",
            expected=f"layers: {', '.join(output_ids(header)[1:]) or 'none'}",
            where=f"{path}, layers/{link}",
            next="extract again under another name",
        )
    for output in header.recipe["outputs"][1:]:
        _require_layer(h5, header, output, n, path)


def _require_layer(
    h5: h5py.File, header: Header, output: dict[str, Any], n: int, path: Path
) -> None:
    """Raise a CacheError if the dataset of a further output has another type, length or origin."""
    import h5py

    dataset = dataset_of(output_id(output))
    layer, where = h5[dataset], f"{path}, {dataset}"
    if not isinstance(layer, h5py.Dataset):
        raise CacheError(f"{path}: {dataset} is no dataset", where=where)
    if layer.ndim != 2 or layer.dtype.newbyteorder("<") != STORES[header.store]:
        raise wrong_type(layer, dataset, path)
    require_equal_counts({"features": n, dataset: len(layer)}, str(path))
    told = {name: _attribute(layer, name) for name in ("node", "pooling")}
    if told != {name: output[name] for name in told}:
        raise CacheError(
            f"{path}: {dataset} says that it is {told['node']}:{told['pooling']}",
            expected=output_id(output),
            where=where,
        )
    require_fingerprint(header, output, _attribute(layer, "fingerprint"), where)


def identity_of(h5: h5py.File, path: Path) -> str:
    """What changes whenever the file's rows do; not with the index of their files alone."""
    content = None
    if "checksums" in h5:
        attributes = h5["checksums"].attrs
        content = attributes.get("content_without_stat", attributes.get("content"))
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
    if isinstance(version, int | np.integer) and version == FORMAT_VERSION:
        return
    if isinstance(version, int | np.integer) and version > FORMAT_VERSION:
        raise CacheError(
            f"{path} was made by format version {version}, this reads {FORMAT_VERSION}",
            where=str(path),
            next="pip install --upgrade bottleneck-probe",
        )
    said = version.item() if isinstance(version, np.generic) else version
    found = "it does not say which" if version is None else f"it says {said!r}"
    raise CacheError(
        f"{path} is of no known format version: {found}",
        expected=f"the root attribute format_version = {FORMAT_VERSION}, an integer",
        where=str(path),
        next="restore the file from a backup, or extract again; of a file that you wrote yourself, "
        "set the attribute",
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
        compare(attributes_digest(values), sums["attributes"], 1, "the root attributes", path)
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


def _attribute(item: h5py.File | h5py.Dataset, name: str) -> str | None:
    """An attribute that is one text; None if it is missing or anything else."""
    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    if attribute.shape != () or not is_text(attribute):
        return None
    value = item.attrs[name]
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
