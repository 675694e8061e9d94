"""Predictions with doubt: which images look like none the probe has seen, and which it should not answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ProbeError
from .reporter import Reporter

if TYPE_CHECKING:
    from .cache.features import Features
    from .evaluate.doubts.abstain import AbstainRule
    from .evaluate.doubts.novelty import Novelty
    from .evaluate.result import Result
    from .prediction import Predictions
    from .probe import Probe

_ACCURACIES = (0.99, 0.98, 0.97, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
_SURPRISE = (
    0.001  # chance of so many unlike images among ordinary ones, below which it is a warning
)


def rule_for(probe: Probe, accuracy: float) -> AbstainRule:
    """The threshold that keeps the accuracy among the answered images.

    Parameters
    ----------
    probe : Probe
    accuracy : float, above 0 and below 1

    Returns
    -------
    AbstainRule

    Raises
    ------
    ProbeError
        If the accuracy is out of range, the probe is not one of classes, or its scored images cannot show
        so much.
    """
    from .evaluate.doubts.abstain import gather
    from .evaluate.doubts.keep import kept_evidence

    if not 0 < accuracy < 1:
        raise ProbeError(
            f"an accuracy of {accuracy:g}", expected="above 0 and below 1", where="--abstain"
        )
    if probe.task != "classification":
        raise ProbeError(
            f"the probe's task is {probe.task}",
            expected="a probe of classes, one to an image",
            where="--abstain",
        )
    evidence = kept_evidence(probe.extra, probe.arrays)
    if evidence is None:  # a probe of an earlier version
        evidence = gather(probe.oof.probabilities, probe.oof.y)
    rule = evidence.rule(accuracy)
    if rule.threshold is not None:
        return rule
    possible = [each for each in _ACCURACIES if each < accuracy]
    best = next((each for each in possible if evidence.rule(each).threshold is not None), None)
    raise ProbeError(
        f"an accuracy of {accuracy:g} cannot be promised: {rule.reason}",
        where="--abstain",
        next=(f"--abstain {best:g} is possible; " if best else "")
        + "more labelled images allow a higher one",
    )


def novelty_of(probe: Probe) -> Novelty | None:
    """What the probe's training images look like; None for a probe of an earlier version."""
    from .evaluate.doubts.keep import kept_novelty

    return kept_novelty(probe.extra, probe.arrays)


def keep_doubt(
    result: Result, features: Features, groups: Any, *, seed: int = 0, limit: int | None = None
) -> None:
    """Find the thresholds that `predict` goes by, and put them into a result.

    Parameters
    ----------
    result : Result
    features : Features
        That it was made from.
    groups : optional
        As for `fit`.
    seed : int, default 0
    limit : int, optional
        Bytes of memory.
    """
    from .evaluate.doubts.keep import attach_doubt
    from .evaluate.groups import union
    from .evaluate.splits import group_rows
    from .groups import resolve_groups

    joined = group_rows(features.keys, len(features))
    # Near copies are known among the scored rows, as groups.
    known = len(features) + np.arange(len(features))
    known[result.oof.rows] = result.oof.groups
    joined = union(joined, np.unique(known, return_inverse=True)[1].reshape(-1))
    named = resolve_groups(features, groups)
    if named is not None:
        # An unlabelled row without a group stays alone, and never trains.
        names = [name or f"\0{i}" for i, name in enumerate(named)]
        joined = union(joined, np.unique(names, return_inverse=True)[1].reshape(-1))
    attach_doubt(result, features.features, joined, seed=seed, limit=limit)


def apply_doubt(
    probe: Probe, predictions: Predictions, accuracy: float | None, reporter: Reporter | None
) -> Predictions:
    """Take back the answers that are not sure enough, and say what looks like nothing seen.

    Parameters
    ----------
    probe : Probe
    predictions : Predictions
        With `novelty`, where the probe knows it.
    accuracy : float or None
        Wanted among the answered images; None answers all.
    reporter : Reporter or None
        Hears how many images look unlike the training ones.

    Returns
    -------
    Predictions
    """
    novelty = novelty_of(probe)
    usable = np.isfinite(predictions.probabilities).all(axis=1)
    unlike = np.zeros(len(predictions), bool)
    if novelty is not None and predictions.novelty is not None:
        unlike = usable & (np.nan_to_num(predictions.novelty) > novelty.threshold)
    if reporter is not None and unlike.any() and novelty is not None:
        _tell(reporter, int(unlike.sum()), int(usable.sum()), novelty.expected, accuracy is None)
    if accuracy is None:
        return replace(predictions, unlike=unlike)
    rule = rule_for(probe, accuracy)
    assert rule.threshold is not None
    sure = np.where(usable, predictions.probabilities.max(axis=1, initial=0), np.inf)
    abstained = unlike | (sure < rule.threshold)
    reasons: list[str | None] = list(predictions.reasons)
    for i in np.flatnonzero(abstained).tolist():
        if unlike[i] and novelty is not None and predictions.novelty is not None:
            reasons[i] = (
                f"unlike the training images: distance {predictions.novelty[i]:.3f}, "
                f"{novelty.threshold:.3f} at most"
            )
        else:
            reasons[i] = f"not sure enough: {sure[i]:.3f}, {rule.threshold:.3f} needed"
    labels: list[Any] = [
        None if taken_back else label
        for label, taken_back in zip(predictions.labels, abstained, strict=True)
    ]
    return replace(
        predictions,
        labels=labels,
        reasons=reasons,
        unlike=unlike,
        abstained=abstained,
        rule=rule.to_dict(),
    )


def _tell(reporter: Reporter, n_unlike: int, n: int, expected: float, answered: bool) -> None:
    from scipy.stats import binom

    ordinary = expected * n
    text = (
        f"{n_unlike} of {n} images look{'s' if n_unlike == 1 else ''} unlike the training images"
        f" (of {n} ordinary ones about {ordinary:.0f} would)"
        + ("; --abstain leaves them unanswered" if answered else "")
    )
    surprising = binom.sf(n_unlike - 1, n, expected) < _SURPRISE
    (reporter.warn if surprising else reporter.note)(text)
