"""VISSL's linear SVMs, one for each class against the rest, and the average precision of its script.

Source: facebookresearch/vissl, ``vissl/utils/svm_utils/svm_trainer.py``, `train_cls`, and
``evaluate.py``, `get_precision_recall`, `calculate_ap`; the same in
facebookresearch/fair_self_supervision_benchmark, ``tools/svm/``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from ..heads.svm import LinearSVMHead

SCALING = "l2-vissl"  # x / (|x| + 1e-5), in float64
_WEIGHTS = {1: 2, -1: 1}
_BOOTSTRAP = 1000


def make_svm(cost: float, seed: int) -> LinearSVC:
    """scikit-learn's `LinearSVC` as the source has it: squared hinge, dual, intercept in the penalty.

    The source leaves ``random_state`` open; here the same seed gives the same machine, as long as one is
    fitted at a time: liblinear draws from one generator for the whole process, so in threads, as in the
    source, two runs differ where 2,000 iterations are not enough.
    """
    return LinearSVC(
        C=cost,
        class_weight=_WEIGHTS,
        intercept_scaling=1.0,
        penalty="l2",
        loss="squared_hinge",
        tol=1e-4,
        dual=True,
        max_iter=2000,
        random_state=seed,
    )


@contextmanager
def as_it_ends() -> Iterator[None]:
    """Inside, a machine that ends at 2,000 iterations is taken as it is, as in the source."""
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):
        warnings.simplefilter("ignore")
        yield


def envelope_ap(positive: np.ndarray, scores: np.ndarray) -> float:
    """Average precision, each precision raised to the best one at any higher recall.

    Higher than scikit-learn's `average_precision_score`, which takes precisions as they are.

    Parameters
    ----------
    positive : ndarray of shape (n,), bool
        At least one is True.
    scores : ndarray of shape (n,)

    Examples
    --------
    >>> round(envelope_ap(np.array([True, False, True]), np.array([0.9, 0.8, 0.7])), 4)
    0.8333
    """
    # The very call of the source: equal scores fall in its order.
    order = np.argsort(scores)[::-1]
    return float(weighted_envelope_ap(positive[order], np.ones((1, len(scores))))[0])


def weighted_envelope_ap(positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`envelope_ap` of rows sorted by falling score, for several weightings (b, n) of them: (b,)."""
    hits = np.cumsum(weights * positive, axis=1)
    seen = np.cumsum(weights, axis=1)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = hits[:, -1:]
    gained = np.diff(hits, axis=1, prepend=0) / np.where(total > 0, total, np.nan)
    return np.asarray((gained * best).sum(axis=1))


def map_interval(
    positive: np.ndarray,
    scores: np.ndarray,
    seed: int,
    known: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap of the mean `envelope_ap` over classes; whole test images are drawn.

    Parameters
    ----------
    positive : ndarray of shape (n, k), bool
    scores : ndarray of shape (n, k), float
    seed : int
    known : ndarray of shape (n, k), bool, optional
        False where an image takes no part in the AP of a class.

    Returns
    -------
    low, high : float
        Draws in which a class has no image leave that class out.
    """
    n, k = scores.shape
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_BOOTSTRAP)
    known = np.ones((n, k), bool) if known is None else known
    found = np.empty((_BOOTSTRAP, k))
    for c in range(k):
        order = np.argsort(scores[:, c])[::-1]
        found[:, c] = weighted_envelope_ap(
            positive[order, c], (counts[:, order] * known[order, c]).astype(float)
        )
    low, high = np.quantile(np.nanmean(found, axis=1), [(1 - level) / 2, (1 + level) / 2])
    if high - low < 1e-9:
        # Ranked without a fault: as for k of n right, what as many images cannot exclude.
        low = min(low, ((1 - level) / 2) ** (1 / n))
    return float(low), float(high)


def as_head(machines: Sequence[LinearSVC], cost: float) -> LinearSVMHead:
    """One machine for each class as one head: the class with the largest value is the answer."""
    coef = np.stack([machine.coef_[0] for machine in machines])
    intercept = np.array([machine.intercept_[0] for machine in machines])
    if len(machines) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    params = {
        "options": {"C": float(cost)},
        "classes": list(range(len(machines))),
        "n_iter": int(max(np.max(machine.n_iter_) for machine in machines)),
        "converged": bool(all(np.max(machine.n_iter_) < 2000 for machine in machines)),
    }
    return LinearSVMHead.from_state(params, {"coef": coef, "intercept": intercept})
