"""How peak memory grows with the number of images: counts in, a table of bytes a row out.

Runs the real command in a child process, with the stub backbone of ``tests/extraction/stub.py``, on
folders of tiny images that all differ. ``python tests/scale/memory.py 1000 10000 100000`` is the
full measurement (some minutes, 0.5 GB of disk); `test_memory.py` runs a small one.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from itertools import pairwise
from pathlib import Path

STUB = Path(__file__).parents[1] / "extraction" / "stub.py"
CLASSES = 10
# Sooner than in earnest: rows that wait to be sealed are bounded by time or 64 MB, and 5 s would hold
# all rows of a small run.
SEAL_AFTER_S = "1"
# What is measured, in this order: there is no file yet, it is made, nothing has changed.
RUNS = ("dry run before", "first run", "second run", "dry run after")


def main(counts: list[int]) -> None:
    """Measure all counts and print what they took, and what one row more takes."""
    print(f"{'images':>8} {'run':16} {'peak MB':>8} {'seconds':>8} {'bytes a row':>12}")
    before: dict[str, float] = {}
    for smaller, n in pairwise([0, *counts]):
        for run, (peak, seconds) in measure(n).items():
            slope = (peak - before[run]) / (n - smaller) if run in before else float("nan")
            before[run] = peak
            print(f"{n:8d} {run:16} {peak / 1e6:8.1f} {seconds:8.2f} {slope:12.0f}", flush=True)


def measure(n: int) -> dict[str, tuple[float, float]]:
    """Peak resident bytes and wall seconds of each of `RUNS` over `n` images."""
    folder = Path(tempfile.mkdtemp(prefix="bottleneck-scale-"))
    try:
        photos, output = folder / "photos", folder / "photos.h5"
        make_images(photos, n)
        extract = ["extract", str(photos), "-o", str(output), "--backbone", "stub", "--quiet"]
        return {
            run: peak_of([*extract, *(["--dry-run"] if run.startswith("dry") else [])], folder)
            for run in RUNS
        }
    finally:
        shutil.rmtree(folder)


def make_images(root: Path, n: int) -> None:
    """Write `n` PNGs of one pixel, each of a colour of its own, in `CLASSES` folders."""
    for label in range(CLASSES):
        (root / f"class_{label:02d}").mkdir(parents=True)
    for i in range(n):
        # As many characters as the names in most data sets have.
        name = root / f"class_{i % CLASSES:02d}" / f"photo_{i:012d}.png"
        name.write_bytes(png(i))


def png(number: int) -> bytes:
    """A PNG of one pixel whose colour is `number`, below 2^24; by hand, as Pillow takes longer."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(b"\0" + number.to_bytes(3, "big"), 1))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def peak_of(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run the command; its peak resident bytes and wall seconds."""
    environment = {**os.environ, "BOTTLENECK_CACHE_DIR": str(folder / "user-cache")}
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, str(STUB), "0", SEAL_AFTER_S, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    said = child.stderr.read()
    # Of this child alone, and before `subprocess` collects it.
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode:
        raise RuntimeError(said.decode(errors="replace"))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(usage.ru_maxrss * unit), time.perf_counter() - started


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [1_000, 10_000, 100_000])
