"""`predict` and `score`: a probe and new images in, a row per input or metrics out."""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import extras
from .backbones import registry
from .cache.checks import is_hdf5
from .cache.export import csv_writer, safe_path, safe_text
from .cache.features import Features
from .cache.features import open as open_features
from .cache.joining import join
from .doubt import apply_doubt, novelty_of, rule_for
from .errors import FitError, InputError, RecipeError
from .extraction import job
from .extraction.api import find_images
from .extraction.options import split_options
from .extraction.result import Extraction
from .images.sample import ImageSet
from .recipe import RANDOM_NOTE, is_random, recipe_conflict
from .reporter import Reporter, Silent
from .targets import SEPARATOR

if TYPE_CHECKING:
    import pandas as pd

    from .probe import Probe


@dataclass(frozen=True, repr=False)
class Predictions:
    """One row per input, in input order; inputs that could not be used included.

    Attributes
    ----------
    paths : list of str
        Relative to the root of the images.
    labels : list of str or None
        The most probable class; None for a quarantined input.
    probabilities : ndarray of shape (n, k), float64
        Columns in the order of `classes`; NaN for a quarantined input.
    classes : list of str
    reasons : list of str or None
        Why an input could not be used.
    ignored : int
        Files that are no images.
    novelty : ndarray of shape (n,), float32, or None
        Distance to the training images; NaN for a quarantined input. None where the probe does not know.
    unlike : ndarray of shape (n,), bool, or None
        Whether the distance is above the probe's threshold.
    abstained : ndarray of shape (n,), bool, or None
        Whether the answer was taken back (`abstain`); the probabilities stay, the label is None.
    rule : dict or None
        By which: ``accuracy``, ``confidence``, ``threshold``, ``coverage``, ``error``, ``n``.
    """

    paths: list[str]
    labels: list[str | None]
    probabilities: np.ndarray
    classes: list[str]
    reasons: list[str | None]
    ignored: int = 0
    novelty: np.ndarray | None = None
    unlike: np.ndarray | None = None
    abstained: np.ndarray | None = None
    rule: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def predicted(self) -> int:
        """Inputs with a label."""
        return sum(reason is None for reason in self.reasons)

    @property
    def quarantined(self) -> int:
        """Inputs that could not be used."""
        return len(self) - self.predicted - self.unanswered

    @property
    def unanswered(self) -> int:
        """Inputs whose answer was taken back."""
        return 0 if self.abstained is None else int(self.abstained.sum())

    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return [
            "path",
            "status",
            "label",
            "probability",
            *(f"p_{name}" for name in self.classes),
            *self._more_columns(),
            "reason",
        ]

    def _more_columns(self) -> list[str]:
        return [] if self.abstained is None else ["novelty"]

    def rows(self) -> Iterator[list[Any]]:
        """Values of each row of the table; None where there is none."""
        for i, path in enumerate(self.paths):
            more: list[float | None] = [None] * len(self._more_columns())
            if more and self.novelty is not None and np.isfinite(self.novelty[i]):
                more = [float(self.novelty[i])]
            doubted = self.abstained is not None and bool(self.abstained[i])
            if self.reasons[i] is None or doubted:
                p = [float(value) for value in self.probabilities[i]]
                status = "abstained" if doubted else "ok"
                yield [path, status, self.labels[i], max(p), *p, *more, self.reasons[i]]
            else:
                yield [
                    path,
                    "quarantined",
                    None,
                    None,
                    *[None] * len(self.classes),
                    *more,
                    self.reasons[i],
                ]

    def to_pandas(self) -> pd.DataFrame:
        """The table as a data frame. Needs the extra ``pandas``."""
        pandas = extras.require("pandas", purpose="Predictions.to_pandas")
        return pandas.DataFrame(list(self.rows()), columns=self.columns())

    def to_csv(self) -> str:
        """The table as CSV: one header line, floats with all their digits.

        A path that a spreadsheet would run as a formula begins with ``./``, a label or reason with
        an apostrophe.
        """
        text = io.StringIO()
        writer = csv_writer(text)
        writer.writerow([safe_text(name) for name in self.columns()])
        for path, *cells in self.rows():
            writer.writerow([safe_path(path), *(_csv_cell(cell) for cell in cells)])
        return text.getvalue()

    def to(self, path: str | os.PathLike[str]) -> Path:
        """Write the table by suffix: ``.csv``, ``.jsonl`` or ``.parquet``.

        Raises
        ------
        InputError
            For another suffix.
        MissingExtraError
            For ``.parquet`` without pyarrow.
        """
        from .cache.atomic import replace_atomically

        target = Path(path)
        require_writable(target)
        if target.suffix == ".csv":
            content = self.to_csv().encode()
        elif target.suffix == ".jsonl":
            names = self.columns()
            lines = (json.dumps(dict(zip(names, row, strict=True))) for row in self.rows())
            content = "".join(f"{line}\n" for line in lines).encode()
        else:
            content = self._parquet()
        with replace_atomically(target) as file:
            file.write(content)
        return target

    def _parquet(self) -> bytes:
        pyarrow = extras.require("pyarrow", purpose="Writing .parquet")
        from pyarrow.parquet import write_table

        columns = list(zip(*self.rows(), strict=True))
        names = self.columns()
        kinds = [pyarrow.string() if name in _TEXTS else pyarrow.float64() for name in names]
        table = pyarrow.table(
            [pyarrow.array(c, kind) for c, kind in zip(columns, kinds, strict=True)], names=names
        )
        buffer = io.BytesIO()
        write_table(table, buffer)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return (
            f"<Predictions of {len(self)} images, {len(self.classes)} classes: "
            f"{self.predicted} predicted, "
            + (f"{self.unanswered} abstained, " if self.abstained is not None else "")
            + f"{self.quarantined} quarantined>"
        )

    def _repr_html_(self) -> str:
        shown = list(self.rows())[:10]
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(x))}</td>" for x in row) + "</tr>"
            for row in shown
        )
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns())
        more = f"<p>{len(self) - 10} more rows</p>" if len(self) > 10 else ""
        return f"<table><tr>{head}</tr>{cells}</table>{more}"


