"""Some rows of a feature file, with its labels or others, as a new one; no image is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..paths import escape, order, unescape
from ..reporter import Reporter, Silent
from ..targets import settle
from ..texts import Coded, Texts
from . import features as feature_files
from .features import Features
from .layout import Rows
from .lock import writing
from .merging import destination

SHOWN = 5


@dataclass
class Subset:
    """What came of taking some rows.

    Attributes
    ----------
    features : Features
        The new file, opened.
    output : Path
    of : int
        Rows of the file they were taken from.
    not_found : list of str
        Lines of the list that name no row.
    unlabelled : int
        Rows without a label now.
    """

    features: Features
    output: Path
    of: int
    not_found: list[str]
    unlabelled: int

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "output": str(self.output),
            "features": list(self.features.features.shape),
            "rows": len(self.features),
            "of": self.of,
            "not_found": self.not_found,
            "unlabelled": self.unlabelled,
            "classes": self.features.classes,
        }


def subset(
    source: str | os.PathLike[str] | Features,
    output: str | os.PathLike[str],
    *,
    paths: Sequence[str] | None = None,
    splits: Sequence[str] = (),
    labels: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: Sequence[str] = (),
    split_column: str | None = None,
    task: str = "auto",
    force: bool = False,
    reporter: Reporter | None = None,
) -> Subset:
    """Write some rows of a feature file into a new one, labelled anew if asked for.

    Parameters
    ----------
    source : path or Features
    output : path
        A file, or a directory where it ends in a slash or is one.
    paths : sequence of str, optional
        Rows to keep: stored paths, or paths below the root as the system has them.
    splits : sequence of str, optional
        Keep these only: ``train``, ``val``, ``test``; with `labels`, those of the table.
    labels : path, optional
        A table that gives the rows their labels, splits and other columns; what the file says of them
        is then left out, as `extract` does with ``--labels``.
    path_column, label_column, split_column, task
        As of `extract`.
    force : bool, default False
        Replace `output` if it is there.
    reporter : Reporter, optional

    Returns
    -------
    Subset

    Raises
    ------
    InputError
        If no row is left, or the table does not fit.
    """
    reporter = reporter or Silent()
    target, as_directory = destination(output, force=force)
    features = source if isinstance(source, Features) else feature_files.open(source)
    kept = np.ones(len(features), bool)
    missing: list[str] = []
    if paths is not None:
        named, missing = _named(features, paths)
        kept &= named
        _require_rows(kept, f"none of the {len(paths)} paths names one of the rows", features)
    if labels is not None:
        features = _labelled(
            features, labels, path_column, label_column, split_column, task, reporter
        )
    if splits:
        wanted = set(splits)
        kept &= np.fromiter((s in wanted for s in features.rows.splits), bool, len(features))
        _require_rows(kept, f"no row is of the split {' or '.join(splits)}", features)
    chosen = features.subset(kept)
    chosen.rows = _only_theirs(chosen.rows, paths is None and not splits)
    if as_directory:
        chosen.save(f"{target}{os.sep}")
    else:
        with writing(target, timeout_s=0):
            chosen.save(target)
    if missing:
        shown = ", ".join(missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        reporter.warn(f"{len(missing)} of {len(paths or ())} paths name no row: {shown}{more}")
    made = feature_files.open(target)
    unlabelled = sum(label is None for label in made.labels)
    return Subset(made, target, len(features), missing, unlabelled)


def _require_rows(kept: np.ndarray, what: str, features: Features) -> None:
    if not kept.any():
        raise InputError(
            what,
            expected=f"some of its {len(features)} rows, such as {features.rows.paths[0]}",
            where=features.name,
            next=f"`bottleneck info {features.name}` shows splits and classes",
        )


def _named(features: Features, wanted: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Which rows a list names, all views of each; and what names none."""
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(features.rows.paths):
        rows.setdefault(path, []).append(row)
    prefix = escape(os.path.join(os.path.normpath(features.root), "")) if features.root else ""
    kept = np.zeros(len(features), bool)
    missing = []
    for value in wanted:
        spelled = escape(os.path.normpath(value)) if value else ""
        for written in (value, spelled):
            found = rows.get(written) or rows.get(written.removeprefix(prefix) if prefix else "")
            if found:
                kept[found] = True
                break
        else:
            missing.append(value)
    return kept, missing


def _only_theirs(rows: Rows, whole: bool) -> Rows:
    """Without the quarantine of the other rows, and the classes that no row is of."""
    if not whole:
        rows = replace(rows, quarantine=[])
    if rows.targets is not None:
        return rows
    used = np.unique(rows.labels[rows.labels >= 0])
    mapping = np.full(len(rows.classes) + 1, -1, np.int32)
    mapping[used] = np.arange(len(used))
    classes = [rows.classes[i] for i in used.tolist()]
    return replace(rows, labels=mapping[rows.labels], classes=classes)


def _labelled(
    features: Features,
    table: str | os.PathLike[str],
    path_column: str | None,
    label_column: Sequence[str],
    split_column: str | None,
    task: str,
    reporter: Reporter,
) -> Features:
    """The features with what a table says of each image; every view of an image says the same."""
    from ..images.join import join_labels
    from ..images.sample import Samples
    from ..images.tabular import read_table

    rows = features.rows
    first = np.flatnonzero(features.views == 0)
    image = np.cumsum(features.views == 0) - 1  # of each row: views follow each other
    own = Texts.of(rows.paths).take(first)
    samples = Samples(
        unescape(features.root),
        own,
        np.full(len(own), -1, np.int32),
        [],
        Coded.of([rows.splits[i] for i in first.tolist()]),
    )
    joined, name, notes = join_labels(
        samples,
        read_table(table),
        samples.root,
        path_column=path_column,
        label_columns=list(label_column),
        split_column=split_column,
        task=task,
    )
    for note in notes:
        reporter.note(note)
    if joined.targets is None:
        where = str(table) if isinstance(table, str | os.PathLike) else "labels"
        targets = settle(
            task, joined.classes, joined.labels, name=name, where=where, tell=reporter.note
        )
        if targets is not None:
            joined = joined.but(
                labels=np.full(len(joined), -1, np.int32), classes=[], targets=targets
            )
    known = sorted(joined.classes, key=order)
    place = np.array([*(known.index(each) for each in joined.classes), -1], np.int32)
    made = Rows(
        paths=rows.paths,
        keys=rows.keys,
        labels=place[joined.labels][image],
        splits=joined.splits.take(image),
        classes=known if joined.targets is None else list(joined.targets.names),
        meta={
            column: values[image]
            if isinstance(values, np.ndarray)
            else Texts.of(values).take(image)
            for column, values in joined.meta.items()
        },
        view=rows.view,
        quarantine=list(rows.quarantine),
        phash=rows.phash,
        targets=None if joined.targets is None else joined.targets.take(image),
    )
    return Features(features.header, made, features.features, features.file, features.layers)
