"""Several features to one: `join` puts rows below each other, `concat` columns side by side.

Both are about the first output of each; ``FILE.h5::ID`` makes another one the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat

import numpy as np

from ..errors import CacheError, RecipeError
from ..recipe import differences, fingerprint
from ..reporter import Reporter
from ..targets import Targets, join_targets
from ..texts import Coded, Column, Texts, concatenated, find_texts
from .features import Features
from .layout import Header, Rows
from .lazy import GatheredRows
from .outputs import SEPARATOR, alone, output_ids
from .settling import Settled, prefixed, settle


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
    require_one_recipe(several)
    if len(several) == 1:
        return first
    found = settle(several)
    header = replace(alone(first.header, 0), root=found.root, store="float32", created_by="")
    joined = gather(several, found, with_common(several, header, reporter))
    joined.features = np.asarray(joined.features)
    return joined


def require_one_recipe(several: Sequence[Features]) -> None:
    """Raise a RecipeError or CacheError unless the first outputs of several features are of one kind."""
    first = several[0]
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


def with_common(several: Sequence[Features], header: Header, reporter: Reporter | None) -> Header:
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


def gather(several: Sequence[Features], found: Settled, header: Header) -> Features:
    """The settled rows of several features as one; no feature is read yet.

    Parameters
    ----------
    several : sequence of Features
    found : Settled
        What `settle` made of them.
    header : Header
        Its further outputs are among those of each of `several`.
    """
    parts, origin = found.part, found.row
    labels = np.concatenate(found.labels)
    labels = labels[found.saying(lambda places: labels[places] >= 0)]
    splits = Coded.of(chain.from_iterable(part.rows.splits for part in several))
    views = np.concatenate([part.rows.views() for part in several])[found.place]
    keys = np.concatenate([part.keys for part in several])[found.place]
    names = dict.fromkeys(name for part in several for name in part.rows.meta)
    rows = Rows(
        paths=found.paths,
        keys=keys,
        labels=labels,
        splits=_said(splits, found),
        classes=found.classes,
        meta={name: _meta(several, found, name) for name in names},
        view=views if views.any() else None,
        quarantine=_quarantine(several, found),
        targets=_targets(several, found.place),
        phash=_hashes(several, found.place),
    )
    features = GatheredRows([part.features for part in several], parts, origin)
    layers = {
        name: GatheredRows([part.layers[name] for part in several], parts, origin)
        for name in output_ids(header)[1:]
    }
    return Features(header, rows, features, layers=layers)


def _quarantine(several: Sequence[Features], found: Settled) -> list[tuple[str, str]]:
    """The inputs without a feature, each once: the reason of the last file, none where there is a row."""
    reasons: dict[str, str] = {}
    for prefix, part in zip(found.prefixes, several, strict=True):
        reasons |= {prefixed(prefix, path): reason for path, reason in part.quarantine}
    listed = sorted(reasons, key=str.encode)
    left = [
        path for path, row in zip(listed, find_texts(listed, found.paths), strict=True) if row < 0
    ]
    return [(path, reasons[path]) for path in left]


def _targets(several: Sequence[Features], place: np.ndarray) -> Targets | None:
    """The targets of the chosen rows; what a file has no column for is unknown there."""
    together = join_targets([(part.rows.targets, part.y) for part in several])
    return together and together.take(place)


def _hashes(several: Sequence[Features], place: np.ndarray) -> np.ndarray | None:
    """The perceptual hashes of the chosen rows; None unless each of the files has them."""
    found = [part.phash for part in several]
    if any(each is None for each in found):
        return None
    return np.concatenate([each for each in found if each is not None])[place]


def _said(column: Coded | Texts, found: Settled) -> Coded | Texts:
    """The values of the settled rows; where one says nothing, of another one of its key."""

    def known(places: np.ndarray) -> np.ndarray:
        return np.fromiter((bool(value) for value in column.take(places)), bool, len(places))

    return column.take(found.saying(known))


def _meta(several: Sequence[Features], found: Settled, name: str) -> Column:
    """One column over all parts: numbers if it is numbers in each that has it, else text."""
    columns = [(part.rows.meta.get(name), len(part)) for part in several]
    if all(column is None or isinstance(column, np.ndarray) for column, _ in columns):
        numbers = [np.full(n, np.nan) if column is None else column for column, n in columns]
        values = np.concatenate(numbers).astype(np.float64, copy=False)
        return values[found.saying(lambda places: ~np.isnan(values[places]))]
    texts = concatenated(
        repeat("", n)
        if column is None
        else map(str, column.tolist() if isinstance(column, np.ndarray) else column)
        for column, n in columns
    )
    return _said(texts, found)


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
