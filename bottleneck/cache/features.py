"""`Features`: features with their labels, paths and origin, from a file or from arrays."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import extras
from ..errors import CacheError, InputError
from ..remote.urls import as_path, is_url, where
from . import given
from .array import FeatureArray
from .display import as_html, as_line
from .layout import Header, Rows, for_task
from .lazy import LazyRows, in_order, take_rows
from .locate import locate, missing
from .outputs import SEPARATOR, Layer, alone, choose, output_ids
from .reading import read
from .writing import write

if TYPE_CHECKING:
    import pandas as pd

    Array = np.ndarray | LazyRows


class Features:
    """Penultimate features, a row per image, and everything that belongs to a row.

    Made by `bottleneck_probe.open`, `bottleneck_probe.extract` or `Features.from_arrays`.

    Parameters
    ----------
    header : Header
    rows : Rows
    features : ndarray or LazyRows of shape (n, d), float32
    file : Path or str, optional
        Where they are stored; None if only in memory.
    layers : mapping of str to ndarray or LazyRows of shape (n, any d), float32, optional
        The recipe's further outputs by id, in its order.

    Examples
    --------
    >>> own = Features.from_arrays([[0.0, 1.0], [1.0, 0.0]], labels=["ant", None])
    >>> own.features.shape, own.y.tolist(), own.labels.tolist()
    ((2, 2), [0, -1], ['ant', None])
    """

    def __init__(
        self,
        header: Header,
        rows: Rows,
        features: Array,
        file: Path | str | None = None,
        layers: Mapping[str, Array] | None = None,
    ) -> None:
        self.header = header
        self.rows = rows
        self.features = features
        self.file = file
        self.layers = dict(layers or {})
        for name, array in {"features": features, **self.layers}.items():
            if len(array) != len(rows):
                raise CacheError(f"rows differ: {name} {len(array)}, paths {len(rows)}")
        if list(self.layers) != self.outputs[1:]:
            raise CacheError(
                f"the layers are {', '.join(self.layers) or 'none'}",
                expected=f"those of the recipe: {', '.join(self.outputs[1:]) or 'none'}",
            )

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        labels: Sequence[Any] | None = None,
        ids: Sequence[Any] | None = None,
        *,
        splits: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        targets: Any = None,
        classes: Sequence[str] | None = None,
        task: str = "auto",
        recipe: dict[str, Any] | None = None,
    ) -> Features:
        """Features of one's own, kept in memory.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Finite numbers; kept as float32.
        labels : sequence of n class names, optional
            None, NaN or an empty text is no label. Integers become their digits.
        ids : sequence of n unique texts, optional
            Kept as `paths`; by default the row number, padded so that it sorts as it counts.
        splits : sequence of n of 'train', 'val', 'test' or '', optional
        meta : mapping of str to sequence of n, optional
            Further columns; numbers are kept as float64, all else as text.
        targets : array-like of shape (n, k) or (n,), optional
            Instead of `labels`: 0 and 1 for each of k labels, or one number; NaN is unknown.
        classes : sequence of str of length k, optional
            Names of the columns of `targets`; needed for several labels.
        task : {'auto', 'classification', 'multilabel', 'regression'}
            What targets or labels are. By default targets are ``multilabel`` if `classes` are given
            and ``regression`` if not, and labels are classes; see `with_task`.
        recipe : dict, optional
            JSON data that says what made these features. Features of different recipes are never
            mixed; without one, all features of equal length count as of one kind.

        Returns
        -------
        Features
            In the order of `X`. A row's key is the BLAKE3 of its dtype, shape and bytes as kept, so
            equal rows have equal keys, whatever their ids.

        Raises
        ------
        InputError
            If lengths differ, an id stands twice, or a value is NaN or infinite.
        """
        made = cls(*given.arrays(X, labels, ids, splits, meta, recipe))
        if targets is not None:
            made.rows = given.with_targets(made.rows, targets, classes, task)
            return made
        return made if task == "auto" else made.with_task(task)

    @property
    def y(self) -> np.ndarray:
        """Class indices into `classes`, -1 = none: (n,) int32."""
        return self.rows.labels

    @property
    def labels(self) -> np.ndarray:
        """Class names, None = none: (n,) object. Of other tasks ``a|b``, or the number as text."""
        if self.rows.targets is not None:
            return self.rows.targets.texts()
        names = np.array([*self.rows.classes, None], dtype=object)
        return names[self.rows.labels]  # -1 is the last one, None

    @property
    def classes(self) -> list[str]:
        """Class names in byte order; of other tasks the names of the columns of `targets`."""
        return self.rows.classes

    @property
    def task(self) -> str:
        """``classification``, ``multilabel`` or ``regression``."""
        return "classification" if self.rows.targets is None else self.rows.targets.task

    @property
    def targets(self) -> np.ndarray | None:
        """What each row is to be answered with, NaN = unknown: (n, k) float32, columns as `classes`.

        0 and 1 for each label, or a number; None for classification, where `y` says the class.
        """
        return None if self.rows.targets is None else self.rows.targets.values

    def require_classes(self, what: str) -> None:
        """Raise an InputError unless each row has one class or none, which `what` is about."""
        if self.task != "classification":
            raise InputError(
                f"{what} is for images of one class each, and these labels are for {self.task}",
                where=str(self.file or "features"),
                next="extract again with --task classification or one --label-column: it takes the new "
                "labels and computes nothing",
            )

    def with_task(self, task: str, name: str = "value") -> Features:
        """The same rows, their labels read for another task; nothing is read from a file.

        Parameters
        ----------
        task : {'auto', 'classification', 'multilabel', 'regression'}
            ``auto`` leaves them as they are. ``multilabel`` splits class names at ``|``,
            ``regression`` takes them as numbers.
        name : str, default 'value'
            What the number is called.

        Raises
        ------
        InputError
            If the labels cannot be read so.
        """
        rows = for_task(self.rows, task, name, str(self.file or ""))
        return Features(self.header, rows, self.features, self.file, self.layers)

    @property
    def paths(self) -> np.ndarray:
        """Paths relative to `root`, as stored (`bottleneck_probe.paths`): (n,) object."""
        return _texts(self.rows.paths)

    @property
    def files(self) -> np.ndarray:
        """Where the images are, or were: absolute paths for `open`, or URLs, (n,) object.

        A member of a tar is named as if the tar were a folder.
        Without a `root` (images from memory) the `paths` are no files, and are returned as they are.
        """
        if not self.root:
            return self.paths
        return _texts([where(self.root, path) for path in self.rows.paths])

    @property
    def splits(self) -> np.ndarray:
        """``train``, ``val``, ``test`` or empty: (n,) object."""
        return _texts(self.rows.splits)

    @property
    def meta(self) -> dict[str, np.ndarray]:
        """Further columns by name: (n,) float64 (NaN = missing) or object (text)."""
        return {
            name: column if isinstance(column, np.ndarray) else _texts(column)
            for name, column in self.rows.meta.items()
        }

    @property
    def keys(self) -> np.ndarray:
        """BLAKE3 of what each feature was computed from: (n, 32) uint8."""
        return self.rows.keys

    @property
    def phash(self) -> np.ndarray | None:
        """Perceptual hash of each image: (n,) uint64; None if not every row has one.

        Nearly the same bits for the same picture saved again (`bottleneck_probe.images.phash`).
        """
        return self.rows.phash

    @property
    def views(self) -> np.ndarray:
        """Which view (tile, augmentation) of its image each row is; 0 = the only one: (n,) int32."""
        return self.rows.views()

    @property
    def views_per_image(self) -> int:
        """Rows that each image has: 1, or the number of its tiles."""
        return int(self.views.max(initial=0)) + 1

    @property
    def outputs(self) -> list[str]:
        """Ids (``node:pooling``) of what is there for each row; `features` is the first."""
        return output_ids(self.header)

    def output(self, name: str) -> Features:
        """One output of these rows, as if it were the only one; nothing is read from a file.

        Parameters
        ----------
        name : str
            One of `outputs`, or a node that only one of them has.

        Returns
        -------
        Features
            Its `features`, `recipe` and `fingerprint` are those of the output.

        Raises
        ------
        CacheError
            If there is no such output, or more than one; lists them.
        """
        position = choose(self.header.recipe["outputs"], name, str(self.file or ""))
        array = [self.features, *self.layers.values()][position]
        return Features(alone(self.header, position), self.rows, array, self.file)

    @property
    def name(self) -> str:
        """What `open` takes for these features: the file, and the output if one was chosen."""
        if self.file is None:
            return "features in memory"
        # Of a file or of a directory: both say which dataset it is and whether there are others.
        array = self.features
        stored = getattr(array, "stored", None) or getattr(array, "shared", None)
        chosen = stored and (stored.dataset != "features" or (stored.layers and not self.layers))
        return f"{self.file}{SEPARATOR}{self.outputs[0]}" if chosen else str(self.file)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides a feature's value, as JSON data."""
        return self.header.recipe

    @property
    def environment(self) -> dict[str, Any]:
        """What else was there when the features were computed, as JSON data."""
        return self.header.environment

    @property
    def fingerprint(self) -> str:
        """Of `recipe` and the output that `features` is; 64 hexadecimal digits."""
        return self.header.fingerprint

    @property
    def root(self) -> str:
        """The folder that `paths` are relative to; empty if there is none."""
        return self.header.root

    @property
    def quarantine(self) -> list[tuple[str, str]]:
        """Inputs without a feature: (path, reason)."""
        return self.rows.quarantine

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, rows: Any) -> Features:
        """These rows in this order, with all classes; nothing is read from a file.

        Parameters
        ----------
        rows : slice, sequence of int, or boolean mask of shape (n,)
        """
        picked = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        layers = {name: take_rows(array, picked) for name, array in self.layers.items()}
        features = take_rows(self.features, picked)
        return Features(self.header, self.rows.take(picked), features, self.file, layers)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a feature file with all outputs; its rows are ordered by the bytes of their paths.

        Parameters
        ----------
        path : str or path-like
            Where it ends in a slash, a directory of shards (`cache.directory`).

        Returns
        -------
        Path
            For `bottleneck_probe.open`.
        """
        order = self.rows.sorted()
        if os.fspath(path).endswith(("/", os.sep)):
            from .directory import save

            arrays = [take_rows(array, order) for array in (self.features, *self.layers.values())]
            return save(Path(path), self.header, self.rows.take(order), arrays)
        layers = []
        for position, array in enumerate(self.layers.values(), start=1):
            header = alone(self.header, position)
            output = header.recipe["outputs"][0]
            layers.append(Layer(output, header.fingerprint, in_order(array, order)))
        rows = self.rows.take(order)
        write(Path(path), self.header, rows, in_order(self.features, order), layers)
        return Path(path)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame: ``path``, ``label``, ``split``, meta columns, then ``f0`` to ``f{d-1}``.

        Of several outputs it holds the first; `output` chooses another. Needs the extra ``pandas``.
        """
        from .export import columns

        pandas = extras.require("pandas", purpose="Features.to_pandas")
        left = pandas.DataFrame(columns(self))
        names = [f"f{i}" for i in range(self.features.shape[1])]
        right = pandas.DataFrame(np.asarray(self.features), columns=names)
        return pandas.concat([left, right], axis=1)

    def to(self, path: str | os.PathLike[str]) -> Path:
        """Export for other programs, by suffix: ``.csv``, ``.parquet`` or ``.npz``.

        Of several outputs the first is written; `output` chooses another.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Path
        """
        from .export import export

        return export(self, Path(path))

    def __repr__(self) -> str:
        return as_line(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def open(path: str | os.PathLike[str]) -> Features:
    """The features of a file. Labels and paths are read now, features when they are asked for.

    Parameters
    ----------
    path : str or path-like
        A feature file (.h5), or a directory of features (``NAME/``), or the URL of one
        (``s3://bucket/photos/``, extra ``remote``); or ``FILE.h5::ID`` for one output of it alone: an
        id of `Features.outputs`, or a node that only one of them has.

    Returns
    -------
    Features

    Raises
    ------
    CacheError
        If there is no such file, it is not a sound feature file, or has no such output; says which.
    """
    if is_url(as_path(os.fspath(path))):
        from .elsewhere import open_url

        return open_url(os.fspath(path))
    file, wanted = locate(as_path(os.fspath(path)))
    if not os.path.exists(file):
        raise missing(file)
    whole = opened(file)
    return whole if wanted is None else whole.output(wanted)


def opened(file: Path, rows: Rows | None = None) -> Features:
    """All outputs of a file that is there; its columns are not read where they are known as `rows`.

    A directory of features (`cache.directory`) is opened too.
    """
    if file.is_dir():
        from .directory import open_directory
        from .storage import LocalStorage

        return open_directory(LocalStorage(file))
    header, rows, stored = read(file, rows)
    layers = {name: FeatureArray(layer) for name, layer in stored.layers.items()}
    return Features(header, rows, FeatureArray(stored), file, layers)


def _texts(values: Sequence[str]) -> np.ndarray:
    """Text as (n,) object; NumPy's own text arrays would drop NULs and pad to the longest."""
    array = np.empty(len(values), dtype=object)
    array[:] = builtins.list(values)
    return array
