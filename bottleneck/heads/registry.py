"""The heads by name. A new head is one short file and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ..errors import FitError
from .logistic import LogisticHead
from .losses import Multinomial
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
    fixed : dict
        Options that are no choice.
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
    fixed: Mapping[str, Any] = None  # type: ignore[assignment]
    repeats: bool = True
    batched: Callable[..., list[np.ndarray]] | None = None
    seeded: bool = False

    def make(self, setting: Mapping[str, Any], options: Mapping[str, Any], seed: int) -> BaseEstimator:
        """An unfitted head."""
        seeded = {"random_state": seed} if self.seeded else {}
        return self.factory(**{**seeded, **(self.fixed or {}), **options, **setting})

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
        return sweep_each(lambda s: self.make(s, options, seed), X, y, jobs, grid, tick=tick)


def _logistic(*args: Any, **kwargs: Any) -> list[np.ndarray]:
    return sweep_linear(Multinomial(), *args, **kwargs)


_DECADES = tuple({"C": float(f"1e{e}")} for e in range(-6, 6))

HEADS: dict[str, HeadSpec] = {
    spec.name: spec
    for spec in (
        HeadSpec(
            "logistic",
            "multinomial logistic regression, L2 penalty (the default)",
            LogisticHead,
            _DECADES,
            fallback=3,
            batched=_logistic,
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
    if name in HEADS:
        return HEADS[name]
    near = difflib.get_close_matches(name, HEADS, n=1, cutoff=0.5)
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
        If the head has no such parameter.
    """
    known = sorted(set(spec.factory().get_params()) - {"random_state"})
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise FitError(
                f"the head {spec.name} has no option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=", ".join(known),
            )
    grid: list[dict[str, Any]] = []
    for setting in spec.grid:
        fixed = {name: options.get(name, value) for name, value in setting.items()}
        if fixed not in grid:
            grid.append(fixed)
    chosen = {name for setting in spec.grid for name in setting}
    return tuple(grid), {name: v for name, v in options.items() if name not in chosen}
