"""The columns of a damaged file: what is good of each, and nothing in the place of what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..targets import Targets
from ..texts import Coded, Texts, Writer
from .examination import BROKEN, digests_of
from .layout import SPLITS, Rows, decode_name
from .scanning import Scan

if TYPE_CHECKING:
    import h5py

Tell = Callable[[str, np.ndarray, str], None]


def good_rows(each: Scan | None, n: int) -> np.ndarray:
    """Which rows of a dataset are as they were written; none of one that is missing."""
    if each is None or each.fault or each.rows != n:
        return np.zeros(n, bool)
    return each.good_rows()


def stood(h5: h5py.File, scans: dict[str, Scan], name: str) -> bool:
    """Whether there is a dataset, or its digests say that there was: its name may be what is damaged."""
    return name in scans or digests_of(h5, name)[0] is not None


def read_paths(
    h5: h5py.File, scans: dict[str, Scan], n: int
) -> tuple[list[str] | Texts, np.ndarray]:
    """The path of each row, and which of them are good."""
    good = good_rows(scans.get("paths"), n)
    texts = _texts(h5, "paths", scans["paths"], good) if good.any() else Texts.of([""] * n)
    named = good & np.fromiter((bool(path) for path in texts), bool, n)
    return texts, named


def _texts(h5: h5py.File, name: str, each: Scan, good: np.ndarray) -> Texts:
    """The values of a dataset of text, empty where they are not good."""
    writer = Writer()
    for start in range(0, each.rows, each.block_rows):
        stop = min(start + each.block_rows, each.rows)
        if good[start:stop].any():
            values = [bytes(value) for value in h5[name][start:stop]]
            writer.add_encoded([_utf8(value) for value in values])
        else:
            writer.add_encoded([b""] * (stop - start))
    return writer.finish()


def _utf8(value: bytes) -> bytes:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return b""  # only without checksums: what is no text is no value
    return value


def _numbers(h5: h5py.File, name: str, good: np.ndarray, each: Scan, nothing: Any) -> np.ndarray:
    """The values of a dataset of numbers, `nothing` where they are not good."""
    dataset = h5[name]
    dtype = dataset.dtype.newbyteorder("=")
    values = np.full(dataset.shape, nothing, dtype)
    for start in range(0, each.rows, each.block_rows):
        stop = min(start + each.block_rows, each.rows)
        if good[start:stop].any():
            values[start:stop] = dataset[start:stop]
    return values


def read_view(h5: h5py.File, scans: dict[str, Scan], n: int) -> np.ndarray | None:
    """The view of each row; None if the file has none, or it cannot be read."""
    if "view" not in scans or scans["view"].fault:
        return None
    return _numbers(h5, "view", good_rows(scans["view"], n), scans["view"], 0)


def in_order(
    paths: Texts | list[str], view: np.ndarray | None, good: np.ndarray, why: np.ndarray
) -> np.ndarray:
    """Which of the good rows come after the one before them, as the format demands."""
    kept = good.copy()
    if isinstance(paths, Texts) and good.all() and view is None and paths.ascending():
        return kept
    last: tuple[bytes, int] | None = None
    for row in np.flatnonzero(good).tolist():
        place = (paths[row].encode("utf-8", "surrogatepass"), 0 if view is None else int(view[row]))
        if last is not None and place <= last:
            kept[row] = False
            why[row] = "stands twice, or out of order"
        else:
            last = place
    return kept


def read_rows(
    h5: h5py.File,
    scans: dict[str, Scan],
    kept: np.ndarray,
    paths: Texts | list[str],
    notes: list[str],
) -> Rows:
    """The columns of the rows that are kept."""
    n = scans["features"].rows

    def good(name: str) -> np.ndarray:
        return good_rows(scans.get(name), n)

    def tell(name: str, rows: np.ndarray, becomes: str) -> None:
        count = int((~rows[kept]).sum())
        if count:
            notes.append(f"{name} of {count} rows damaged: {becomes}")

    classes = _whole_list(h5, scans, "classes")
    labels = np.full(n, -1, np.int32)
    has_targets = stood(h5, scans, "targets")
    if classes is None:
        notes.append("the names of the classes are damaged: no row has a label")
        classes = []
    elif not has_targets:
        rows = good("labels")
        tell("labels", rows, "none")
        if rows.any():
            labels = _numbers(h5, "labels", rows, scans["labels"], -1).astype(np.int32)
            labels[~rows | (labels < -1) | (labels >= len(classes))] = -1
    targets = _targets(h5, scans, classes, good("targets"), n, tell) if has_targets else None
    if has_targets and targets is None:
        classes = []
        notes.append("the targets are damaged: no row has any")
    rows = good("splits")
    tell("splits", rows, "empty")
    splits = list(_texts(h5, "splits", scans["splits"], rows)) if rows.any() else [""] * n
    meta: dict[str, Any] = {}
    for link in dict.fromkeys([*_links(h5, "meta"), *_links(h5, "checksums/meta")]):
        name = f"meta/{link}"
        each, rows = scans.get(name), good(name)
        if each is None or not rows.any():
            notes.append(f"the column {decode_name(link)} is damaged and left out")
            continue
        text = h5[name].dtype.kind not in "fiu"
        tell(f"column {decode_name(link)}", rows, "empty")
        column: Any = (
            _texts(h5, name, each, rows)
            if text
            else _numbers(h5, name, rows, each, np.nan).astype(np.float64)
        )
        meta[decode_name(link)] = column.take(kept) if text else column[kept]
    phash = None
    if stood(h5, scans, "phash"):
        if good("phash")[kept].all():
            phash = _numbers(h5, "phash", good("phash"), scans["phash"], 0)[kept].astype(np.uint64)
        else:
            notes.append("phash is damaged and left out: `extract --rehash` adds it again")
    view = read_view(h5, scans, n)
    lists = [_whole_list(h5, scans, f"quarantine/{name}") for name in ("paths", "reasons")]
    quarantine: list[tuple[str, str]] = []
    if stood(h5, scans, "quarantine/paths"):
        if lists[0] is None or lists[1] is None or len(lists[0]) != len(lists[1]):
            notes.append("the quarantine is damaged and left out")
        else:
            quarantine = list(zip(*lists, strict=True))
    return Rows(
        paths=Texts.of(paths).take(kept),
        keys=_numbers(h5, "keys", good("keys"), scans["keys"], 0)[kept],
        labels=labels[kept],
        splits=Coded.of(s if s in SPLITS else "" for s in (splits[row] for row in kept.tolist())),
        classes=classes,
        meta=meta,
        view=None if view is None else view[kept].astype(np.int32),
        quarantine=quarantine,
        targets=None if targets is None else targets.take(kept),
        phash=phash,
    )


def _links(h5: h5py.File, name: str) -> list[str]:
    """What a group holds, in its own order; nothing if that cannot be told any more."""
    import h5py

    try:
        group = h5.get(name)
        return list(group) if isinstance(group, h5py.Group) else []
    except BROKEN:
        return []


def _whole_list(h5: h5py.File, scans: dict[str, Scan], name: str) -> list[str] | None:
    """All values of a dataset of text; None if one of them is not good."""
    each = scans.get(name)
    if each is None or each.fault or each.bad:
        return None
    return list(_texts(h5, name, each, np.ones(each.rows, bool)))


def _targets(
    h5: h5py.File,
    scans: dict[str, Scan],
    classes: list[str],
    good: np.ndarray,
    n: int,
    tell: Tell,
) -> Targets | None:
    from .reading import _attribute
    from .writing import task_digest

    if not good.any() or h5["targets"].shape != (n, len(classes)) or not classes:
        return None
    task = _attribute(h5["targets"], "task") or ""
    digests, _, _ = digests_of(h5, "task")
    if digests is not None and not np.array_equal(digests, task_digest(task)):
        return None
    tell("targets", good, "unknown")
    values = _numbers(h5, "targets", good, scans["targets"], np.nan)
    values[~good] = np.nan
    return Targets(task, classes, values.astype(np.float32))
