"""Logistic regression from disk: seconds of an epoch and memory, in a process of its own.

Run as a module it is that process: it reads a feature file and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .. import measures

NAME = "stream"
WHOLE = 1_300_000  # rows that the figure is carried on to
SHAPE = (100_000, 1280, 1000)
QUICK = (10_000, 320, 100)
_BLOCK = 10_000  # rows that are written at once
_TIMEOUT_S = 3600


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """One epoch over a file of made float16 features, dropped from the system's memory before.

    Parameters
    ----------
    rounds : int
    quick : bool
        A small file.

    Returns
    -------
    dict
        A row as the other contests have it: there is nothing that it is compared with, and the target
        is the working memory that was promised.
    """
    n, d, k = QUICK if quick else SHAPE
    with tempfile.TemporaryDirectory(prefix="bottleneck-bench-") as folder:
        path = Path(folder) / "features.h5"
        _write(path, n, d, k)
        runs = [_run(path) for _ in range(rounds)]
    held = max(each["held_bytes"] or 0 for each in runs)
    seconds = measures.spread([each["seconds"] for each in runs])
    promised = runs[0]["promised_bytes"]
    whole = seconds["median"] * WHOLE / n
    return {
        "name": NAME,
        "work": "logistic from disk, one epoch",
        "against": "",
        "rows": n,
        "features": d,
        "classes": k,
        "seconds": seconds,
        "usual_seconds": None,
        "ratio": None,
        "target": {"bytes": promised},
        "reached": held <= promised if held else None,
        "same": runs[0]["accuracy"] > 2 / k,
        "check": f"one value of C, float16; working memory {held / 1e6:,.0f} MB of the {promised / 1e6:,.0f} "
        f"promised; held-out accuracy {runs[0]['accuracy']:.2f} after one epoch; {WHOLE:,} rows "
        f"like these would take {whole / 60:.1f} min",
        "held_bytes": held or None,
        "error": "",
    }


def _write(path: Path, n: int, d: int, k: int) -> None:
    import h5py

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(k, d)).astype(np.float32)
    y = np.sort(np.arange(n) % k)  # as feature files are: class by class
    with h5py.File(path, "w") as file:
        file["labels"] = y.astype(np.int32)
        features = file.create_dataset("features", (n, d), np.float16)
        for begin in range(0, n, _BLOCK):
            rows = y[begin : begin + _BLOCK]
            noise = rng.standard_normal((len(rows), d), np.float32)
            features[begin : begin + len(rows)] = np.maximum(centres[rows] * 0.5 + noise, 0)


def _run(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if ended.returncode != 0:
        raise InputError(
            f"the process that streams ended with {ended.returncode}",
            expected="one JSON object",
            where=ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else "",
        )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _peak_bytes() -> int | None:
    """The most memory that this process ever had."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forget(path: Path) -> None:
    """Ask the system to read the file from the disk again."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _main(path: Path) -> None:
    import warnings

    import h5py

    from ...heads.stream import StreamedLogistic

    head = StreamedLogistic(C=0.01, max_epochs=1)
    rng = np.random.default_rng(0)
    small = rng.normal(size=(200, 8)).astype(np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head.fit(small, np.arange(200) % 3)  # imports and first calls
        _forget(path)
        with h5py.File(path, "r") as file:
            y = file["labels"][:]
            before, start = _peak_bytes(), time.perf_counter()
            head.fit(file["features"], y)
            seconds, after = time.perf_counter() - start, _peak_bytes()
    held = None if before is None or after is None else after - before
    reply = {
        "seconds": seconds,
        "held_bytes": held,
        "promised_bytes": head.max_bytes,
        "accuracy": float(head.history_[-1].accuracy.max()),
    }
    print(json.dumps(reply))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
