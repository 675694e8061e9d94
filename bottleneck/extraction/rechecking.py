"""A feature file against the world: its keys against the images, its features against new ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backbones import registry
from ..backbones.base import Backbone, Output
from ..backbones.proof import relative_error
from ..cache.features import Features
from ..cache.report import Problem
from ..engines import gate, select
from ..engines.base import Engine
from ..errors import BottleneckError, InputError
from ..images.decode import BadImage
from ..images.find import find
from ..images.folders import walk
from ..images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ..images.payload import key_of, payload
from ..images.preprocess import decoded, frames
from ..paths import escape, unescape
from ..remote import door
from ..remote.objects import RemoteObject
from ..remote.urls import is_url, is_web, stored, where
from ..reporter import Reporter
from .spotcheck import TOLERANCE

SHOWN = 20
# The run that made the file may have been allowed larger images than the defaults; only images whose
# key it has are decoded here.
_LIMITS = Limits(max_pixels=10 * MAX_PIXELS, max_bytes=10 * MAX_BYTES)
# Images whose bytes wait to be hashed at the most.
_AHEAD = 32
_THREADS = 4


def compare_keys(
    features: Features, root: str | os.PathLike[str] | None, reporter: Reporter
) -> tuple[dict[str, int], list[Problem]]:
    """Read every image again and compare the key of its bytes with the stored one.

    Parameters
    ----------
    features : Features
    root : path or None
        Where the images are now; None means the features' own root.
    reporter : Reporter

    Returns
    -------
    counts : dict of str to int
        ``same``, ``changed``, ``missing``, ``unreadable``; and ``new``, images below the root that
        have neither a row nor a place in the quarantine.
    problems : list of Problem
        An entry for each image that changed, is missing or cannot be read.
    """
    sources = _Sources(features, _folder(features, root))
    rows = np.flatnonzero(features.views == 0)
    counts = dict.fromkeys(("same", "changed", "missing", "unreadable", "new"), 0)
    problems: list[Problem] = []
    with reporter.progress("compare with the images", len(rows)) as bar:
        for row, (key, reason) in _hashed(rows, sources):
            bar.advance()
            if key == features.keys[row].tobytes():
                counts["same"] += 1
                continue
            missing = reason in ("no such file", "broken link", "no such object")
            kind = "changed" if key else "missing" if missing else "unreadable"
            counts[kind] += 1
            what = "is another image than the one the feature was computed from" if key else reason
            problems.append(Problem("images", what, (row, row), features.rows.paths[row]))
    known = set(features.rows.paths) | {path for path, _ in features.quarantine}
    counts["new"] = sum(path not in known for path in sources.listed())
    return counts, problems


def _folder(features: Features, root: str | os.PathLike[str] | None) -> str:
    """The folder of the images, as the system has it; empty where the rows name URLs alone."""
    if len(features) and all(map(is_url, features.rows.paths)):
        return ""
    if root is None and (not features.root or features.recipe.get("modality") != "image"):
        raise InputError(
            f"{features.file} does not say where its images are",
            expected="features of image files",
            where="root",
            next="name their folder with --root",
        )
    if is_url(place := str(root or features.root)):
        return unescape(place)
    folder = os.path.abspath(root) if root is not None else unescape(features.root)
    if not os.path.isdir(folder):
        raise InputError(
            f"there is no folder {folder}",
            expected="the images that the features were computed from",
            where="--root" if root is not None else f"{features.file}, root",
            next="name the folder where they are now with --root",
        )
    return folder


class _Sources:
    """Where the image of each row is now: files, members of tars, objects of a store."""

    def __init__(self, features: Features, folder: str) -> None:
        self._paths = features.rows.paths
        self._folder = folder
        self._elsewhere: dict[str, Any] = {}
        below = [path for path in self._paths if not is_url(path)]
        # A list of URLs says nothing about what lies beside them.
        self._walked = bool(below) and not is_url(folder)
        tars = sorted({tar for path in below if (tar := _tar_of(path))})
        there = [file for tar in tars if _is_there(file := _place(folder, tar))]
        if there:
            found = find(there)
            if is_url(folder):
                prefix = escape(found.root[len(stored(folder).rstrip("/")) :].strip("/"))
            else:
                prefix = escape(os.path.relpath(found.root, folder)).replace(os.sep, "/")
            prefix = f"{prefix}/" if prefix not in ("", ".") else ""
            self._elsewhere = {prefix + each.path: each.source for each in found.samples}
        elif is_url(folder) and not is_web(folder) and not all(map(_tar_of, below)):
            self._elsewhere = {sample.path: sample.source for sample in find(folder).samples}

    def of(self, row: int) -> Any:
        """What `payload` takes."""
        path = self._paths[row]
        found = self._elsewhere.get(path)
        if found is not None:
            return found
        if is_url(path) or is_url(self._folder):
            return RemoteObject(_place(self._folder, path))
        return os.path.join(self._folder, unescape(path))

    def listed(self) -> Iterator[str]:
        """The stored path of every image that is there."""
        yield from self._elsewhere
        if self._walked:
            yield from walk(self._folder).paths


def _place(folder: str, path: str) -> str:
    """Where a stored path below a folder, as the system has that, leads: for `open`, or a URL."""
    return where(escape(folder.rstrip("/")) if is_url(folder) else escape(folder), path)


def _is_there(tar: str) -> bool:
    """Whether there is a tar; one that cannot be asked for is an error when it is read."""
    if not is_url(tar):
        return os.path.isfile(tar)
    try:
        door.info(tar)
    except door.RemoteError as error:
        return not error.missing
    return True


def _tar_of(path: str) -> str:
    """The tar that a stored path lies in; empty if it lies in none."""
    at = path.lower().find(".tar/")
    return path[: at + 4] if at >= 0 else ""


def _hashed(rows: np.ndarray, sources: _Sources) -> Iterator[tuple[int, tuple[bytes, str]]]:
    """For each row the key of its image now, or why there is none; several are read at once."""

    def key(row: int) -> tuple[bytes, str]:
        try:
            return key_of(payload(sources.of(row))), ""
        except BadImage as error:
            return b"", str(error)

    pool = ThreadPoolExecutor(_THREADS)
    try:
        for start in range(0, len(rows), _AHEAD):
            block = rows[start : start + _AHEAD].tolist()
            yield from zip(block, pool.map(key, block), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Picked:
    """Rows whose image is at hand as it was."""

    rows: list[int] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)  # of the row's own view, (h, w, 3)
    left_out: int = 0
    undecodable: list[Problem] = field(default_factory=list)


def compare_features(
    features: Features,
    n: int,
    seed: int,
    root: str | os.PathLike[str] | None,
    reporter: Reporter,
) -> tuple[dict[str, Any], list[Problem], list[str]]:
    """Compute rows picked at random again, by the file's own engine and by this machine's default.

    Parameters
    ----------
    features : Features
        With all their outputs, each of which is compared.
    n : int
        Rows, at least 1; images that are gone or changed are replaced by others.
    seed : int
    root : path or None
        As of `compare_keys`.
    reporter : Reporter

    Returns
    -------
    found : dict
        ``rows``, ``seed``, ``tolerance``, and ``engines``: for each its largest error, by the measure
        of the recipe's precision (`spotcheck.TOLERANCE`).
    problems : list of Problem
    notes : list of str
    """
    sources = _Sources(features, _folder(features, root))
    backbone = registry.from_recipe(features.recipe).with_outputs(
        tuple(Output.from_recipe(each) for each in features.recipe["outputs"])
    )
    picked = _pick(features, n, seed, sources, backbone, reporter)
    notes = []
    if picked.left_out:
        notes.append(
            f"{picked.left_out} images that were picked are gone or have changed; others took their "
            "place as far as there are any"
        )
    tolerance = TOLERANCE[backbone.precision]
    found: dict[str, Any] = {
        "rows": len(picked.rows),
        "seed": seed,
        "measure": "relative error" if backbone.precision == "fp32" else "1 - cosine",
        "tolerance": tolerance,
        "engines": {},
    }
    problems = list(picked.undecodable)
    if not picked.rows:
        problems.append(Problem("recompute", "none of the images is there as it was"))
        return found, problems, notes
    tried: set[tuple[str, str]] = set()
    for recorded in (features.environment, {}):
        try:
            choice = select.choose(backbone, n_missing=len(picked.rows), recorded=recorded)
            wanted = str(recorded.get("engine", choice.label))
            if wanted != choice.label:
                notes.append(f"the engine of the file, {wanted}, is not here")
            if (choice.label, choice.device) in tried:
                continue
            tried.add((choice.label, choice.device))
            engine, choice = select.start(choice, backbone, reporter)
        except BottleneckError as error:
            if not recorded:
                raise
            notes.append(f"the engine of the file did not start: {error.what}")
            continue
        errors = _errors(engine, picked, features, backbone, reporter)
        name = f"{choice.label} on {choice.device}"
        found["engines"][name] = max(float(each.max()) for each in errors.values())
        for output, each in errors.items():
            for row, gap in zip(picked.rows, each.tolist(), strict=True):
                if not gap <= tolerance:
                    what = f"computed again by {name}, differs by {gap:.2g} ({found['measure']})"
                    path = features.rows.paths[row]
                    problems.append(Problem(output, what, (row, row), path))
    return found, problems, notes


def _pick(
    features: Features,
    n: int,
    seed: int,
    sources: _Sources,
    backbone: Backbone,
    reporter: Reporter,
) -> _Picked:
    """Up to `n` rows in random order whose image has the stored key, with the pixels of each."""
    picked = _Picked()
    p, views = backbone.preprocessing, features.views
    with reporter.progress("read images", min(n, len(features))) as bar:
        for row in np.random.default_rng(seed).permutation(len(features)).tolist():
            if len(picked.rows) == n:
                break
            path = features.rows.paths[row]
            try:
                content = payload(sources.of(row), _LIMITS)
            except BadImage:
                picked.left_out += 1
                continue
            if key_of(content) != features.keys[row].tobytes():
                picked.left_out += 1
                continue
            try:
                pixels = frames(decoded(content, p, _LIMITS.max_pixels).array, p)
            except BadImage as error:
                what = f"could be decoded once, and cannot be now: {error}"
                picked.undecodable.append(Problem("recompute", what, (row, row), path))
                continue
            picked.rows.append(row)
            picked.pixels.append(pixels[int(views[row])])
            bar.advance()
    return picked


def _errors(
    engine: Engine, picked: _Picked, features: Features, backbone: Backbone, reporter: Reporter
) -> dict[str, np.ndarray]:
    """For each output how far each picked row lies from what the engine gives now."""
    again: list[list[np.ndarray]] = []
    with reporter.progress(f"compute again ({engine.name})", len(picked.rows)) as bar:
        for start in range(0, len(picked.rows), engine.batch_size):
            batch = picked.pixels[start : start + engine.batch_size]
            again.append(engine.run(np.stack(batch)))
            bar.advance(len(batch))
    errors: dict[str, np.ndarray] = {}
    names = ["features", *(f"layers/{name}" for name in features.outputs[1:])]
    rows = np.array(picked.rows, np.intp)
    for number, (name, array) in enumerate(
        zip(names, [features.features, *features.layers.values()], strict=True)
    ):
        found = np.concatenate([each[number] for each in again])
        stored = np.asarray(array[rows])
        if features.header.store == "float16":
            found = found.astype(np.float16).astype(np.float32)
        if backbone.precision == "fp32":
            errors[name] = relative_error(found, stored)
        else:
            errors[name] = 1 - gate.cosine(found, stored)
    return errors
