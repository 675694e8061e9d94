"""The good rows of a damaged feature file into a new one, block by block.

A row is written only if the digests of its features, key and path are good. What a row says beside
that (label, split, columns of a table) is left out where it is damaged: the next `extract` knows it.
A feature whose path is lost still has its key, by which that `extract` finds it in the parts. A key
whose block is damaged is proved by the image at its path, where that is at hand. Of a directory the
shards are gone through one by one (`reassembly`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BottleneckError, CacheError, InputError
from ..recipe import fingerprint
from ..reporter import Reporter, Silent
from . import checksums
from .atomic import make_folder, replace_atomically, size
from .elsewhere import of_this_computer
from .examination import BROKEN, Examination, digests_of, opened_as_is
from .examining import examine
from .layout import FORMAT, STORES, Header
from .leftovers import leftovers
from .lock import writing
from .outputs import Layer, dataset_of, output_id, output_ids
from .reading import _json
from .salvage import good_rows, in_order, read_paths, read_rows, read_view, stood
from .scanning import Scan
from .shards import Shards
from .traces import recipe_in
from .writing import write

if TYPE_CHECKING:
    import h5py

    from .features import Features

_IDENTITY = ("features", "keys", "view")


@dataclass
class Repair:
    """What was saved of a damaged file or directory.

    Attributes
    ----------
    output : Path
        The new file or directory; it is there only if `rows` is above 0.
    rows : int
        Rows of the new file.
    lost : list of (int, str, str)
        Row of the damaged file or shard (-1 if that is not known), stored path (empty if it is lost
        too), and why.
    by_key : int
        Features whose path is lost: in the parts of the new file, where `extract` finds them by key.
    from_parts : int
        Rows of finished shards that lay beside the damaged file.
    vouched : bool
        Whether digests stand for what was written.
    notes : list of str
        What else was left out, one sentence each.
    directory : bool
        Whether `output` is a directory.
    """

    output: Path
    rows: int = 0
    lost: list[tuple[int, str, str]] = field(default_factory=list)
    by_key: int = 0
    from_parts: int = 0
    vouched: bool = True
    notes: list[str] = field(default_factory=list)
    directory: bool = False

    @property
    def name(self) -> str:
        """What to call the output in a command: a directory has a slash at its end."""
        return f"{self.output}{os.sep}" if self.directory else str(self.output)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "output": self.name if self.rows else None,
            "rows": self.rows,
            "lost": [{"row": r, "path": p or None, "why": why} for r, p, why in self.lost],
            "by_key": self.by_key,
            "from_parts": self.from_parts,
            "vouched": self.vouched,
            "notes": self.notes,
        }


def repair(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Repair:
    """Save what is whole of a damaged feature file or directory, which itself stays as it is.

    Parameters
    ----------
    path : str or path-like
        What is damaged: a file, or a directory of shards. It may be gone, if finished shards lie in
        ``PATH.parts``.
    output : str or path-like
        The new file; a directory where it ends in a slash or is one.
    force : bool, default False
        Replace `output` if it is there.
    reporter : Reporter, optional

    Returns
    -------
    Repair
        `extract` of the images into the new file computes the lost rows, and no other.

    Raises
    ------
    CacheError
        If nothing can be saved, it cannot be said what the features are, or `output` is there.
    """
    source, target = of_this_computer(path), of_this_computer(output)
    reporter = reporter or Silent()
    result = Repair(target)
    result.directory = os.fspath(output).endswith(("/", os.sep)) or target.is_dir()
    _require_free(source, target, result.directory, force=force)
    staged = result.directory or source.is_dir()
    with ExitStack() as stack:
        rows, scratch = target, target.parent
        if staged:
            make_folder(target.parent)
            folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
            scratch = Path(stack.enter_context(folder))
            rows = scratch / "rows.h5"
        with writing(target, timeout_s=0):
            saved, problem = _saved(source, rows, scratch, result, reporter, staged=staged)
            if saved is not None and not result.directory:
                saved.save(target)
        if saved is not None and result.directory:
            saved.save(result.name)  # takes the lock itself
    if not (result.rows or result.by_key or result.from_parts):
        raise problem or _nothing_left(source, result)
    if problem is not None:
        result.notes.append(f"of the file itself nothing could be saved: {problem.what}")
    return result


def _require_free(source: Path, target: Path, as_directory: bool, *, force: bool) -> None:
    """Raise unless the output can be written: before any work."""
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    same = os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target)
    if same or not force:
        raise CacheError(
            f"{target} exists",
            expected="a new file: the damaged one stays as it is",
            where="-o",
            next="name another file, or --force to replace it",
        )
    if not as_directory:
        return
    if not target.is_dir():
        raise InputError(
            f"{target} is a file, not a directory", where="-o", next="leave the slash out"
        )
    from .directory.saving import require_ours
    from .storage import LocalStorage

    require_ours(LocalStorage(target))


def _saved(
    source: Path,
    rows: Path,
    scratch: Path,
    result: Repair,
    reporter: Reporter,
    *,
    staged: bool,
) -> tuple[Features | None, BottleneckError | None]:
    """Save to the file `rows`; what has still to be written as the output, and what went wrong."""
    fingerprints: list[str] = []
    problem: BottleneckError | None = None
    saved: Features | None = None
    if source.is_dir():
        saved, fingerprints = _save_directory(source, scratch, result, reporter)
    elif source.is_file():
        try:
            fingerprints = _examined(source, rows, result, reporter)
        except BottleneckError as error:
            problem = error
        if staged and result.rows:
            from .features import opened

            saved = opened(rows)
    result.from_parts = _copy_shards(source, result.output, fingerprints, result)
    return saved, problem


def _examined(source: Path, rows: Path, result: Repair, reporter: Reporter) -> list[str]:
    with reporter.progress(f"examine {source.name}", 1) as bar:
        found = examine(source)
        bar.advance()
    try:
        return _save(source, found, result, rows, reporter)
    except BROKEN as error:  # columns of types that no file of ours has
        raise _nothing(source, f"its columns make no sense ({error})") from error


def _save_directory(
    source: Path, scratch: Path, result: Repair, reporter: Reporter
) -> tuple[Features | None, list[str]]:
    """The good rows of a directory, and the fingerprints of its outputs."""
    from .reassembly import Lost, reassemble

    def salvage(shard: Path, rows: Path) -> Lost:
        own = Repair(result.output)
        _examined(shard, rows, own, reporter)
        result.by_key += own.by_key
        result.vouched = result.vouched and own.vouched
        result.notes += [f"{shard.name}: {note}" for note in own.notes]
        return own.lost

    found = reassemble(source, scratch, salvage)
    result.rows = 0 if found.features is None else len(found.features)
    result.lost += found.lost
    result.notes += found.notes
    header = found.header
    if header is None:
        return found.features, []
    return found.features, [fingerprint(header.recipe, each) for each in header.recipe["outputs"]]


def _nothing_left(source: Path, result: Repair) -> CacheError:
    """Why there is no row: none is whole, or there is nothing at all."""
    if source.exists():
        counts = Counter(why for _, _, why in result.lost).most_common(3)
        reasons = [f"{n} rows: {why}" for why, n in counts]
        return _nothing(source, "; ".join(reasons or result.notes) or "it has no rows")
    return CacheError(
        f"{source} does not exist, and no finished shards lie beside it",
        expected="a damaged feature file, or its folder of parts",
        where=str(source),
        next=f"look for {source.name}.parts",
    )


def _save(
    source: Path, found: Examination, result: Repair, target: Path, reporter: Reporter
) -> list[str]:
    """Write the good rows to `target`; the fingerprints of their outputs."""
    scans = found.scans
    header = _header(source, found, result)
    if "features" not in scans or scans["features"].fault or not scans["features"].rows:
        why = scans["features"].fault if "features" in scans else "; ".join(found.faults)
        raise _nothing(source, f"its features cannot be read: {why or 'there are none'}")
    result.vouched = found.vouched and all(
        scans[name].vouched for name in _IDENTITY if name in scans
    )
    if not result.vouched:
        result.notes.append(
            "the file has no checksums: nothing vouches for what was taken; rows were left out only "
            "where a value is impossible"
        )
    header, layers = _layers(header, scans, result)
    n = scans["features"].rows
    scans = _with_proved_keys(source, scans, header, result, reporter)
    whole = np.ones(n, bool)
    reasons = np.full(n, "", object)
    with opened_as_is(source) as h5:
        for name in [*_IDENTITY, *(dataset_of(each) for each in layers)]:
            if name == "keys" or stood(h5, scans, name):
                good = good_rows(scans.get(name), n)
                reasons[whole & ~good] = f"{name} damaged"
                whole &= good
        kind = h5["features"].dtype.newbyteorder("<")
        store = next((name for name, each in STORES.items() if each == kind), "")
        header = Header(header.recipe, header.environment, header.fingerprint, header.root, store)
        paths, named = read_paths(h5, scans, n)
        kept = whole & named & in_order(paths, read_view(h5, scans, n), whole & named, reasons)
        rows = read_rows(h5, scans, np.flatnonzero(kept), paths, result.notes)
        if len(rows):
            write(
                target,
                header,
                rows,
                _blocks(h5, "features", source, kept),
                [
                    Layer(
                        output, fingerprint(header.recipe, output), _blocks(h5, name, source, kept)
                    )
                    for output in header.recipe["outputs"][1:]
                    for name in [dataset_of(output_id(output))]
                ],
            )
        result.rows = len(rows)
        orphaned = whole & ~named
        if orphaned.any() and "view" not in scans:
            result.by_key = _by_key(h5, source, header, orphaned, result)
            reasons[orphaned] = "its path is damaged; the feature is kept by key"
        elif orphaned.any():
            reasons[orphaned] = "its path is damaged"
    for row in np.flatnonzero(~kept).tolist():
        result.lost.append((row, paths[row] if named[row] else "", str(reasons[row])))
    return [fingerprint(header.recipe, output) for output in header.recipe["outputs"]]


def _with_proved_keys(
    source: Path, scans: dict[str, Scan], header: Header, result: Repair, reporter: Reporter
) -> dict[str, Scan]:
    """The scans, where a key of a damaged block counts as good if the image at its path has that key."""
    from ..extraction.rechecking import compare_keys
    from .features import Features
    from .layout import Rows

    keys, n = scans.get("keys"), scans["features"].rows
    readable = keys is not None and not keys.fault and keys.rows == n and keys.vouched
    if keys is None or not readable or not keys.bad or not header.root:
        return scans
    with opened_as_is(source) as h5:
        paths, named = read_paths(h5, scans, n)
        doubtful = ~keys.good_rows() & good_rows(scans["features"], n) & named
        for block in keys.unreadable:
            doubtful[block * keys.block_rows : (block + 1) * keys.block_rows] = False
        at = np.flatnonzero(doubtful)
        if not len(at) or h5["keys"].shape != (n, 32) or h5["keys"].dtype != np.uint8:
            return scans
        stored = np.zeros((len(at), 32), np.uint8)
        for start in range(0, n, keys.block_rows):
            mine = (at >= start) & (at < start + keys.block_rows)
            if mine.any():
                stored[mine] = h5["keys"][start : start + keys.block_rows][at[mine] - start]
    rows = Rows(
        paths=[paths[row] for row in at.tolist()],
        keys=stored,
        labels=np.full(len(at), -1, np.int32),
        splits=[""] * len(at),
        classes=[],
    )
    try:
        _, problems = compare_keys(
            Features(header, rows, np.zeros((len(at), 1), np.float32)), None, reporter
        )
    except (BottleneckError, OSError):  # the images are elsewhere: there is no proof
        return scans
    proved = np.zeros(n, bool)
    proved[at] = True
    proved[[at[each.rows[0]] for each in problems if each.rows is not None]] = False
    if not proved.any():
        return scans
    result.notes.append(
        f"keys of {proved.sum()} rows stand in a damaged block, and are those of the images in "
        f"{header.root}"
    )
    good = keys.good_rows() | proved
    blocks = sorted({int(row) // keys.block_rows for row in np.flatnonzero(proved)})
    bad = [block for block in keys.bad if block not in blocks]
    return {**scans, "keys": replace(keys, bad=bad, not_finite=np.flatnonzero(~good).tolist())}


def _header(source: Path, found: Examination, result: Repair) -> Header:
    """What the features are: a recipe is good if the fingerprint is that of its own JSON."""
    texts = found.attributes
    try:
        if texts.get("format", FORMAT) != FORMAT:
            raise ValueError(f"its format is {texts['format']!r}")
        header = Header(json.loads(texts["recipe"]), {}, texts["fingerprint"])
        header.require_sound(str(source))
    except (KeyError, TypeError, ValueError, AttributeError, CacheError) as error:
        traced = recipe_in(source)
        if traced is None:
            reason = error.what if isinstance(error, CacheError) else str(error)
            raise _nothing(source, f"it cannot be said what its features are: {reason}") from error
        header = Header(traced[0], {}, traced[1])
        header.require_sound(str(source))
    if found.sound_attributes is not True and found.vouched:
        result.notes.append(
            "the root attributes are damaged: the recipe is proved by its fingerprint, environment "
            "and root are left out"
        )
        return header
    environment: dict[str, Any] = {}
    if found.vouched:
        try:
            environment = _json(texts.get("environment"), "environment", source)
        except CacheError as error:  # it has a good digest: so it was written
            result.notes.append(f"the environment is left out: {error.what}")
    return replace(header, environment=environment, root=texts.get("root", ""))


def _layers(header: Header, scans: dict[str, Scan], result: Repair) -> tuple[Header, list[str]]:
    """The header without the layers that are lost as a whole, and the ids of those that are left."""
    n = scans["features"].rows
    outputs, ids = header.recipe["outputs"], output_ids(header)[1:]
    left = []
    for name in ids:
        each = scans.get(dataset_of(name))
        if each is None or each.fault or each.rows != n:
            reason = "it is missing" if each is None else each.fault or "it has another length"
            result.notes.append(f"the output {name} is left out: {reason}")
        else:
            left.append(name)
    kept = [outputs[0], *(o for o, name in zip(outputs[1:], ids, strict=True) if name in left)]
    recipe = {**header.recipe, "outputs": kept}
    return Header(recipe, header.environment, header.fingerprint, header.root), left


def _blocks(h5: h5py.File, name: str, source: Path, kept: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a dataset that are kept, in order; each block is compared with its digest again."""
    digests, block_rows, _ = digests_of(h5, name)
    dataset = h5[name]
    for number, start in enumerate(range(0, len(kept), block_rows)):
        here = kept[start : start + block_rows]
        if not here.any():
            continue
        values = dataset[start : start + block_rows]
        if digests is not None and checksums.digest(values) != digests[number].tobytes():
            raise CacheError(
                f"{source}: {name} changes while it is read",
                where=f"{source}, {name}, rows {start} to {start + len(values) - 1}",
                next="check the disk, copy the file to another one, and repair the copy",
            )
        yield values[here].astype(np.float32, copy=False)


