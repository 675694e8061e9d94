"""When to say "I don't know": out-of-fold probabilities in, a threshold with a guaranteed accuracy out.

An image is answered where its largest probability reaches the threshold. The threshold is the lowest one
for which the accuracy among the answered images is shown to be what was asked for: with probability 0.95
over the images that chose it, for new images of the same kind.

References
----------
Y. Geifman, R. El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017 (a threshold
with a guaranteed risk; AURC: the same authors and G. Uziel, ICLR 2019). A. N. Angelopoulos, S. Bates,
E. J. Candes, M. I. Jordan, L. Lei, "Learn then Test", 2021, arXiv:2110.01052 (thresholds tested in a fixed
order, until the first that fails, need no correction for their number). D. Hendrycks, K. Gimpel, "A Baseline
for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017 (the largest probability).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from ..splits import copy_weights

TARGETS = (0.9, 0.95, 0.99)
CONFIDENCE = 0.95
_STEPS = 20  # thresholds that are tested, at most: each answers 5 % of the images more


@dataclass(frozen=True)
class AbstainRule:
    """A threshold on the largest probability, and what it does to the images it was chosen on.

    Attributes
    ----------
    accuracy : float
        What was asked for, among the answered images.
    confidence : float
        How sure it is that the accuracy is reached.
    threshold : float or None
        Answer where the largest probability is at least this; 0 answers all. None: with these images
        no threshold is shown to reach the accuracy, and nothing would be answered.
    coverage : float
        Share of the images that are answered.
    error : float
        Wrong answers among them; NaN where there is none.
    n : int
        Different images it was chosen on.
    reason : str
        Why there is no threshold.
    """

    accuracy: float
    confidence: float
    threshold: float | None
    coverage: float
    error: float
    n: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """Who was how sure, and right: all that a rule is chosen by, and small enough to keep.

    Attributes
    ----------
    sure : ndarray of shape (repeats, n), float32
        Largest probability of each scored image, by a fit that did not see it; -1 for images that are
        not answered however sure (see `novelty`).
    right : ndarray of shape (repeats, n), bool
    weights : ndarray of shape (n,), float32
        1 / number of copies: they count once.
    effect : float, default 1.0
        How many images count as one because the errors of a group come together.
    """

    sure: np.ndarray
    right: np.ndarray
    weights: np.ndarray
    effect: float = 1.0

    def rule(self, accuracy: float, confidence: float = CONFIDENCE) -> AbstainRule:
        """The lowest threshold whose answers are accurate enough, for sure.

        Parameters
        ----------
        accuracy : float, above 0 and below 1
            Wanted among the answered images.
        confidence : float, default 0.95

        Returns
        -------
        AbstainRule

        Notes
        -----
        Clopper and Pearson's one-sided bound is compared with `accuracy`, first for the surest few images,
        then for more, in 20 steps, until it fails. How many are the first few depends on n and `accuracy`
        alone: so many that sqrt(n)/5 errors among them are allowed, and half of the images at most if it
        can be.
        """
        n = float(self.weights.sum())
        values, answered, correct = _cumulated(self.sure, self.right, self.weights)
        answerable = float(answered[-1]) if len(answered) else 0.0
        first = _first(answerable / self.effect, accuracy, 1 - confidence)

        def none(reason: str) -> AbstainRule:
            return AbstainRule(accuracy, confidence, None, 0.0, math.nan, round(n), reason)

        if first is None:
            need = math.ceil(_least(accuracy, 1 - confidence, 0) * self.effect)
            return none(
                f"it takes at least {need} scored images, all answered rightly, and there are "
                f"{round(answerable)}"
            )
        best = None
        steps = np.linspace(first * self.effect, answerable, _STEPS)
        for reach in dict.fromkeys(np.searchsorted(answered, steps - 1e-6).tolist()):
            # One of several equal probabilities cannot be answered without the others.
            at = min(int(reach), len(answered) - 1)
            wrong = max(answered[at] - correct[at], 0.0)
            bound = beta.ppf(1 - confidence, correct[at] / self.effect, wrong / self.effect + 1)
            if not correct[at] or bound < accuracy:
                break
            best = at
        if best is None:
            return none(f"too few of the {math.ceil(first * self.effect)} surest answers are right")
        return AbstainRule(
            accuracy,
            confidence,
            0.0 if best == len(answered) - 1 else float(values[best]),
            min(float(answered[best] / n), 1.0),
            max(float(1 - correct[best] / answered[best]), 0.0),
            round(n),
        )

    def aurc(self) -> float:
        """Area under the risk-coverage curve: the error among the answered, averaged over all coverages.

        It is the error rate where the largest probability says nothing about who is right, and less where
        it does. Images that are not answered are left out.

        Examples
        --------
        >>> sure = np.array([[0.9, 0.8, 0.7, 0.6]])
        >>> round(Evidence(sure, sure > 0.65, np.ones(4)).aurc(), 4)
        0.0625
        """
        areas = []
        for sure, right in zip(self.sure, self.right, strict=True):
            _, answered, correct = _cumulated(sure[None], right[None], self.weights)
            shares = np.diff(answered, prepend=0.0)
            areas.append(np.average(1 - correct / answered, weights=shares))
        return float(np.mean(areas))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays for a probe."""
        return {
            "abstain_sure": np.asarray(self.sure, np.float32),
            "abstain_right": np.asarray(self.right, np.uint8),
            "abstain_weights": np.asarray(self.weights, np.float32),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], effect: float) -> Evidence:
        """What `state` gave."""
        return cls(
            arrays["abstain_sure"],
            arrays["abstain_right"].astype(bool),
            arrays["abstain_weights"],
            effect,
        )


