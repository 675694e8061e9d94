"""The heads by name. A new head is one short file and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ..errors import FitError
from .hinge_sweep import sweep_hinge
from .knn import KNNHead, sweep_knn
from .logistic import LogisticHead
from .losses import Multinomial
from .mlp import MLPHead, sweep_mlp
from .ncm import NCMHead, sweep_ncm
from .options import check_option
from .ridge import RidgeHead, sweep_ridge
from .svm import LinearSVMHead, RBFSVMHead, sweep_rbf
from .sweep import Job, Settings, sweep_each, sweep_linear

Sweep = Callable[..., Iterator[np.ndarray]]
CLASS_WEIGHTS = ("none", "balanced", "search")


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
    search : tuple of dict
        A larger grid, for ``--search``; empty where the usual one is all there is.
    simplicity : int
        Place among the heads, the simplest first: of heads that score alike the first one is taken.
    repeats : bool
        Whether small data gets repeated cross-validation by default; too slow for some heads.
    batched : callable or None
        Scores a whole grid in all jobs; None: one fit after the other. See `sweep.sweep_linear`.
    outer : bool
        Whether the outer folds are scored by the sweep as well, which trains all of them together; else
        each is fitted by itself, to the tolerance of the head that is kept.
    seeded : bool
        Whether the head takes a `random_state`.
    scaling : str
        Of the features; see `scaling.SCALINGS`. One standard deviation for all: by its own, a feature that
        is nearly constant in a few training rows becomes huge on a new image. On features of Lite0 that
        cost 1 to 3 points of accuracy with 100 images (ants-bees, textiles), 8 with ten classes.
    """

    name: str
    summary: str
    factory: Callable[..., BaseEstimator]
    grid: tuple[dict[str, Any], ...]
    fallback: int = 0
    search: tuple[dict[str, Any], ...] = ()
    simplicity: int = 0
    repeats: bool = True
    batched: Sweep | None = None
    outer: bool = False
    seeded: bool = False
    scaling: str = "scalar"

    def make(
        self, setting: Mapping[str, Any], options: Mapping[str, Any], seed: int
    ) -> BaseEstimator:
        """An unfitted head."""
        seeded = {"random_state": seed} if self.seeded else {}
        return self.factory(**{**seeded, **options, **setting})

    def sweep(
        self,
        X: np.ndarray,
        y: np.ndarray,
        jobs: Sequence[Job],
        grid: Settings,
        options: Mapping[str, Any],
        seed: int,
        *,
        n_classes: int,
        scaling: str,
        device: str = "cpu",
        tick: Callable[[], None] = lambda: None,
    ) -> Iterator[np.ndarray]:
        """Decision scores (len(grid), n_test, n_classes) for each job; see `sweep.sweep_linear`."""
        shared: dict[str, Any] = {"n_classes": n_classes, "scaling": scaling, "tick": tick}
        if self.batched is not None:
            return self.batched(
                X, y, jobs, grid, options=options, seed=seed, device=device, **shared
            )
        return sweep_each(
            lambda setting: self.make(setting, options, seed), X, y, jobs, grid, **shared
        )


# The grid of the linear probes of Kornblith et al., CVPR 2019, and of DINOv2's evaluation.
_GRID = tuple({"C": float(C)} for C in 10.0 ** np.linspace(-6, 5, 45))
_DECADES = tuple({"C": float(f"1e{exponent}")} for exponent in range(-6, 3))

# Of an RBF kernel, smooth ones first. A gamma above `scale` leaves nothing near in 1,000 dimensions.
_RBF = tuple(
    {"C": float(f"1e{exponent}"), "gamma_factor": factor}
    for exponent in range(-2, 4)
    for factor in (0.1, 0.3, 1.0)
)
# Standardised features have rows of squared length d, about 1,000; rows of length 1 use the lower end.
_RIDGE = tuple({"alpha": float(alpha)} for alpha in 10.0 ** np.linspace(7, -2, 19))
# DINO's evaluation has 10, 20, 100 and 200; the small ones are for small sets.
_NEIGHBOURS = tuple({"k": k} for k in (200, 100, 50, 20, 10, 5, 3, 1))
_MEANS = (
    {"metric": "euclidean", "shrink_threshold": 2.0},
    {"metric": "euclidean", "shrink_threshold": 1.0},
    {"metric": "euclidean", "shrink_threshold": 0.0},
    {"metric": "cosine", "shrink_threshold": 0.0},
)

