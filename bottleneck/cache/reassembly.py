"""The good rows of a damaged directory of features as one `Features`, shard by shard.

Each shard is an ordinary feature file, so of a damaged one those rows are taken that `repairing`
saves of a file. The manifest says which rows still count and which shard is the later one. Where it
is lost nobody knows that any more: of a path that stands in several shards no row is taken unless all
say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import BottleneckError, CacheError
from . import features as feature_files
from . import reading
from .directory.lists import Lists
from .directory.lists import load as load_lists
from .directory.manifest import NAME, NAME_DIGITS, Manifest, Shard
from .directory.reading import load
from .directory.rows import living
from .examination import BROKEN
from .features import Features
from .joining import gather, with_common
from .layout import Header
from .outputs import output_ids
from .sealed import digest_of
from .settling import settle
from .storage import LocalStorage

Lost = list[tuple[int, str, str]]
# A damaged file, and where its good rows go: what was lost of it.
Salvage = Callable[[Path, Path], Lost]


@dataclass
class Reassembly:
    """What `reassemble` found.

    Attributes
    ----------
    features : Features or None
        The good rows; None if there is none.
    lost : list of (int, str, str)
        Row of a shard, stored path (empty if it is lost too), why.
    notes : list of str
    header : Header or None
        That of the directory.
    """

    features: Features | None
    lost: Lost
    notes: list[str]
    header: Header | None


def reassemble(folder: Path, scratch: Path, salvage: Salvage) -> Reassembly:
    """Take the good rows of every shard; nothing in `folder` is changed.

    Parameters
    ----------
    folder : Path
    scratch : Path
        An empty folder for what is saved of damaged shards; the features are read from there.
    salvage : callable
        Writes the good rows of a damaged feature file to another place.
    """
    storage = LocalStorage(folder)
    found = Reassembly(None, [], [], None)
    manifest: Manifest | None = None
    why = "is missing"
    try:
        manifest = load(storage)
    except CacheError as error:
        why = f"cannot be used: {error.what}"
    parts: list[Features] = []
    if manifest is None:
        found.notes.append(
            f"manifest.json {why}; which of its shards is the later one, and which rows do not count any "
            "more, is unknown: rows of images that are gone may be among those that were saved"
        )
        for name in storage.list():
            if NAME.fullmatch(name) and name.endswith(".h5"):
                part = _rows_of(folder / name, None, scratch, salvage, found)
                if part is not None:
                    parts.append(part)
    else:
        found.header = manifest.header
        for shard in manifest.shards:
            part = _rows_of(folder / shard.name, shard, scratch, salvage, found)
            if part is not None:
                parts.append(_as_listed(part, manifest, shard))
    parts = _of_one_kind(parts, found)
    parts = _each_path_once(parts, found, ordered=manifest is not None)
    if not parts:
        return found
    found.features = _joined(parts, _header(parts, manifest))
    found.header = found.features.header
    if manifest is not None:
        found.features.rows.quarantine = _quarantine(manifest, storage, found)
    return found


def _rows_of(
    path: Path, shard: Shard | None, scratch: Path, salvage: Salvage, found: Reassembly
) -> Features | None:
    """The good rows of a shard that count; None if there are none."""
    counts = None if shard is None else np.zeros(shard.rows, bool)
    if shard is not None and counts is not None:
        counts[living(shard)] = True
    lost: Lost = []
    try:
        whole = _is_whole(path, shard)
        features = feature_files.opened(path) if whole else None
    except (BottleneckError, OSError):
        features = None
    if features is None:
        target = scratch / path.name
        try:
            if not path.is_file():
                raise CacheError(f"{path} is missing", where=str(path))
            if shard is not None and _is_another(path, shard):
                raise CacheError("it is another feature file", where=str(path))
            lost = salvage(path, target)
            features = feature_files.opened(target) if target.exists() else None
        except (BottleneckError, *BROKEN) as error:
            what = error.what if isinstance(error, BottleneckError) else str(error)
            found.notes.append(f"nothing of the shard {path.name} could be saved: {what}")
            rows = [] if counts is None else np.flatnonzero(counts).tolist()
            found.lost += [(row, "", f"{path.name}: it is missing or unusable") for row in rows]
            return None
    n = len(lost) + (0 if features is None else len(features))
    if counts is not None and n != len(counts):
        found.notes.append(
            f"the shard {path.name} has {n} rows, not {len(counts)}: it is another one, and left out"
        )
        rows = np.flatnonzero(counts).tolist()
        found.lost += [(row, "", f"{path.name}: another file of that name") for row in rows]
        return None
    counting = np.ones(n, bool) if counts is None else counts
    found.lost += [(row, at, f"{path.name}: {why}") for row, at, why in lost if counting[row]]
    if features is None:
        return None
    kept = np.ones(n, bool)
    kept[[row for row, _, _ in lost]] = False
    return features.subset(counting[kept])


def _is_whole(path: Path, shard: Shard | None) -> bool:
    """Whether a shard is what was written: it is named by its content."""
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb", buffering=0) as file:
        digest = digest_of(file).hex()
    if shard is not None:
        return digest == shard.blake3
    return digest[:NAME_DIGITS] == path.stem


def _is_another(path: Path, shard: Shard) -> bool:
    """Whether a file says of itself, whole enough to be read, that it holds other rows than listed."""
    try:
        stored = reading.read(path)[2]
    except (BottleneckError, OSError):
        return False
    return stored.digests is not None and stored.identity != shard.content


def _as_listed(part: Features, manifest: Manifest, shard: Shard) -> Features:
    """Rows with the columns that still count for them, below the directory's root."""
    rows = replace(
        part.rows, meta={name: col for name, col in part.rows.meta.items() if name in shard.meta}
    )
    header = replace(part.header, root=manifest.header.root)
    return Features(header, rows, part.features, part.file, part.layers)


