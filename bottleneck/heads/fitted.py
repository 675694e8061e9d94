"""What a probe keeps and predicts with: a scaling, a head, a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator

from ..errors import ProbeError
from .scaling import Scaling, fit_scaling, scaling_from_state
from .scores import as_columns, expand


@dataclass(frozen=True)
class Fitted:
    """A fitted head with its scaling and its temperature.

    Attributes
    ----------
    scaling : Scaling
    head : estimator
        Fitted on scaled rows; its classes are indices below `n_classes`.
    n_classes : int
    temperature : float
        Scores are divided by it before the softmax; it never changes an answer.
    """

    scaling: Scaling
    head: Any
    n_classes: int
    temperature: float = 1.0

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Decision scores, (n, k) float64: 0 and the score for two classes, -inf for unknown ones."""
        found = as_columns(self.head.decision_function(self.scaling.transform(np.asarray(X))))
        return expand(found.astype(np.float64), np.asarray(self.head.classes_), self.n_classes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (n, k) float64."""
        return softmax(self.scores(X) / self.temperature, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with the largest score, (n,) intp."""
        return self.scores(X).argmax(axis=1)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything a prediction needs: JSON data, and arrays whose names begin with their part."""
        params, arrays = self.head.to_state()
        kind, scale = self.scaling.to_state()
        return (
            {
                "head": {"class": type(self.head).__name__, **params},
                "scaling": kind,
                "temperature": float(self.temperature),
            },
            {
                **{f"scale.{name}": array for name, array in scale.items()},
                **{f"head.{name}": array for name, array in arrays.items()},
            },
        )


def fit_head(
    head: BaseEstimator,
    X: np.ndarray,
    y: np.ndarray,
    *,
    n_classes: int,
    scaling: str = "standard",
    temperature: float = 1.0,
) -> Fitted:
    """Fit scaling and head on these rows alone.

    Parameters
    ----------
    head : estimator, unfitted
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), int
        Class indices below `n_classes`; two or more of them are there.
    n_classes : int
    scaling : str
        One of `scaling.SCALINGS`.
    temperature : float

    Returns
    -------
    Fitted
    """
    fitted = fit_scaling(scaling, X)
    return Fitted(fitted, head.fit(fitted.transform(X), y), n_classes, temperature)


def fitted_from_state(params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fitted:
    """What `Fitted.to_state` described; it predicts the same, bit for bit.

    Raises
    ------
    ProbeError
        If the head is of a kind that this version does not know.
    """
    from .registry import head_classes

    described = dict(params["head"])
    name, known = described.pop("class"), head_classes()
    if name not in known:
        raise ProbeError(
            f"the probe's head is {name!r}, which this version does not know",
            expected=", ".join(known),
            next="pip install -U bottleneck-probe",
        )
    # Probes of 0.1 kept the temperature of an SVM inside the head, and others had none.
    inside = described.pop("temperature", 1.0)
    temperature = float(params.get("temperature") or inside)
    own = {k.removeprefix("head."): a for k, a in arrays.items() if k.startswith("head.")}
    scale = {k.removeprefix("scale."): a for k, a in arrays.items() if k.startswith("scale.")}
    head = known[name].from_state(described, own)
    return Fitted(
        scaling_from_state(params.get("scaling", "standard"), scale),
        head,
        len(head.classes_),
        temperature,
    )
