"""What ``--groups`` means: features and a column, ``folder``, a pattern or values in, a group a row out."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache.features import Features
from .errors import FitError
from .evaluate.groups import NOT_LOOKED, as_name, find_groups, is_missing, union
from .evaluate.splits import group_rows
from .evaluate.wording import names as listed
from .texts import take

if TYPE_CHECKING:
    from .alignment import Alignment
    from .evaluate.result import Result
    from .reporter import Reporter

FOLDER = "folder"


def resolve_groups(features: Features, groups: Any) -> list[str] | None:
    """The group of each row.

    Parameters
    ----------
    features : Features
    groups : str, sequence of n, or None
        A column of `Features.meta`; ``folder``, the sub-folder below the class, or the folder that the
        image lies in; else a regular expression that is searched in each path: its first group is the
        name, or all that it matches. Or n names or numbers.

    Returns
    -------
    list of str, or None
        A name for each row, empty where an unlabelled one has none; None without `groups`.

    Raises
    ------
    FitError
        If a labelled row has no group, or no two classes have two groups each.
    """
    if groups is None:
        return None
    found, where = _found(features, groups)
    labelled = _labelled(features)
    missing = [row for row in np.flatnonzero(labelled).tolist() if not found[row]]
    if missing:
        paths = [str(features.paths[row]) for row in missing]
        raise FitError(
            f"{len(missing)} of {int(labelled.sum())} labelled images have no group: {listed(paths)}",
            expected="a group for each",
            where=where,
            next="fill the column" if where.startswith("--groups: the column") else _hint(features),
        )
    _require_two(features, found, where)
    return found


def _found(features: Features, groups: Any) -> tuple[list[str], str]:
    """A name for each row, empty where there is none, and what they come from."""
    if not isinstance(groups, str):
        return _given(features, groups), "groups"
    meta = features.rows.meta
    if groups == FOLDER:
        return _folders(features), "--groups folder"
    if groups in meta:
        values = [_name(value) for value in meta[groups]]
        return values, f"--groups: the column {groups!r}"
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise FitError(
            f"{groups!r} is no regular expression: {error}",
            expected=_expected(features),
            where="--groups",
        ) from None
    found = [_matched(pattern, str(path)) for path in features.rows.paths]
    if not any(found):
        near = difflib.get_close_matches(groups, [*meta, FOLDER], n=1)
        raise FitError(
            f"there is no column {groups!r}, and as a pattern it matches no path"
            + (f"; did you mean {near[0]!r}?" if near else ""),
            expected=_expected(features),
            where="--groups",
        )
    return found, f"--groups: the pattern {groups!r}"


def _given(features: Features, groups: Sequence[Any] | np.ndarray) -> list[str]:
    values = list(groups.tolist() if isinstance(groups, np.ndarray) else groups)
    if len(values) != len(features):
        raise FitError(
            f"{len(values)} groups for {len(features)} rows",
            expected="one for each row of the features, in their order",
            where="groups",
        )
    return [_name(value) for value in values]


def _name(value: Any) -> str:
    return "" if is_missing(value) else as_name(value)


def _folders(features: Features) -> list[str]:
    """The sub-folder below the class: one plate may lie below several. Else the image's folder."""
    below = features.rows.meta.get(FOLDER)
    parents = [posixpath.dirname(str(path)) for path in features.rows.paths]
    if below is None or isinstance(below, np.ndarray):
        return [parent or "." for parent in parents]
    return [str(own) or parent or "." for own, parent in zip(below, parents, strict=True)]


def _matched(pattern: re.Pattern[str], path: str) -> str:
    match = pattern.search(path)
    if match is None:
        return ""
    return (match.group(1) or "") if pattern.groups else match.group()


def _labelled(features: Features) -> np.ndarray:
    """Which rows have a label of any task: (n,) bool."""
    targets = features.targets
    return features.y >= 0 if targets is None else ~np.isnan(targets).all(axis=1)


def _require_two(features: Features, found: Sequence[str], where: str) -> None:
    """Raise a FitError unless two classes have two groups each: one trains, another one scores."""
    if features.targets is not None:
        return
    pairs = {(int(y), name) for y, name in zip(features.y, found, strict=True) if y >= 0}
    counts = np.bincount([y for y, _ in pairs], minlength=len(features.classes))
    present = np.flatnonzero(counts)
    if len(present) > 1 and (counts > 1).sum() < 2:
        told = [f"{features.classes[c]} {counts[c]}" for c in present]
        raise FitError(
            f"fewer than 2 classes have images of 2 groups; groups by class: {listed(told)}",
            expected="2 groups or more in each of 2 classes, to train on one and score another",
            where=where,
            next=_hint(features),
        )


