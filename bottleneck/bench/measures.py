"""The arithmetic of a bench: runs in, medians, ratios and shares out. Plain numbers, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest and highest of some runs, and the runs.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0])["median"]
    2.0
    """
    return {
        "median": float(np.median(values)),
        "low": float(min(values)),
        "high": float(max(values)),
        "runs": [float(v) for v in values],
    }


def ratio(speeds: Sequence[float], to: Sequence[float]) -> dict[str, Any]:
    """How many times as fast, run by run: what slows a machine down for a while slows both.

    Parameters
    ----------
    speeds, to : sequence of float
        Images/s of the same rounds.
    """
    return spread([a / b for a, b in zip(speeds, to, strict=True)])


def ceiling(decode: float, forward: float, *, shared: bool) -> float:
    """Images/s that nothing can exceed in which every image is decoded and goes through the network.

    Parameters
    ----------
    decode, forward : float
        Images/s of each alone, with everything that it can use.
    shared : bool
        Both use the same cores, so that their times add up; else they run side by side.

    Examples
    --------
    >>> ceiling(600, 300, shared=True), ceiling(600, 300, shared=False)
    (200.0, 300.0)
    """
    return float(1 / (1 / decode + 1 / forward) if shared else min(decode, forward))


def cosines(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine of each row to the row of the reference, (min(n, m),) float64.

    Parameters
    ----------
    features : ndarray of shape (n, d)
    reference : ndarray of shape (m, d)
        Its first rows are of the same images.
    """
    rows = min(len(features), len(reference))
    a, b = (np.asarray(x[:rows], np.float64) for x in (features, reference))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Two rows of zeros are the same; a row of zeros and another are not alike.
    products = np.einsum("ij,ij->i", a, b)
    same = (a == b).all(axis=1)
    return np.where(same, 1.0, products / np.where(lengths > 0, lengths, np.inf))


def best(speeds: dict[str, Sequence[float]]) -> str:
    """The name with the highest median."""
    return max(speeds, key=lambda name: float(np.median(speeds[name])))
