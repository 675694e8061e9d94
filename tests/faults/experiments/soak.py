"""Very many small images in one run: it finishes, its memory stays flat, and `verify` finds nothing."""

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
import psutil

# `--set backbone=stub` measures all but the network, in minutes.
FULL = {"images": 100_000, "backbone": "efficientnet_lite0", "descriptors": 128}
SMALL = {"images": 300, "backbone": "stub", "descriptors": 128}

SIDE = 32
STUB = Path(__file__).resolve().parents[2] / "extraction" / "stub.py"
LIMIT = 200  # bytes a row, over the second half
# Fewer rows than this show the noise of an allocator, not a slope.
ENOUGH = 20_000
SAMPLE_S = 0.25
_TELL_S = 60.0


def run(
    folder: Path, tell: Callable[[str], None], *, images: int, backbone: str, descriptors: int
) -> dict[str, Any]:
    """Extract `images` small PNGs with at most `descriptors` open files."""
    photos, output = folder / "photos", folder / "x.h5"
    tell(f"making {images} images of {SIDE}x{SIDE} pixels")
    make_images(photos, images)
    command = [sys.executable, "-m", "bottleneck_probe"]
    if backbone == "stub":
        command = [sys.executable, str(STUB), "0", "5"]
    command += ["extract", str(photos), "-o", str(output), "--backbone", backbone, "--json"]
    started = time.monotonic()
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        child = subprocess.Popen(
            command, stdout=out, stderr=err, preexec_fn=lambda: _limit(descriptors)
        )
        samples = _watched(child, output, images, tell)
        out.seek(0)
        err.seek(0)
        said, errors = out.read(), err.read()
    seconds = time.monotonic() - started
    if child.returncode:
        raise RuntimeError(f"exit {child.returncode}: {said}{errors}")
    reply = json.loads(said)
    from bottleneck_probe.cache.verifying import verify

    problems = [str(each) for each in verify(output).problems]
    slope = slope_of(samples)
    flat = slope is None or slope <= LIMIT
    memory = "too few rows for a slope" if slope is None else f"{slope:.0f} bytes a row"
    peak, files = max(each[1] for each in samples), max(each[2] for each in samples)
    computed = reply["computed"] == reply["seen"] == images
    return {
        "held": computed and not problems and flat and files < descriptors,
        "told": f"{images} images with {backbone} in {seconds:.0f} s "
        f"({images / seconds:.0f} a second); peak {peak / 1e6:.0f} MB, over the second half "
        f"{memory}; at most {files} open files; `verify` found {len(problems)} problems",
        "engine": reply["engine"],
        "precision": reply["precision"],
        "problems": problems,
        "memory, MB": [round(each[1] / 1e6, 1) for each in samples[:: max(1, len(samples) // 50)]],
    }


def make_images(root: Path, count: int) -> None:
    """PNGs of noise in ten classes, no two alike."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(10):
        (root / f"class_{label}").mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        pixels[0, :4, 0] = [i & 255, i >> 8 & 255, i >> 16 & 255, 0]
        name = root / f"class_{i % 10}" / f"photo_{i:08d}.png"
        Image.fromarray(pixels).save(name, compress_level=1)


def slope_of(samples: list[tuple[float, int, int]]) -> float | None:
    """Bytes of memory a row, over the second half of the rows; None if these are too few."""
    rows = np.array([each[0] for each in samples])
    memory = np.array([each[1] for each in samples], float)
    # While it publishes, no row is added, and what it takes then is not of the steady state.
    half = (rows >= rows.max() / 2) & (rows < rows.max())
    if rows.max() < ENOUGH or half.sum() < 10:
        return None
    return float(np.polyfit(rows[half], memory[half], 1)[0])


def _limit(descriptors: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def _watched(
    child: subprocess.Popen[Any], output: Path, images: int, tell: Callable[[str], None]
) -> list[tuple[float, int, int]]:
    """Rows sealed so far, resident bytes and open files of a process, until its end."""
    parts = output.with_name(output.name + ".parts")
    process = psutil.Process(child.pid)
    samples: list[tuple[float, int, int]] = []
    sealed: dict[str, int] = {}
    next_s = time.monotonic() + _TELL_S
    while child.poll() is None:
        try:
            for path in os.scandir(parts) if parts.exists() else ():
                if path.name.endswith(".h5") and path.name not in sealed:
                    sealed[path.name] = path.stat().st_size
            rows = float(sum(sealed.values()))
            samples.append((rows, process.memory_info().rss, process.num_fds()))
        except (OSError, psutil.Error):
            pass
        if samples and time.monotonic() > next_s:
            next_s += _TELL_S
            tell(f"{samples[-1][1] / 1e6:.0f} MB")
        time.sleep(SAMPLE_S)
    # From bytes to rows: what was sealed in all is all images.
    whole = max((each[0] for each in samples), default=0.0) or 1.0
    return [(rows / whole * images, memory, files) for rows, memory, files in samples]
