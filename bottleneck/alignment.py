"""Feature sets that can be compared: files in; the rows of the images that all hold, and their labels out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cache.features import Features
from .cache.features import open as open_features
from .cache.given import OUTPUT
from .cache.joining import join
from .errors import InputError
from .reporter import Reporter

_SHOWN = 3  # images that a message names


@dataclass
class FeatureSet:
    """One output of one recipe, and the files it is in."""

    features: Features
    files: list[str]
    name: str = ""

    @property
    def layer(self) -> str:
        """``node:pooling``."""
        return self.features.outputs[0]

    @property
    def backbone(self) -> str | None:
        """As the recipe has it."""
        return self.features.recipe.get("backbone")


def open_sets(features: Any, reporter: Reporter) -> list[FeatureSet]:
    """All outputs of all files, those of one recipe joined, each with a name of its own.

    Parameters
    ----------
    features : Features, path, or a list of these
        ``FILE.h5::LAYER`` is one output of a file.
    reporter : Reporter
        Gets a note where files are joined.

    Returns
    -------
    list of FeatureSet
        In the order given.

    Raises
    ------
    InputError
        If there are fewer than two.
    """
    given = features if isinstance(features, list | tuple) else [features]
    parts: dict[Any, list[Features]] = {}
    for number, each in enumerate(given):
        opened = each if isinstance(each, Features) else open_features(each)
        opened.require_classes("a comparison")
        for output in opened.outputs:
            part = opened.output(output)
            # Arrays of one's own without a recipe have one fingerprint for every network.
            own = str(part.file or number) if brought(part) else None
            same = parts.setdefault((part.fingerprint, own), [])
            if part.file is None or _file(part) not in [_file(other) for other in same]:
                same.append(part)
    sets = []
    for same in parts.values():
        if len(same) > 1:
            reporter.note(f"joined, of one recipe and layer: {', '.join(map(_file, same))}")
        files = [_file(part) for part in same if part.file is not None]
        sets.append(FeatureSet(same[0] if len(same) == 1 else join(same), files))
    _name(sets)
    if len(sets) < 2:
        what = sets[0].name if sets else "none"
        raise InputError(
            f"{len(sets)} set of features: {what}",
            expected="2 or more, of other backbones or other layers",
            where=", ".join(sets[0].files) if sets else "",
            next="name a second file, or add a layer to this one with "
            "`bottleneck extract IMAGES -o FILE.h5 --layer NODE` (`bottleneck layers BACKBONE`)",
        )
    return sets


def _file(features: Features) -> str:
    return str(features.file) if features.file is not None else "features in memory"


def _name(sets: list[FeatureSet]) -> None:
    """Backbone and layer; with the file, then a number, where that is not enough to tell two apart."""
    for each in sets:
        layer = "" if OUTPUT in each.features.recipe["outputs"] else each.layer
        parts = [each.backbone, layer.removesuffix(":none")]
        each.name = " · ".join(part for part in parts if part) or "features"
    stems = [", ".join(Path(file).stem for file in each.files) for each in sets]
    whole = [", ".join(each.files) for each in sets]
    for marks in (stems, whole, [str(number) for number in range(1, len(sets) + 1)]):
        count = Counter(each.name for each in sets)
        plain = [each.name for each in sets]
        for each, mark, name in zip(sets, marks, plain, strict=True):
            if count[name] > 1 and mark:
                each.name = f"{name} ({mark})"


@dataclass(frozen=True)
class Alignment:
    """The images that all sets hold; entry i of every array is the same image.

    Attributes
    ----------
    rows : list of ndarray of shape (n,), intp
        For each set, in the order of the first set.
    y : ndarray of shape (n,), int32
        Index into `classes`, -1 = none.
    classes : list of str
        Of all sets, ordered by their UTF-8 bytes.
    splits : ndarray of shape (n,), object
    keys : ndarray of shape (n, 32), uint8
    views : int
        Rows that an image has.
    notes : list of str
        What was left out, or taken from one set for all.
    """

    rows: list[np.ndarray]
    y: np.ndarray
    classes: list[str]
    splits: np.ndarray
    keys: np.ndarray
    views: int
    notes: list[str]


def align(sets: Sequence[Features], names: Sequence[str]) -> Alignment:
    """Find the rows of the images that all sets hold.

    Rows are matched by key and view; of identical images in one set by path as well, and those whose
    paths differ in the order of their paths. Features that a user brought as arrays have keys of their
    own values, which say nothing of the image: if there is such a set, all rows are matched by path, the
    ids of `Features.from_arrays`.

    Parameters
    ----------
    sets : sequence of Features
    names : sequence of str
        What messages call them.

    Returns
    -------
    Alignment

    Raises
    ------
    InputError
        If no image is in all sets, or one has two labels or two splits.
    """
    views = _common_views(sets, names)
    own = [brought(features) for features in sets]
    rows = _by_path(sets) if any(own) else _by_key(sets)
    if not len(rows[0]):
        raise InputError(
            f"no image is in all of the {len(sets)} sets",
            expected="features of the same images"
            + (", under the same ids" if any(own) else ", byte for byte"),
            where="; ".join(_first_paths(f, n) for f, n in zip(sets, names, strict=True)),
            next="extract the same IMAGES with each backbone",
        )
    notes = _left_out(sets, names, rows)
    labels = _agreed(
        "label", [f.labels[r] for f, r in zip(sets, rows, strict=True)], sets, names, rows, notes
    )
    splits = _agreed(
        "split", [f.splits[r] for f, r in zip(sets, rows, strict=True)], sets, names, rows, notes
    )
    classes = sorted({name for features in sets for name in features.classes}, key=str.encode)
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes)} | {None: -1}
    imaged = own.index(False) if False in own else 0
    return Alignment(
        rows=rows,
        y=np.array([index[label] for label in labels], np.int32),
        classes=classes,
        splits=splits,
        keys=np.asarray(sets[imaged].keys)[rows[imaged]],
        views=views,
        notes=notes,
    )


def _common_views(sets: Sequence[Features], names: Sequence[str]) -> int:
    """Rows that an image has, the same in all sets: one tile says less than a whole image."""
    counts = [features.views_per_image for features in sets]
    if len(set(counts)) > 1:
        raise InputError(
            "the sets cut an image into different numbers of tiles: "
            + ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True)),
            expected="one framing's number of rows an image",
            next="compare those of one number; `bottleneck fit` scores each set by itself",
        )
    return counts[0]


def brought(features: Features) -> bool:
    """Whether the keys are of the features' own values (`Features.from_arrays`)."""
    return features.recipe.get("modality") == "array" or OUTPUT in features.recipe["outputs"]


