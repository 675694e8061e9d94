"""The heads by name. A new head is one short file and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ..errors import FitError
from .logistic import LogisticHead
from .losses import Multinomial, SquaredHinge
from .mlp import MLPHead
from .options import check_option
from .svm import LinearSVMHead, RBFSVMHead, sweep_rbf
from .sweep import Job, Settings, sweep_each, sweep_linear


@dataclass(frozen=True)
class HeadSpec:
    """How a head is made and chosen.

    Attributes
    ----------
    name, summary : str
        As ``--head`` takes it, and one line on it.
    factory : callable
        The estimator's class.
    grid : tuple of dict
        Settings to choose from, from the most to the least regularised.
    fallback : int
        Which of them is taken where there is too little data to choose.
    kept : dict
        Options of the fits that are scored or kept, and that would slow the choice for nothing.
    repeats : bool
        Whether small data gets repeated cross-validation by default; too slow for some heads.
    batched : callable or None
        Scores a whole grid at once; None: one fit after the other.
    seeded : bool
        Whether the head takes a `random_state`.
    """

    name: str
    summary: str
    factory: Callable[..., BaseEstimator]
    grid: tuple[dict[str, Any], ...]
    fallback: int = 0
    kept: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True
    batched: Callable[..., list[np.ndarray]] | None = None
    seeded: bool = False

    def make(
        self,
        setting: Mapping[str, Any],
        options: Mapping[str, Any],
        seed: int,
        *,
        keep: bool = True,
    ) -> BaseEstimator:
        """An unfitted head; `keep` is false where it only takes part in the choice."""
        seeded = {"random_state": seed} if self.seeded else {}
        return self.factory(**{**seeded, **(self.kept if keep else {}), **options, **setting})

    def sweep(
        self,
        X: np.ndarray,
        y: np.ndarray,
        jobs: Sequence[Job],
        grid: Settings,
        options: Mapping[str, Any],
        seed: int,
        tick: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        """Predictions (len(grid), n_test) for each job; see `sweep.sweep_linear`."""
        if self.batched is not None and not options:
            return self.batched(X, y, jobs, grid, tick=tick)

        return sweep_each(
            lambda setting: self.make(setting, options, seed, keep=False),
            X,
            y,
            jobs,
            grid,
            tick=tick,
        )


# C of linear heads on standardised features. Below 1e-6 all answers are the majority class.
_DECADES = tuple({"C": float(f"1e{exponent}")} for exponent in range(-6, 6))

HEADS: dict[str, HeadSpec] = {
    spec.name: spec
    for spec in (
        HeadSpec(
            "logistic",
            "multinomial logistic regression, L2 penalty (the default)",
            LogisticHead,
            _DECADES,
            fallback=3,
            batched=partial(sweep_linear, Multinomial()),
        ),
        HeadSpec(
            "svm",
            "linear SVM, squared hinge, one class against the rest",
            LinearSVMHead,
            _DECADES[:9],
            fallback=3,
            kept={"probability": True},
            batched=partial(sweep_linear, SquaredHinge()),
            seeded=True,
        ),
        HeadSpec(
            "svm-rbf",
            "SVM with an RBF kernel; slow above some thousand images",
            RBFSVMHead,
            tuple({"C": float(f"1e{exponent}")} for exponent in range(-2, 4)),
            fallback=2,
            kept={"probability": True},
            repeats=False,
            batched=sweep_rbf,
            seeded=True,
        ),
        HeadSpec(
            "mlp",
            "Dense(128, relu), Dropout(0.5), softmax; early stopping",
            MLPHead,
            ({},),
            repeats=False,
            seeded=True,
        ),
    )
}


def get_head(name: str) -> HeadSpec:
    """Look a head up.

    Raises
    ------
    FitError
        If there is none of this name; it names the nearest.
    """
    if isinstance(name, str) and name in HEADS:
        return HEADS[name]
    near = difflib.get_close_matches(str(name), HEADS, n=1, cutoff=0.5)
    raise FitError(
        f"there is no head {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        expected=", ".join(HEADS),
    )


def resolve_options(
    spec: HeadSpec, options: Mapping[str, Any]
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """Fixed options out of the grid: what is left to choose, and what is given.

    Parameters
    ----------
    spec : HeadSpec
    options : mapping
        Parameters of the head's estimator.

    Returns
    -------
    grid : tuple of dict
        Settings that still differ, at least one.
    options : dict
        The others.

    Raises
    ------
    FitError
        If the head has no such parameter, or cannot work with its value.
    """
    if not isinstance(options, Mapping):
        raise FitError(
            f"the options of the head {spec.name} are {options!r}",
            expected='a mapping from names to values, as {"C": 1.0}',
        )
    known = sorted(set(spec.factory().get_params()) - {"random_state"})
    for name in options:
        if name not in known:
            same = [other for other in known if other.lower() == str(name).lower()]
            near = same or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            raise FitError(
                f"the head {spec.name} has no option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=", ".join(known),
            )
    options = {name: check_option(spec.name, name, value) for name, value in options.items()}
    for name, value in spec.kept.items():
        if options.get(name, value) != value:
            raise FitError(
                f"{name} of the head {spec.name} is {options[name]!r}",
                expected=f"{value!r}: a probe gives probabilities",
            )
    grid: list[dict[str, Any]] = []
    for setting in spec.grid:
        fixed = {name: options.get(name, value) for name, value in setting.items()}
        if fixed not in grid:
            grid.append(fixed)
    chosen = {name for setting in spec.grid for name in setting}
    return tuple(grid), {name: v for name, v in options.items() if name not in chosen}
