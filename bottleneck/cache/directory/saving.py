"""Any features as a new directory, or in the place of one that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..layout import Header, Rows
from ..lazy import LazyRows
from ..storage import LocalStorage, Storage
from .writing import strangers, write_directory


def save(path: Path, header: Header, rows: Rows, features: Sequence[np.ndarray | LazyRows]) -> Path:
    """Write features as a directory.

    Parameters
    ----------
    path : Path
        A new folder, an empty one, or a directory of features, whose content is replaced.
    header : Header
    rows : Rows
        In the order of a file.
    features : sequence of ndarray or LazyRows of shape (n, any d), float32
        For each output of the recipe.

    Returns
    -------
    Path
        For `bottleneck_probe.open`.
    """
    storage = LocalStorage(path)
    with storage.writing():
        require_ours(storage)
        write_directory(storage, header, rows, features)
    return path


def require_ours(storage: Storage) -> None:
    """Raise an InputError if a place holds anything that no directory of features does."""
    others = strangers(storage.list())
    if others:
        raise InputError(
            f"{storage.name} is a folder with other files in it, such as {others[0]}",
            expected="a new folder, or one that `bottleneck extract` made",
            where="-o",
            next=f"-o {storage.name}features/ makes a new one inside it",
        )
