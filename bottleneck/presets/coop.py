"""CoOp's few-shot linear probe: 1, 2, 4, 8, 16 shots, ten seeds, C bisected on a few-shot val.

Source: KaiyangZhou/CoOp, ``lpclip/linear_probe.py``; features by ``lpclip/feat_extractor.py`` (CLIP's RN50,
after its projection, not normalised). Paper: K. Zhou et al., "Learning to Prompt for Vision-Language
Models", IJCV 2022, arXiv:2109.01134.

Copied to the letter:

- for each number of shots the seeds 1 to 10; ``np.random.seed(seed)``, then class by class
  ``np.random.choice`` of the training rows and after all classes of min(shots, 4) rows of ``val``;
- scikit-learn's `LogisticRegression` itself, L-BFGS, at most 1,000 iterations, as far as it comes;
- C first among 1e6, 1e4, ..., 1e-6; then eight bisections, in the exponent, of the interval from a
  tenth to ten times the best one, each between its two ends;
- the test accuracy of the better end after the last bisection; mean and (population) standard
  deviation over the seeds.

Traps, copied: of equal values the *largest* C wins at first (the list falls, and the first maximum
counts), and the lower end in a bisection; the best value of the first search itself is never the
answer; C is chosen on at most four images a class.

No single model is final: the kept probe is that of seed 1 at the largest number of shots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FitError
from ..heads.scores import as_columns, expand
from .base import Outcome, Setup
from .lbfgs import as_head, fit_lbfgs

SHOTS = (1, 2, 4, 8, 16)
SEEDS = tuple(range(1, 11))
STEPS = 8
START = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
_VAL_SHOTS = 4
_SHARE = 0.2  # of each training class, where there is no val: what CoOp's data sets take


@dataclass(frozen=True)
class Draw:
    """One few-shot fit."""

    rows: np.ndarray
    C: float
    fitted: Any
    accuracy: float


def run(setup: Setup) -> Outcome:
    """Every number of shots, every seed."""
    parts = setup.parts.with_val_from_train(
        _SHARE, setup.seed, "split: no val; a fifth of each training class took its place"
    )
    train_y, val_y = parts.y[parts.train], parts.y[parts.val]
    fewest = int(np.bincount(train_y).min())
    fewest_val = int(np.bincount(val_y, minlength=len(parts.classes)).min())
    shots = [k for k in SHOTS if k <= fewest and min(k, _VAL_SHOTS) <= fewest_val]
    if not shots:
        raise FitError(
            f"the smallest class has {fewest} training and {fewest_val} val images",
            expected="1 or more of each",
            next="leave out --preset",
        )
    other, truth = setup.rows(parts.test)
    setup.expect(len(shots) * len(SEEDS) * STEPS)
    table, last = [], []
    for k in shots:
        last = [one_draw(setup, parts.train, parts.val, other, truth, k, seed) for seed in SEEDS]
        values = [draw.accuracy for draw in last]
        table.append(
            {"shots": k, "mean": float(np.mean(values)), "sd": float(np.std(values))}
            | {"seeds": values}
        )
    deviations = list(parts.deviations)
    if len(shots) < len(SHOTS):
        deviations.append(
            f"{', '.join(str(k) for k in SHOTS if k not in shots)} shots: left out, the smallest "
            f"class has {fewest} training and {fewest_val} val images (the source stops)"
        )
    probabilities = np.stack(
        [_probabilities(draw.fitted, other, len(parts.classes)) for draw in last]
    )
    kept = last[0]
    return Outcome(
        head="logistic",
        params={"C": kept.C},
        scaling="none",
        estimator=as_head(kept.fitted),
        parts=replace(parts, train=np.sort(kept.rows), deviations=tuple(deviations)),
        trained_on=np.sort(kept.rows),
        probabilities=probabilities.astype(np.float32),
        headline=[
            {"name": f"{row['shots']}-shot top-1", "value": row["mean"], "sd": row["sd"]}
            for row in table
        ],
        table=table,
        traps=[
            "C is chosen on at most four images a class; of equal values the largest C wins at first",
        ],
        silent=[f"the kept probe is that of seed 1 at {shots[-1]} shots"],
    )


def one_draw(
    setup: Setup,
    train: np.ndarray,
    val: np.ndarray,
    other: np.ndarray,
    truth: np.ndarray,
    shots: int,
    seed: int,
) -> Draw:
    """Draw, search and score once."""
    y = setup.parts.y
    random = np.random.RandomState(seed)  # the stream of np.random.seed
    labels = np.unique(y[train])
    rows = _choose(random, train, y[train], labels, shots)
    few = _choose(random, val, y[val], labels, min(shots, _VAL_SHOTS))
    X, own = setup.rows(rows)
    few_X, few_y = setup.rows(few)

    memory: dict[float, tuple[Any, float]] = {}

    def fit(C: float) -> tuple[Any, float]:
        # One end of each bisection was fitted in the one before, up to the rounding of its exponent.
        key = round(float(np.log10(C)), 9)
        if key not in memory:
            fitted = fit_lbfgs(X, own, C)
            memory[key] = fitted, float(np.mean(fitted.predict(few_X) == few_y))
        return memory[key]

    peak = START[int(np.argmax([fit(C)[1] for C in START]))]
    left, right = 0.1 * peak, 10.0 * peak
    C, fitted = peak, None
    for _ in range(STEPS):
        (left_fit, left_score), (right_fit, right_score) = fit(left), fit(right)
        middle = 10.0 ** (0.5 * (np.log10(right) + np.log10(left)))
        if left_score < right_score:
            C, fitted, left = right, right_fit, middle
        else:
            C, fitted, right = left, left_fit, middle
        setup.tick()
    assert fitted is not None
    return Draw(rows, float(C), fitted, float(np.mean(fitted.predict(other) == truth)))


def _choose(
    random: np.random.RandomState, rows: np.ndarray, y: np.ndarray, labels: np.ndarray, n: int
) -> np.ndarray:
    return np.concatenate(
        [rows[random.choice(np.flatnonzero(y == c), size=n, replace=False)] for c in labels]
    )


def _probabilities(fitted: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    from scipy.special import softmax

    scores = expand(as_columns(fitted.decision_function(X)), fitted.classes_, n_classes)
    return np.asarray(softmax(scores, axis=1))