# Dropout and Adam's rate; the third is the usual setting.
_NETWORKS = tuple(
    {"dropout": dropout, "learning_rate": rate} for dropout in (0.8, 0.5) for rate in (1e-3, 3e-4)
)

HEADS: dict[str, HeadSpec] = {
    spec.name: spec
    for spec in (
        HeadSpec(
            "logistic",
            "multinomial logistic regression, L2 penalty (the default)",
            LogisticHead,
            _GRID,
            fallback=12,
            simplicity=2,
            batched=partial(sweep_linear, Multinomial()),
        ),
        HeadSpec(
            "svm",
            "linear SVM, squared hinge, one class against the rest",
            LinearSVMHead,
            _DECADES,
            fallback=3,
            simplicity=4,
            batched=sweep_hinge,
        ),
        HeadSpec(
            "svm-rbf",
            "SVM with an RBF kernel; slow above some thousand images",
            RBFSVMHead,
            _RBF,
            fallback=7,
            simplicity=5,
            repeats=False,
            batched=sweep_rbf,
            outer=True,
        ),
        HeadSpec(
            "ridge",
            "ridge regression on targets of -1 and +1, solved in closed form",
            RidgeHead,
            _RIDGE,
            fallback=6,
            simplicity=1,
            batched=sweep_ridge,
            outer=True,
        ),
        HeadSpec(
            "knn",
            "nearest neighbours by cosine, with DINO's vote",
            KNNHead,
            _NEIGHBOURS,
            fallback=5,
            simplicity=3,
            batched=sweep_knn,
            outer=True,
        ),
        HeadSpec(
            "ncm",
            "nearest class mean",
            NCMHead,
            _MEANS,
            fallback=3,
            batched=sweep_ncm,
            outer=True,
        ),
        HeadSpec(
            "mlp",
            "Dense(128, relu), Dropout(0.5), softmax; early stopping",
            MLPHead,
            ({},),
            search=_NETWORKS,
            simplicity=6,
            repeats=False,
            batched=sweep_mlp,
            outer=True,
            seeded=True,
        ),
    )
}


def head_classes() -> dict[str, Any]:
    """Classes of the heads that a probe may hold, by name."""
    return {spec.factory.__name__: spec.factory for spec in HEADS.values()}


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


def can_weigh(name: str) -> bool:
    """Whether a head takes class weights."""
    return "class_weight" in HEADS[name].factory().get_params()


def resolve_options(
    spec: HeadSpec,
    options: Mapping[str, Any],
    grid: Settings | None = None,
    class_weight: str = "none",
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """Fixed options out of the grid: what is left to choose, and what is given.

    Parameters
    ----------
    spec : HeadSpec
    options : mapping
        Parameters of the head's estimator.
    grid : sequence of mapping, optional
        Settings to choose from instead of the head's own.
    class_weight : {"none", "balanced", "search"}
        ``balanced`` weighs each class by n / (k n_class), ``search`` adds both to the grid.

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
    given = [dict(setting) for setting in (spec.grid if grid is None else grid)]
    if not given:
        raise FitError(f"the grid of the head {spec.name} is empty", expected="a setting or more")
    for name in {name: None for each in (options, *given) for name in each}:
        if name not in known:
            same = [other for other in known if other.lower() == str(name).lower()]
            near = same or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            raise FitError(
                f"the head {spec.name} has no option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=", ".join(known),
            )
    options = {name: check_option(spec.name, name, value) for name, value in options.items()}
    settings: list[dict[str, Any]] = []
    for setting in given:
        fixed = {
            name: options.get(name, check_option(spec.name, name, value))
            for name, value in setting.items()
        }
        if fixed not in settings:
            settings.append(fixed)
    if class_weight not in CLASS_WEIGHTS:
        raise FitError(f"--class-weight is {class_weight!r}", expected=", ".join(CLASS_WEIGHTS))
    if class_weight != "none":
        if not can_weigh(spec.name):
            able = [name for name in HEADS if can_weigh(name)]
            raise FitError(
                f"the head {spec.name} cannot weigh classes", expected=f"one of {', '.join(able)}"
            )
        choices = ("balanced",) if class_weight == "balanced" else (None, "balanced")
        settings = [{**setting, "class_weight": w} for setting in settings for w in choices]
    chosen = {name for setting in settings for name in setting}
    return tuple(settings), {name: v for name, v in options.items() if name not in chosen}
