"""How much of a cache `verify` checks in a second, for rows of several lengths."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FULL = {"megabytes": 2000, "lengths": [512, 1280, 2048], "wanted": 500}
# Of a small file most of the time is the start: it only shows that the measurement runs.
SMALL = {"megabytes": 20, "lengths": [512], "wanted": 5}


def run(
    folder: Path,
    tell: Callable[[str], None],
    *,
    megabytes: int,
    lengths: list[int],
    wanted: int,
) -> dict[str, Any]:
    """Write a file for each length of a feature, and verify it three times."""
    from bottleneck_probe.cache.verifying import verify

    speeds: dict[int, list[float]] = {}
    counts: dict[int, int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for d in lengths:
            path = Path(scratch) / f"{d}.h5"
            counts[d] = n = max(1, megabytes * 1_000_000 // (4 * d))
            _write(path, n, d)
            for _ in range(3):
                began = time.perf_counter()
                report = verify(path)
                seconds = time.perf_counter() - began
                assert report.ok, report.problems
                speeds.setdefault(d, []).append(path.stat().st_size / 1e6 / seconds)
            path.unlink()
            tell(f"d = {d}: {', '.join(f'{speed:,.0f}' for speed in speeds[d])} MB/s")
    slowest = min(min(each) for each in speeds.values())
    listed = "; ".join(
        f"{counts[d]:,} rows of {d}: {min(each):,.0f} to {max(each):,.0f} MB/s"
        for d, each in speeds.items()
    )
    return {
        "held": slowest >= wanted,
        "told": f"{listed} (whole files, opening and all columns included)",
        "speeds": {str(d): each for d, each in speeds.items()},
    }


def _write(path: Path, n: int, d: int) -> None:
    from bottleneck_probe.cache.format import Header, Rows, write
    from bottleneck_probe.recipe import fingerprint
    from bottleneck_probe.texts import Coded, Texts

    rng = np.random.default_rng(0)
    output = {"node": "penultimate", "pooling": "none"}
    recipe = {"modality": "image", "backbone": "x", "outputs": [output]}
    rows = Rows(
        Texts.of(f"ants/{i:09}.jpg" for i in range(n)),
        rng.integers(0, 256, (n, 32), np.uint8),
        np.zeros(n, np.int32),
        Coded(np.zeros(n, np.uint8), ["train"]),
        ["ants"],
    )
    block = rng.standard_normal((4096, d)).astype(np.float32)
    blocks = (block[: n - start] for start in range(0, n, 4096))
    write(path, Header(recipe, {}, fingerprint(recipe, output), "/photos"), rows, blocks)
