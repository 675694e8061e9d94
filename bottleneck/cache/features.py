"""`Features`: features with their labels, paths and origin, from a file or from arrays."""

from __future__ import annotations

import builtins
import difflib
import html
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import extras
from ..errors import CacheError
from ..paths import unescape
from . import given
from .array import WINDOW_ROWS, FeatureArray
from .layout import Header, Rows
from .reading import read
from .writing import write

if TYPE_CHECKING:
    import pandas as pd


class Features:
    """Penultimate features, a row per image, and everything that belongs to a row.

    Made by `bottleneck_probe.open`, `bottleneck_probe.extract` or `Features.from_arrays`.

    Parameters
    ----------
    header : Header
    rows : Rows
    features : ndarray or FeatureArray of shape (n, d), float32
    file : Path, optional
        Where they are stored; None if only in memory.

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
        features: np.ndarray | FeatureArray,
        file: Path | None = None,
    ) -> None:
        if len(features) != len(rows):
            raise CacheError(f"rows differ: features {len(features)}, paths {len(rows)}")
        self.header = header
        self.rows = rows
        self.features = features
        self.file = file

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        labels: Sequence[Any] | None = None,
        ids: Sequence[Any] | None = None,
        *,
        splits: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
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
        return cls(*given.arrays(X, labels, ids, splits, meta, recipe))

    @property
    def y(self) -> np.ndarray:
        """Class indices into `classes`, -1 = none: (n,) int32."""
        return self.rows.labels

    @property
    def labels(self) -> np.ndarray:
        """Class names, None = none: (n,) object."""
        names = np.array([*self.rows.classes, None], dtype=object)
        return names[self.rows.labels]  # -1 is the last one, None

    @property
    def classes(self) -> list[str]:
        """Class names in byte order."""
        return self.rows.classes

    @property
    def paths(self) -> np.ndarray:
        """Paths relative to `root`, as stored (`bottleneck_probe.paths`): (n,) object."""
        return _texts(self.rows.paths)

    @property
    def files(self) -> np.ndarray:
        """Where the images are, or were, on this system: absolute paths for `open`, (n,) object.

        Without a `root` (images from memory) the `paths` are no files, and are returned as they are.
        """
        if not self.root:
            return self.paths
        root = unescape(self.root)
        return _texts([os.path.join(root, unescape(path)) for path in self.rows.paths])

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
        lazy = isinstance(self.features, FeatureArray)
        features = self.features.take(picked) if lazy else self.features[picked]
        return Features(self.header, self.rows.take(picked), features, self.file)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a feature file; its rows are ordered by the bytes of their paths.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Path
            For `bottleneck_probe.open`.
        """
        order = self.rows.sorted()
        blocks = (
            np.asarray(self.features[order[start : start + WINDOW_ROWS]])
            for start in range(0, len(order), WINDOW_ROWS)
        )
        write(Path(path), self.header, self.rows.take(order), blocks)
        return Path(path)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame: ``path``, ``label``, ``split``, meta columns, then ``f0`` to ``f{d-1}``.

        Needs the extra ``pandas``.
        """
        from .export import columns

        pandas = extras.require("pandas", purpose="Features.to_pandas")
        left = pandas.DataFrame(columns(self))
        names = [f"f{i}" for i in range(self.features.shape[1])]
        right = pandas.DataFrame(np.asarray(self.features), columns=names)
        return pandas.concat([left, right], axis=1)

    def to(self, path: str | os.PathLike[str]) -> Path:
        """Export for other programs, by suffix: ``.csv``, ``.parquet`` or ``.npz``.

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
        return f"<Features {', '.join(f'{name}: {value}' for name, value in self._summary())}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._summary()
        )
        return f"<table><caption>Features</caption>{cells}</table>"

    def _summary(self) -> list[tuple[str, str]]:
        n, d = self.features.shape
        count = Counter(self.rows.labels.tolist())
        # repr, so that a name cannot bring control codes into a terminal.
        named = [f"{name!r} {count[i]}" for i, name in enumerate(self.classes[:10])]
        if len(self.classes) > 10:
            named.append(f"and {len(self.classes) - 10} more")
        if count[-1]:
            named.append(f"unlabelled {count[-1]}")
        splits = Counter(split for split in self.rows.splits if split)
        parts = [
            ("shape", f"{n} x {d}"),
            ("backbone", str(self.recipe.get("backbone", ""))),
            ("classes", ", ".join(named)),
            ("splits", ", ".join(f"{name} {splits[name]}" for name in sorted(splits))),
            ("quarantined", str(len(self.quarantine) or "")),
            ("file", repr(str(self.file)) if self.file else "only in memory"),
        ]
        return [(name, value) for name, value in parts if value]


def open(path: str | os.PathLike[str]) -> Features:
    """The features of a file. Labels and paths are read now, features when they are asked for.

    Parameters
    ----------
    path : str or path-like
        A feature file (.h5).

    Returns
    -------
    Features

    Raises
    ------
    CacheError
        If there is no such file, or it is not a sound feature file; says which.
    """
    file = Path(path)
    if not file.exists():
        raise _missing(file)
    header, rows, stored = read(file)
    return Features(header, rows, FeatureArray(stored), file)


def _missing(file: Path) -> CacheError:
    """The error for a file that is not there, with names that are near to it."""
    try:
        there = [entry.name for entry in file.parent.iterdir() if entry.suffix in (".h5", ".hdf5")]
    except OSError:
        return CacheError(f"{file}: there is no folder {file.parent}", where=str(file))
    near = difflib.get_close_matches(file.name, there, n=3, cutoff=0.5)
    found = f"did you mean {' or '.join(str(file.with_name(name)) for name in near)}?"
    return CacheError(
        f"{file} does not exist",
        expected="a feature file (.h5)",
        where=str(file.parent),
        next=found if near else f"`bottleneck extract IMAGES -o {file}` makes it",
    )


def _texts(values: Sequence[str]) -> np.ndarray:
    """Text as (n,) object; NumPy's own text arrays would drop NULs and pad to the longest."""
    array = np.empty(len(values), dtype=object)
    array[:] = builtins.list(values)
    return array
