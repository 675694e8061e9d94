"""The probe: one file with all that a prediction needs besides the network, and how good it is.

A safetensors file whose metadata holds one key, ``bottleneck``, with canonical JSON (safetensors
writes several keys in random order). No pickle; no time, path or duration, so that the same features,
seed and thread count give the same bytes.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ProbeError
from .recipe import RANDOM_NOTE, canonical_json, is_random

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from .cache.features import Features
    from .evaluate.protocol import Result
    from .prediction import Predictions

FORMAT = "bottleneck-probe"
FORMAT_VERSION = 1
_MAX_HEADER = 16 * 2**20  # bytes; JSON of recipe, metrics and classes takes kilobytes


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Predictions for the rows that were scored, each by a model that never saw the row.

    Attributes
    ----------
    keys : ndarray of shape (m, 32), uint8
        Which images, by the key of their bytes.
    y : ndarray of shape (m,), int32
        True classes, as indices into the probe's `classes`.
    probabilities : ndarray of shape (m, k), float64
        Averaged over repeats.
    folds : ndarray of shape (m,), int32
        The outer fold of the first repeat; 0 for a held-out set.
    paths : list of str or None
        Stored paths, only in the session that fitted: a probe file holds no path.
    """

    keys: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    paths: list[str] | None = None


