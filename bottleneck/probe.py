"""The probe: one file with all that a prediction needs besides the network, and how good it is.

No pickle; no time, path or duration, so that the same features, seed and thread count give the same
bytes. `probe_format` has the bytes, `probe_schema` what must stand in them.
"""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import probe_format
from .errors import ProbeError
from .probe_schema import FIRST, require_sound
from .probe_tensors import Unsound
from .recipe import RANDOM_NOTE, is_random
from .regular import NotRegular, open_regular

if TYPE_CHECKING:
    from .cache.features import Features
    from .evaluate.doubts.abstain import AbstainRule
    from .evaluate.result import Result
    from .heads.fitted import Fitted
    from .heads.target_fitted import TargetFitted
    from .prediction import Predictions


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
    answers : ndarray of shape (repeats, m), int32
        Class answered in each repeat.
    paths : list of str or None
        Stored paths, only in the session that fitted: a probe file holds no path.
    """

    keys: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    answers: np.ndarray
    paths: list[str] | None = None

    def cleanlab(self, features: Features | None = None) -> dict[str, np.ndarray]:
        """What cleanlab takes: ``cleanlab.filter.find_label_issues(**probe.oof.cleanlab())``.

        Parameters
        ----------
        features : Features, optional
            Those that were fitted: then ``features`` is in the result too, as ``Datalab`` takes them.

        Returns
        -------
        dict
            ``labels`` (m,) int64, ``pred_probs`` (m, k) float64, and ``features`` (m, d) float32. A row each,
            in the order of `keys`.

        Raises
        ------
        ProbeError
            If an image that was scored is not among the features.
        """
        found = {"labels": self.y.astype(np.int64), "pred_probs": self.probabilities}
        if features is None:
            return found
        place = {key.tobytes(): i for i, key in enumerate(np.asarray(features.keys))}
        rows = [place.get(key.tobytes(), -1) for key in self.keys]
        if missing := rows.count(-1):
            raise ProbeError(
                f"{missing} of the {len(rows)} scored images are not among these features",
                expected="the features that the probe was fitted on",
            )
        return {**found, "features": np.asarray(features.features[np.array(rows)])}


class Probe:
    """A fitted head with its scaler, the recipe of the features it expects, and its score.

    Made by `bottleneck_probe.fit` or `bottleneck_probe.load`.

    Attributes
    ----------
    task : str
        ``classification``, ``multilabel`` or ``regression``.
    classes : list of str
        Columns of `predict_proba`; of other tasks the labels, or the name of the number.
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
    frequencies : ndarray of shape (k,), float64
        Share of each class among the training images.
    optimism : dict
        ``tuned``: what the best setting scored on the folds that chose it; ``settings``: of how many.
    extra : dict
        Further findings, as JSON data.
    arrays : dict of str to ndarray
        Further arrays that belong to them.
    """

    def __init__(
        self,
        *,
        fitted: Fitted | TargetFitted,
        oof: OutOfFold,
        train_keys: np.ndarray,
        description: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._fitted = fitted
        self.arrays = dict(arrays or {})
        self.train_keys = train_keys
        self._description = dict(description)
        self.oof = oof
        self.task: str = description.get("task", "classification")
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
        # Probes of 0.1 kept the most frequent class alone.
        alone = [float(name == self.majority) for name in self.classes]
        self.frequencies = np.array(description.get("frequencies", alone))
        self.optimism: dict[str, Any] = description.get("optimism", {})
        self.extra: dict[str, Any] = description.get("extra", {})

    @classmethod
    def from_result(cls, result: Result, features: Features, *, seed: int) -> Probe:
        """The probe of an evaluation of these features."""
        rows = result.oof.rows
        stored = features.paths
        oof = OutOfFold(
            keys=np.asarray(features.keys)[rows],
            y=np.asarray(result.oof.y, np.int32),
            probabilities=np.asarray(result.oof.probabilities, np.float64),
            folds=np.asarray(result.oof.folds, np.int32),
            answers=np.asarray(result.oof.answers, np.int32),
            paths=[stored[i] for i in rows],
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
            "frequencies": result.frequencies.tolist(),
            "optimism": result.optimism,
            "extra": result.extra,
        }
        return cls(
            fitted=result.fitted,
            oof=oof,
            arrays=result.arrays,
            train_keys=np.unique(np.asarray(features.keys)[result.trained_on], axis=0),
            description=plain(description),
        )

    @property
    def thresholds(self) -> np.ndarray:
        """From which probability on each label is answered, (k,); empty for other tasks."""
        return np.asarray(getattr(self._fitted, "thresholds", np.zeros(0)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of raw features; of other tasks that of each label, or the number.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As extracted; the scaler is inside the probe.

        Returns
        -------
        ndarray of shape (n, k), float64
            Columns in the order of `classes`; rows of classification sum to 1.

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
        return np.asarray(self._fitted.predict_proba(X), np.float64)

    def novelty(self, X: Any) -> np.ndarray:
        """How far raw features are from those of the training images.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As extracted.

        Returns
        -------
        ndarray of shape (n,), float32
            Above `novelty_threshold` an image is unlike them.

        Raises
        ------
        ProbeError
            If the probe was made before this was kept.
        """
        from .doubt import novelty_of

        kept = novelty_of(self)
        if kept is None:
            raise ProbeError(
                "the probe does not know what its training images look like",
                next="fit it again with this version",
            )
        return kept.score(np.asarray(X))

    @property
    def novelty_threshold(self) -> float:
        """Distance that 1 in 100 images like the training ones exceeds; NaN where it is not known."""
        kept = self.extra.get("novelty", {}).get("threshold")
        return float("nan") if kept is None else float(kept)

    def abstain_rule(self, accuracy: float = 0.95) -> AbstainRule:
        """How sure an answer must be for this accuracy among the answered images.

        Parameters
        ----------
        accuracy : float, above 0 and below 1, default 0.95

        Returns
        -------
        AbstainRule
            ``.threshold`` on the largest probability, ``.coverage`` and ``.error`` on the scored images.

        Raises
        ------
        ProbeError
            If the scored images cannot show so much.
        """
        from .doubt import rule_for

        return rule_for(self, accuracy)

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
        params, arrays = self._fitted.to_state()
        tensors = {f"pipeline/{name}": np.ascontiguousarray(a) for name, a in arrays.items()}
        tensors["train_keys"] = np.ascontiguousarray(self.train_keys)
        tensors |= {f"extra/{name}": np.ascontiguousarray(a) for name, a in self.arrays.items()}
        for name in ("keys", "y", "probabilities", "folds", "answers"):
            tensors[f"oof/{name}"] = np.ascontiguousarray(getattr(self.oof, name))
        description = {**self._description, "pipeline": params}
        return probe_format.to_bytes(plain(description), tensors)

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
        name = FIRST[self.task]
        counted = {"multilabel": f"{len(self.classes)} labels", "regression": self.classes[0]}
        first = self.metrics[name]
        return (
            f"<Probe {self.head} {self.params}: "
            f"{counted.get(self.task, f'{len(self.classes)} classes')}, {name} "
            f"{_decimals(first['value'])} [{_decimals(first['low'])}, {_decimals(first['high'])}] "
            f"({self.protocol}, {self.n_test} images)"
            f"{', RANDOM weights' if is_random(self.recipe) else ''}>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{_decimals(m['value'])}</td>"
            f"<td>{_decimals(m['low'])} to {_decimals(m['high'])}</td>"
            f"<td>{_decimals(self.baseline[name]['value'])}</td></tr>"
            for name, m in self.metrics.items()
        )
        title = f"{self.head} {self.params}, {self.protocol}, {self.n_test} images scored"
        if is_random(self.recipe):
            title += f"; {RANDOM_NOTE}"
        always = "majority class" if self.task == "classification" else "same for all"
        return (
            f"<b>{html.escape(title)}</b><table><tr><th>metric</th><th>value</th>"
            f"<th>95 % interval</th><th>{always}</th></tr>{rows}</table>"
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
    file = Path(path)
    description, arrays = probe_format.read(file)
    try:
        require_sound(description, arrays)
        probe = _built(description, arrays)
        _try(probe)
        return probe
    except ProbeError:
        raise
    except Unsound as error:
        raise ProbeError(
            f"{file} is incomplete or damaged: {error}", next="fit it again"
        ) from error
    # Data of others, and each head reads its own: whatever it stumbles over is the file's fault.
    except Exception as error:
        raise ProbeError(
            f"{file} is incomplete or damaged: {type(error).__name__} {error}", next="fit it again"
        ) from error


def _built(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> Probe:
    from .heads.fitted import fitted_from_state
    from .heads.target_fitted import target_fitted_from_state

    state = description.pop("pipeline")
    from_state = fitted_from_state if "task" not in state else target_fitted_from_state
    scored = _below("oof/", arrays)
    # Probes of 0.1 kept the mean over repeats alone.
    once = scored["probabilities"].argmax(axis=1).astype(np.int32)[None]
    return Probe(
        fitted=from_state(state, _below("pipeline/", arrays)),
        oof=OutOfFold(
            keys=scored["keys"],
            y=scored["y"],
            probabilities=scored["probabilities"],
            folds=scored["folds"],
            answers=scored.get("answers", once),
        ),
        train_keys=arrays["train_keys"],
        description=description,
        arrays=_below("extra/", arrays),
    )


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _try(probe: Probe) -> None:
    """Ask a probe something, so that tensors that do not fit together are told now and not later."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = probe.predict_proba(np.zeros((2, probe.n_features), np.float32))
        if found.shape != (2, len(probe.classes)) or not np.isfinite(found).all():
            raise Unsound("a head that gives no answer to zeros")
        repr(probe)
        probe._repr_html_()
        if "novelty" in probe.extra:
            probe.novelty(np.zeros((1, probe.n_features), np.float32))


def version_of(path: str | os.PathLike[str]) -> int:
    """The format version of a probe file, with the errors of `load` about damaged ones.

    Versions 1 and 2 have no digest: that a number in them was changed cannot be told.
    """
    return int(probe_format.read(path)[0]["format_version"])


def is_probe(path: Path) -> bool:
    """Whether a file begins as a probe does."""
    try:
        with open_regular(path) as opened:
            probe_format.require_header(
                opened.read(9), os.fstat(opened.fileno()).st_size, Path(path)
            )
    except (ProbeError, NotRegular, OSError):
        return False
    return True


def _decimals(value: float | None) -> str:
    """Three digits; a dash for what is undefined."""
    return "-" if value is None or value != value else f"{value:.3f}"


def plain(value: Any) -> Any:
    """Numpy scalars as Python numbers, and NaN, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and value != value:
        return None
    return value
