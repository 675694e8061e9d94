"""`curve`: cached features in; the score by number of images, a forecast and one sentence out."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import extras
from .errors import InputError
from .fitting import load_features
from .groups import resolve_groups
from .recipe import RANDOM_NOTE, is_random
from .report.terminal import TerminalReporter
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    import pandas as pd

    from .evaluate.curves.curve import Curve

PICTURES = (".png", ".svg", ".pdf")
SUFFIXES = (*PICTURES, ".csv")


@dataclass(frozen=True, repr=False)
class LearningCurve:
    """Scores by number of training images, and what more images would bring.

    Made by `bottleneck_probe.curve`.

    Attributes
    ----------
    head, metric, protocol : str
    classes : list of str
    n_now : int
        Images that a probe of all there is would train on.
    n_scored : int
        Different images that score.
    points : list of dict
        ``n``, ``score``, ``low``, ``high`` and ``params`` (the setting taken most often) of each size.
    draws : ndarray of shape (draws, sizes)
        The score of each draw.
    law : dict or None
        ``a``, ``b``, ``c`` of ``1 - score = a + b n^-c``; None where there are too few sizes.
    forecast : list of dict
        ``n``, ``score``, ``low``, ``high`` beyond the largest size, four times it at most.
    advice : str
        Whether more images would help, in a sentence.
    verdict : dict
        The same as numbers: ``kind`` (``more``, ``hardly``, ``unclear``), ``gain``, ``gain_low``,
        ``gain_high`` (of as many images as are forecast), and for ``more`` ``points``, ``images``,
        ``images_low``, ``images_high`` (None: beyond the forecast).
    notes : list of str
    recipe : dict
        Of the features.
    """

    head: str
    metric: str
    protocol: str
    classes: list[str]
    n_now: int
    n_scored: int
    points: list[dict[str, Any]]
    draws: np.ndarray
    law: dict[str, float] | None
    forecast: list[dict[str, Any]]
    advice: str
    verdict: dict[str, Any]
    notes: list[str]
    recipe: dict[str, Any]

    @classmethod
    def from_found(cls, found: Curve, recipe: Mapping[str, Any]) -> LearningCurve:
        """What `evaluate.curves.curve.learning_curve` found, as plain data."""
        ahead = found.forecast
        verdict = found.advice.to_dict()
        return cls(
            head=found.head,
            metric=found.metric,
            protocol=found.protocol,
            classes=list(found.classes),
            n_now=found.n_now,
            n_scored=found.n_scored,
            points=[
                {"n": int(n), "score": float(s), "low": float(lo), "high": float(hi), "params": p}
                for n, s, lo, hi, p in zip(
                    found.sizes, found.scores, found.low, found.high, found.settings, strict=True
                )
            ],
            draws=found.draws,
            law={n: float(getattr(ahead.law, n)) for n in "abc"} if ahead else None,
            forecast=[
                {"n": int(n), "score": float(s), "low": float(lo), "high": float(hi)}
                for n, s, lo, hi in (
                    zip(ahead.sizes, ahead.scores, ahead.low, ahead.high, strict=True)
                    if ahead
                    else ()
                )
            ],
            advice=verdict.pop("sentence"),
            verdict=verdict,
            notes=list(found.notes),
            recipe=dict(recipe),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: what ``bottleneck curve --json`` prints."""
        return {
            "head": self.head,
            "metric": self.metric,
            "protocol": self.protocol,
            "classes": self.classes,
            "n_now": self.n_now,
            "n_scored": self.n_scored,
            "points": self.points,
            "draws": self.draws.tolist(),
            "law": self.law,
            "forecast": self.forecast,
            "advice": self.advice,
            "verdict": self.verdict,
            "notes": self.notes,
            "random_weights": is_random(self.recipe),
        }

    def rows(self) -> list[list[Any]]:
        """A row for each size: ``n, kind, score, low, high``; kind is measured or forecast."""
        return [
            [each["n"], kind, each["score"], each["low"], each["high"]]
            for kind, those in (("measured", self.points), ("forecast", self.forecast))
            for each in those
        ]

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame. Needs the extra ``pandas``."""
        pandas = extras.require("pandas", purpose="LearningCurve.to_pandas")
        return pandas.DataFrame(self.rows(), columns=["n", "kind", "score", "low", "high"])

    def to(self, path: str | os.PathLike[str]) -> Path:
        """Write the table (``.csv``) or the picture (``.png``, ``.svg``, ``.pdf``).

        Raises
        ------
        InputError
            For another suffix.
        MissingExtraError
            For a picture without matplotlib.
        """
        from .cache.atomic import replace_atomically

        target = Path(path)
        require_writable(target)
        if target.suffix.lower() == ".csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["n", "kind", "score", "low", "high"])
            writer.writerows(self.rows())
            content = text.getvalue().encode()
        else:
            from .report.curve import picture

            content = picture(self, target.suffix.lower().removeprefix("."))
        with replace_atomically(target) as file:
            file.write(content)
        return target

    def __repr__(self) -> str:
        last = self.points[-1]
        return (
            f"<LearningCurve {self.head}, {self.metric} {last['score']:.3f} with {last['n']} images: "
            f"{self.advice}>"
        )

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{n:,}</td><td>{kind}</td><td>{score:.3f}</td><td>{low:.3f} to {high:.3f}</td></tr>"
            for n, kind, score, low, high in self.rows()
        )
        return (
            f"<p><b>{html.escape(self.advice)}</b></p><table><tr><th>images</th><th></th>"
            f"<th>{html.escape(self.metric)}</th><th>95 %</th></tr>{body}</table>"
        )


def curve(
    features: Any,
    *,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    groups: Any = None,
    folds: int = 5,
    draws: int | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "accuracy",
    points: float | None = None,
    quiet: bool = False,
) -> LearningCurve:
    """Measure how the score grows with the number of images, and forecast what more would bring.

    Parameters
    ----------
    features : Features, path, or a list of these
        As for `fit`.
    head, head_options, folds, seed, holdout
        As for `fit`. Its settings are chosen anew for each number of images.
    output : path, optional
        ``.csv`` for the table; ``.png``, ``.svg`` or ``.pdf`` for the picture.
    groups : optional
        As for `fit`: whole groups are drawn.
    draws : int, optional
        Draws of nested subsets; default 50 below 100 images, 20 below 1,000, else 10. Across folds
        a multiple of `folds`.
    metric : {"accuracy", "balanced_accuracy"}
    points : float, optional
        Ask how many images this gain would take, in points (2 is from 0.90 to 0.92); by default a round
        number that is within reach.
    quiet : bool, default False
        Show warnings only.

    Returns
    -------
    LearningCurve

    Raises
    ------
    FitError
        If no honest score can be computed from these labels.
    InputError
        If `output` cannot be written, or `points` is not above 0 and below 100.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> rng = np.random.default_rng(0)
    >>> labels = ["a", "b"] * 60
    >>> X = rng.normal(size=(120, 8)) + 2 * np.array(labels)[:, None].__eq__("a")
    >>> bp.curve(bp.Features.from_arrays(X, labels), quiet=True).points[-1]["n"]
    96
    """
    return run(
        features,
        reporter=TerminalReporter(quiet=quiet),
        output=output,
        head=head,
        head_options=head_options,
        groups=groups,
        folds=folds,
        draws=draws,
        seed=seed,
        holdout=holdout,
        metric=metric,
        points=points,
    )


def run(
    features: Any,
    *,
    reporter: Reporter,
    output: str | os.PathLike[str] | None = None,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    groups: Any = None,
    folds: int = 5,
    draws: int | None = None,
    seed: int = 0,
    holdout: float | None = None,
    metric: str = "accuracy",
    points: float | None = None,
) -> LearningCurve:
    """`curve` with a reporter of one's own."""
    from .evaluate.curves.curve import default_draws, learning_curve, with_draws
    from .evaluate.protocol import make_problem, want

    if output is not None:
        require_writable(Path(output))  # before the work, not after it
    if points is not None and not 0 < points < 100:
        raise InputError(f"{points:g} points", expected="above 0 and below 100", where="--points")
    if draws is not None and draws < 1:
        raise InputError(f"{draws} draws", expected="1 or more", where="--draws")
    given = load_features(features, reporter)
    given.require_classes("a learning curve")
    given = given.output(given.outputs[0])
    wanted = want(head, head_options=head_options, metric=metric, seed=seed)
    different = len(np.unique(given.keys[given.y >= 0], axis=0))
    problem = make_problem(
        given.features[:],
        given.y,
        classes=given.classes,
        splits=given.splits,
        keys=given.keys,
        phash=given.phash,
        groups=resolve_groups(given, groups),
        views=given.views_per_image,
        folds=folds,
        repeats=-(-draws // folds) if draws else default_draws(different, held_out=False),
        seed=seed,
        holdout=holdout,
    )
    n_draws = draws or default_draws(different, held_out=True)
    problem = replace(problem, plan=with_draws(problem.plan, n_draws))
    with reporter.progress(f"curve of {head}", 1) as bar:
        found = learning_curve(
            problem,
            wanted,
            points=None if points is None else points / 100,
            progress=Steps(bar, 1).of(0),
        )
    if is_random(given.recipe):
        found.notes.insert(0, RANDOM_NOTE)
    for note in found.notes:
        reporter.note(note)
    result = LearningCurve.from_found(found, given.recipe)
    if output is not None:
        result.to(output)
    return result


def require_writable(path: Path) -> None:
    """Raise where a curve could not be written in the end.

    Raises
    ------
    InputError
        For another suffix, or a folder that is not there.
    MissingExtraError
        For a picture without matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES or not path.absolute().parent.is_dir():
        raise InputError(
            f"{path} cannot be written",
            expected=f"a file in a folder that exists, ending in {', '.join(SUFFIXES)}",
            where="-o",
        )
    if path.suffix.lower() in PICTURES:
        extras.require("matplotlib", purpose="A picture of the curve")
