"""`suspects`: cached features in; a ranked list of likely wrong labels and odd images out.

Every labelled image is judged by fits that did not see it, whatever its split. Nothing is changed: the list
is for somebody to look at.
"""

from __future__ import annotations

import html
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import extras
from .cache.export import csv_writer, safe_path, safe_text
from .errors import FitError, InputError
from .fitting import load_features
from .groups import resolve_groups
from .recipe import RANDOM_NOTE, is_random
from .report.terminal import TerminalReporter
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    import pandas as pd

    from .evaluate.doubts.label_errors import Doubts

COLUMNS = (
    "rank",
    "path",
    "kind",
    "label",
    "suggested",
    "p_label",
    "p_suggested",
    "margin",
    "novelty",
)


@dataclass(frozen=True, repr=False)
class Suspects:
    """Images to look at, the most suspicious first.

    Made by `bottleneck_probe.suspects`.

    Attributes
    ----------
    rows : list of dict
        By `COLUMNS`: ``rank`` (1 first), ``path``, ``kind``, ``label`` (the one it has), ``suggested`` (the
        most probable other one), ``p_label``, ``p_suggested``, ``margin`` (their difference: the lower, the
        more suspicious), ``novelty``. Kinds, in this order: ``conflict`` (a copy of it has another label),
        ``label`` (likely wrong), ``outlier`` (unlike all others; its label may be right).
    n : int
        Labelled images that were judged.
    classes : list of str
    protocol : str
    labels : ndarray of shape (n,), int32
    probabilities : ndarray of shape (n, k), float64
    paths : list of str
        Of the judged images, in the order of `labels`.
    notes : list of str
    recipe : dict
    """

    rows: list[dict[str, Any]]
    n: int
    classes: list[str]
    protocol: str
    labels: np.ndarray
    probabilities: np.ndarray
    paths: list[str]
    notes: list[str]
    recipe: dict[str, Any]

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, kind: str) -> int:
        """Suspects of one kind: ``conflict``, ``label`` or ``outlier``."""
        return sum(row["kind"] == kind for row in self.rows)

    def counts(self) -> dict[str, int]:
        """Suspects by kind."""
        return {kind: self.count(kind) for kind in ("conflict", "label", "outlier")}

    def cleanlab(self) -> dict[str, np.ndarray]:
        """Arguments for ``cleanlab.filter.find_label_issues``.

        Returns
        -------
        dict
            ``labels`` (n,) int and ``pred_probs`` (n, k) float64, of the judged images.
        """
        return {"labels": self.labels.astype(np.int64), "pred_probs": self.probabilities}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: what ``bottleneck suspects --json`` prints."""
        return {
            "n": self.n,
            "classes": self.classes,
            "protocol": self.protocol,
            "counts": self.counts(),
            "suspects": self.rows,
            "notes": self.notes,
            "random_weights": is_random(self.recipe),
        }

    def to_pandas(self) -> pd.DataFrame:
        """`rows` as a data frame. Needs the extra ``pandas``."""
        pandas = extras.require("pandas", purpose="Suspects.to_pandas")
        return pandas.DataFrame(self.rows, columns=list(COLUMNS))

    def to_csv(self) -> str:
        """`rows` as CSV. A path or label that a spreadsheet would run as a formula is made harmless."""
        text = io.StringIO()
        writer = csv_writer(text)
        writer.writerow(COLUMNS)
        for row in self.rows:
            cells = {**row, "path": safe_path(row["path"])}
            for name in ("label", "suggested"):
                cells[name] = safe_text(row[name])
            writer.writerow("" if cells[name] is None else cells[name] for name in COLUMNS)
        return text.getvalue()

    def to(self, path: str | os.PathLike[str]) -> Path:
        """Write `to_csv` into a file, over an existing one too.

        Raises
        ------
        InputError
            For another suffix than ``.csv``, or a folder that is not there.
        """
        from .cache.atomic import replace_atomically

        target = Path(path)
        require_writable(target)
        with replace_atomically(target) as file:
            file.write(self.to_csv().encode())
        return target

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        return f"<Suspects among {self.n} images: {told}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(_cell(row[name]))}</td>" for name in COLUMNS)
            + "</tr>"
            for row in self.rows[:20]
        )
        more = f"<p>{len(self) - 20} more</p>" if len(self) > 20 else ""
        return f"<p>{html.escape(repr(self)[1:-1])}</p><table><tr>{head}</tr>{body}</table>{more}"


def suspects(
    features: Any,
    *,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    groups: Any = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Suspects:
    """Rank the images whose label is in doubt, and those that are unlike all others.

    Parameters
    ----------
    features : Features, path, or a list of these
        As for `fit`. Splits are put aside: all labelled images are judged.
    head, head_options, groups, folds, repeats, seed
        As for `fit`.
    output : path, optional
        A ``.csv`` for the list.
    quiet : bool, default False
        Show warnings only.

    Returns
    -------
    Suspects

    Raises
    ------
    FitError
        If there are no labels to judge, or they are not one class to an image.

    Examples
    --------
    >>> import bottleneck_probe as bp
    >>> rng = np.random.default_rng(0)
    >>> labels = np.array(["a", "b"] * 40)
    >>> X = rng.normal(size=(80, 8)) + 4 * (labels == "a")[:, None]
    >>> labels[7] = "a"
    >>> found = bp.suspects(bp.Features.from_arrays(X, labels), quiet=True)
    >>> [(row["path"], row["kind"], row["suggested"]) for row in found.rows if row["kind"] == "label"]
    [('07', 'label', 'b')]
    """
    return run(
        features,
        reporter=TerminalReporter(quiet=quiet),
        head=head,
        head_options=head_options,
        output=output,
        groups=groups,
        folds=folds,
        repeats=repeats,
        seed=seed,
    )


def run(
    features: Any,
    *,
    reporter: Reporter,
    head: str = "logistic",
    head_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    groups: Any = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
) -> Suspects:
    """`suspects` with a reporter of one's own."""
    from .evaluate.doubts.label_errors import find_suspects
    from .evaluate.fitting import run_head
    from .evaluate.protocol import make_problem, want

    if output is not None:
        require_writable(Path(output))  # before the work, not after it
    given = load_features(features, reporter)
    given = given.output(given.outputs[0])
    if given.task != "classification":
        raise FitError(
            f"the labels are of the task {given.task}",
            expected="one class to an image",
            next="--task classification of `extract` reads them as classes, if they are",
        )
    wanted = want(head, head_options=head_options, seed=seed)
    problem = make_problem(
        given.features[:],
        given.y,
        classes=given.classes,
        keys=given.keys,
        phash=given.phash,
        groups=resolve_groups(given, groups),
        views=given.views_per_image,
        folds=folds,
        repeats=repeats,
        slow=not wanted.spec.repeats,
        seed=seed,
    )
    with reporter.progress(f"judge by {head}", 1) as bar:
        found = run_head(wanted, problem.X, problem.plan, problem.same, Steps(bar, 1).of(0))
    scored, rows = problem.plan.scored, problem.plan.rows
    # Of an image that was cut into tiles the first one: it was answered once.
    scored_paths = np.array([given.paths[i] for i in scored], object)
    first = np.sort(np.unique(scored_paths.astype(str), return_index=True)[1])
    distance, threshold = _distances(problem.X[scored], rows.groups[scored], scored_paths, seed)
    judged = scored[first]
    probabilities = found.probabilities.mean(axis=0)[first]

    doubts = find_suspects(
        rows.y[judged],
        probabilities,
        images=rows.images[judged],
        novelty=distance[first],
        novelty_threshold=threshold,
    )
    notes = [*problem.notes, *found.notes]
    if is_random(given.recipe):
        notes.insert(0, RANDOM_NOTE)
    for note in notes:
        reporter.note(note)
    paths = [str(given.paths[i]) for i in judged]
    result = Suspects(
        rows=_rows(doubts, paths, rows.classes),
        n=len(judged),
        classes=rows.classes,
        protocol=problem.plan.protocol,
        labels=rows.y[judged].astype(np.int32),
        probabilities=probabilities,
        paths=paths,
        notes=notes,
        recipe=given.recipe,
    )
    if output is not None:
        result.to(output)
    return result


