"""What a score is worth on an unseen plate, patient or folder: columns in, two scores for each out.

Images of one plate share light, glass and hand. Dealt at random, a model may know the plate instead of
the class; dealt by plate, it has to know the class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..heads.registry import get_head
from ..heads.sweep import Job
from .groups import as_name, is_missing, union
from .splits import TRAIN_ONLY, copy_weights, stratified_folds

MOST_COLUMNS = 3
_STREAM = 5  # of random numbers, beside those of the outer and inner folds
DEFAULT_C = 1e-2  # where the probe is of another head: regularised well for standardised features
# Numbers are measurements, unless the name says that they stand for somebody or something.
_IDENTIFIERS = re.compile(
    r"(^|[^a-z])(id|no|nr|patient|subject|person|animal|case|slide|plate|well|batch|lot|site|"
    r"hospital|camera|device|session|day|date|burst|video|clip|scene|group|fold|run)s?($|[^a-z])",
    re.IGNORECASE,
)


def candidates(
    columns: Mapping[str, Sequence[object] | np.ndarray], y: np.ndarray, images: np.ndarray
) -> list[str]:
    """Columns that may say what belongs together.

    Text, or numbers under a name such as ``patient``; with two values or more in each class on average, of
    two images or more on average, and few that are missing.

    Parameters
    ----------
    columns : mapping of str to sequence of length n
    y : ndarray of shape (n,), int
        Class indices, none of them -1.
    images : ndarray of shape (n,), int
        Rows of one picture have one number.

    Returns
    -------
    list of str
        At most `MOST_COLUMNS`, in their order.

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> columns = {"plate": list("aabbaabb"), "label": list("xxxxyyyy"), "file": list("abcdefgh")}
    >>> candidates(columns, y, np.arange(8))
    ['plate']
    """
    fit = [name for name, values in columns.items() if _is_candidate(name, values, y, images)]
    return fit[:MOST_COLUMNS]


def _is_candidate(
    name: str, values: Sequence[object] | np.ndarray, y: np.ndarray, images: np.ndarray
) -> bool:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        whole = np.isnan(values) | (values == np.rint(values))
        if not (_IDENTIFIERS.search(name) and whole.all()):
            return False
    missing = sum(is_missing(value) for value in values)
    if missing > 0.1 * len(y):
        return False
    codes = _codes(values)
    in_classes = np.unique(np.stack([y, codes]), axis=1)[0]
    per_class = np.bincount(in_classes)[np.unique(y)]
    n_values = len(np.unique(codes)) - missing
    # Of one class in one value nothing can be scored: two classes must have two values at least.
    spread = per_class.mean() >= 2 and (per_class >= 2).sum() >= 2
    return bool(spread and n_values >= 2 and 2 * n_values <= len(np.unique(images)))


def _codes(values: Sequence[object] | np.ndarray) -> np.ndarray:
    """A number for each value, and one of its own for each that is missing: (n,) intp."""
    names = [
        f"\0{row}" if is_missing(value) else as_name(value) for row, value in enumerate(values)
    ]
    return np.unique(np.array(names, object), return_inverse=True)[1].reshape(-1)


def unseen_groups(
    X: np.ndarray,
    y: np.ndarray,
    columns: Mapping[str, Sequence[object] | np.ndarray],
    *,
    images: np.ndarray,
    C: float = DEFAULT_C,
    folds: int = 5,
    seed: int = 0,
    device: str = "cpu",
    tick: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Score a logistic regression with and without each candidate column as groups.

    Nothing is chosen, so that both scores are honest: one strength of regularisation for all.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), int
        Class indices; every row is labelled.
    columns : mapping of str to sequence of length n
        See `candidates`.
    images : ndarray of shape (n,), int
        Rows of one picture have one number; they count once.
    C : float
        The strength of the probe that was chosen, if it is a logistic regression.
    folds : int, default 5
    seed : int, default 0
    device : str, default "cpu"
    tick : callable
        Called after each fit.

    Returns
    -------
    list of dict
        For each candidate: ``column``, ``groups`` (their number), ``images`` (that were scored), ``random``
        and ``unseen`` (accuracy, copies counted once, over the same rows), and ``sentence``.
    """
    names = candidates(columns, y, images)
    if not names:
        return []
    repeats = 3 if len(np.unique(images)) < 1000 else 1
    grouped = [union(images, _codes(columns[name])) for name in names]
    dealt = [
        stratified_folds(y, groups, folds, np.random.default_rng([seed, _STREAM, repeat]))
        for groups in (images, *grouped)
        for repeat in range(repeats)
    ]
    jobs = [
        Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f))
        for fold in dealt
        for f in np.unique(fold[fold != TRAIN_ONLY])
    ]
    k = int(y.max()) + 1
    spec = get_head("logistic")
    scores = spec.sweep(
        X,
        y,
        jobs,
        [{"C": C}],
        {},
        seed,
        n_classes=k,
        scaling=spec.scaling,
        device=device,
        tick=tick,
    )
    right = np.full((len(dealt), len(y)), np.nan)
    of_job = [i for i, fold in enumerate(dealt) for _ in np.unique(fold[fold != TRAIN_ONLY])]
    for i, job, found in zip(of_job, jobs, scores, strict=True):
        right[i, job.test] = found[0].argmax(axis=1) == y[job.test]
    right = right.reshape(len(names) + 1, repeats, -1).mean(axis=1)
    return [
        _told(name, groups, right[0], own, images)
        for name, groups, own in zip(names, grouped, right[1:], strict=True)
    ]


def _told(
    name: str, groups: np.ndarray, at_random: np.ndarray, unseen: np.ndarray, images: np.ndarray
) -> dict[str, Any]:
    both = ~np.isnan(at_random) & ~np.isnan(unseen)
    weights = copy_weights(images[both])
    a, b = (float(np.average(each[both], weights=weights)) for each in (at_random, unseen))
    n_groups = len(np.unique(groups))
    return {
        "column": name,
        "groups": n_groups,
        "images": len(np.unique(images[both])),
        "random": a,
        "unseen": b,
        "sentence": f"{100 * a:.1f} % at random, {100 * b:.1f} % on an unseen {name} ({n_groups} of them)",
    }
