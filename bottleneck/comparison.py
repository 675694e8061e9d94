"""`compare`: several feature sets of the same images in; scores, paired differences and advice out."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import extras
from .alignment import Alignment, FeatureSet, align, open_sets
from .errors import FitError
from .groups import share_groups
from .memory import memory_limit, require_memory
from .recipe import is_random
from .report.terminal import TerminalReporter
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    import pandas as pd

    from .evaluate.compare import Difference, Recommendation
    from .evaluate.result import Result


@dataclass(frozen=True)
class ComparedSet:
    """One output of one backbone, and how the head scores on it.

    Attributes
    ----------
    name : str
        Backbone and layer, and the file where these do not tell it from the others.
    file : str or None
        None for features in memory; several of one recipe with commas between.
    layer : str
        ``node:pooling``.
    backbone : str or None
    feature_size : int
        d.
    images_per_second : float or None
        Of the extraction, as far as the file says.
    random_weights : bool
        The network was never trained.
    metrics, baseline : dict of str to dict
        See `Probe.metrics`: those that `fit` finds for the same rows, seed and options.
    params : dict
        The hyper-parameters that were chosen.
    protocol : str
    """

    name: str
    file: str | None
    layer: str
    backbone: str | None
    feature_size: int
    images_per_second: float | None
    random_weights: bool
    metrics: dict[str, dict[str, Any]]
    baseline: dict[str, dict[str, Any]]
    params: dict[str, Any]
    protocol: str


@dataclass(frozen=True)
class Comparison:
    """Which backbone, which layer: what `compare` found.

    Attributes
    ----------
    sets : list of ComparedSet
        In the order given.
    differences : list of Difference
        Between all pairs of `sets`, by position.
    recommendation : Recommendation
        What to take, by position in `sets`.
    reason : str
        The same in a sentence or two.
    head, metric : str
    n : int
        Images that scored.
    notes : list of str
    seconds : float
    """

    sets: list[ComparedSet]
    differences: list[Difference]
    recommendation: Recommendation
    reason: str
    head: str
    metric: str
    n: int
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def recommended(self) -> str:
        """The name of the set to take."""
        return self.sets[self.recommendation.take].name

    @property
    def protocol(self) -> str:
        """``holdout``, or ``nested-<outer folds>x<repeats>``; the same for all sets."""
        return self.sets[0].protocol

    def order(self) -> list[int]:
        """Positions of the sets, from the highest score to the lowest."""
        scores = [each.metrics[self.metric]["value"] for each in self.sets]
        return sorted(range(len(scores)), key=lambda i: -scores[i])

    def to_recommended(self, i: int) -> Difference | None:
        """The difference between set `i` and the recommended one; None if it is the same."""
        pair = {i, self.recommendation.take}
        return next((each for each in self.differences if {each.a, each.b} == pair), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; `comparisons` name the sets, and a difference is of a's score less b's."""
        return {
            "head": self.head,
            "metric": self.metric,
            "protocol": self.protocol,
            "sets": [asdict(each) for each in self.sets],
            "comparisons": [
                {
                    "a": self.sets[each.a].name,
                    "b": self.sets[each.b].name,
                    "difference": dict(each.difference),
                    "p": each.p,
                    "p_adjusted": each.p_adjusted,
                    "test": each.test,
                }
                for each in self.differences
            ],
            "recommended": self.recommended,
            "reason": self.reason,
            "n": self.n,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each set, best first; ``difference`` is to the recommended one.

        Needs the extra ``pandas``.
        """
        pandas = extras.require("pandas", purpose="Comparison.to_pandas")
        rows = []
        for i in self.order():
            each, against = self.sets[i], self.to_recommended(i)
            difference: Mapping[str, Any] = against.of(i) if against else {"value": 0.0}
            score = each.metrics[self.metric]
            rows.append(
                {
                    "set": each.name,
                    "file": each.file,
                    "backbone": each.backbone,
                    "layer": each.layer,
                    "feature_size": each.feature_size,
                    "images_per_second": each.images_per_second,
                    "random_weights": each.random_weights,
                    self.metric: score["value"],
                    "low": score["low"],
                    "high": score["high"],
                    "difference": difference["value"],
                    "difference_low": difference.get("low"),
                    "difference_high": difference.get("high"),
                    "p_adjusted": against.p_adjusted if against else None,
                    "recommended": against is None,
                }
            )
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.sets)} sets, {self.metric}: {self.reason}>"

    def _repr_html_(self) -> str:
        from .report.comparison import columns, rows

        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns(self))
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
            for row in rows(self)
        )
        return f"<p><b>{html.escape(self.reason)}</b></p><table><tr>{head}</tr>{body}</table>"


def compare(
    features: Sequence[Any],
    *,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    holdout: float | None = None,
    groups: Any = None,
    metric: str = "accuracy",
    select: str = "one-se",
    max_memory: float | None = None,
    quiet: bool = False,
) -> Comparison:
    """Score the same head on several feature sets, on the same images in the same folds.

    Images are matched by the hash of their bytes; those that are not in all sets are left out. Every
    set's score is the one that `fit` finds for these rows. All pairs are tested, and their p-values
    corrected together (Holm).

    Parameters
    ----------
    features : list of Features or paths
        A file or `Features` stands for all of its outputs, ``FILE.h5::LAYER`` for one. Those of one
        recipe and layer are joined.
    head, head_options, folds, repeats, seed, holdout, select
        As for `fit`.
    groups : str or sequence of n, optional
        As for `fit`, of the first of the sets; n are its rows.
    metric : str, default ``"accuracy"``
        What is compared, and what the choice of hyper-parameters goes by: ``accuracy``,
        ``balanced_accuracy`` or ``macro_f1``.
    max_memory : float, optional
        GB that it may take, about; by default half of the machine's memory. A set that needs more is an
        error.
    quiet : bool, default False
        Show warnings only.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there is only one set, no image is in all of them, or their labels contradict each other.
    FitError
        If no honest score can be computed from these labels.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> X = [[i % 2 + 0.01 * i, i % 3, 1.0] for i in range(30)]
    >>> labels = ["even", "odd"] * 15
    >>> good = bp.Features.from_arrays(X, labels, recipe={"backbone": "good"})
    >>> poor = bp.Features.from_arrays([row[1:] for row in X], labels, recipe={"backbone": "poor"})
    >>> bp.compare([good, poor], repeats=1, quiet=True).recommended
    'good'
    """
    return run(
        features,
        reporter=TerminalReporter(quiet=quiet),
        head=head,
        head_options=head_options,
        folds=folds,
        repeats=repeats,
        seed=seed,
        holdout=holdout,
        groups=groups,
        metric=metric,
        select=select,
        max_memory=max_memory,
    )


def run(
    features: Sequence[Any],
    *,
    reporter: Reporter,
    head: str = "logistic",
    metric: str = "accuracy",
    groups: Any = None,
    max_memory: float | None = None,
    **options: Any,
) -> Comparison:
    """`compare`, telling `reporter` what it finds."""
    from .evaluate.compare import compare as compare_results
    from .evaluate.compare import recommend
    from .evaluate.metrics import ANSWERS
    from .report.comparison import explain

    started = time.monotonic()
    if metric not in ANSWERS:
        raise FitError(
            f"--metric is {metric!r}",
            expected=f"what paired tests of answers can judge: {', '.join(ANSWERS)}",
        )
    sets = open_sets(features, reporter)
    limit = memory_limit(max_memory)
    for each in sets:
        require_memory(each.features, limit, "compare", each.name)
    aligned = align([each.features for each in sets], [each.name for each in sets])
    shared = share_groups([each.features for each in sets], aligned, groups)
    with reporter.progress(f"compare {head}", 1) as bar:
        step = Steps(bar, len(sets))
        results = [
            _evaluate(
                sets[i],
                aligned,
                i,
                step,
                keys=shared.keys,
                groups=shared.groups,
                head=head,
                metric=metric,
                **options,
            )
            for i in range(len(sets))
        ]
    notes = [*aligned.notes, *shared.notes, *_notes(results, sets)]
    for note in notes:
        reporter.note(note)
    compared = [_describe(each, result) for each, result in zip(sets, results, strict=True)]
    differences = compare_results(results, metric=metric)
    found = recommend(
        [each.metrics[metric]["value"] for each in compared],
        differences,
        # A network that was never trained is no advice, however small it is.
        [(c.random_weights, c.feature_size, -(c.images_per_second or 0)) for c in compared],
    )
    return Comparison(
        sets=compared,
        differences=differences,
        recommendation=found,
        reason=explain(compared, differences, found, metric, results[0].n_test),
        head=head,
        metric=metric,
        n=results[0].n_test,
        notes=notes,
        seconds=time.monotonic() - started,
    )


def _evaluate(
    each: FeatureSet, aligned: Alignment, number: int, step: Steps, **options: Any
) -> Result:
    from .evaluate.protocol import evaluate

    rows, X = aligned.rows[number], each.features.features
    whole = np.array_equal(rows, np.arange(len(X)))
    try:
        return evaluate(
            X[:] if whole else X[rows],
            aligned.y,
            classes=aligned.classes,
            splits=aligned.splits,
            views=aligned.views,
            progress=step.of(number),
            **options,
        )
    except FitError as error:
        if not (number or error.where):
            raise  # about the labels or the options, which all sets share
        where = ", ".join(part for part in (each.name, error.where) if part)
        raise FitError(error.what, expected=error.expected, where=where, next=error.next) from error


def _notes(results: Sequence[Result], sets: Sequence[FeatureSet]) -> list[str]:
    """What all evaluations say once, and what only some say with the name of the set."""
    common = [note for note in results[0].notes if all(note in r.notes for r in results[1:])]
    own = [
        f"{each.name}: {note}"
        for each, result in zip(sets, results, strict=True)
        for note in result.notes
        if note not in common
    ]
    if results[0].protocol == "holdout":
        common.append(
            "with one test set, p is about the heads as fitted on these training images; with others "
            "the order may change"
        )
    return common + own


def _describe(each: FeatureSet, result: Result) -> ComparedSet:
    features = each.features
    speed = features.environment.get("speed")
    rate = speed.get("images_per_second") if isinstance(speed, Mapping) else None
    return ComparedSet(
        name=each.name,
        file=", ".join(each.files) or None,
        layer=each.layer,
        backbone=each.backbone,
        feature_size=int(features.features.shape[1]),
        images_per_second=float(rate) if rate else None,
        random_weights=is_random(features.recipe),
        metrics=result.metrics,
        baseline=result.baseline,
        params=result.params,
        protocol=result.protocol,
    )
