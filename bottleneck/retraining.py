"""`fit --against OLD.probe`: a new probe and an old one, paired on images that neither was trained on."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache.export import csv_writer, safe_path, safe_text
from .errors import InputError, ProbeError

if TYPE_CHECKING:
    from .cache.features import Features
    from .evaluate.against import Against
    from .evaluate.result import Result
    from .probe import Probe

_UNKNOWN = -2  # of an old probe that does not know a class: no class has this number
_BLOCK = 8192  # rows that are read at once
_LISTED = 20  # flipped images in the JSON


@dataclass(frozen=True)
class Retrained:
    """How a new probe stands against an old one.

    Attributes
    ----------
    found : Against
    flips : list of dict
        ``path, label, old, new`` of each image that only one of the two answers right; those that the new
        one gets wrong come first.
    notes : list of str
    """

    found: Against
    flips: list[dict[str, Any]]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**self.found.to_dict(), "flips": self.flips[:_LISTED], "notes": self.notes}

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write all flipped images: ``path, label, old, new, change``."""
        from .cache.atomic import replace_atomically

        text = io.StringIO()
        writer = csv_writer(text)
        writer.writerow(["path", "label", "old", "new", "change"])
        for flip in self.flips:
            names = [safe_text(flip[name]) for name in ("label", "old", "new", "change")]
            writer.writerow([safe_path(flip["path"]), *names])
        with replace_atomically(path) as file:
            file.write(text.getvalue().encode())
        return Path(path)


def require_table(path: Path, force: bool) -> None:
    """Raise where a table of flips could not be written, or something else would be lost.

    Raises
    ------
    InputError
    """
    if path.suffix != ".csv":
        raise InputError(
            f"{path.name} has the suffix {path.suffix!r}", expected=".csv", where="--flips"
        )
    if path.exists() and not force:
        raise InputError(
            f"{path} exists", where="--flips", next="give another name, or --force to write over it"
        )


def compare_with_old(result: Result, features: Features, old: Probe, name: str) -> Retrained:
    """Pair a new evaluation with an old probe.

    Of an image that the old probe was trained on, its out-of-fold answer counts, which a fit gave that
    had not seen it; of any other image, what the old probe says now.

    Parameters
    ----------
    result : Result
        The new evaluation, of these features.
    features : Features
    old : Probe
    name : str
        Of the old probe, for messages.

    Returns
    -------
    Retrained

    Raises
    ------
    ProbeError
        If there is no image that both can be scored on.
    """
    from .evaluate.against import against

    if old.task != "classification":
        raise ProbeError(
            f"{name} is for {old.task}, and the new probe is for classes",
            expected="a probe of the same kind of labels",
            where="--against",
        )
    rows = result.oof.rows
    answers = _old_answers(features, rows, old)
    usable = answers[0] >= 0
    if not usable.any():
        same = old.fingerprint == features.fingerprint
        raise ProbeError(
            f"{name} can be scored on none of the {len(rows)} images that scored the new probe",
            expected="images that it was not trained on"
            if same
            else "a probe of the same backbone and layer, or one with out-of-fold answers for them",
            where="--against",
        )
    position = {c: i for i, c in enumerate(result.classes)}
    to_new = np.array([position.get(c, _UNKNOWN) for c in old.classes])
    old_index = to_new[answers[:, usable]]
    truth = np.asarray(result.oof.y)[usable]
    new = result.oof.answers[:, usable]
    found = against(truth, new, old_index, result.oof.images[usable], held_out=result.held_out)
    notes = []
    grouped = [
        bool((extra.get("groups") or {}).get("groups")) for extra in (result.extra, old.extra)
    ]
    if grouped[0] != grouped[1]:
        which = "the new probe was scored with --groups and the old one without"
        if grouped[1]:
            which = "the old probe was scored with --groups and the new one without"
        notes.append(f"{which}: the difference may be of the groups, not of the probes")
    if left := int(np.sum(~usable)):
        notes.append(
            f"{left} of {len(rows)} images left out: {name} was trained on them, or never saw them"
        )
    if missing := [c for c in result.classes if c not in old.classes]:
        notes.append(f"{name} does not know {', '.join(missing)}: it is wrong on all of these")
    here, paths = np.flatnonzero(usable), features.paths
    flips = [
        {
            "path": str(paths[rows[here[i]]]),
            "label": result.classes[truth[i]],
            "old": old.classes[answers[0, here[i]]],
            "new": result.classes[new[0, i]],
            "change": change,
        }
        for change, which in (("broken", found.broken), ("mended", found.mended))
        for i in which
    ]
    return Retrained(found, flips, notes)


def _old_answers(features: Features, rows: np.ndarray, old: Probe) -> np.ndarray:
    """The old probe's answers to each row in each of its repeats, (repeats, m): indices into its classes.

    -1 where there is no honest one.
    """
    keys = [features.keys[i].tobytes() for i in rows]
    trained = {key.tobytes() for key in old.train_keys}
    column = {key.tobytes(): i for i, key in enumerate(old.oof.keys)}
    kept = np.array([column.get(key, -1) for key in keys])
    answers = np.where(kept >= 0, old.oof.answers[:, kept], -1)
    fresh = np.flatnonzero([key not in trained for key in keys])
    if old.fingerprint == features.fingerprint and len(fresh):
        # Not trained on: what it says now. Of another backbone's images only what it said then counts.
        for some in np.array_split(fresh, -(-len(fresh) // _BLOCK)):
            probabilities = old.predict_proba(features.features[np.asarray(rows)[some]])
            answers[:, some] = probabilities.argmax(axis=1)
    return answers