def _of_one_kind(parts: list[Features], found: Reassembly) -> list[Features]:
    """Those of the fingerprint, outputs and lengths that most rows have."""
    counts: Counter[tuple[object, ...]] = Counter()
    tasks: Counter[str] = Counter()
    for part in parts:
        tasks[part.task] += len(part) if _has_labels(part) else 0

    def kind(part: Features) -> tuple[object, ...]:
        sides = tuple(array.shape[1] for array in (part.features, *part.layers.values()))
        # A shard whose labels are lost is of any task: they cost no feature.
        task = part.task if _has_labels(part) else max(tasks, key=lambda each: tasks[each])
        return (part.fingerprint, *output_ids(part.header), *sides, task, part.header.store)

    for part in parts:
        counts[kind(part)] += len(part)
    if len(counts) < 2:
        return parts
    wanted = max(counts, key=lambda each: counts[each])
    for part in parts:
        if kind(part) != wanted:
            name = "" if part.file is None else Path(part.file).name
            found.notes.append(
                f"the shard {name} has another recipe or other outputs than most rows: left out"
            )
            lost = f"{name}: another recipe or other outputs"
            found.lost += [(row, path, lost) for row, path in enumerate(part.rows.paths)]
    return [part for part in parts if kind(part) == wanted]


def _has_labels(part: Features) -> bool:
    return part.rows.targets is not None or bool((part.y >= 0).any())


def _each_path_once(parts: list[Features], found: Reassembly, *, ordered: bool) -> list[Features]:
    """No path in two of them: the last one counts, or where no order is known what all agree on."""
    said: dict[str, tuple[int, tuple[object, ...]]] = {}
    unclear: set[str] = set()
    for number, part in enumerate(parts):
        of_part: dict[str, tuple[object, ...]] = {}
        labels = part.labels if part.rows.targets is None else part.rows.targets.values.tolist()
        columns = zip(part.rows.paths, part.keys, labels, part.rows.splits, strict=True)
        for path, key, label, split in columns:
            of_part.setdefault(path, (key.tobytes(), str(label), split))
        for path, values in of_part.items():
            if path in said and said[path][1] != values:
                unclear.add(path)
            said[path] = (number, values)
    if ordered:
        unclear.clear()
    kept = []
    for number, part in enumerate(parts):
        own = np.fromiter(
            (said[path][0] == number and path not in unclear for path in part.rows.paths),
            bool,
            len(part),
        )
        if own.any():
            kept.append(part if own.all() else part.subset(own))
    if unclear:
        found.notes.append(
            f"{len(unclear)} paths stand in several shards with different keys, labels or splits: none of "
            "their rows was taken, and the next `extract` computes them"
        )
        found.lost += [(-1, path, "which row counts is unknown") for path in sorted(unclear)]
    return kept


def _header(parts: list[Features], manifest: Manifest | None) -> Header:
    own = parts[0].header
    if manifest is not None:
        known = manifest.header
        return replace(own, environment=known.environment, root=known.root)
    from .merging import environments

    roots = {part.root for part in parts if part.root}
    root = roots.pop() if len(roots) == 1 else ""
    return replace(own, environment=environments(parts), root=root)


def _joined(parts: list[Features], header: Header) -> Features:
    """Rows of several shards, none of which stands twice, as one."""
    parts = [
        Features(
            replace(part.header, root=header.root), part.rows, part.features, None, part.layers
        )
        for part in parts
    ]
    if len(parts) == 1:
        only = parts[0]
        return Features(header, only.rows, only.features, None, only.layers)
    return gather(parts, settle(parts), with_common(parts, header, None))


def _quarantine(
    manifest: Manifest, storage: LocalStorage, found: Reassembly
) -> list[tuple[str, str]]:
    try:
        lists: Lists = load_lists(manifest.lists, storage)
    except CacheError as error:
        found.notes.append(f"the quarantine is left out: {error.what}")
        return []
    return list(lists.quarantine)
