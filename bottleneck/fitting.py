"""`fit`: cached features in, a probe with an honest score out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache.features import Features
from .cache.features import open as open_features
from .cache.joining import join
from .classification import Classification
from .doubt import keep_doubt
from .errors import ProbeError
from .from_disk import FromDisk
from .memory import memory_limit, needed_bytes, require_memory
from .probe import Probe, is_probe, load
from .recipe import RANDOM_NOTE, is_random
from .report.terminal import TerminalReporter
from .reporter import Reporter
from .retraining import compare_with_old, require_table

if TYPE_CHECKING:
    from .evaluate.result import Result
    from .evaluate.target_protocol import TargetResult


def fit(
    features: Any,
    *,
    head: str = "logistic",
    task: str = "auto",
    head_options: Mapping[str, Any] | None = None,
    search: bool = False,
    class_weight: str = "none",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    holdout: float | None = None,
    groups: Any = None,
    metric: str = "accuracy",
    select: str = "one-se",
    refit_all: bool = False,
    sanity: bool = False,
    device: str = "auto",
    preset: str | None = None,
    max_memory: float | None = None,
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
        A name of `bottleneck_probe.heads.HEADS`, or ``all``: every head on the same folds, and the simplest
        one that is not shown to be worse is kept.
    task : {"auto", "classification", "multilabel", "regression"}
        What the labels are: ``auto`` is what the features say. Several labels for each image and numbers
        have one head each, which `head` need not name; see ``docs/many-labels.md``.
    head_options : dict, optional
        Parameters of the head to fix: ``{"C": 1.0}``.
    search : bool, default False
        Choose among several settings of the MLP too, instead of one.
    class_weight : {"none", "balanced", "search"}
        ``balanced`` weighs each class by n / (k n_class); ``search`` lets the inner folds decide.
    output : path, optional
        Where to keep the probe; by default it is only returned.
    force : bool, default False
        Write over an existing `output`.
    folds : int, default 5
    repeats : int, optional
        Of the cross-validation; default 10 below 100 images, 2 below 1,000, else 1, and 1 for
        ``svm-rbf`` and ``mlp``; with ``all`` 4, 2 and 1.
    seed : int, default 0
        Same features, seed and threads, same probe, byte for byte.
    holdout : float, optional
        Share of a test set that is taken by hash of the image's bytes, so that an image never
        changes sides when data is added.
    groups : str or sequence of n, optional
        Images of one group never stand on both sides: a metadata column, ``folder``, a regular expression
        on the path, or a group for each row.
    metric : str, default ``"accuracy"``
        What the choice goes by: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auroc``,
        ``average_precision`` or ``log_loss``.
    select : {"one-se", "best"}
        The most regularised setting within one standard error of the best one, or the best.
    refit_all : bool, default False
        With a test set: keep a fit on all rows; the score then belongs to another fit.
    sanity : bool, default False
        Score shuffled labels as well: their interval must hold chance.
    device : str, default ``"auto"``
        Where the heads are fitted: ``auto``, ``cpu`` or ``cuda``. ``auto`` takes the CPU for small sets.
    preset : str, optional
        A published protocol: ``dinov2``, ``clip``, ``knn-dino``, ``coop``, ``vissl-svm``, ``fair-lowshot`` or
        ``vtab1k``. It decides head, scaling, choice and split; `holdout`, `metric` and `seed` go with it.
    max_memory : float, optional
        GB that a fit may take, about; by default half of the machine's memory. Where four times the
        features are more, ``logistic`` is trained from disk and scored on one test set; other heads and
        presets are refused. See ``docs/millions-of-images.md``.
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
        task=task,
        head_options=head_options,
        search=search,
        class_weight=class_weight,
        folds=folds,
        repeats=repeats,
        holdout=holdout,
        groups=groups,
        metric=metric,
        select=select,
        refit_all=refit_all,
        sanity=sanity,
        device=device,
        preset=preset,
        max_memory=max_memory,
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
    task: str = "auto",
    sanity: bool = False,
    preset: str | None = None,
    against: str | os.PathLike[str] | Probe | None = None,
    flips: str | os.PathLike[str] | None = None,
    max_memory: float | None = None,
    **options: Any,
) -> tuple[Probe, Result | TargetResult]:
    """`fit` with everything that the evaluation found.

    Parameters
    ----------
    against : path or Probe, optional
        An old probe: ``result.extra["against"]`` says how the new one stands to it.
    flips : path, optional
        Where to list the images that only one of the two answers right, as CSV.
    features, reporter, output, force, seed, head, task, sanity, preset, max_memory, **options
        See `fit`.
    """
    if output is not None:
        require_free(Path(output), force)  # before the work, not after it
    if flips is not None:
        require_table(Path(flips), force)
    old = against if isinstance(against, Probe | None) else load(against)
    given = load_features(features, reporter)
    # One output makes a probe: what else lies in the file does not belong to it.
    given = given.output(given.outputs[0]).with_task(task)
    limit = memory_limit(max_memory)
    if given.task != "classification" or preset is not None:
        what = f"--preset {preset}" if preset is not None else f"--task {given.task}"
        require_memory(given, limit, what)
    if given.task != "classification":
        from .target_fitting import probe_of, run_targets

        options |= {"sanity": sanity, "against": against, "flips": flips}
        if preset is not None and given.task == "multilabel":
            from .presets.fit import fit_label_preset

            found = fit_label_preset(preset, given, reporter, seed=seed, head=head, **options)
            for note in found.notes:
                reporter.note(note)
            probe = probe_of(found, given, seed=seed)
        else:
            options["preset"] = preset
            probe, found = run_targets(given, reporter=reporter, seed=seed, head=head, **options)
        if output is not None:
            probe.save(output)
        return probe, found
    if preset is not None:
        from .presets.fit import fit_preset

        result = fit_preset(preset, given, reporter, seed=seed, head=head, sanity=sanity, **options)
    else:
        rows: Classification | FromDisk
        if needed_bytes(given) <= limit:
            rows = Classification(given, seed=seed, **options)
        else:
            rows = FromDisk(given, limit=limit, seed=seed, **options)
        result = rows.evaluate(head, reporter)
        if sanity:
            result.extra["sanity"] = rows.control(head, reporter)
    streamed = "streamed" in result.extra  # else the same probe whatever the machine's memory
    keep_doubt(result, given, options.get("groups"), seed=seed, limit=limit if streamed else None)
    if is_random(given.recipe):
        # Kept in the probe and shown with every score: it says nothing about the trained network.
        result.notes.insert(0, RANDOM_NOTE)
    if old is not None:
        name = "the old probe" if isinstance(against, Probe) else Path(str(against)).name
        compared = compare_with_old(result, given, old, name)
        result.extra["against"] = compared.to_dict()
        result.notes.extend(compared.notes)
        if flips is not None:
            compared.to_csv(flips)
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
    """Raise a ProbeError if a probe would be lost, or anything that is no probe: that is never replaced."""
    if output.exists() and not is_probe(output):
        raise ProbeError(
            f"{output} exists and is no probe",
            expected="a new name, or a probe to write over",
            where="-o",
            next="give another -o",
        )
    if output.exists() and not force:
        raise ProbeError(
            f"{output} exists",
            expected="a new name",
            where="-o",
            next="give another -o, or --force to write over it",
        )
