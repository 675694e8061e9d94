"""Features to what a head is fitted on: standardised, of unit length, or as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

SCALINGS = ("standard", "none", "l2", "l2-vissl", "scalar")
_VISSL_FLOOR = 1e-5  # added to the norm by facebookresearch/vissl, svm_utils


@dataclass(frozen=True)
class Scaling:
    """A scaling fitted on training rows.

    Attributes
    ----------
    kind : str
        ``standard``: each feature to mean 0 and standard deviation 1. ``none``. ``l2``: each row to
        length 1. ``l2-vissl``: each row divided by its length plus 1e-5. ``scalar``: all features by one
        mean and one standard deviation.
    mean, scale : ndarray of shape (d,), float64
        Subtracted and divided by; zeros and ones where rows are scaled by their own length.
    """

    kind: str
    mean: np.ndarray
    scale: np.ndarray

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scaled rows, (n, d) in the dtype of X (float32 or float64)."""
        if self.kind in ("l2", "l2-vissl"):
            return unit_rows(X, _VISSL_FLOOR if self.kind == "l2-vissl" else 0.0)
        if self.kind == "none":
            return X
        scaled = X - self.mean.astype(X.dtype)
        scaled /= self.scale.astype(X.dtype)
        return scaled

    def to_state(self) -> tuple[str, dict[str, np.ndarray]]:
        """Kind and arrays, as a probe file keeps them."""
        return self.kind, {"mean": self.mean, "scale": self.scale}


def unit_rows(X: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Rows divided by their length plus `floor`, (n, d) in the dtype of X; a row of zeros stays."""
    norms = np.sqrt(np.einsum("nd,nd->n", X, X, dtype=np.float64))[:, None] + floor
    rows: np.ndarray = X / np.where(norms > 0, norms, 1).astype(X.dtype)
    return rows


def fit_scaling(kind: str, X: np.ndarray) -> Scaling:
    """Fit a scaling on training rows.

    Parameters
    ----------
    kind : str
        One of `SCALINGS`.
    X : ndarray of shape (n, d), float32 or float64

    Returns
    -------
    Scaling
    """
    d = X.shape[1]
    if kind == "standard":
        scaler = StandardScaler().fit(X)
        return Scaling(kind, scaler.mean_, scaler.scale_)
    if kind == "scalar":
        mean = float(X.mean(dtype=np.float64))
        spread = float(X.std(dtype=np.float64))
        return Scaling(kind, np.full(d, mean), np.full(d, spread if spread > 0 else 1.0))
    if kind not in SCALINGS:
        raise ValueError(f"there is no scaling {kind!r}; expected {', '.join(SCALINGS)}")
    return Scaling(kind, np.zeros(d), np.ones(d))


def scaling_from_state(state: Any, arrays: dict[str, np.ndarray]) -> Scaling:
    """The scaling that `Scaling.to_state` described."""
    return Scaling(str(state), arrays["mean"], arrays["scale"])
