"""Does an image look like the training ones? Features in, a distance and its threshold out.

The score of an image is the distance from its L2-normalised features to its k-th nearest neighbour among
the training images. It knows nothing of the head: a probe of ants and bees answers "bee, 99 %" to a
photograph of cloth, while the distance says that nothing like it was ever seen.

References
----------
Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022
(the distance). V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005 (the rank
of the threshold, which holds for any distribution).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Measured on features of efficientnet_lite0, threshold at the 0.95 quantile: k = 5 found all of 400
# photographs of cloth and all of 400 digits among ants and bees, and 85 % of a class of defects that was
# left out; over the ten digits, each left out in turn, its AUROC was 0.71 on average (k = 1: 0.76, but
# it misses 10 % of the digits among ants and bees; k = 10: 0.68, k = 20: 0.64). Mahalanobis with
# Ledoit-Wolf's covariance was no better on the digits tried, missed 36 % of the digits among ants and bees
# (none on normalised features) and took 70 to 200 times as long.
NEIGHBOURS = 5
ALPHA = 0.01
# What a probe file may grow by: 1,000 images of 1,280 features are 2.5 MB as float16.
MAX_ROWS, MAX_BYTES = 1000, 4 * 2**20
_MIN_ROWS = 32
_MAX_CALIBRATION = 2000
_BLOCK = 2048  # rows of which the distances to the whole reference lie in memory


@dataclass(frozen=True)
class Novelty:
    """Training images to compare with, and how far they lie from one another.

    Attributes
    ----------
    reference : ndarray of shape (r, d), float16
        L2-normalised features of training images, at most `MAX_ROWS` and `MAX_BYTES`.
    scores : ndarray of shape (c,), float32, ascending
        The score of training images, each compared with the others but not with its own group.
    neighbours : int
        Which neighbour's distance is the score.
    alpha : float
        Share of images like the training ones that the threshold takes for unlike them.
    """

    reference: np.ndarray
    scores: np.ndarray
    neighbours: int = NEIGHBOURS
    alpha: float = ALPHA

    @property
    def threshold(self) -> float:
        """A score above it means: unlike the training images.

        The rank ``ceil((c + 1) (1 - alpha))`` among the c training images; the largest score where there
        are fewer than 1 / alpha of them (then 1 in c + 1 ordinary images lies above it).
        """
        rank = math.ceil((len(self.scores) + 1) * (1 - self.alpha))
        return float(self.scores[min(rank, len(self.scores)) - 1])

    @property
    def expected(self) -> float:
        """Share of ordinary images above the threshold."""
        return max(self.alpha, 1 / (len(self.scores) + 1))

    def score(self, X: np.ndarray) -> np.ndarray:
        """Distance of each row to its k-th neighbour among the reference.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            Features as extracted.

        Returns
        -------
        ndarray of shape (n,), float32
            0 (the same) to 2 (opposite).
        """
        nothing = np.full(len(self.reference), -1)
        return _scores(X, np.full(len(X), -2), self.reference, nothing, self.neighbours)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """JSON data and arrays, which `from_state` takes."""
        params = {
            "neighbours": self.neighbours,
            "alpha": self.alpha,
            "threshold": self.threshold,
            "n_reference": len(self.reference),
        }
        return params, {"novelty_reference": self.reference, "novelty_scores": self.scores}

    @classmethod
    def from_state(cls, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Novelty:
        """What `state` gave."""
        return cls(
            arrays["novelty_reference"],
            arrays["novelty_scores"],
            int(params["neighbours"]),
            float(params["alpha"]),
        )


def fit_novelty(
    X: np.ndarray,
    groups: np.ndarray,
    *,
    neighbours: int = NEIGHBOURS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> tuple[Novelty, np.ndarray]:
    """Learn what the training images look like.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features of the training images, not normalised.
    groups : ndarray of shape (n,), int
        Rows of one group (copies, views, one patient) are never each other's neighbours here, since a new
        image has no copy among the training ones.
    neighbours : int, default 5
        Fewer where there are no more other groups.
    alpha : float, default 0.01
        Share of ordinary images that may be taken for novel.
    seed : int, default 0
        Of the rows that are kept where they are too many.

    Returns
    -------
    novelty : Novelty
    scores : ndarray of shape (n,), float32
        Of the training images, each without its own group; not sorted.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 16)) + 3
    >>> novelty, _ = fit_novelty(X, np.arange(200))
    >>> novelty.score(-X[:3]) > novelty.threshold
    array([ True,  True,  True])
    """
    rng = np.random.default_rng(seed)
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    # Of the rows of one group each one adds little; the reference begins with one of every group.
    order = rng.permutation(len(X))
    first = np.zeros(len(X), bool)
    first[order[np.unique(groups[order], return_index=True)[1]]] = True
    order = np.concatenate([order[first[order]], order[~first[order]]])
    limit = max(_MIN_ROWS, min(MAX_ROWS, MAX_BYTES // (2 * X.shape[1])))
    kept = np.sort(order[:limit])
    reference = _normalised(X[kept]).astype(np.float16)
    others = len(np.unique(groups[kept])) - 1
    neighbours = max(1, min(neighbours, others))
    scores = _scores(X, groups, reference, groups[kept], neighbours)
    sample = scores[order[:_MAX_CALIBRATION]]
    return Novelty(reference, np.sort(sample), neighbours, alpha), scores


def far_out(scores: np.ndarray) -> float:
    """A fence above the scores of ordinary images, which the odd ones among them cannot move.

    A rank (`Novelty.threshold`) would name 1 % of any images, and never the oddest of 99: the odd ones are
    among the scores here.

    Parameters
    ----------
    scores : ndarray of shape (n,)

    Returns
    -------
    float
        The upper quartile and 2.5 times the distance between the quartiles (Tukey, "Exploratory Data
        Analysis", 1977, has 1.5 for "outside" and 3 for "far out"). On 398 photographs of ants and
        bees it is 1.227; the one above it, at 1.294, is a placeholder that says "image not found".

    Examples
    --------
    >>> far_out(np.array([1.0, 2.0, 3.0, 4.0, 50.0]))
    9.0
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(high + 2.5 * (high - low))


def _scores(
    X: np.ndarray,
    groups: np.ndarray,
    reference: np.ndarray,
    reference_groups: np.ndarray,
    neighbours: int,
) -> np.ndarray:
    """Distance to the k-th neighbour of another group, (n,) float32."""
    kept = reference.astype(np.float32)
    found = np.empty(len(X), np.float32)
    for start in range(0, len(X), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine = _normalised(X[block]) @ kept.T
        cosine[groups[block, None] == reference_groups] = -1  # as far as can be
        k_th = -np.partition(-cosine, neighbours - 1, axis=1)[:, neighbours - 1]
        found[block] = np.sqrt(np.clip(2 - 2 * k_th, 0, 4))
    return found


def _normalised(X: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays one."""
    X = np.asarray(X, np.float32)
    # Scaled first: the square of a feature of 1e30 would be infinite.
    largest = np.abs(X).max(axis=1, keepdims=True, initial=0)
    X = X / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)
