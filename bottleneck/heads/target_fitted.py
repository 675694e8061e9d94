"""What a probe keeps where the answer is not a class: scaling, head, temperature, thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit

from ..errors import ProbeError
from .one_vs_rest import OneVsRestLogistic
from .ridge import RidgeRegressionHead
from .scaling import Scaling, fit_scaling, scaling_from_state

HEADS: dict[str, Any] = {each.__name__: each for each in (OneVsRestLogistic, RidgeRegressionHead)}


@dataclass(frozen=True)
class TargetFitted:
    """A fitted head of another task than classification.

    Attributes
    ----------
    task : {'multilabel', 'regression'}
    scaling : Scaling
    head : estimator
        Fitted on scaled rows.
    temperature : float
        The logits of all labels are divided by it.
    thresholds : ndarray of shape (k,), float64
        A label is answered where its probability is at least this; empty for regression.
    """

    task: str
    scaling: Scaling
    head: Any
    temperature: float = 1.0
    thresholds: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probability of each label, or the value: (n, k) float64."""
        scaled = self.scaling.transform(np.asarray(X))
        if self.task == "regression":
            return np.asarray(self.head.predict(scaled), np.float64).reshape(len(scaled), -1)
        return np.asarray(expit(self.head.decision_function(scaled) / self.temperature), np.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """JSON data, and arrays whose names begin with their part."""
        params, arrays = self.head.to_state()
        kind, scale = self.scaling.to_state()
        return (
            {
                "task": self.task,
                "head": {"class": type(self.head).__name__, **params},
                "scaling": kind,
                "temperature": float(self.temperature),
            },
            {
                "thresholds": np.asarray(self.thresholds, np.float64),
                **{f"scale.{name}": array for name, array in scale.items()},
                **{f"head.{name}": array for name, array in arrays.items()},
            },
        )


def fit_target_head(
    task: str,
    setting: dict[str, Any],
    X: np.ndarray,
    Y: np.ndarray,
    *,
    scaling: str,
    temperature: float = 1.0,
    thresholds: np.ndarray | None = None,
) -> TargetFitted:
    """Fit scaling and head on these rows alone.

    Parameters
    ----------
    task : {'multilabel', 'regression'}
    setting : dict
        Parameters of the head.
    X : ndarray of shape (n, d)
    Y : ndarray of shape (n, k)
    scaling, temperature, thresholds
        See `TargetFitted`.

    Returns
    -------
    TargetFitted
    """
    fitted = fit_scaling(scaling, X)
    scaled = fitted.transform(X)
    if task == "multilabel":
        head: Any = OneVsRestLogistic(**setting).fit_labels(scaled, Y)
    else:
        head = RidgeRegressionHead(**setting).fit(scaled, Y[:, 0])
    cuts = np.zeros(0) if thresholds is None else thresholds
    return TargetFitted(task, fitted, head, temperature, cuts)


def target_fitted_from_state(params: dict[str, Any], arrays: dict[str, np.ndarray]) -> TargetFitted:
    """What `TargetFitted.to_state` described; it predicts the same, bit for bit.

    Raises
    ------
    ProbeError
        If the head is of a kind that this version does not know.
    """
    described = dict(params["head"])
    name = described.pop("class")
    if name not in HEADS:
        raise ProbeError(
            f"the probe's head is {name!r}, which this version does not know",
            expected=", ".join(HEADS),
            next="pip install -U bottleneck-probe",
        )
    own = {k.removeprefix("head."): a for k, a in arrays.items() if k.startswith("head.")}
    scale = {k.removeprefix("scale."): a for k, a in arrays.items() if k.startswith("scale.")}
    return TargetFitted(
        params["task"],
        scaling_from_state(params["scaling"], scale),
        HEADS[name].from_state(described, own),
        float(params["temperature"]),
        arrays["thresholds"],
    )