def gather(
    probabilities: np.ndarray,
    y: np.ndarray,
    *,
    images: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    usable: np.ndarray | None = None,
) -> Evidence:
    """Evidence for rules.

    Parameters
    ----------
    probabilities : ndarray of shape (repeats, n, k) or (n, k)
        Each by a fit that did not see the row.
    y : ndarray of shape (n,), int
        True classes.
    images : ndarray of shape (n,), int, optional
        Copies of one image have one number, and count once.
    groups : ndarray of shape (n,), int, optional
        Images that belong together (one patient): where their errors come together, they count as fewer.
    usable : ndarray of shape (n,), bool, optional
        False for images that are not answered whatever their probability (see `novelty`).

    Returns
    -------
    Evidence

    Examples
    --------
    >>> p = np.linspace(0.99, 0.5, 200)
    >>> right = np.arange(200) < 120
    >>> rule = gather(np.stack([p, 1 - p], axis=1), np.where(right, 0, 1)).rule(0.9)
    >>> round(rule.threshold, 3), round(rule.coverage, 2), round(rule.error, 3)
    (0.692, 0.61, 0.016)
    """
    p = np.asarray(probabilities)
    p = p[None] if p.ndim == 2 else p
    y = np.asarray(y)
    images = np.arange(len(y)) if images is None else np.asarray(images)
    weights = copy_weights(images)
    right = p.argmax(axis=2) == y
    sure = p.max(axis=2).astype(np.float32)
    if usable is not None:
        sure = np.where(np.asarray(usable, bool), sure, np.float32(-1))
    effect = 1.0
    if groups is not None:
        effect = _design_effect(right, weights, images, np.asarray(groups))
    return Evidence(sure, right, weights.astype(np.float32), effect)


def _cumulated(
    sure: np.ndarray, right: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different probabilities, descending, with the images answered and right down to each.

    The repeats count 1/repeats each: their mean varies less than one of them, so that a bound made for
    one holds for it.
    """
    repeats = len(sure)
    order = np.argsort(-sure, axis=None, kind="stable")
    values = sure.reshape(-1)[order]
    each = np.broadcast_to(weights / repeats, sure.shape).reshape(-1)[order]
    good = np.where(right.reshape(-1)[order], each, 0)
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    last = last[values[last] >= 0]
    return values[last], np.cumsum(each)[last], np.cumsum(good)[last]


def _least(accuracy: float, delta: float, errors: int) -> int:
    """Answers of which `errors` may be wrong while the bound still reaches the accuracy."""
    n = max(math.ceil(math.log(delta) / math.log(accuracy) - 1e-9), errors + 1)
    while beta.ppf(delta, n - errors, errors + 1) < accuracy:
        n += 1
    return n


def _first(n: float, accuracy: float, delta: float) -> int | None:
    """How many of the surest images are tested first; None where even all right ones were too few."""
    if _least(accuracy, delta, 0) > n:
        return None
    for errors in range(round(math.sqrt(n) / 5), 0, -1):
        # Each error takes about 1 / (1 - accuracy) images: most that are too many cost no search.
        if errors / (1 - accuracy) < n / 2 and (least := _least(accuracy, delta, errors)) <= n / 2:
            return least
    return _least(accuracy, delta, 0)


def _design_effect(
    right: np.ndarray, weights: np.ndarray, images: np.ndarray, groups: np.ndarray
) -> float:
    """How many images count as one because the errors of a group come together; at least 1."""
    image, group = (
        np.unique(each, return_inverse=True)[1].reshape(-1) for each in (images, groups)
    )
    effects = []
    for answers in right:
        apart = weights * (answers - np.average(answers, weights=weights))
        alone = np.sum(np.bincount(image, weights=apart) ** 2)
        together = np.sum(np.bincount(group, weights=apart) ** 2)
        effects.append(together / alone if alone > 0 else 1.0)
    return max(1.0, float(np.mean(effects)))
