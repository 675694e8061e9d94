"""Features for other programs: ``.csv``, ``.parquet`` and ``.npz``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from .. import extras
from ..errors import InputError
from .atomic import replace_atomically
from .layout import encode_name
from .lazy import WINDOW_ROWS

if TYPE_CHECKING:
    from .features import Features

# A spreadsheet runs a text that starts so as a formula, with the rights of who opens the table.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(features: Features, path: Path) -> Path:
    """Write `features` to `path` in the format of its suffix, whole or not at all.

    Parameters
    ----------
    features : Features
        Of several outputs the first is written, with its recipe; `Features.output` chooses another.
    path : Path
        ``.csv``: text columns made safe for spreadsheets. ``.parquet``: needs the extra
        ``parquet``. ``.npz``: arrays that load without pickle; keys, classes and recipe too.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        For another suffix.
    """
    writers: dict[str, Callable[[Features, Path], None]] = {
        ".csv": _csv,
        ".parquet": _parquet,
        ".npz": _npz,
    }
    write = writers.get(path.suffix.lower())
    if write is None:
        raise InputError(
            f"{path} ends in {path.suffix or 'no suffix'!r}",
            expected=", ".join(writers),
            next="choose one of these suffixes",
        )
    write(features.output(features.outputs[0]), path)
    return path


def columns(features: Features) -> dict[str, Any]:
    """All columns but the features: ``path``, ``label`` (None = none), ``split``, then the rest.

    A perceptual hash is 16 hexadecimal digits.
    Of several labels each has a column ``y_<label>`` too: 1, 0, or NaN where it is unknown.
    A meta column whose name is taken, also by a feature, is called ``meta/<name>``.
    """
    found: dict[str, Any] = {
        "path": features.paths,
        "label": features.labels,
        "split": features.splits,
    }
    if features.rows.view is not None:
        found["view"] = features.rows.view
    if features.phash is not None:
        # As text: a spreadsheet would round a number of 20 digits.
        found["phash"] = np.array([f"{value:016x}" for value in features.phash.tolist()], object)
    if features.task == "multilabel" and features.targets is not None:
        for name, values in zip(features.classes, features.targets.T, strict=True):
            found[f"y_{name}"] = values.astype(np.float64)
    taken = {*found, *(f"f{i}" for i in range(features.features.shape[1]))}
    for name, values in features.meta.items():
        found[f"meta/{name}" if name in taken else name] = values
    return found


def safe_path(path: str) -> str:
    """A path that no spreadsheet takes for a formula, and that still names the same file."""
    return f"./{path}" if path.startswith(FORMULA) else path


def safe_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula; these show the quote before it nowhere."""
    return f"'{text}" if text.startswith(FORMULA) else text


class _OwnLineEnds:
    """Where the csv module writes to: rows that it ends with CR LF, ended with LF."""

    def __init__(self, text: TextIO) -> None:
        self._text = text

    def write(self, row: str) -> None:
        """Take a row, which is given whole."""
        self._text.write(row.removesuffix("\r\n") + "\n")


def csv_writer(text: TextIO) -> Any:
    """A writer of CSV with LF at the end of a row, whatever is in its cells.

    The csv module of Python 3.11 and 3.12 puts a cell with a carriage return into quotes only where
    rows end with one; without them a reader takes it for the end of the row.
    """
    return csv.writer(_OwnLineEnds(text), lineterminator="\r\n")


def _csv(features: Features, path: Path) -> None:
    table = columns(features)
    names = [f"f{i}" for i in range(features.features.shape[1])]
    cells = [_cells(name, values) for name, values in table.items()]
    with replace_atomically(path) as file:
        # newline="": the csv module ends lines itself, and keeps newlines inside of cells.
        text = io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", newline="")
        writer = csv_writer(text)
        writer.writerow([safe_text(name) for name in table] + names)
        for start in range(0, len(features), WINDOW_ROWS):
            block = features.features[start : start + WINDOW_ROWS]
            for offset, row in enumerate(block):
                # astype: the shortest digits that give the same float32, not those of the float64.
                numbers = row.astype("U32").tolist()
                writer.writerow([column[start + offset] for column in cells] + numbers)
        text.flush()
        text.detach().detach()  # else closing them would close the file that is still to be synced


def _cells(name: str, values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else repr(value) for value in values.tolist()]
    if values.dtype.kind == "i":
        return [str(value) for value in values.tolist()]
    safe = safe_path if name == "path" else safe_text
    return ["" if value is None else safe(value) for value in values]


def _parquet(features: Features, path: Path) -> None:
    pyarrow = extras.require("pyarrow", purpose="Writing .parquet")
    import pyarrow.parquet as parquet

    table = columns(features)
    types = {"f": pyarrow.float64(), "i": pyarrow.int32(), "O": pyarrow.string()}
    names = [f"f{i}" for i in range(features.features.shape[1])]
    fields = [(name, types[values.dtype.kind]) for name, values in table.items()]
    schema = pyarrow.schema(fields + [(name, pyarrow.float32()) for name in names])
    with replace_atomically(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(features), WINDOW_ROWS):
            part = slice(start, start + WINDOW_ROWS)
            block = features.features[part]
            arrays = [
                pyarrow.array(values[part].tolist(), kind)
                for values, (_, kind) in zip(table.values(), fields, strict=True)
            ]
            arrays += [pyarrow.array(np.ascontiguousarray(column)) for column in block.T]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _npz(features: Features, path: Path) -> None:
    # Text arrays of fixed width: object arrays would need pickle, which runs code when it is read.
    names = [name or "" for name in features.labels]
    targets = {} if features.targets is None else {"targets": features.targets}
    arrays: dict[str, Any] = {
        "features": np.asarray(features.features),
        "y": features.y,
        **targets,
        "labels": np.array(names, dtype=np.str_),
        "classes": np.array(features.classes, dtype=np.str_),
        "paths": np.array(features.rows.paths, dtype=np.str_),
        "splits": np.array(features.rows.splits, dtype=np.str_),
        "keys": features.keys,
        "recipe": np.array(json.dumps(features.recipe)),
        "fingerprint": np.array(features.fingerprint),
    }
    if features.rows.view is not None:
        arrays["view"] = features.rows.view
    if features.phash is not None:
        arrays["phash"] = features.phash
    for name, column in features.rows.meta.items():
        is_text = not isinstance(column, np.ndarray)
        arrays[f"meta/{encode_name(name)}"] = np.array(column, dtype=np.str_) if is_text else column
    with replace_atomically(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
