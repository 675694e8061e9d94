"""A fitted pipeline as JSON data and arrays, and back: no pickle, so that opening one runs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ..errors import ProbeError


def _state_classes() -> dict[str, Any]:
    from .registry import HEADS

    return {spec.factory.__name__: spec.factory for spec in HEADS.values()}


def pipeline_to_state(pipeline: Pipeline) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything a prediction needs.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted; steps `scale` (StandardScaler) and `head` (one of `registry.HEADS`).

    Returns
    -------
    params : dict
        JSON data.
    arrays : dict of str to ndarray
        Names start with ``scale.`` or ``head.``.
    """
    scaler, head = pipeline.named_steps["scale"], pipeline.named_steps["head"]
    params, arrays = head.to_state()
    return (
        {"head": {"class": type(head).__name__, **params}},
        {
            "scale.mean": scaler.mean_,
            "scale.scale": scaler.scale_,
            **{f"head.{name}": array for name, array in arrays.items()},
        },
    )


def pipeline_from_state(params: dict[str, Any], arrays: dict[str, np.ndarray]) -> Pipeline:
    """The pipeline that `pipeline_to_state` described; it predicts the same, bit for bit.

    Raises
    ------
    ProbeError
        If the head is of a kind that this version does not know.
    """
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = arrays["scale.mean"], arrays["scale.scale"]
    scaler.var_ = scaler.scale_**2
    scaler.n_features_in_ = len(scaler.mean_)
    described = dict(params["head"])
    name, known = described.pop("class"), _state_classes()
    if name not in known:
        raise ProbeError(
            f"the probe's head is {name!r}, which this version does not know",
            expected=", ".join(known),
            next="pip install -U bottleneck-probe",
        )
    own = {k.removeprefix("head."): a for k, a in arrays.items() if k.startswith("head.")}
    return Pipeline([("scale", scaler), ("head", known[name].from_state(described, own))])
