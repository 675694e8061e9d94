"""What a probe keeps to say "I don't know": a result and its features in, thresholds in its extras out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..result import Result
from .abstain import TARGETS, Evidence, gather
from .novelty import Novelty, fit_novelty

_MOST = 20_000  # rows whose distances are computed; what they are for is a quantile
_LEAST = 1000
_COPIES = 4  # of those rows, in the worst case


def attach_doubt(
    result: Result, X: Any, groups: np.ndarray, *, seed: int = 0, limit: int | None = None
) -> None:
    """Add ``extra["abstain"]``, ``extra["novelty"]`` and their arrays to a result.

    Parameters
    ----------
    result : Result
    X : ndarray or LazyRows of shape (n, d)
        The features it was made from, all rows; of a million, 40,000 are read.
    groups : ndarray of shape (n,), int
        Equal for copies and for what else belongs together.
    seed : int, default 0
    limit : int, optional
        Bytes of memory: fewer rows are read where these would take more.
    """
    rng = np.random.default_rng(seed)
    scored = result.oof.rows
    most = _MOST
    if limit is not None:
        most = max(_LEAST, min(most, limit // (_COPIES * 4 * X.shape[1])))
    trained = _some(np.asarray(result.trained_on), rng, most)
    # A held-out image is compared as a new one would be.
    fresh = _some(np.setdiff1d(scored, result.trained_on), rng, most)
    distance = np.full(len(X), np.nan, np.float32)
    # Threads would change the order of sums, and with it the last bits of what the probe keeps.
    with threadpool_limits(1, "blas"):
        novelty, distance[trained] = fit_novelty(X[trained], groups[trained], seed=seed)
        if len(fresh):
            distance[fresh] = novelty.score(X[fresh])
    unlike = np.nan_to_num(distance[scored], nan=0.0) > novelty.threshold
    oof = result.oof
    evidence = gather(
        oof.repeat_probabilities, oof.y, images=oof.images, groups=oof.groups, usable=~unlike
    )
    params, arrays = novelty.state()
    result.extra["novelty"] = {**params, "unlike": int(unlike.sum()), "n": len(scored)}
    result.extra["abstain"] = {
        "aurc": evidence.aurc() if not unlike.all() else None,
        "effect": evidence.effect,
        "rules": [evidence.rule(accuracy).to_dict() for accuracy in TARGETS],
    }
    result.arrays.update(arrays | evidence.state())


def _some(rows: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def kept_novelty(extra: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Novelty | None:
    """The novelty that `attach_doubt` kept; None in a probe that was made before there was one."""
    return Novelty.from_state(extra["novelty"], arrays) if "novelty" in extra else None


def kept_evidence(extra: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Evidence | None:
    """The evidence that `attach_doubt` kept; None in a probe that was made before there was one."""
    if "abstain" not in extra:
        return None
    return Evidence.from_state(arrays, float(extra["abstain"]["effect"]))