def _distances(
    X: np.ndarray, groups: np.ndarray, paths: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Distance of each row's image to the others, and the threshold above which it is an outlier."""
    from .evaluate.doubts.novelty import far_out, fit_novelty
    from .evaluate.splits import group_mean

    _, scores = fit_novelty(X, groups, seed=seed)
    same = np.unique(paths.astype(str), return_inverse=True)[1].reshape(-1)
    by_image = group_mean(scores[:, None].astype(float), same)[:, 0]
    return by_image, far_out(by_image)


def _rows(doubts: Doubts, paths: list[str], classes: list[str]) -> list[dict[str, Any]]:
    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return [
        {
            "rank": rank,
            "path": paths[row],
            "kind": doubts.kinds[i],
            "label": classes[doubts.labels[i]],
            "suggested": classes[doubts.suggested[i]],
            "p_label": number(doubts.p_label[i]),
            "p_suggested": number(doubts.p_suggested[i]),
            "margin": number(doubts.margins[i]),
            "novelty": number(doubts.novelty[i]),
        }
        for i, (rank, row) in enumerate(enumerate(doubts.rows.tolist(), start=1))
    ]


def require_writable(path: Path) -> None:
    """Raise where the list could not be written in the end.

    Raises
    ------
    InputError
    """
    if path.suffix.lower() != ".csv" or not path.absolute().parent.is_dir():
        raise InputError(
            f"{path} cannot be written", expected="a .csv in a folder that exists", where="-o"
        )


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
