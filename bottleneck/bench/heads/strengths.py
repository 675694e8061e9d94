"""Ridge with leave-one-out over twenty strengths, here and by `RidgeClassifierCV`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .contest import Check
from .material import Material

ALPHAS = 10.0 ** np.linspace(1.25, 6, 20)


@dataclass(frozen=True)
class Chosen:
    """The strength with the smallest squared error left out, and the answers to new rows."""

    alpha: float
    predicted: np.ndarray


def here(material: Material) -> Chosen:
    """One decomposition for all strengths."""
    from ...heads.ridge import RidgeHead

    rows, new = material.standardised
    head = RidgeHead("loo", alphas=ALPHAS.tolist()).fit(rows, material.y)
    return Chosen(head.alpha_, head.predict(new))


def usual(material: Material) -> Chosen:
    """The same by scikit-learn."""
    from sklearn.linear_model import RidgeClassifierCV

    rows, new = material.standardised
    head = RidgeClassifierCV(ALPHAS).fit(rows, material.y)
    return Chosen(float(head.alpha_), head.predict(new))


def check(material: Material, ours: Chosen, usual: Chosen) -> Check:
    """The same strength, and the same answers."""
    differ = int((ours.predicted != usual.predicted).sum())
    same_alpha = bool(np.isclose(ours.alpha, usual.alpha))
    told = (
        f"both choose alpha {ours.alpha:.3g}"
        if same_alpha
        else f"alpha {ours.alpha:.3g} against {usual.alpha:.3g}"
    )
    told += f"; {differ} of {len(ours.predicted)} answers differ"
    return Check(same_alpha and differ == 0, told)