class Probe:
    """A fitted head with its scaler, the recipe of the features it expects, and its score.

    Made by `bottleneck_probe.fit` or `bottleneck_probe.load`.

    Attributes
    ----------
    classes : list of str
        Columns of `predict_proba`.
    head : str
    params : dict
        The hyper-parameters that were chosen.
    protocol : str
        What gave the number: ``holdout``, or ``nested-<outer folds>x<repeats>``.
    metrics, baseline : dict of str to dict
        ``metrics["accuracy"]["value"]``, ``low``, ``high``, ``level``, ``method``; the baseline is
        always answering with `majority`.
    majority : str
        The most frequent class of the training images.
    confusion : ndarray of shape (k, k), int64
        Rows are true classes, columns predictions.
    per_class : list of dict
    oof : OutOfFold
    train_keys : ndarray of shape (t, 32), uint8
        Keys of the images the kept head was trained on, so that `score` can leave them out.
    recipe : dict
        Of the features.
    fingerprint : str
        Of the features.
    notes : list of str
        What the evaluation left out, joined or doubts.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        oof: OutOfFold,
        train_keys: np.ndarray,
        description: Mapping[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self.train_keys = train_keys
        self._description = dict(description)
        self.oof = oof
        self.head: str = description["head"]
        self.params: dict[str, Any] = description["params"]
        self.classes: list[str] = description["classes"]
        self.protocol: str = description["protocol"]
        self.n_train: int = description["n_train"]
        self.n_test: int = description["n_test"]
        self.seed: int = description["seed"]
        self.metrics: dict[str, dict[str, Any]] = description["metrics"]
        self.baseline: dict[str, dict[str, Any]] = description["baseline"]
        self.majority: str = description["majority"]
        self.confusion = np.array(description["confusion"], np.int64)
        self.per_class: list[dict[str, Any]] = description["per_class"]
        self.notes: list[str] = description["notes"]
        self.recipe: dict[str, Any] = description["recipe"]
        self.fingerprint: str = description["fingerprint"]
        self.n_features: int = description["n_features"]

    @classmethod
    def from_result(cls, result: Result, features: Features, *, seed: int) -> Probe:
        """The probe of an evaluation of these features."""
        rows = result.oof.rows
        oof = OutOfFold(
            keys=np.asarray(features.keys)[rows],
            y=np.asarray(result.oof.y, np.int32),
            probabilities=np.asarray(result.oof.probabilities, np.float64),
            folds=np.asarray(result.oof.folds, np.int32),
            paths=[features.paths[i] for i in rows],
        )
        description = {
            "head": result.head,
            "params": result.params,
            "classes": list(result.classes),
            "protocol": result.protocol,
            "n_train": int(result.n_train),
            "n_test": int(result.n_test),
            "seed": int(seed),
            "metrics": result.metrics,
            "baseline": result.baseline,
            "majority": result.classes[result.majority],
            "confusion": np.asarray(result.confusion).tolist(),
            "per_class": result.per_class,
            "notes": list(result.notes),
            "recipe": features.recipe,
            "fingerprint": features.fingerprint,
            "n_features": int(features.features.shape[1]),
        }
        return cls(
            pipeline=result.pipeline,
            oof=oof,
            train_keys=np.unique(np.asarray(features.keys)[_trained_on(result, features)], axis=0),
            description=_plain(description),
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of raw features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As extracted; the scaler is inside the probe.

        Returns
        -------
        ndarray of shape (n, k), float64
            Columns in the order of `classes`; rows sum to 1.

        Raises
        ------
        ProbeError
            If X has another number of columns.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ProbeError(
                f"the features have shape {X.shape}",
                expected=f"(n, {self.n_features}) of {self.recipe.get('backbone', 'the same recipe')}",
                next="extract with the probe's backbone",
            )
        if not np.isfinite(X).all():
            rows = np.flatnonzero(~np.isfinite(X).all(axis=1))
            raise ProbeError(
                f"NaN or infinity in row {rows[0]}"
                + (f" and {len(rows) - 1} more" * (len(rows) > 1)),
                expected="finite features",
            )
        return np.asarray(self._pipeline.predict_proba(X), np.float64)

    def predict(self, images: Any, **options: Any) -> Predictions:
        """Labels and probabilities of new images, preprocessed as the probe's features were.

        Parameters
        ----------
        images : Features, or anything `bottleneck_probe.extract` takes
        **options
            See `bottleneck_probe.prediction.predict`.

        Returns
        -------
        Predictions
        """
        from .prediction import predict

        return predict(self, images, **options)

    def score(self, images: Any, **options: Any) -> dict[str, Any]:
        """Metrics of the kept probe on other labelled images or features.

        Parameters
        ----------
        images : Features, or anything `bottleneck_probe.extract` takes, with labels
        **options
            See `bottleneck_probe.prediction.score`.

        Returns
        -------
        dict
            ``metrics``, ``baseline``, ``confusion``, ``per_class``, ``n``, ``notes``.
        """
        from .prediction import score

        return score(self, images, **options)

    def to_bytes(self) -> bytes:
        """The probe file's content."""
        from safetensors.numpy import save

        from .heads.state import pipeline_to_state

        params, arrays = pipeline_to_state(self._pipeline)
        tensors = {f"pipeline/{name}": np.ascontiguousarray(a) for name, a in arrays.items()}
        tensors["train_keys"] = np.ascontiguousarray(self.train_keys)
        for name in ("keys", "y", "probabilities", "folds"):
            tensors[f"oof/{name}"] = np.ascontiguousarray(getattr(self.oof, name))
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **self._description,
            "pipeline": params,
        }
        return save(tensors, {"bottleneck": canonical_json(_plain(description)).decode()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the probe, atomically, over an existing file too.

        Returns
        -------
        pathlib.Path
            Where it is now.
        """
        from .cache.atomic import replace_atomically

        content = self.to_bytes()
        with replace_atomically(path) as file:
            file.write(content)
        return Path(path).absolute()

    def __repr__(self) -> str:
        accuracy = self.metrics["accuracy"]
        return (
            f"<Probe {self.head} {self.params}: {len(self.classes)} classes, accuracy "
            f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] "
            f"({self.protocol}, {self.n_test} images)"
            f"{', RANDOM weights' if is_random(self.recipe) else ''}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{m['value']:.3f}</td>"
            f"<td>{m['low']:.3f} to {m['high']:.3f}</td><td>{self.baseline[name]['value']:.3f}</td></tr>"
            for name, m in self.metrics.items()
        )
        title = f"{self.head} {self.params}, {self.protocol}, {self.n_test} images scored"
        if is_random(self.recipe):
            title += f"; {RANDOM_NOTE}"
        return (
            f"<b>{html.escape(title)}</b><table><tr><th>metric</th><th>value</th>"
            f"<th>95 % interval</th><th>majority class</th></tr>{rows}</table>"
        )


def load(path: str | os.PathLike[str]) -> Probe:
    """Open a probe file. Nothing in it is executed.

    Parameters
    ----------
    path : path
        As `Probe.save` or ``bottleneck fit`` wrote it.

    Returns
    -------
    Probe

    Raises
    ------
    ProbeError
        If there is no such file, or it is no probe, damaged, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    from .heads.state import pipeline_from_state

    file = Path(path)
    if not file.is_file():
        raise ProbeError(f"no probe at {file}", next="bottleneck fit FILE.h5 -o PROBE makes one")
    _check_header(file)
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ProbeError(f"{file} is damaged: {error}", next="fit it again") from error
    try:
        description = json.loads(metadata["bottleneck"])
        if description["format"] != FORMAT:
            raise KeyError("format")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ProbeError(
            f"{file} is a safetensors file, but no probe",
            expected=f"metadata key `bottleneck` with format {FORMAT}",
        ) from error
    if description.get("format_version") != FORMAT_VERSION:
        raise ProbeError(
            f"{file} was made by format version {description.get('format_version')}",
            expected=f"version {FORMAT_VERSION}",
            next="pip install -U bottleneck-probe",
        )
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ProbeError(f"{file} holds NaN or infinity in {name}", next="fit it again")
    try:
        pipeline = pipeline_from_state(
            description.pop("pipeline"),
            {
                k.removeprefix("pipeline/"): a
                for k, a in arrays.items()
                if k.startswith("pipeline/")
            },
        )
        oof = OutOfFold(**{n: arrays[f"oof/{n}"] for n in ("keys", "y", "probabilities", "folds")})
        return Probe(
            pipeline=pipeline, oof=oof, train_keys=arrays["train_keys"], description=description
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ProbeError(
            f"{file} is incomplete: {type(error).__name__} {error}", next="fit it again"
        ) from error


def _check_header(file: Path) -> None:
    """Refuse what is no safetensors file before a reader takes memory for what it declares."""
    with open(file, "rb") as opened:
        head = opened.read(9)
    size = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or size > min(_MAX_HEADER, file.stat().st_size):
        hint = ""
        if head.startswith(b"\x89HDF"):
            hint = "; it is a feature file: bottleneck fit makes a probe from it"
        elif head.startswith((b"\x80", b"PK")):
            hint = "; pickle is refused, because reading it could run code"
        raise ProbeError(f"{file} is no probe{hint}", expected="a file that bottleneck fit wrote")


def _trained_on(result: Result, features: Features) -> np.ndarray:
    """Rows that the kept head learned from: all labelled ones, less those that were held out."""
    labelled = np.flatnonzero(features.y >= 0)
    if result.protocol != "holdout" or result.n_train == len(labelled):
        return labelled
    return np.setdiff1d(labelled, result.oof.rows)


def _plain(value: Any) -> Any:
    """Numpy scalars as Python numbers, and NaN, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and value != value:
        return None
    return value