def _by_path(sets: Sequence[Features]) -> list[np.ndarray]:
    """Rows of equal path and view."""
    places: list[dict[Hashable, int]] = []
    for features in sets:
        named = zip(features.rows.paths, _views(features), strict=True)
        places.append({path_and_view: row for row, path_and_view in enumerate(named)})
    common = [name for name in places[0] if all(name in each for each in places[1:])]
    return [np.array([each[name] for name in common], np.intp) for each in places]


def _by_key(sets: Sequence[Features]) -> list[np.ndarray]:
    """Rows of equal key and view, in the order of the first set."""
    first = sets[0].rows
    if all(
        other.rows.paths == first.paths
        and np.array_equal(other.keys, sets[0].keys)
        and _views(other) == _views(sets[0])
        for other in sets[1:]
    ):  # the layers of a file, and most files of one folder
        return [np.arange(len(first)) for _ in sets]
    places: list[dict[Hashable, list[int]]] = []
    for features in sets:
        here: dict[Hashable, list[int]] = {}
        for row, (key, view) in enumerate(zip(features.keys, _views(features), strict=True)):
            here.setdefault((key.tobytes(), view), []).append(row)
        places.append(here)
    found: list[tuple[int, ...]] = []
    for image in places[0]:
        if all(image in each for each in places[1:]):
            found += _pair(sets, [each[image] for each in places])
    found.sort()  # by the row of the first set
    return [np.array([match[i] for match in found], np.intp) for i in range(len(sets))]


def _pair(sets: Sequence[Features], copies: list[list[int]]) -> list[tuple[int, ...]]:
    """Matches among the rows of one image in each set: by path, and the others one by one."""
    if all(len(rows) == 1 for rows in copies):
        return [tuple(rows[0] for rows in copies)]
    named = [
        {features.rows.paths[row]: row for row in rows}
        for features, rows in zip(sets, copies, strict=True)
    ]
    both = [path for path in named[0] if all(path in each for each in named[1:])]
    rest = [[row for path, row in each.items() if path not in both] for each in named]
    return [tuple(each[path] for each in named) for path in both] + list(zip(*rest, strict=False))


def _views(features: Features) -> list[int]:
    return features.rows.views().tolist()


def _left_out(sets: Sequence[Features], names: Sequence[str], rows: list[np.ndarray]) -> list[str]:
    missing = [
        f"{len(features) - len(taken)} of {len(features)} of {name}"
        for features, name, taken in zip(sets, names, rows, strict=True)
        if len(taken) < len(features)
    ]
    if not missing:
        return []
    return [f"images that are not in all of the sets left out: {', '.join(missing)}"]


def _agreed(
    what: str,
    values: list[np.ndarray],
    sets: Sequence[Features],
    names: Sequence[str],
    rows: list[np.ndarray],
    notes: list[str],
) -> np.ndarray:
    """The label or split of each image; one and none do not contradict each other."""
    agreed = values[0].copy()
    filled = 0
    clashes: list[tuple[int, int, int]] = []  # image, and the two sets
    source = np.zeros(len(agreed), np.intp)
    for number, those in enumerate(values[1:], start=1):
        for i in np.flatnonzero(those != agreed):
            if not those[i]:
                filled += 1
            elif not agreed[i]:
                agreed[i], source[i] = those[i], number
                filled += 1
            else:
                clashes.append((int(i), int(source[i]), number))
    if clashes:
        told = [
            f"{sets[b].rows.paths[rows[b][i]]} is {values[a][i]!r} in {names[a]}, "
            f"{values[b][i]!r} in {names[b]}"
            for i, a, b in clashes[:_SHOWN]
        ]
        count = len({i for i, _, _ in clashes})
        more = f" and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        raise InputError(
            f"{count} {'image has' if count == 1 else 'images have'} two {what}s: "
            f"{'; '.join(told)}{more}",
            expected=f"one {what} for an image in all sets",
            where=", ".join(dict.fromkeys(names[n] for _, *pair in clashes for n in pair)),
            next="extract the older one again, which takes the new labels and computes nothing",
        )
    if filled:
        noun = what if filled == 1 else f"{what}s"
        notes.append(f"{filled} {noun} taken from a set that has what another one lacks")
    return agreed


def _first_paths(features: Features, name: str) -> str:
    shown: Any = list(features.rows.paths[:1])
    return f"{name} begins with {shown[0]}" if shown else f"{name} is empty"
