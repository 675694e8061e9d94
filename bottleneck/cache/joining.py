"""Several features to one: `join` puts rows below each other, `concat` columns side by side.

Both are about the first output of each; ``FILE.h5::ID`` makes another one the first.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import CacheError, RecipeError
from ..recipe import differences, fingerprint
from ..reporter import Reporter
from ..targets import Targets, join_targets
from .features import Features
from .layout import Column, Header, Rows
from .lazy import GatheredRows
from .outputs import SEPARATOR, alone, output_ids


def join(several: Sequence[Features], reporter: Reporter | None = None) -> Features:
    """All rows of several features of one recipe; those of the first output are kept in memory.

    Parameters
    ----------
    several : sequence of Features
        Of one fingerprint: that of the first output. Further outputs that all of them have are
        kept, in the order of the first one, and read when they are asked for; others are left out.
    reporter : Reporter, optional
        Gets a note that names the outputs that are left out.

    Returns
    -------
    Features
        Ordered by path; rows of equal path, view and key count once. Under one root, an equal path
        with another key is a file that was edited: the later one in `several` stays. Under
        different roots it is another file: then all paths become relative to the folder above the
        roots, or start with the position in `several` if there is none. `root` is empty where the
        paths do not share one.

    Raises
    ------
    RecipeError
        If the fingerprints differ.
    CacheError
        If one row has two labels or two splits.
    """
    first = several[0]
    header = alone(first.header, 0)
    for other in several[1:]:
        if other.fingerprint != first.fingerprint:
            raise _differ(first, other)
        if other.features.shape[1] != first.features.shape[1]:
            raise CacheError(
                f"features of one recipe have d = {first.features.shape[1]} in {first.name}, "
                f"d = {other.features.shape[1]} in {other.name}",
                expected="one length",
                where=f"{first.name} and {other.name}",
                next="extract the images of one of the two again, under another name",
            )
    if len(several) == 1:
        return first
    roots = [part.root for part in several]
    one_root = len(set(roots)) == 1 and roots[0] != ""
    root, prefixes = (roots[0] if one_root else "", [""] * len(roots))
    if not one_root and _collide(several):
        root, prefixes = _above(roots)
    classes = sorted({name for part in several for name in part.classes}, key=str.encode)
    chosen: dict[tuple[str, int, bytes], tuple[int, int]] = {}  # row identity -> its place
    newest: dict[tuple[str, int], tuple[str, int, bytes]] = {}  # path and view -> row identity
    for part_number, part in enumerate(several):
        views = part.rows.views().tolist()
        for row, path in enumerate(part.rows.paths):
            key = part.keys[row].tobytes()
            identity = (prefixes[part_number] + path, views[row], key)
            before = newest.get(identity[:2])
            if before is not None and before != identity:
                del chosen[before]
            elif before is not None:
                _require_equal(several, chosen[before], (part_number, row))
                if _known(part, row) <= _known(several[chosen[before][0]], chosen[before][1]):
                    continue
            chosen[identity] = (part_number, row)
            newest[identity[:2]] = identity
    header = Header(header.recipe, first.environment, first.fingerprint, root)
    return _gather(several, chosen, classes, _with_common(several, header, reporter))


def _with_common(several: Sequence[Features], header: Header, reporter: Reporter | None) -> Header:
    """The header with the further outputs that all of `several` have; a note names the others."""
    further = [
        {
            name: (output, array.shape[1])
            for (name, array), output in zip(
                part.layers.items(), part.recipe["outputs"][1:], strict=True
            )
        }
        for part in several
    ]
    kept = [name for name, told in further[0].items() if all(p.get(name) == told for p in further)]
    left_out = [name for name in dict.fromkeys(n for p in further for n in p) if name not in kept]
    if left_out and reporter is not None:
        reporter.note(
            f"outputs that not all of the {len(several)} files have are left out: "
            f"{', '.join(left_out)}"
        )
    outputs = [header.recipe["outputs"][0], *(further[0][name][0] for name in kept)]
    return replace(header, recipe={**header.recipe, "outputs": outputs})


def _known(part: Features, row: int) -> int:
    """How much a row says beside its feature: a label, a split, both."""
    targets = part.rows.targets
    known = part.y[row] >= 0 if targets is None else not np.isnan(targets.values[row]).all()
    return int(known) + bool(part.rows.splits[row])


def _collide(several: Sequence[Features]) -> bool:
    """Whether a path stands for two keys."""
    keys: dict[tuple[str, int], bytes] = {}
    for part in several:
        views = part.rows.views().tolist()
        for row, path in enumerate(part.rows.paths):
            key = part.keys[row].tobytes()
            if keys.setdefault((path, views[row]), key) != key:
                return True
    return False


def _above(roots: list[str]) -> tuple[str, list[str]]:
    """The folder above all roots, and each root relative to it with a slash behind."""
    if all(roots) and len(set(roots)) == len(roots):
        try:
            above = posixpath.commonpath(roots)
        except ValueError:  # two drives
            above = ""
        if above:
            relative = [posixpath.relpath(root, above) for root in roots]
            return above, ["" if path == "." else f"{path}/" for path in relative]
    return "", [f"{number}/" for number in range(len(roots))]


def _require_equal(several: Sequence[Features], a: tuple[int, int], b: tuple[int, int]) -> None:
    """Raise a CacheError if one row has two labels or splits; one and none do not contradict."""
    for what in ("labels", "splits"):
        values = [getattr(several[part], what)[row] for part, row in (a, b)]
        # No split is empty; an empty text among the labels says that none of several applies.
        told = all(values) if what == "splits" else None not in values
        if told and values[0] != values[1]:
            path = several[a[0]].rows.paths[a[1]]
            files = [str(several[part].file or f"features {part}") for part, _ in (a, b)]
            raise CacheError(
                f"{path} has two {what}: {values[0]!r} in {files[0]}, {values[1]!r} in {files[1]}",
                expected="one",
                where=" and ".join(files),
                next="extract the older one again, which takes the new labels and computes nothing",
            )


def _gather(
    several: Sequence[Features],
    chosen: dict[tuple[str, int, bytes], tuple[int, int]],
    classes: list[str],
    header: Header,
) -> Features:
    identities = sorted(chosen, key=lambda identity: (identity[0].encode(), identity[1]))
    places = [chosen[identity] for identity in identities]
    index = {name: i for i, name in enumerate(classes)}
    features = np.empty((len(places), several[0].features.shape[1]), np.float32)
    labels = np.full(len(places), -1, np.int32)
    for number, part in enumerate(several):
        here = np.array([i for i, place in enumerate(places) if place[0] == number], np.intp)
        taken = np.array([places[i][1] for i in here], np.intp)
        features[here] = part.features[taken]
        mapping = np.array([*(index[name] for name in part.classes), -1], np.int32)
        labels[here] = mapping[part.y[taken]]
    views = np.array([identity[1] for identity in identities], np.int32)
    names = dict.fromkeys(name for part in several for name in part.rows.meta)
    rows = Rows(
        paths=[identity[0] for identity in identities],
        keys=np.frombuffer(b"".join(key for _, _, key in identities), np.uint8).reshape(-1, 32),
        labels=labels,
        splits=[several[part].rows.splits[row] for part, row in places],
        classes=classes,
        meta={name: _meta(several, places, name) for name in names},
        view=views if views.any() else None,
        quarantine=sorted({entry for part in several for entry in part.quarantine}),
        targets=_targets(several, places),
        phash=_hashes(several, places),
    )
    origin = np.array(places, np.intp).reshape(-1, 2)
    layers = {
        name: GatheredRows([part.layers[name] for part in several], origin[:, 0], origin[:, 1])
        for name in output_ids(header)[1:]
    }
    return Features(header, rows, features, layers=layers)


def _targets(several: Sequence[Features], places: list[tuple[int, int]]) -> Targets | None:
    """The targets of the chosen rows; what a file has no column for is unknown there."""
    together = join_targets([(part.rows.targets, part.y) for part in several])
    starts = np.cumsum([0, *(len(part) for part in several)])
    return together and together.take(np.array([starts[p] + row for p, row in places], np.intp))


def _hashes(several: Sequence[Features], places: list[tuple[int, int]]) -> np.ndarray | None:
    """The perceptual hashes of the chosen rows; None unless each of the files has them."""
    found = [part.phash for part in several]
    if any(each is None for each in found):
        return None
    chosen = [found[part][row] for part, row in places]  # type: ignore[index]
    return np.array(chosen, np.uint64)


def _meta(several: Sequence[Features], places: list[tuple[int, int]], name: str) -> Column:
    """One column over all parts: numbers if it is numbers in each that has it, else text."""
    columns = [part.rows.meta.get(name) for part in several]
    numeric = all(column is None or isinstance(column, np.ndarray) for column in columns)
    missing = float("nan") if numeric else ""
    values = [missing if (column := columns[part]) is None else column[row] for part, row in places]
    return np.array(values, np.float64) if numeric else [str(value) for value in values]


def _differ(a: Features, b: Features) -> RecipeError:
    recipes = [alone(part.header, 0).recipe for part in (a, b)]
    fields = ", ".join(field for field, _, _ in differences(*recipes))
    hint = (
        f"`bottleneck compare {a.name} {b.name}` scores them side by side; "
        "--concat joins their columns by key"
    )
    for here, other in ((b, a), (a, b)):
        same = [
            name for name in other.outputs if other.output(name).fingerprint == here.fingerprint
        ]
        if same and other.file is not None:
            hint = f"{other.file}{SEPARATOR}{same[0]} is what {here.name} holds"
    return RecipeError(
        f"{a.name} and {b.name} hold features of different recipes; differs: {fields}",
        expected="one recipe, to join their rows",
        where=f"{a.name} and {b.name}",
        next=hint,
    )


def concat(several: Sequence[Features]) -> Features:
    """The columns of several features side by side, for images that all of them hold.

    Parameters
    ----------
    several : sequence of Features
        Usually of different backbones or layers, over the same images. Of each the first output is
        taken; ``FILE.h5::ID`` names another one.

    Returns
    -------
    Features
        Rows, paths and labels of the first; features (n, d1 + d2 + ...), in memory, as the only
        output. Its recipe lists those it was made of.

    Raises
    ------
    CacheError
        If a row of the first has no row of equal key and view in another.
    """
    first = several[0]
    parts = []
    for part in several:
        where = {
            (key.tobytes(), view): row
            for row, (key, view) in enumerate(
                zip(part.keys, part.rows.views().tolist(), strict=True)
            )
        }
        wanted = zip(first.keys, first.rows.views().tolist(), strict=True)
        rows = np.array([where.get((key.tobytes(), view), -1) for key, view in wanted], np.intp)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise CacheError(
                f"{part.name} lacks {len(missing)} of {len(first)} images of {first.name}, such as "
                f"{first.rows.paths[missing[0]]}",
                expected="features of the same images in each file",
                where=part.name,
                next="extract the same IMAGES into both",
            )
        parts.append(part.features[rows])
    outputs = [{"node": "concat", "pooling": "none"}]
    recipe = {
        "modality": first.recipe.get("modality", "image"),
        "concat": [alone(part.header, 0).recipe for part in several],
        "outputs": outputs,
    }
    header = Header(recipe, {}, fingerprint(recipe, outputs[0]), first.root)
    return Features(header, first.rows, np.concatenate(parts, axis=1))
