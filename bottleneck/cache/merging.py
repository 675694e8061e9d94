"""Several feature files and directories to one, on disk: the rows of all, a window of features at a time.

The rules are those of `joining.join` (`settling`). Two directories keep their shards as they are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CacheError, InputError
from ..remote.urls import as_path, is_url, stored
from ..reporter import Reporter, Silent
from . import features as feature_files
from .features import Features
from .joining import gather, require_one_recipe, with_common
from .layout import Header
from .lock import writing
from .outputs import alone
from .settling import count, settle


@dataclass
class Merge:
    """What came of merging.

    Attributes
    ----------
    features : Features
        The new file, opened.
    output : Path
    repeated : int
        Rows that stood in several of the files, and stand once now.
    replaced : int
        Rows that a later file has with another key: the image was edited in between.
    linked : bool
        Whether shards were taken as they are, without reading or writing a feature.
    """

    features: Features
    output: Path
    repeated: int = 0
    replaced: int = 0
    linked: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "output": str(self.output),
            "features": list(self.features.features.shape),
            "root": self.features.root,
            "repeated": self.repeated,
            "replaced": self.replaced,
            "quarantined": len(self.features.quarantine),
            "linked": self.linked,
        }


def merge(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Merge:
    """Write the rows of several feature files of one recipe into a new one.

    Parameters
    ----------
    sources : sequence of path
        Files or directories, at least one; of equal paths with another key the row of the later one
        counts, of equal rows what any of them says.
    output : path
        A file, or a directory where it ends in a slash. It may be one of `sources` with `force`.
    force : bool, default False
        Replace `output` if it is there.
    reporter : Reporter, optional
        Gets notes: outputs left out, roots that differ, rows that were replaced.

    Returns
    -------
    Merge

    Raises
    ------
    RecipeError
        If the recipes differ, field by field.
    CacheError
        If one row has two labels or splits, or `output` is there.
    """
    reporter = reporter or Silent()
    if not sources:
        raise InputError("nothing to merge", expected="feature files", next="name some")
    target, as_directory = destination(output, force=force)
    several = [feature_files.open(path) for path in sources]
    require_one_recipe(several)
    if as_directory:
        linked = _merge_directories(several, target)
        if linked is not None:
            repeated, replaced = count(several)
            _tell_replaced(replaced, reporter)
            return Merge(linked, target, repeated, replaced, linked=True)
    found = settle(several, apart=True)
    header = _header(several, found.root, reporter)
    joined = gather(several, found, with_common(several, header, reporter))
    roots = sorted({each.root or "none" for each in several})
    if len(roots) > 1:
        said = (
            f"paths are relative to {found.root} now" if found.root else "the new file has no root"
        )
        reporter.note(f"the roots differ ({', '.join(roots)}): {said}")
    _tell_replaced(found.replaced, reporter)
    if as_directory:
        joined.save(f"{target}{os.sep}")
    else:
        with writing(target, timeout_s=0):
            joined.save(target)
    merged = feature_files.open(target)
    return Merge(merged, target, found.repeated, found.replaced)


def _tell_replaced(n: int, reporter: Reporter) -> None:
    if n:
        reporter.note(f"{n} rows were replaced by those of a later file, with another key")


def destination(output: str | os.PathLike[str], *, force: bool) -> tuple[Path, bool]:
    """Where a new file or directory goes, and whether it is a directory; before any work.

    Parameters
    ----------
    output : path
        A directory where it ends in a slash, or is one; also ``file://`` and such a path.
    force : bool
        Replace what is there.

    Raises
    ------
    InputError
        If it is a URL of another machine, or something of another kind is there.
    CacheError
        If it is there, without `force`.
    """
    from .directory.saving import require_ours
    from .storage import LocalStorage

    text = as_path(os.fspath(output))
    if is_url(text):
        raise InputError(
            f"{stored(text)} is not on this machine",
            expected="a file or folder of this machine",
            where="-o",
            next="write it here, then copy it there, of a directory the manifest.json last",
        )
    target, slash = Path(text), os.fspath(output).endswith(("/", os.sep))
    if slash and os.path.lexists(target) and not target.is_dir():
        raise InputError(
            f"{target} is a file",
            expected="a new folder, or a directory of features, since the name ends in a slash",
            where="-o",
            next="leave out the slash, or give another name",
        )
    if target.is_dir():
        require_ours(LocalStorage(target))
    require_free(target, force=force)
    return target, slash or target.is_dir()


def require_free(target: Path, *, force: bool) -> None:
    """Raise a CacheError if an output is there and is not to be replaced."""
    there = os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir()))
    if there and not force:
        raise CacheError(
            f"{target} exists",
            expected="a new name",
            where="-o",
            next="name another one, or --force to replace it",
        )


def _merge_directories(several: Sequence[Features], target: Path) -> Features | None:
    """The directories with their shards as they are; None where that is not possible."""
    from .directory.merging import merge as merge_shards
    from .storage import LocalStorage

    storage = LocalStorage(target)
    with storage.writing():
        return merge_shards(several, storage, environment=environments(several))


def environments(several: Sequence[Features]) -> dict[str, Any]:
    """The environment of the first, with those of the others that differ under ``earlier``."""
    first = dict(several[0].environment)
    own = _plain(first)
    others: list[dict[str, Any]] = []
    for each in several:
        for past in (each.environment, *each.environment.get("earlier", ())):
            plain = _plain(past)
            if plain and plain != own and plain not in others:
                others.append(plain)
    first.pop("earlier", None)
    return {**first, **({"earlier": others} if others else {})}


def _plain(environment: dict[str, Any]) -> dict[str, Any]:
    """Without what was measured, which is no difference."""
    measured = ("earlier", "parity_gap", "speed")
    return {name: value for name, value in environment.items() if name not in measured}


def _header(several: Sequence[Features], root: str, reporter: Reporter) -> Header:
    stores = {each.header.store for each in several}
    if len(stores) > 1:
        # The other way round, what was rounded once would pass for float32.
        reporter.warn("some of the files hold float16 and some float32: the new one holds float16")
    return replace(
        alone(several[0].header, 0),
        environment=environments(several),
        root=root,
        store="float16" if "float16" in stores else "float32",
        created_by="",
    )