def _by_key(
    h5: h5py.File, source: Path, header: Header, orphaned: np.ndarray, result: Repair
) -> int:
    """Seal features whose path is lost as shards of the new file."""
    parts = result.output.with_name(result.output.name + ".parts")
    keys = h5["keys"][()][orphaned]
    for number, output in enumerate(header.recipe["outputs"]):
        name = dataset_of(output_id(output)) if number else "features"
        made_by = fingerprint(header.recipe, output)
        shards = Shards(parts, made_by, recipe=header.recipe, environment=header.environment)
        start = 0
        for block in _blocks(h5, name, source, orphaned):
            shards.append(keys[start : start + len(block)], block)
            start += len(block)
        shards.seal()
    return len(keys)


def _copy_shards(source: Path, target: Path, fingerprints: list[str], result: Repair) -> int:
    """Copy finished shards to the parts of the new file; how many rows they have."""
    left = leftovers(source.with_name(source.name + ".parts"))
    if left is None:
        return 0
    rows = 0
    for shard, keys, made_by in left.shards:
        if fingerprints and made_by not in fingerprints:
            continue
        try:
            data = shard.path.read_bytes()
        except OSError as error:
            result.notes.append(
                f"{shard.path} cannot be read ({error.strerror}); it was left there"
            )
            continue
        parts = target.with_name(target.name + ".parts")
        with replace_atomically(parts / shard.path.name) as file:
            file.write(data)
        rows += len(keys)
    if left.torn:
        result.notes.append(
            f"{len(left.torn)} torn shards in {left.folder} were left where they are"
        )
    if rows:
        result.notes.append(f"{rows} rows of finished shards were copied from {left.folder}")
    return rows


def _nothing(source: Path, why: str) -> CacheError:
    return CacheError(
        f"nothing of {source} ({size(source.stat().st_size)}) can be saved: {why}",
        where=str(source),
        next="restore it from a backup, or extract the images again",
    )
