"""The columns of a feature file: their types and lengths, and their values as `Rows`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CacheError
from ..targets import Targets
from ..texts import Coded, Texts, Writer
from . import checksums
from .layout import STORES, Rows, decode_name, require_equal_counts
from .verify import block_rows, compare, verify
from .writing import task_digest

if TYPE_CHECKING:
    import h5py


def require_columns(h5: h5py.File, path: Path) -> tuple[int, int]:
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
    types = {"keys": "|u1", "labels": "<i4", "view": "<i4", "phash": "<u8"}
    columns = {name: h5[name] for name in wanted if name != "classes"}
    optional = ("view", "phash")
    columns |= {name: h5[name] for name in optional if isinstance(h5.get(name), h5py.Dataset)}
    columns |= _meta(h5)
    if isinstance(h5.get("targets"), h5py.Dataset):
        columns["targets"] = h5["targets"]
        wanted["targets"] = 2
        types["targets"] = "<f4"
    for name, dataset in {**columns, "classes": h5["classes"]}.items():
        dtype = types.get(name)
        if name == "features":
            right = dataset.dtype.newbyteorder("<") in STORES.values()
        elif dtype:
            right = dataset.dtype.newbyteorder("<") == np.dtype(dtype)
        else:
            right = is_text(dataset) or (
                name.startswith("meta/") and dataset.dtype.newbyteorder("<") == np.dtype("<f8")
            )
        if not right or dataset.ndim != wanted.get(name, 1):
            raise wrong_type(dataset, name, path)
    require_equal_counts({name: len(dataset) for name, dataset in columns.items()}, str(path))
    if h5["keys"].shape[1] != 32:
        raise CacheError(f"{path}: keys have {h5['keys'].shape[1]} bytes", expected="32")
    n, d = h5["features"].shape
    return int(n), int(d)


def wrong_type(dataset: h5py.Dataset, name: str, path: Path) -> CacheError:
    """The error for a dataset that is not what the specification says; raise what it returns."""
    return CacheError(
        f"{path}: {name} is {dataset.ndim}-dimensional {dataset.dtype}",
        expected="the type that the specification (cache/README.md) gives",
        where=f"{path}, {name}",
    )


def _meta(h5: h5py.File) -> dict[str, h5py.Dataset]:
    import h5py

    group = h5.get("meta")
    named = {f"meta/{name}": group[name] for name in group} if isinstance(group, h5py.Group) else {}
    return {name: link for name, link in named.items() if isinstance(link, h5py.Dataset)}


def is_text(dataset: h5py.Dataset | h5py.h5a.AttrID) -> bool:
    """Whether the values of a dataset or an attribute are text."""
    import h5py

    return h5py.check_string_dtype(dataset.dtype) is not None


def read_rows(h5: h5py.File, sums: dict[str, np.ndarray], path: Path) -> Rows:
    """The columns but the features, after `require_columns`; differing from `sums` is an error."""
    import h5py

    def column(name: str) -> Any:
        dataset = h5[name]
        if is_text(dataset):
            return read_texts(h5, name, sums, path)
        values = dataset[()]
        verify(values, sums, h5, name, path)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    quarantine: list[tuple[str, str]] = []
    parts = [h5.get(f"quarantine/{name}") for name in ("paths", "reasons")]
    if all(isinstance(part, h5py.Dataset) and part.ndim == 1 and is_text(part) for part in parts):
        lists = column("quarantine/paths"), column("quarantine/reasons")
        require_equal_counts(
            {"quarantine/paths": len(lists[0]), "quarantine/reasons": len(lists[1])}, str(path)
        )
        quarantine = list(zip(*lists, strict=True))
    return Rows(
        paths=column("paths"),
        keys=column("keys"),
        labels=column("labels"),
        splits=Coded.of(column("splits")),
        classes=list(column("classes")),
        meta={decode_name(name.removeprefix("meta/")): column(name) for name in _meta(h5)},
        view=column("view") if isinstance(h5.get("view"), h5py.Dataset) else None,
        quarantine=quarantine,
        targets=_targets(h5, column, sums, path),
        phash=column("phash") if isinstance(h5.get("phash"), h5py.Dataset) else None,
    )


def _targets(
    h5: h5py.File, column: Callable[[str], Any], sums: dict[str, np.ndarray], path: Path
) -> Targets | None:
    """The targets and their task, where the file has any."""
    import h5py

    if not isinstance(h5.get("targets"), h5py.Dataset):
        return None
    task = h5["targets"].attrs.get("task", "")
    if not isinstance(task, str):
        raise CacheError(f"{path}: the task of its targets is no text", where=f"{path}, targets")
    if "task" in sums:
        compare(task_digest(task), sums["task"], 1, "the task of the targets", path)
    return Targets(task, list(column("classes")), column("targets"))


def read_texts(h5: h5py.File, name: str, sums: dict[str, np.ndarray], path: Path) -> Texts:
    """The values of a dataset of text, read a block at a time; differing from `sums` is an error."""
    dataset, writer, digests = h5[name], Writer(), []
    rows = block_rows(h5, name, sums)
    for start in range(0, len(dataset), rows):
        block = [bytes(value) for value in dataset[start : start + rows]]
        if name in sums:
            digests.append(checksums.digest(block))
        writer.add_encoded(block)
    if name in sums:
        found = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        compare(found, sums[name], rows, name, path)
    texts = writer.finish()
    if not texts.valid():
        raise CacheError(f"{path}: {name} is not UTF-8", where=f"{path}, {name}")
    return texts
