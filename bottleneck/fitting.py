"""`fit`: cached features in, a probe with an honest score out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache.features import Features
from .cache.features import open as open_features
from .cache.joining import join
from .errors import ProbeError
from .probe import Probe
from .recipe import RANDOM_NOTE, is_random
from .report.terminal import TerminalReporter
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    from .evaluate.protocol import Result


def fit(
    features: Any,
    *,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "accuracy",
    select: str = "one-se",
    refit_all: bool = False,
    quiet: bool = False,
) -> Probe:
    """Choose a head's hyper-parameters, score it honestly, and keep the fitted probe.

    Rows of the split ``test`` score if there are any, else those of ``val``; all others train. Without
    splits the score comes from nested, stratified cross-validation, and the kept probe is fitted on
    all rows.

    Parameters
    ----------
    features : Features, path, or a list of these
        Several of one recipe are joined, equal (path, key) once. Of a file with several layers the
        first one counts; ``FILE.h5::ID`` takes another.
    head : str, default ``"logistic"``
        ``logistic``, ``svm`` (linear), ``svm-rbf`` or ``mlp``.
    head_options : dict, optional
        Parameters of the head to fix: ``{"C": 1.0}``.
    output : path, optional
        Where to keep the probe; by default it is only returned.
    force : bool, default False
        Write over an existing `output`.
    folds : int, default 5
    repeats : int, optional
        Of the cross-validation; default 10 below 100 images, 2 below 1,000, else 1, and 1 for
        ``svm-rbf`` and ``mlp``.
    seed : int, default 0
        Same features, seed and threads, same probe, byte for byte.
    holdout : float, optional
        Share of a test set that is taken by hash of the image's bytes, so that an image never
        changes sides when data is added.
    metric : str, default ``"accuracy"``
        What the choice goes by: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
    select : {"one-se", "best"}
        The most regularised setting within one standard error of the best one, or the best.
    refit_all : bool, default False
        With a test set: keep a fit on all rows; the score then belongs to another fit.
    quiet : bool, default False
        Show warnings only.

    Returns
    -------
    Probe

    Raises
    ------
    FitError
        If no honest score can be computed from these labels.
    RecipeError
        If the files hold features of different recipes.
    ProbeError
        If `output` exists and `force` is not given.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> X = [[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]] * 5
    >>> own = bp.Features.from_arrays([[a + i, b] for i, (a, b) in enumerate(X)], ["a", "a", "b", "b"] * 5)
    >>> bp.fit(own, quiet=True).protocol
    'nested-5x10'
    """
    probe, _ = run(
        features,
        reporter=TerminalReporter(quiet=quiet),
        output=output,
        force=force,
        seed=seed,
        head=head,
        head_options=head_options,
        folds=folds,
        repeats=repeats,
        holdout=holdout,
        metric=metric,
        select=select,
        refit_all=refit_all,
    )
    return probe


def run(
    features: Any,
    *,
    reporter: Reporter,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    seed: int = 0,
    head: str = "logistic",
    **options: Any,
) -> tuple[Probe, Result]:
    """`fit` with everything that the evaluation found."""
    from .evaluate.protocol import evaluate

    if output is not None:
        require_free(Path(output), force)  # before the work, not after it
    given = load_features(features, reporter)
    # One output makes a probe: what else lies in the file does not belong to it.
    given = given.output(given.outputs[0])
    with reporter.progress(f"fit {head}", 1) as bar:
        result = evaluate(
            given.features[:],
            given.y,
            classes=given.classes,
            splits=given.splits,
            keys=given.keys,
            views=given.views_per_image,
            head=head,
            seed=seed,
            progress=Steps(bar, 1).of(0),
            **options,
        )
    if is_random(given.recipe):
        # Kept in the probe and shown with every score: it says nothing about the trained network.
        result.notes.insert(0, RANDOM_NOTE)
    for note in result.notes:
        reporter.note(note)
    probe = Probe.from_result(result, given, seed=seed)
    if output is not None:
        probe.save(output)
    return probe, result


def load_features(features: Any, reporter: Reporter | None = None) -> Features:
    """Features, a file of features (``FILE.h5::ID`` for one layer), or several of one recipe joined."""
    many: Sequence[Any] = features if isinstance(features, list | tuple) else [features]
    opened = [each if isinstance(each, Features) else open_features(each) for each in many]
    return opened[0] if len(opened) == 1 else join(opened, reporter)


def require_free(output: Path, force: bool) -> None:
    """Raise a ProbeError if a probe would be lost."""
    if output.exists() and not force:
        raise ProbeError(
            f"{output} exists",
            expected="a new name",
            where="-o",
            next="give another -o, or --force to write over it",
        )
