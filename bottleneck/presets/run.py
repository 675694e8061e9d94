"""A preset by name: features with their splits in, a `Result` named after the protocol out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError
from ..evaluate.checks import check_arrays, check_choices, check_finite
from ..evaluate.measure import measure, measure_majority
from ..evaluate.metrics import confusion_matrix, most_frequent, per_class
from ..evaluate.result import OutOfFold, Result
from ..heads.fitted import Fitted
from ..heads.scaling import fit_scaling
from .base import Outcome, Setup
from .parts import divide
from .recipes import feature_deviations, recipe_of

if TYPE_CHECKING:
    from ..cache.features import Features

METRICS = ("accuracy", "balanced_accuracy")


def run_preset(
    name: str,
    features: Features,
    *,
    holdout: float | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    expect: Callable[[int], None] = lambda steps: None,
    tick: Callable[[], None] = lambda: None,
) -> Result:
    """`evaluate_preset` on a feature file or features in memory."""
    if features.views_per_image > 1:
        raise FitError(
            f"{features.views_per_image} rows an image",
            expected="one: the protocols know no tiles",
            where="--preset",
            next=f"bottleneck extract IMAGES --preset {name} -o FILE.h5",
        )
    return evaluate_preset(
        name,
        features.features[:],
        features.y,
        classes=features.classes,
        splits=features.splits,
        keys=features.keys,
        holdout=holdout,
        metric=metric,
        seed=seed,
        about_features=feature_deviations(name, features.recipe, features.header.store),
        expect=expect,
        tick=tick,
    )


def evaluate_preset(
    name: str,
    X: Any,
    y: Any,
    *,
    classes: Sequence[str],
    splits: Any = None,
    keys: Any = None,
    holdout: float | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    about_features: Sequence[str] = (),
    expect: Callable[[int], None] = lambda steps: None,
    tick: Callable[[], None] = lambda: None,
) -> Result:
    """Score features by a published protocol.

    Parameters
    ----------
    name : str
        One of `recipes.NAMES`.
    X : ndarray of shape (n, d), float
    y : ndarray of shape (n,), int
        Index into `classes`, -1 = unlabelled.
    classes : sequence of str
    splits, keys
        See `parts.divide`.
    holdout : float, optional
        Share of a test set, where no split is one.
    metric : {"accuracy", "balanced_accuracy"}
        What ``dinov2``, ``clip`` and ``vtab1k`` choose by: papers report the mean over the classes for
        some data sets.
    seed : int, default 0
        Of draws that the source leaves to chance.
    about_features : sequence of str
        Where the features are not the protocol's, one sentence each.
    expect, tick : callable
        See `base.Setup`.

    Returns
    -------
    Result
        `protocol` is the preset's name, with ``-like`` where features or split deviate; all that the
        protocol reports is in ``extra["preset"]``.

    Raises
    ------
    FitError
    """
    wanted = recipe_of(name)
    check_choices(seed=seed, holdout=holdout, metric=metric, metrics=METRICS)
    X, y, splits, keys = check_arrays(X, y, classes, splits, keys)
    check_finite(X, np.flatnonzero(y >= 0))
    parts = divide(y, classes, splits, keys, share=holdout)
    module = import_module(f"{__package__}.{name.replace('-', '_')}")
    outcome: Outcome = module.run(Setup(X, parts, metric, int(seed), expect, tick))
    outcome.parts = replace(outcome.parts, deviations=(*about_features, *outcome.parts.deviations))
    return to_result(name, X, outcome, list(wanted.remarks))


def to_result(name: str, X: np.ndarray, outcome: Outcome, remarks: list[str]) -> Result:
    """Metrics with intervals, as for any head, beside the protocol's own numbers."""
    parts, probabilities = outcome.parts, outcome.probabilities
    scored, k = parts.test, len(parts.classes)
    truth = parts.y[scored]
    # Every test image counts, copies too: that is what the protocols do.
    alone = np.arange(len(scored))
    folds = np.zeros((len(probabilities), len(scored)), np.intp)
    shared: dict[str, Any] = {"images": alone, "groups": alone, "folds": folds, "held_out": True}
    answers = probabilities.argmax(axis=2)
    matrices = [confusion_matrix(truth, a, k) for a in answers]
    training = parts.y[outcome.trained_on]
    weights = np.ones(len(training))
    like = "-like" if parts.deviations else ""
    return Result(
        head=outcome.head,
        params=outcome.params,
        protocol=name + like,
        fitted=Fitted(fit_scaling(outcome.scaling, X[outcome.trained_on]), outcome.estimator, k),
        classes=list(parts.classes),
        n_train=len(outcome.trained_on),
        n_test=len(scored),
        n_unlabelled=parts.n_unlabelled,
        n_dropped=0,
        majority=most_frequent(training, weights),
        metrics=measure(truth, probabilities, **shared),
        baseline=measure_majority(truth, training, weights, k, **shared),
        confusion=matrices[0],
        per_class=per_class(
            np.mean(matrices, axis=0), list(parts.classes), matrices[0].sum(axis=1)
        ),
        oof=OutOfFold(
            rows=scored,
            y=truth.astype(np.int32),
            images=alone,
            groups=alone,
            folds=folds[0].astype(np.int32),
            repeat_folds=folds.astype(np.int32),
            repeat_probabilities=probabilities,
        ),
        notes=[*(f"not as {name}: {d}" for d in parts.deviations), *parts.notes],
        choice=outcome.choice,
        trained_on=outcome.trained_on,
        frequencies=np.bincount(training, minlength=k) / len(training),
        extra={
            "preset": {
                "name": name,
                "deviations": list(parts.deviations),
                "headline": outcome.headline,
                "table": outcome.table,
                "traps": outcome.traps,
                "silent": outcome.silent,
                "remarks": remarks,
                "n_train": len(outcome.trained_on),
                "n_test": len(scored),
            }
        },
    )
