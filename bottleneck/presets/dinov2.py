"""DINOv2's logistic regression: C chosen on a tenth of the training set, refitted, scored once.

Source: facebookresearch/dinov2, ``dinov2/eval/log_regression.py``, `sweep_C_values`, `train_for_C` and
`eval_log_regression`; features by `extract_features` of ``dinov2/eval/utils.py`` after
`make_classification_eval_transform` with ``resize_size=224``. Paper: M. Oquab et al., arXiv:2304.07193.

Copied to the letter:

- features as the network gives them (class token after its norm), neither normalised nor standardised,
  in float64; images bicubic to a short side of 224 (not 256), centre crop 224;
- 45 values C = 10^linspace(-6, 5), L2, a free intercept, at most 1,000 iterations, tolerance 1e-12;
- without a set to choose on, the first ``n // 10`` of ``torch.randperm(n)`` after
  ``torch.manual_seed(0)``: not stratified, so a rare class may miss on either side. Rows count in the
  order of their paths, which is ImageFolder's order;
- the best accuracy, of equal ones the smallest C; then one fit on all training rows, the tenth
  included, scored once on the test set. A ``val`` beside a ``test`` split is the source's fine-tuning
  set: it chooses, and joins the last fit.

Not copied: ``--finetune-on-val``, which chooses C on the scored set. The source solves with cuML and
keeps what 1,000 iterations reach; here the optimum is reached, to the stated distance.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from ..errors import FitError
from ..heads.linear import fit_linear
from ..heads.logistic import LogisticHead
from ..heads.losses import Multinomial
from ..heads.scores import as_columns, expand
from .base import Outcome, Setup, grid_choice, score, top_1_and_5
from .draws import torch_randperm

C_GRID = 10.0 ** np.linspace(-6, 5, 45)
_SEED = 0
_TOL = 1e-12
_MAX_ITER = 1000
# Of the fits that are only compared: a relative distance of the objective that changes no answer.
_CHOICE_TOL = 1e-8


def run(setup: Setup) -> Outcome:
    """Choose, refit, score."""
    parts = setup.parts
    learning, choosing = (parts.train, parts.val) if len(parts.val) else _tenth(parts.train)
    scores = sweep_C(setup, learning, choosing, C_GRID)
    chosen = int(np.argmax(scores))
    C = float(C_GRID[chosen])
    trained_on = np.sort(np.concatenate([learning, choosing]))
    head = fit_logistic(setup, trained_on, C)
    probabilities = class_probabilities(head, setup, parts.test)
    return Outcome(
        head="logistic",
        params={"C": C},
        scaling="none",
        estimator=head,
        parts=replace(parts, train=trained_on),
        trained_on=trained_on,
        probabilities=probabilities[None].astype(np.float32),
        headline=top_1_and_5(probabilities, parts.y[parts.test]),
        choice=dict(grid_choice("C", C_GRID, scores, chosen)),
    )


def _tenth(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training rows without the tenth that chooses, and that tenth."""
    count = len(train) // 10
    if not count:
        raise FitError(
            f"{len(train)} training images; a tenth of them chooses C",
            expected="10 or more",
            where="--preset",
            next="leave out --preset: plain `fit` scores small sets by cross-validation",
        )
    order = torch_randperm(len(train), _SEED)
    return train[order[count:]], train[order[:count]]


def sweep_C(
    setup: Setup, learning: np.ndarray, choosing: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """How good each C is on `choosing` after a fit on `learning`, by the setup's metric.

    Returns
    -------
    ndarray of shape (len(values),), float64
    """
    X, y = setup.rows(learning)
    other, truth = setup.rows(choosing)
    present, indices = np.unique(y, return_inverse=True)
    if len(present) < 2:
        raise FitError(f"{len(learning)} images to compare settings on hold a single class")
    found = fit_linear(
        X, indices, values, Multinomial(), len(present), tol=_CHOICE_TOL, max_iter=_MAX_ITER
    )
    setup.expect(len(values))
    scores = []
    for coef, intercept in zip(found.coef, found.intercept, strict=True):
        decisions = expand(other @ coef.T + intercept, present, len(setup.parts.classes))
        scores.append(score(setup.metric, truth, decisions.argmax(axis=1)))
        setup.tick()
    return np.array(scores)


def fit_logistic(setup: Setup, rows: np.ndarray, C: float) -> LogisticHead:
    """The last fit, to the source's tolerance or as near as its iterations come."""
    with warnings.catch_warnings():
        # The source keeps what 1,000 iterations reach, and so does this.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticHead(C=C, tol=_TOL, max_iter=_MAX_ITER).fit(*setup.rows(rows))


def class_probabilities(head: LogisticHead, setup: Setup, rows: np.ndarray) -> np.ndarray:
    """Probabilities of all classes, (m, k) float64."""
    X, _ = setup.rows(rows)
    scores = as_columns(head.decision_function(X))
    return np.asarray(softmax(expand(scores, head.classes_, len(setup.parts.classes)), axis=1))
