"""What is left of a feature file whose structure may be damaged: dataset by dataset, in this process.

HDF5 may crash or hang on the way; `examining` runs this in a process of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CacheError
from . import checksums, structure
from .layout import ATTRIBUTES
from .metadata import bound_cache
from .scanning import Scan, scan

if TYPE_CHECKING:
    import h5py

_REPORT_EVERY_S = 1.0
# What the root attributes are called among the datasets.
ROOT = "attributes"
# What h5py raises for structures that make no sense.
BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    IndexError,
    AttributeError,
)


@dataclass
class Examination:
    """What is left of a file.

    Attributes
    ----------
    scans : dict of str to Scan
        By dataset; a dataset that makes HDF5 crash or hang has a `Scan.fault`.
    attributes : dict of str to str
        Root attributes that could be read, as text.
    sound_attributes : bool or None
        Whether they are what their digest says; None without one.
    vouched : bool
        Whether the file has checksums at all.
    faults : list of str
        What is wrong beside the values of a dataset, one sentence each.
    """

    scans: dict[str, Scan] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    sound_attributes: bool | None = None
    vouched: bool = False
    faults: list[str] = field(default_factory=list)


@contextmanager
def opened_as_is(path: Path) -> Iterator[h5py.File]:
    """A file open for reading although something in it may be wrong; only for `datasets_of`."""
    import h5py

    # A Python file: no lock, so that a file on a disk without locks opens too.
    with path.open("rb") as file, h5py.File(file, "r") as h5:
        bound_cache(h5)
        yield h5


def datasets_of(h5: h5py.File, path: Path) -> tuple[dict[str, str], list[str]]:
    """Every dataset with values of its own, and why it must not be read, or nothing.

    Parameters
    ----------
    h5 : h5py.File
    path : Path

    Returns
    -------
    datasets : dict of str to str
        Those that are large come last.
    faults : list of str
        What could not be followed.
    """
    import h5py

    length = os.stat(path).st_size
    found: dict[str, str] = {}
    faults: list[str] = []
    stack: list[tuple[str, Any]] = [("", h5)]
    seen = set()
    while stack:
        prefix, group = stack.pop()
        if prefix.count("/") > structure.DEPTH:
            faults.append(f"{prefix} is nested too deep")
            continue
        try:
            names = list(group)
        except BROKEN as error:
            faults.append(f"{prefix.rstrip('/') or 'the root'} cannot be listed ({error})")
            continue
        for name in names:
            where = f"{prefix}{name}"
            try:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    faults.append(f"{where} points outside the file or at another place in it")
                    continue
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    faults.append(f"{where} stands twice in the file")
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    stack.append((f"{where}/", item))
                elif isinstance(item, h5py.Dataset):
                    structure.require_plain_dataset(item, where, path, length)
                    found[where] = ""
            except CacheError as error:
                found[where] = error.what
            except BROKEN as error:
                found[where] = f"it cannot be opened ({error})"
    own = {name: why for name, why in found.items() if not name.startswith("checksums/")}
    large = ("features", "layers/")
    return dict(sorted(own.items(), key=lambda item: (item[0].startswith(large), item[0]))), faults


def digests_of(h5: h5py.File, name: str) -> tuple[np.ndarray | None, int, str]:
    """The digests of a dataset, the rows of each, and what is wrong with them."""
    try:
        sums = _stored(h5, f"checksums/{name}")
        if sums is None:
            return None, checksums.ROWS, "it has no checksums"
        # Values outside the file would be read, and vouch for what the file's maker wants.
        length = h5.id.get_filesize()
        structure.require_plain_dataset(sums, f"checksums/{name}", Path("file"), length)
        rows = sums.attrs.get("rows")
        if sums.dtype != np.uint8 or sums.ndim != 2 or sums.shape[1] != 32:
            return None, checksums.ROWS, "its checksums are no (m, 32) uint8"
        if not isinstance(rows, int | np.integer) or rows < 1:
            return None, checksums.ROWS, "its checksums do not say of how many rows each is"
        return sums[()], int(rows), ""
    except CacheError as error:
        why = error.what.removeprefix("file: ")  # which file it is stands in the report
        return None, checksums.ROWS, f"its checksums cannot be read ({why})"
    except BROKEN as error:
        return None, checksums.ROWS, f"its checksums cannot be read ({error})"


def _stored(h5: h5py.File, name: str) -> h5py.Dataset | None:
    """The dataset of a name whose links all lead to what is in the file; None if there is none."""
    import h5py

    place: Any = h5
    for part in name.split("/"):
        if not isinstance(place, h5py.Group):
            return None
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            return None
        place = place[part]
    return place if isinstance(place, h5py.Dataset) else None


def examine_here(
    path: Path, say: Callable[[dict[str, Any]], None], skip: frozenset[str] = frozenset()
) -> None:
    """`examine` in this process: each finding goes to `say`."""
    with opened_as_is(path) as h5:
        vouched = "checksums" in h5
        datasets, faults = datasets_of(h5, path)
        for name, reason in datasets.items():
            if name not in skip:
                say({"kind": "begin", "name": name})
                found = Scan(name, fault=reason) if reason else _scan(h5, name, path, vouched, say)
                say({"kind": "scan", "scan": asdict(found)})
        if ROOT not in skip:
            say({"kind": "begin", "name": ROOT})
            rest = _rest(h5, vouched)
            rest["faults"] = faults + rest["faults"]
            say({"kind": "rest", "rest": rest})


def _scan(
    h5: h5py.File,
    name: str,
    path: Path,
    vouched: bool,
    say: Callable[[dict[str, Any]], None],
) -> Scan:
    done, last = 0, time.monotonic()

    def tell(n: int) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last > _REPORT_EVERY_S:
            say({"kind": "bytes", "n": done})
            done, last = 0, time.monotonic()

    digests, block_rows, fault = digests_of(h5, name)
    finite = name == "features" or name.startswith("layers/")
    try:
        found = scan(h5, name, path, digests, block_rows, finite=finite, tell=tell)
    except BROKEN as error:
        return Scan(name, fault=f"it cannot be read ({error})")
    if vouched and fault and not found.fault:
        found.fault = fault
    return found


def _rest(h5: h5py.File, vouched: bool) -> dict[str, Any]:
    from .reading import _attribute
    from .writing import attributes_digest

    faults: list[str] = []
    texts: dict[str, str] = {}
    for name in ATTRIBUTES:
        try:
            value = h5.attrs.get(name) if name == "format_version" else _attribute(h5, name)
        except BROKEN as error:
            faults.append(f"the root attribute {name} cannot be read ({error})")
            continue
        if value is None:
            faults.append(f"the root attribute {name} is missing")
        else:
            texts[name] = str(value)
    sound: bool | None = None
    digests, _, fault = digests_of(h5, "attributes")
    if digests is not None:
        found = attributes_digest([texts.get(name, "") for name in ATTRIBUTES])
        sound = digests.shape == (1, 32) and bool((digests == found).all())
        if not sound:
            faults.append("the root attributes differ from their checksum")
    elif vouched:
        faults.append(f"of the root attributes: {fault}")
    elif texts.get("created_by", "").startswith("bottleneck-probe"):
        faults.append("the group checksums is missing, which every file of this program has")
    return {
        "attributes": texts,
        "sound_attributes": sound,
        "vouched": vouched,
        "faults": faults,
    }