@dataclass(frozen=True, repr=False)
class ValuePredictions(Predictions):
    """The same for a number: `labels` are its texts, `probabilities` (n, 1) the numbers themselves.

    Attributes
    ----------
    half_width : float
        The true number lies within so much of the predicted one in 90 % of cases; see
        `evaluate.target_protocol.residual_quantile`.
    """

    half_width: float = float("nan")

    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return ["path", "status", "value", "low", "high", "reason"]

    def rows(self) -> Iterator[list[Any]]:
        """Values of each row of the table; None where there is none."""
        for path, (value,), reason in zip(
            self.paths, self.probabilities.tolist(), self.reasons, strict=True
        ):
            if reason is None:
                reach = self.half_width
                # With fewer than 9 scored images no such interval can be promised.
                low, high = (None, None) if reach != reach else (value - reach, value + reach)
                yield [path, "ok", value, low, high, None]
            else:
                yield [path, "quarantined", None, None, None, reason]


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise where a table of predictions could not be written in the end.

    Raises
    ------
    InputError
        For a suffix other than ``.csv``, ``.jsonl`` and ``.parquet``, or a folder that cannot be
        written.
    MissingExtraError
        For ``.parquet`` without pyarrow.
    """
    target = Path(path)
    if target.suffix not in (".csv", ".jsonl", ".parquet"):
        raise InputError(
            f"{target.name} has the suffix {target.suffix!r}",
            expected=".csv, .jsonl or .parquet",
            where="-o",
        )
    if target.suffix == ".parquet":
        extras.require("pyarrow", purpose="Writing .parquet")
    folder = target.absolute().parent
    if target.is_dir() or (folder.exists() and not os.access(folder, os.W_OK)):
        raise InputError(f"{target} cannot be written", where="-o", next="choose another place")


# Columns of text; all others are numbers. A class may be called so too, but its column is `p_<class>`.
_TEXTS = ("path", "status", "label", "reason")


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    return safe_text(value) if isinstance(value, str) else repr(value)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def predict(
    probe: Probe,
    images: Any,
    *,
    features: Features | str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    missing: Literal["error", "fault"] | None = None,
    abstain: float | None = None,
    **options: Any,
) -> Predictions:
    """Labels and probabilities of new images.

    Recipe and preprocessing come from the probe, so they cannot differ from those it was fitted on.

    Parameters
    ----------
    probe : Probe
    images : Features, path of a feature file, or anything `extract` takes
    features : Features or path, optional
        A cache of the same recipe: what it holds is not computed again.
    reporter : Reporter, optional
    root, path_column, missing : optional
        See `images.find.find`.
    abstain : float, optional
        Accuracy wanted among the answered images, as 0.95: those that are not sure enough for it, or
        unlike the training images, get no label and the status ``abstained``. The threshold was found
        on images that the probe's fits had not seen.
    **options
        ``weights`` (where the backbone's file is), ``engine, device, batch_size, workers``.

    Returns
    -------
    Predictions

    Raises
    ------
    RecipeError
        If features were made by another recipe than the probe's.
    WeightsError
        If the backbone's weights, by their hash, are not on this machine.
    """
    if is_random(probe.recipe) and reporter is not None:
        reporter.warn(RANDOM_NOTE)
    if abstain is not None:
        rule_for(probe, abstain)  # before the work, not after it
    stored = _as_features(images)
    if stored is not None:
        answered = _of_features(probe, _of_recipe(probe, stored, "the features"))
        return apply_doubt(probe, answered, abstain, reporter)
    # Labels of a table, if there are any, are none of our business: nothing is guessed about them.
    found = find_images(
        images, root=root, path_column=path_column, task="classification", missing=missing
    )
    extracted = _extract(probe, found, features, reporter or Silent(), options)
    answered = _in_input_order(probe, found, extracted.features)
    return apply_doubt(probe, answered, abstain, reporter)


def score(
    probe: Probe,
    images: Any,
    *,
    features: Features | str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    labels: Any = None,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    task: str = "auto",
    split_column: str | None = None,
    missing: Literal["error", "fault"] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Metrics of a kept probe on other labelled images.

    Parameters
    ----------
    probe : Probe
    images : Features, path of a feature file, or anything `extract` takes
    features, reporter, root, path_column, missing
        See `predict`.
    labels, label_column, split_column, task
        See `extract`. All labelled images are scored, whatever their split.
    **options
        See `predict`.

    Returns
    -------
    dict
        ``n, metrics, baseline, confusion, per_class, notes``, and the counts ``seen, predicted,
        quarantined, ignored``.

    Raises
    ------
    FitError
        If there are no labels, or labels the probe does not know.
    """
    reporter = reporter or Silent()
    stored = _as_features(images)
    ignored = 0
    if stored is None:
        found = find_images(
            images,
            labels=labels,
            root=root,
            path_column=path_column,
            label_column=label_column,
            task=task if task != "auto" or probe.task == "classification" else probe.task,
            split_column=split_column,
            missing=missing,
        )
        ignored = found.ignored
        stored = _extract(probe, found, features, reporter, options).features
    else:
        stored = _of_recipe(probe, stored, "the features")
    result = _score_features(probe, stored)
    for note in result["notes"]:
        reporter.note(note)
    quarantined = len(stored.quarantine)
    return {
        "seen": len(set(stored.paths)) + quarantined,
        "predicted": len(set(stored.paths)),
        "quarantined": quarantined,
        "ignored": ignored,
        **result,
    }


def _as_features(images: Any) -> Features | None:
    """Features, or the file of features that a path names; None for images."""
    if isinstance(images, Features):
        return images
    if isinstance(images, list | tuple) and images:
        opened = [_as_features(each) for each in images]
        found = [each for each in opened if each is not None]
        if found and len(found) < len(opened):
            raise InputError(
                "feature files and images were given together", expected="one kind of input"
            )
        return None if not found else found[0] if len(found) == 1 else join(found)
    if isinstance(images, str | os.PathLike) and is_hdf5(images):
        return open_features(images)
    return None


def _of_recipe(probe: Probe, features: Features, what: str) -> Features:
    """The output that the probe was fitted on, whichever of a file's it is."""
    for name in features.outputs:
        output = features.output(name)
        if output.fingerprint == probe.fingerprint:
            return output
    conflict = recipe_conflict(features.recipe, probe.recipe, str(features.file or what))
    backbone = probe.recipe.get("backbone", "BACKBONE")
    output = probe.recipe["outputs"][0]
    layer = f" --layer {output.get('node')}:{output.get('pooling')}"
    cut = "" if output.get("node") == "penultimate" else layer
    raise RecipeError(
        f"the probe was fitted on other features than those of {features.file or what}",
        expected=conflict.expected,
        next=f"bottleneck extract IMAGES --backbone {backbone}{cut} makes features that fit",
    )


def _extract(
    probe: Probe,
    found: ImageSet,
    features: Features | str | os.PathLike[str] | None,
    reporter: Reporter,
    options: dict[str, Any],
) -> Extraction:
    reuse = None
    if features is not None:
        reuse = features if isinstance(features, Features) else open_features(features)
        reuse = _of_recipe(probe, reuse, "--features")
    if probe.recipe.get("modality") != "image":
        raise RecipeError(
            "the probe was fitted on features from arrays, not on images",
            next="give bp.Features.from_arrays(...) of the same kind, or probe.predict_proba(X)",
        )
    for note in found.notes:
        reporter.note(note)
    recipe_options, run_options = split_options(options)
    backbone = registry.from_recipe(probe.recipe, weights=recipe_options.weights)
    return job.extract_to_memory(found, backbone, run_options, reporter, reuse=reuse)


def _of_features(probe: Probe, features: Features) -> Predictions:
    paths, probabilities = _by_image(features, _in_blocks(probe, features))
    labels = _answers(probe, probabilities)
    bad = features.quarantine
    nothing = np.full((len(bad), len(probe.classes)), np.nan)
    found = Predictions(
        paths=[*paths, *(path for path, _ in bad)],
        labels=[*labels, *[None] * len(bad)],
        probabilities=np.concatenate([probabilities, nothing]),
        classes=probe.classes,
        reasons=[*[None] * len(labels), *(reason for _, reason in bad)],
        novelty=_distances(probe, features, len(bad)),
    )
    if probe.task == "regression":
        reach = probe.extra["residual"]
        return ValuePredictions(
            **vars(found), half_width=float("nan") if reach is None else float(reach)
        )
    return found


def _answers(probe: Probe, probabilities: np.ndarray) -> list[str]:
    """The class of each row; of several labels those from their thresholds on; or the number."""
    if probe.task == "regression":
        return [f"{value:.6g}" for value in probabilities[:, 0]]
    if probe.task == "multilabel":
        return [
            SEPARATOR.join(name for name, yes in zip(probe.classes, row, strict=True) if yes)
            for row in probabilities >= probe.thresholds
        ]
    return [probe.classes[i] for i in probabilities.argmax(axis=1)]


def _by_image(features: Features, probabilities: np.ndarray) -> tuple[list[str], np.ndarray]:
    """One row per image: where it has several views (tiles), the mean of their probabilities."""
    if not features.views.any():
        return list(features.paths), probabilities
    paths, image = np.unique(features.paths, return_inverse=True)
    total = np.zeros((len(paths), probabilities.shape[1]))
    np.add.at(total, image, probabilities)
    return [str(path) for path in paths], total / np.bincount(image)[:, None]


def _distances(probe: Probe, features: Features, n_bad: int) -> np.ndarray | None:
    """Distance of each image to the training images, NaN for quarantined ones at the end."""
    novelty = novelty_of(probe)
    if novelty is None:
        return None
    rows = 8192
    blocks = [
        novelty.score(features.features[start : start + rows])
        for start in range(0, len(features), rows)
    ]
    every = np.concatenate([np.empty(0, np.float32), *blocks])[:, None]
    return np.append(_by_image(features, every)[1][:, 0], np.full(n_bad, np.nan, np.float32))


def _in_blocks(probe: Probe, features: Features, rows: int = 8192) -> np.ndarray:
    """Probabilities of all rows, read block by block."""
    blocks = [
        probe.predict_proba(features.features[start : start + rows])
        for start in range(0, len(features), rows)
    ]
    return np.concatenate([np.empty((0, len(probe.classes))), *blocks])


def _in_input_order(probe: Probe, found: ImageSet, features: Features) -> Predictions:
    by_path = _of_features(probe, features)
    place = {path: i for i, path in enumerate(by_path.paths)}
    rows = [place[found.samples[i].path] for i in found.entries]
    return replace(
        by_path,
        paths=[by_path.paths[i] for i in rows],
        labels=[by_path.labels[i] for i in rows],
        probabilities=by_path.probabilities[rows],
        reasons=[by_path.reasons[i] for i in rows],
        ignored=found.ignored,
        novelty=None if by_path.novelty is None else by_path.novelty[rows],
    )


def _score_features(probe: Probe, features: Features) -> dict[str, Any]:
    from .evaluate.scoring import score as score_predictions
    from .evaluate.splits import group_mean, group_rows
    from .target_fitting import aligned, score_targets

    if probe.task != "classification":
        features = features.with_task(probe.task)
    targets = features.rows.targets
    labelled = np.flatnonzero(features.y >= 0 if targets is None else targets.known())
    views = features.views_per_image
    unknown = sorted({c for c in features.labels[labelled] if c not in probe.classes})
    if probe.task != "classification" or targets is not None:
        aligned(probe, features)
        unknown = []
    if not len(labelled) or unknown:
        raise FitError(
            f"the probe does not know the classes {', '.join(unknown)}"
            if unknown
            else "none of the images has a label",
            expected=f"labels among {', '.join(probe.classes)}",
            next="check the folder names or --label-column; `bottleneck predict` needs no labels",
        )
    trained_on = {key.tobytes() for key in probe.train_keys}
    fresh = np.array([i for i in labelled if features.keys[i].tobytes() not in trained_on], int)
    dropped = (len(labelled) - len(fresh)) // views
    if not len(fresh):
        raise FitError(
            f"the probe was trained on all {dropped} labelled images: their score would be too good",
            expected="images that it has not seen",
            next="`bottleneck info PROBE` shows the honest score of its own images",
        )
    groups = group_rows(features.keys[fresh], len(fresh))
    # An image that was cut into tiles is answered once, as `predict` does.
    predicted = group_mean(_in_blocks(probe, features.subset(fresh)), groups)
    if probe.task != "classification":
        found = score_targets(probe, features.subset(fresh), predicted)
    else:
        number = {name: i for i, name in enumerate(probe.classes)}
        found = score_predictions(
            predicted,
            np.array([number[c] for c in features.labels[fresh]]),
            probe.classes,
            keys=features.keys[fresh],
            frequencies=probe.frequencies,
            views=views,
        )
    notes = [f"{dropped} images that the probe was trained on were left out"] if dropped else []
    unlabelled = (len(features) - len(labelled)) // views
    notes += [f"{unlabelled} unlabelled images were left out"] if unlabelled else []
    if is_random(probe.recipe):
        notes.insert(0, RANDOM_NOTE)
    return {**found, "notes": notes + found["notes"]}
