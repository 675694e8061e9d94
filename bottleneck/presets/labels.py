"""`vissl-svm` on images with several labels each, which is what VOC07 is: targets in, a `TargetResult` out.

The machines, costs and average precision are those of `vissl_svm`. 1 is a label that is there, 0 one that
is not, NaN one that is to be ignored (VOC's "difficult"): it trains as a negative and takes no part in the
test, as in the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from ..errors import FitError
from ..evaluate.checks import check_arrays, check_choices, check_finite
from ..evaluate.multilabel_metrics import per_label
from ..evaluate.target_measure import measure_labels
from ..evaluate.target_protocol import TargetOutOfFold, TargetResult, best_constant
from ..evaluate.wording import names as listed
from ..heads.one_vs_rest import OneVsRestLogistic
from ..heads.scaling import fit_scaling
from ..heads.target_fitted import TargetFitted
from .base import Setup
from .one_vs_rest import SCALING
from .parts import Parts, crossing, sides
from .recipes import feature_deviations
from .vissl_svm import ENVELOPE, SEED, report, train

if TYPE_CHECKING:
    from ..cache.features import Features

NAME = "vissl-svm"


def run_label_preset(
    name: str,
    features: Features,
    *,
    holdout: float | None = None,
    seed: int = 0,
    expect: Callable[[int], None] = lambda steps: None,
    tick: Callable[[], None] = lambda: None,
) -> TargetResult:
    """`evaluate_labels` on a feature file or features in memory.

    Raises
    ------
    FitError
        If the preset knows one class an image only.
    """
    if name != NAME:
        raise FitError(
            f"--preset {name} is for images of one class each, and this file has several labels",
            expected=f"--preset {NAME}",
            where="--preset",
            next="extract again with --task classification, if each image has one class",
        )
    if features.views_per_image > 1:
        raise FitError(
            f"{features.views_per_image} rows an image", expected="one: the protocols know no tiles"
        )
    assert features.targets is not None
    return evaluate_labels(
        features.features[:],
        features.targets,
        names=features.classes,
        splits=features.splits,
        keys=features.keys,
        holdout=holdout,
        seed=seed,
        about_features=feature_deviations(name, features.recipe, features.header.store),
        expect=expect,
        tick=tick,
    )


def evaluate_labels(
    X: Any,
    targets: Any,
    *,
    names: Sequence[str],
    splits: Any = None,
    keys: Any = None,
    holdout: float | None = None,
    seed: int = 0,
    about_features: Sequence[str] = (),
    expect: Callable[[int], None] = lambda steps: None,
    tick: Callable[[], None] = lambda: None,
) -> TargetResult:
    """Score several labels by VISSL's protocol.

    Parameters
    ----------
    X : ndarray of shape (n, d), float
    targets : ndarray of shape (n, k)
        1, 0, and NaN for what is to be ignored; a row of NaN alone is unlabelled.
    names : sequence of str of length k
    splits, keys, holdout, seed, about_features, expect, tick
        See `run.evaluate_preset`.

    Returns
    -------
    TargetResult
        A label is answered where its machine is above 0.

    Raises
    ------
    FitError
        If a label has no positive, or no negative, training image.
    """
    check_choices(seed=seed, holdout=holdout)
    targets = np.asarray(targets, np.float64)
    labelled = np.where(np.isnan(targets).all(axis=1), -1, 0)
    X, _, splits, keys = check_arrays(X, labelled, ["labelled"], splits, keys)
    check_finite(X, np.flatnonzero(labelled >= 0))
    train_mask, val_mask, test_mask, split_deviations = sides(labelled, splits, keys, holdout)
    learned, scored = np.flatnonzero(train_mask | val_mask), np.flatnonzero(test_mask)
    _check_labels(targets[learned], names, len(scored))
    deviations = [*about_features, *split_deviations]

    numbers = np.where(np.isnan(targets), -1, targets).astype(np.int32)
    scaling = fit_scaling(SCALING, X[learned].astype(np.float64))
    setup = Setup(X, _no_parts(learned, scored), "accuracy", int(seed), expect, tick)
    machines = train(scaling.transform(X[learned].astype(np.float64)), numbers[learned], setup)
    values = machines.decide(scaling.transform(X[scored].astype(np.float64)))
    truth = targets[scored]
    table, headline = report(
        list(names), truth == 1, values, machines.costs, int(seed), ~np.isnan(truth)
    )
    predictions, answers = expit(values)[None].astype(np.float32), (values > 0)[None]
    known = ~np.isnan(targets[learned])
    shares = np.where(known, targets[learned], 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    alone, folds = np.arange(len(scored)), np.zeros((1, len(scored)), np.intp)
    shared: dict[str, Any] = {"images": alone, "groups": alone, "folds": folds, "held_out": True}
    constant = best_constant(shares * known.sum(axis=0), known.sum(axis=0))
    thresholds = np.full(len(names), 0.5)
    return TargetResult(
        task="multilabel",
        head="svm",
        params={"C": machines.costs.tolist()},
        protocol=NAME + ("-like" if deviations else ""),
        fitted=TargetFitted("multilabel", scaling, _as_head(machines.fitted), 1.0, thresholds),
        names=list(names),
        n_train=len(learned),
        n_test=len(scored),
        n_unlabelled=int(np.sum(labelled < 0)),
        n_dropped=0,
        metrics=measure_labels(truth, predictions, answers, **shared),
        baseline=measure_labels(
            truth,
            np.broadcast_to(shares, predictions.shape),
            np.broadcast_to(constant, predictions.shape),
            **shared,
        ),
        per_label=per_label(
            list(names), truth, predictions, answers, folds, np.ones(len(scored)), thresholds
        ),
        oof=TargetOutOfFold(
            rows=scored,
            targets=truth.astype(np.float32),
            images=alone,
            groups=alone,
            repeat_folds=folds.astype(np.int32),
            repeat_predictions=predictions,
            repeat_answers=answers,
        ),
        notes=[
            *(f"not as {NAME}: {line}" for line in deviations),
            *crossing(keys, train_mask | val_mask, test_mask),
        ],
        choice=machines.choice(),
        trained_on=learned,
        extra={
            "preset": {
                "name": NAME,
                "deviations": deviations,
                "headline": headline,
                "table": table,
                "traps": [ENVELOPE, "labels to be ignored train as negatives"],
                "silent": [SEED],
                "remarks": [],
                "n_train": len(learned),
                "n_test": len(scored),
            }
        },
    )


def _check_labels(targets: np.ndarray, names: Sequence[str], n_scored: int) -> None:
    if not n_scored:
        raise FitError("no image is left to score", next="add a test split, or more images")
    positive = (targets == 1).sum(axis=0)
    unfit = [n for n, count in zip(names, positive, strict=True) if not 0 < count < len(targets)]
    if unfit:
        raise FitError(
            f"{listed(unfit)}: on none, or on all, of the {len(targets)} training images",
            expected="both kinds of every label",
            next="leave these labels out",
        )


def _no_parts(learned: np.ndarray, scored: np.ndarray) -> Parts:
    """What `Setup` holds where there are no classes."""
    none = np.zeros(0, np.intp)
    return Parts(learned, none, scored, none, ())


def _as_head(machines: Sequence[Any]) -> OneVsRestLogistic:
    """The machines as a head that a probe can keep: it gives the same values."""
    params = {
        "options": {},
        "classes": list(range(len(machines))),
        "multilabel": True,
        "n_iter": int(max(np.max(each.n_iter_) for each in machines)),
        "converged": bool(all(np.max(each.n_iter_) < each.max_iter for each in machines)),
    }
    coef = np.stack([each.coef_[0] for each in machines])
    return OneVsRestLogistic.from_state(
        params, {"coef": coef, "intercept": np.array([each.intercept_[0] for each in machines])}
    )
