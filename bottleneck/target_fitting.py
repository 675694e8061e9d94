"""`fit` and `score` where the answer is not one class: features with targets in, a probe or metrics out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache.features import Features
from .errors import FitError
from .groups import resolve_groups
from .probe import OutOfFold, Probe, plain
from .recipe import RANDOM_NOTE, is_random
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    from .evaluate.target_protocol import TargetResult

# Options of `fit` that say nothing where the answer is not one class, with the value that is no option.
_NOT_HERE: dict[str, Any] = {
    "sanity": False,
    "preset": None,
    "against": None,
    "flips": None,
    "search": False,
    "suspects": None,
}
_DEFAULT_HEAD = "logistic"


def run_targets(
    features: Features,
    *,
    reporter: Reporter,
    seed: int = 0,
    head: str = "auto",
    head_options: Mapping[str, Any] | None = None,
    groups: Any = None,
    device: str = "auto",
    **options: Any,
) -> tuple[Probe, TargetResult]:
    """Fit several labels or a number.

    Parameters
    ----------
    features : Features
        One output, with targets.
    head : str
        ``auto``, or the one head of the task; the default of the commands, ``logistic``, means it too.
    head_options : dict, optional
        Parameters of the head to fix: ``{"C": 1.0}``.
    device : str
        Not used: the small problems of these heads run on the CPU.
    reporter, seed, groups, **options
        See `fitting.fit` and `evaluate.target_protocol.evaluate_targets`.

    Returns
    -------
    probe : Probe
    result : TargetResult

    Raises
    ------
    FitError
        If an option or a head is for classification alone, or no honest score can be computed.
    """
    from .evaluate.target_protocol import GRIDS, evaluate_targets

    task = features.task
    _refuse(task, options)
    if task == "regression" and head == _DEFAULT_HEAD:
        head = "auto"
    grid = None
    if head_options:
        known = set(GRIDS[task][0])
        if set(head_options) - known:
            raise FitError(
                f"the head has no option {sorted(set(head_options) - known)[0]!r}",
                expected=", ".join(sorted(known)),
            )
        grid = [{name: float(value) for name, value in head_options.items()}]
    if options.get("metric") is None:
        options["metric"] = "auto"
    assert features.targets is not None
    with reporter.progress(f"fit {task}", 1) as bar:
        result = evaluate_targets(
            features.features[:],
            features.targets,
            task=task,
            names=features.classes,
            splits=features.splits,
            keys=features.keys,
            phash=features.phash,
            groups=resolve_groups(features, groups),
            views=features.views_per_image,
            head=head,
            grid=grid,
            seed=seed,
            progress=Steps(bar, 1).of(0),
            **options,
        )
    if is_random(features.recipe):
        # Kept in the probe and shown with every score: it says nothing about the trained network.
        result.notes.insert(0, RANDOM_NOTE)
    for note in result.notes:
        reporter.note(note)
    return probe_of(result, features, seed=seed), result


def _refuse(task: str, options: dict[str, Any]) -> None:
    """Take out the options of classification; one that was stated is an error."""
    stated = [name for name, no in _NOT_HERE.items() if options.pop(name, no) != no]
    if stated:
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in stated)
        raise FitError(
            f"{spelled} is for images of one class each, and this file is for {task}",
            next=f"leave out {spelled}",
        )


def probe_of(result: TargetResult, features: Features, *, seed: int) -> Probe:
    """The probe of an evaluation of these features."""
    found, rows = result.oof, result.oof.rows
    truth = found.targets
    if result.task == "multilabel":
        # A probe file holds no NaN: 1, 0, and -1 for what is unknown.
        truth = np.where(np.isnan(truth), -1, truth).astype(np.int8)
    oof = OutOfFold(
        keys=np.asarray(features.keys)[rows],
        y=truth,
        probabilities=found.repeat_predictions.mean(axis=0, dtype=np.float64),
        folds=found.repeat_folds[0],
        answers=found.repeat_answers.astype(np.int32),
        paths=[features.paths[i] for i in rows],
    )
    description = {
        "task": result.task,
        "head": result.head,
        "params": result.params,
        "classes": result.names,
        "protocol": result.protocol,
        "n_train": result.n_train,
        "n_test": result.n_test,
        "seed": int(seed),
        "metrics": result.metrics,
        "baseline": result.baseline,
        "majority": "",
        "confusion": [],
        "per_class": result.per_label,
        "notes": result.notes,
        "recipe": features.recipe,
        "fingerprint": features.fingerprint,
        "n_features": int(features.features.shape[1]),
        "optimism": result.optimism,
        "extra": result.extra,
    }
    return Probe(
        fitted=result.fitted,
        oof=oof,
        train_keys=np.unique(np.asarray(features.keys)[result.trained_on], axis=0),
        description=plain(description),
    )


def score_targets(probe: Probe, features: Features, predictions: np.ndarray) -> dict[str, Any]:
    """Metrics of a kept probe on rows that it was not trained on.

    Parameters
    ----------
    probe : Probe
        Of another task than classification.
    features : Features
        Rows with targets of the same task.
    predictions : ndarray of shape (n, k)
        Of the probe for these rows, those of one image together.

    Returns
    -------
    dict
        ``n``, ``metrics``, ``baseline`` (as of the training images), ``per_class``, ``confusion`` (empty)
        and ``notes``.
    """
    from .evaluate.multilabel_metrics import per_label
    from .evaluate.splits import copy_weights, group_rows
    from .evaluate.target_measure import measure_labels, measure_values
    from .evaluate.target_protocol import best_constant
    from .evaluate.wording import copies

    targets = aligned(probe, features)
    images = group_rows(features.keys, len(features))
    weights = copy_weights(images)
    shared: dict[str, Any] = {
        "images": images,
        "groups": images,
        "folds": np.zeros((1, len(features)), np.intp),
        "held_out": True,
    }
    # What is known without looking: the shares, or the mean, of the images that were scored in the fit.
    y = probe.oof.y.astype(np.float64)
    known = y >= 0 if probe.task == "multilabel" else np.ones(y.shape, bool)
    total = np.maximum(known.sum(axis=0), 1e-12)
    mean = np.where(known, y, 0).sum(axis=0) / total
    base = np.broadcast_to(mean, predictions.shape)[None]
    table: list[dict[str, Any]] = []
    if probe.task == "multilabel":
        answers = (predictions >= probe.thresholds)[None]
        constant = np.broadcast_to(best_constant(mean * total, total), predictions.shape)[None]
        metrics = measure_labels(targets, predictions[None], answers, **shared)
        baseline = measure_labels(targets, base, constant, **shared)
        table = per_label(
            probe.classes,
            targets,
            predictions[None],
            answers,
            shared["folds"],
            weights,
            probe.thresholds,
        )
    else:
        metrics = measure_values(targets[:, 0], predictions[None, :, 0], **shared)
        baseline = measure_values(targets[:, 0], base[:, :, 0], **shared)
    views = features.views_per_image
    return {
        "n": len(features) // views,
        "metrics": metrics,
        "baseline": baseline,
        "per_class": table,
        "confusion": np.zeros((0, 0), np.int64),
        "notes": copies(len(features), len(np.unique(images)), views),
    }


def aligned(probe: Probe, features: Features) -> np.ndarray:
    """Targets (n, k) float64 with the probe's columns; a label that the images do not name is unknown.

    Raises
    ------
    FitError
        If the labels are of another task, or name what the probe does not know.
    """
    if features.task != probe.task or features.targets is None:
        raise FitError(
            f"the images are labelled for {features.task}, the probe is for {probe.task}",
            expected=f"labels of the task {probe.task}: {', '.join(probe.classes[:5])}",
            next=f"--task {probe.task}, or another --label-column",
        )
    names = features.classes
    if probe.task == "regression":
        names = probe.classes  # one number is one number, whatever the column is called
    unknown = [name for name in names if name not in probe.classes]
    if unknown:
        raise FitError(
            f"the probe does not know the labels {', '.join(unknown[:5])}",
            expected=f"labels among {', '.join(probe.classes)}",
            next="check the spelling, or --label-column",
        )
    found = np.full((len(features), len(probe.classes)), np.nan)
    found[:, [probe.classes.index(name) for name in names]] = features.targets
    return found
