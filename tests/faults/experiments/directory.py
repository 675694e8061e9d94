"""A directory of a million rows: opening it, reading from it, adding ten rows to it.

Times are of the processor: those of the clock say as much about who else uses the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FULL = {"rows": 1_000_000, "size": 16}
SMALL = {"rows": 20_000, "size": 16}
ADDED = 10
# What a row of the columns may take, beside its features: the promise of the specification.
MOST_BYTES_A_ROW = 200


def run(folder: Path, tell: Callable[[str], None], *, rows: int, size: int) -> dict[str, Any]:
    """Each step in a process of its own, so that memory is that of the step."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for step in ("nothing", "make", "open", "slices", "add", "reopen"):
        tell(step)
        found[step] = _child(step, folder, rows, size)
    added, opened = found["add"], found["open"]
    idle = found["nothing"]["peak_bytes"]
    a_row = (opened["held_bytes"]) / rows
    # Shards, features and digests apart: one feature file of ten rows, and the manifest.
    small = added["written_bytes"] < 60_000 + 400 * added["shards"]
    right = found["slices"]["right"] and found["reopen"]["right"] and added["rows_written"] == ADDED
    # Modules that the first read loads take some MB, however few the rows.
    held = bool(small and right and opened["held_bytes"] <= 12_000_000 + MOST_BYTES_A_ROW * rows)
    return {
        **found,
        "bytes_a_row": a_row,
        "peak_a_row": (opened["peak_bytes"] - idle) / rows,
        "held": held,
        "told": (
            f"{rows:,} rows of {size} in {found['make']['shards']} shards "
            f"({found['make']['bytes'] / 1e6:.0f} MB): opened in {opened['seconds']:.2f} s with "
            f"{a_row:.0f} bytes a row (peak {(opened['peak_bytes'] - idle) / rows:.0f}); "
            f"{ADDED} more rows wrote {added['written_bytes'] / 1e3:.0f} kB in "
            f"{added['seconds']:.2f} s; a random slice of 64 rows took "
            f"{1e3 * found['slices']['slice_s']:.1f} ms, 64 random rows "
            f"{1e3 * found['slices']['random_s']:.0f} ms (processor time)"
        ),
    }


def _child(step: str, folder: Path, rows: int, size: int) -> dict[str, Any]:
    command = [sys.executable, __file__, step, str(folder), str(rows), str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _values(rows: np.ndarray, size: int) -> np.ndarray:
    """Features that say whose they are."""
    return (rows[:, None] * 31 + np.arange(size)).astype(np.float32) % 8191


def _own(rows: np.ndarray) -> Any:
    """Columns of rows by number, as an extraction would make them."""
    from bottleneck_probe.cache.index import FileIndex
    from bottleneck_probe.cache.layout import Rows
    from bottleneck_probe.texts import Coded, Texts

    keys = np.zeros((len(rows), 32), np.uint8)
    keys[:, :8] = rows.astype(">u8").view(np.uint8).reshape(-1, 8)
    columns = Rows(
        paths=Texts.of(f"class {i % 10:02d}/image {i:09d}.jpg" for i in rows.tolist()),
        keys=keys,
        labels=(rows % 10).astype(np.int32),
        splits=Coded.of(("train", "val")[i % 5 == 0] for i in rows.tolist()),
        classes=[f"class {i:02d}" for i in range(10)],
        phash=rows.astype(np.uint64),
    )
    order = columns.sorted()
    statuses = np.stack([rows, rows, rows, rows + 1], axis=1).astype(np.int64)[order]
    nothing = np.empty((0, 4), np.int64)
    index = FileIndex(statuses, nothing, np.empty((0, 32), np.uint8), time_ns=1 << 60)
    return columns.take(order), _values(rows[order], 1)[:, 0].astype(np.int64), index, rows[order]


def _header(size: int) -> Any:
    from bottleneck_probe.cache.layout import Header
    from bottleneck_probe.recipe import fingerprint

    output = {"node": "penultimate", "pooling": "none"}
    recipe = {"modality": "image", "size": size, "outputs": [output]}
    return Header(recipe, {"engine": "none"}, fingerprint(recipe, output), "/photos")


def _step(step: str, folder: Path, n: int, size: int) -> dict[str, Any]:
    import h5py  # noqa: F401  part of what any step takes
    from bottleneck_probe.cache import directory
    from bottleneck_probe.cache.features import open as open_features
    from bottleneck_probe.cache.index import index_of
    from bottleneck_probe.cache.storage import LocalStorage

    place = folder / "many"
    storage = LocalStorage(place)
    if step == "nothing":
        return {}
    if step == "make":
        rows, _, index, numbers = _own(np.arange(n))
        values = _values(numbers, size)
        began = time.process_time()
        with storage.writing():
            directory.write_directory(storage, _header(size), rows, [values], index=index)
        seconds = time.process_time() - began
        manifest = directory.load(storage)
        assert manifest is not None
        return {"seconds": seconds, "shards": len(manifest.shards), "bytes": manifest.bytes}
    before = _resident()
    began = time.process_time()
    features = open_features(place)
    seconds = time.process_time() - began
    if step in ("open", "reopen"):
        right = len(features) == n + (ADDED if step == "reopen" else 0)
        numbers = features.keys[:, :8].copy().view(">u8").ravel().astype(np.int64)
        for start in range(0, len(features), 1 + len(features) // 5):
            some = features.features[start : start + 100]
            right &= bool((some == _values(numbers[start : start + 100], size)).all())
        return {"seconds": seconds, "held_bytes": _resident() - before, "right": right}
    rng = np.random.default_rng(0)
    if step == "slices":
        numbers = features.keys[:, :8].copy().view(">u8").ravel().astype(np.int64)
        right, took = True, {"slice_s": 0.0, "random_s": 0.0}
        for kind in took:
            began = time.process_time()
            for _ in range(50):
                start = int(rng.integers(n - 64))
                picked = (
                    np.arange(start, start + 64) if kind == "slice_s" else rng.integers(n, size=64)
                )
                found = features.features[picked]
                right &= bool((found == _values(numbers[picked], size)).all())
            took[kind] = (time.process_time() - began) / 50
        return {"right": right, **took}
    files = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(place)}
    rows, _, index, numbers = _own(np.arange(n + ADDED))
    index_of(features)
    began = time.process_time()
    with storage.writing():
        directory.write_directory(
            storage,
            _header(size),
            rows,
            [_values(numbers, size)],
            index=index,
            existing=features,
        )
    seconds = time.process_time() - began
    new = [
        entry for entry in os.scandir(place) if files.get(entry.name) != entry.stat().st_mtime_ns
    ]
    manifest = directory.load(storage)
    assert manifest is not None
    return {
        "seconds": seconds,
        "written_bytes": sum(entry.stat().st_size for entry in new),
        "rows_written": sum(
            shard.rows for shard in manifest.shards if shard.name in {entry.name for entry in new}
        ),
        "shards": len(manifest.shards),
    }


def _resident() -> int:
    """Bytes in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    told = _step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps({**told, "peak_bytes": _peak()}))
