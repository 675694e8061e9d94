"""`fit --preset`: features and what else was asked for in, the protocol's result out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import FitError

if TYPE_CHECKING:
    from ..cache.features import Features
    from ..evaluate.result import Result
    from ..evaluate.target_protocol import TargetResult
    from ..reporter import Reporter

# What a protocol leaves open.
_OPEN = ("holdout", "metric")


def fit_preset(
    name: str,
    features: Features,
    reporter: Reporter,
    *,
    seed: int = 0,
    head: str = "logistic",
    **options: Any,
) -> Result:
    """Score features by a published protocol, and show how far it is.

    Parameters
    ----------
    name : str
        One of `recipes.NAMES`.
    features : Features
        One output.
    reporter : Reporter
    seed : int
    head : str
        Not the protocol's own is an error; the default of `fit` is none.
    **options
        Those of `fit`; what the protocol decides by itself must be left at its default.

    Returns
    -------
    Result

    Raises
    ------
    FitError
        If an option contradicts the protocol, or it cannot be run on these rows.
    """
    from .run import run_preset

    refuse_other_options(name, {"head": head, **options})
    open_options = {o: options[o] for o in _OPEN if options.get(o) is not None}
    with reporter.progress(f"fit --preset {name}", 1) as bar:
        return run_preset(
            name, features, seed=seed, expect=bar.resize, tick=bar.advance, **open_options
        )


def fit_label_preset(
    name: str,
    features: Features,
    reporter: Reporter,
    *,
    seed: int = 0,
    head: str = "logistic",
    **options: Any,
) -> TargetResult:
    """The same where an image has several labels. See `fit_preset`; only ``vissl-svm`` is for these.

    Raises
    ------
    FitError
    """
    from .labels import run_label_preset

    refuse_other_options(name, {"head": head, **options})
    with reporter.progress(f"fit --preset {name}", 1) as bar:
        return run_label_preset(
            name,
            features,
            holdout=options.get("holdout"),
            seed=seed,
            expect=bar.resize,
            tick=bar.advance,
        )


def refuse_other_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise a FitError for options that a protocol decides by itself."""
    import inspect

    from ..fitting import fit

    defaults = {p.name: p.default for p in inspect.signature(fit).parameters.values()}
    stated = [
        option
        for option, value in options.items()
        if option not in _OPEN and value != defaults.get(option) and value is not None
    ]
    if stated:
        spelled = ", ".join(f"--{option.replace('_', '-')}" for option in stated)
        raise FitError(
            f"--preset {name} decides {spelled} by itself",
            expected="--holdout, --metric and --seed at most",
            where="--preset",
            next=f"leave out {spelled}, or --preset",
        )