def _expected(features: Features) -> str:
    columns = ", ".join(repr(name) for name in features.rows.meta)
    own = f"a column ({columns})" if columns else "a column (there is none)"
    return f"{own}, {FOLDER}, or a regular expression for paths such as {_example(features)}"


def _example(features: Features) -> str:
    return repr(str(features.rows.paths[0])) if len(features) else "'ants/1.jpg'"


def _hint(features: Features) -> str:
    return f"choose another; there is {_expected(features)}"


@dataclass(frozen=True)
class SharedGroups:
    """What belongs together in several feature sets of the same images.

    Attributes
    ----------
    keys : ndarray of shape (m, 32), uint8
        Of the aligned rows; near copies have the key of the first of them.
    groups : list of str, or None
        Likewise a group for each.
    notes : list of str
    """

    keys: np.ndarray
    groups: list[str] | None
    notes: list[str]


def share_groups(sets: Sequence[Features], aligned: Alignment, groups: Any) -> SharedGroups:
    """Find near copies and groups once for all sets: they must be dealt to the same folds.

    Parameters
    ----------
    sets : sequence of Features
    aligned : Alignment
        Which of their rows are of one image.
    groups : str, sequence of n, or None
        As of `resolve_groups`, for the first set.
    """
    names = resolve_groups(sets[0], groups)
    own = None if names is None else [names[row] for row in aligned.rows[0].tolist()]
    hashed = [i for i, each in enumerate(sets) if each.phash is not None]
    if not hashed:
        return SharedGroups(aligned.keys, own, [NOT_LOOKED])
    first, rows = sets[hashed[0]], aligned.rows[hashed[0]]
    found = find_groups(
        first.features[rows],
        keys=aligned.keys,
        phash=first.phash[rows],  # type: ignore[index]
        groups=None,
        splits=aligned.splits,
        used=aligned.y >= 0,
    )
    # In the order of the keys, so that the folds are those of `fit`.
    order = np.lexsort(aligned.keys.T[::-1])
    _, place = np.unique(found.images[order], return_index=True)
    numbers = np.unique(found.images, return_inverse=True)[1].reshape(-1)
    return SharedGroups(aligned.keys[order[place]][numbers], own, found.notes)


def tell_groups(result: Result, features: Features, reporter: Reporter) -> None:
    """Say what was found about copies; the images' names to `reporter` alone: a probe holds no path.

    Parameters
    ----------
    result : Result
    features : Features
        Which it was made from.
    reporter : Reporter
    """
    report = result.extra.get("groups")
    if report is None:
        return
    sets = report.pop("near_copy_sets", [])
    if report.get("near_copies") is None:
        can = features.file is not None and features.recipe.get("modality") == "image"
        how = "; `bottleneck extract IMAGES --rehash` adds them, and computes no feature"
        result.notes.append(NOT_LOOKED + (how if can else ""))
    if sets:
        some = [" = ".join(str(features.rows.paths[row]) for row in rows) for rows in sets]
        reporter.note(f"near copies: {listed(some)}")


def tell_unseen(
    result: Result, features: Features, X: np.ndarray, *, seed: int = 0, device: str = "cpu"
) -> None:
    """Score each column that may be a group with and without it, and say both in the result.

    Parameters
    ----------
    result : Result
        Of `features`, without groups of the user's; ``extra["unseen"]`` is set where there is a column.
    features : Features
    X : ndarray of shape (n, d)
        All of its features.
    seed, device
        As of `evaluate.unseen.unseen_groups`.
    """
    from .evaluate.unseen import DEFAULT_C, unseen_groups

    rows = np.sort(result.trained_on)
    columns = {name: take(column, rows) for name, column in features.rows.meta.items()}
    if not columns or features.targets is not None:
        return
    classes = {name: i for i, name in enumerate(result.classes)}
    y = np.array([classes[features.classes[i]] for i in features.y[rows]], np.intp)
    images = _pictures(result, features)[rows]
    C = float(result.params["C"]) if result.head == "logistic" else DEFAULT_C
    found = unseen_groups(X[rows], y, columns, images=images, C=C, seed=seed, device=device)
    if found:
        result.extra["unseen"] = found
        result.notes.extend(
            f"{each['sentence']}; --groups {each['column']} scores it so" for each in found
        )


def _pictures(result: Result, features: Features) -> np.ndarray:
    """Rows of one picture have one number: equal keys, and near copies among the scored rows."""
    n = len(features)
    numbers = np.arange(n)
    numbers[result.oof.rows] = n + result.oof.images
    return union(group_rows(features.keys, n), numbers)
