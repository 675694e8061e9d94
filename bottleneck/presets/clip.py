"""CLIP's linear probe: L-BFGS logistic regression, C by a bisection around the peak, refit with val.

Source: A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
arXiv:2103.00020, appendix A.3; openai/CLIP, README, "Linear-probe evaluation"; issues openai/CLIP#39
(scikit-learn's defaults for all that is not mentioned) and #353 (before or after the projection).

Copied to the letter:

- scikit-learn's `LogisticRegression` itself, L-BFGS, at most 1,000 iterations, ``random_state=0``:
  what it has reached by then is what counts, converged or not;
- C among 1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6; then the step is halved four times around the best, to 8
  a decade;
- chosen on ``val``, refitted on ``train`` and ``val`` together, scored once on ``test``;
- features of the penultimate layer, not normalised, preprocessing of the network itself. For CLIP's
  own networks the paper takes what comes before the projection; the README's `encode_image` comes
  after it, so its example (C = 0.316, no choice) gives other numbers than the paper.

Where the source is silent, and what is done here: of equal scores the smallest C is the peak; without
a ``val`` split a fifth of each training class, drawn with the seed, takes its place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import FitError
from ..heads.logistic import LogisticHead
from .base import Outcome, Setup, grid_choice, score, top_1_and_5
from .dinov2 import class_probabilities
from .lbfgs import as_head, fit_lbfgs

START = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)  # log10 of C
HALVINGS = 4  # 2, 1, 1/2, 1/4, 1/8 decades: 8 steps a decade
_SHARE = 0.2


def run(setup: Setup) -> Outcome:
    """Choose, refit, score."""
    given = len(setup.parts.val) > 0
    parts = setup.parts.with_val_from_train(_SHARE, setup.seed)
    if not len(parts.val) or len(np.unique(parts.y[parts.train])) < 2:
        raise FitError(
            f"{len(parts.train)} images to learn and {len(parts.val)} to choose C by are too few",
            expected="2 classes to learn, and a val split or 3 images in a class to take one from",
            next="add images, or leave --preset out",
        )
    exponents, scores = search(setup, parts.train, parts.val)
    chosen = best(exponents, scores)
    C = 10.0 ** exponents[chosen]
    trained_on = np.sort(np.concatenate([parts.train, parts.val]))
    X, y = setup.rows(trained_on)
    head: LogisticHead = as_head(fit_lbfgs(X, y, C))
    probabilities = class_probabilities(head, setup, parts.test)
    silent = ["of equal scores the smallest C is the peak"]
    if not given:
        silent.append(
            f"C was chosen on {len(parts.val)} images, a fifth of each training class (the paper splits "
            "the training set, and does not say how)"
        )
    return Outcome(
        head="logistic",
        params={"C": C},
        scaling="none",
        estimator=head,
        parts=replace(parts, train=trained_on),
        trained_on=trained_on,
        probabilities=probabilities[None].astype(np.float32),
        headline=top_1_and_5(probabilities, parts.y[parts.test]),
        silent=silent,
        choice=dict(grid_choice("C", 10.0 ** np.array(exponents), np.array(scores), chosen)),
    )


def search(
    setup: Setup, learning: np.ndarray, choosing: np.ndarray
) -> tuple[list[float], list[float]]:
    """Exponents of C that were tried, ascending, and how good each was on `choosing`."""
    X, y = setup.rows(learning)
    other, truth = setup.rows(choosing)
    tried: dict[float, float] = {}
    setup.expect(len(START) + 2 * HALVINGS)

    def try_each(wanted: list[float]) -> None:
        for exponent in wanted:
            if exponent not in tried and START[0] <= exponent <= START[-1]:
                answers = fit_lbfgs(X, y, 10.0**exponent).predict(other)
                tried[exponent] = score(setup.metric, truth, answers)
                setup.tick()

    try_each(list(START))
    step = START[1] - START[0]
    for _ in range(HALVINGS):
        step /= 2
        ordered = sorted(tried)
        peak = ordered[best(ordered, [tried[e] for e in ordered])]
        try_each([peak - step, peak + step])
    ordered = sorted(tried)
    return ordered, [tried[e] for e in ordered]


def best(exponents: list[float], scores: list[float]) -> int:
    """Position of the best score; of equal ones the smallest exponent."""
    return min(range(len(scores)), key=lambda i: (-scores[i], exponents[i]))
