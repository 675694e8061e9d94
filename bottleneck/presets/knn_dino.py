"""DINO's weighted nearest neighbours: k = 10, 20, 100 and 200, no choice, all of them reported.

Source: facebookresearch/dino, ``eval_knn.py``, `extract_feature_pipeline` and `knn_classifier`; the same
vote in facebookresearch/dinov2, ``dinov2/eval/knn.py``, `KnnModule`. Papers: M. Caron et al.,
arXiv:2104.14294; after Z. Wu et al., arXiv:1805.01978.

Copied to the letter:

- features divided by their length, cosine similarity, the k nearest training images;
- each neighbour votes for its class with exp(similarity / 0.07); the class with the largest sum;
- top-1, and top-5 among classes, for each k; images bicubic to a short side of 256, crop 224;
- neighbours are those of ``train`` alone: a ``val`` split beside a ``test`` takes no part.

Traps: a k above the number of training images stops the source; here it is left out and told. DINO's
script takes test images in steps of n // 100 and stops below 100 of them; DINOv2's does not. There is no
choice among the k: the kept probe has k = 20, which the source calls usually the best, whatever the table
says (a smaller training set: the largest k that it allows).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from ..errors import FitError
from ..heads.knn import KNNHead, votes_of
from ..heads.scaling import unit_rows
from ..heads.scores import as_columns, expand
from .base import Outcome, Setup, share, top_1_and_5, top_hits

K = (10, 20, 100, 200)
KEPT = 20
TEMPERATURE = 0.07
_STEPS = 100  # DINO's script cuts the test set into so many
_BLOCK = 2**22  # similarities that are held at once: 32 MB


def run(setup: Setup) -> Outcome:
    """Score every k; keep k = 20."""
    parts = setup.parts
    X, y = setup.rows(parts.train)
    other, truth = setup.rows(parts.test)
    usable = [k for k in K if k <= len(X)]
    if not usable:
        raise FitError(
            f"{len(X)} training images; the smallest k of the protocol is {K[0]}",
            expected=f"{K[0]} or more",
            where="--preset",
            next="--head knn takes a k that fits small sets",
        )
    votes = neighbour_votes(X, y, other, usable, len(parts.classes))
    setup.expect(len(usable))
    table: list[dict[str, Any]] = []
    for k in usable:
        found = {str(each["name"]): each["value"] for each in top_1_and_5(votes[k], truth)}
        table.append({"k": k, **found})
        setup.tick()
    deviations, notes = list(parts.deviations), list(parts.notes)
    if left := [k for k in K if k not in usable]:
        deviations.append(
            f"k = {', '.join(map(str, left))}: left out, there are only {len(X)} training images "
            "(the source stops)"
        )
    if len(parts.val):
        notes.append(f"{len(parts.val)} images of the split val take no part")
    if len(other) < _STEPS:
        notes.append(
            f"{len(other)} test images: DINO's own script stops below {_STEPS}, DINOv2's does not"
        )
    kept = KEPT if KEPT in usable else usable[-1]
    head = KNNHead(k=kept, temperature=TEMPERATURE).fit(X, y)
    scores = expand(as_columns(head.decision_function(other)), head.classes_, len(parts.classes))
    return Outcome(
        head="knn",
        params={"k": kept, "temperature": TEMPERATURE},
        scaling="none",
        estimator=head,
        parts=replace(parts, deviations=tuple(deviations), notes=tuple(notes)),
        trained_on=parts.train,
        probabilities=softmax(scores, axis=1)[None].astype(np.float32),
        headline=[share(f"{k}-NN top-1", top_hits(votes[k], truth, 1)) for k in usable],
        table=table,
        traps=["every k is scored on the test set: quote the table, not its best row"],
    )


def neighbour_votes(
    X: np.ndarray, y: np.ndarray, other: np.ndarray, ks: list[int], n_classes: int
) -> dict[int, np.ndarray]:
    """Votes (m, n_classes) float64 for each k, from one similarity matrix in blocks.

    Parameters
    ----------
    X : ndarray of shape (n, d), float64
    y : ndarray of shape (n,), intp
    other : ndarray of shape (m, d), float64
    ks : list of int
        At most n each.
    n_classes : int
    """
    X, other = unit_rows(X), unit_rows(other)
    block = max(1, _BLOCK // len(X))
    parts = [
        votes_of(
            other[start : start + block] @ X.T,
            y,
            n_classes,
            ks,
            [TEMPERATURE] * len(ks),
            np.ones(len(X)),
        )
        for start in range(0, len(other), block)
    ]
    return dict(zip(ks, np.concatenate(parts, axis=1), strict=True))
