"""Every image gets another name, and half of them another class: nothing is computed again."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness.walk import Known, extract, in_process

FULL = {"images": 10_000, "seed": 0}
SMALL = {"images": 300, "seed": 1}

CLASSES = ("ants", "bees")


def run(folder: Path, tell: Callable[[str], None], *, images: int, seed: int) -> dict[str, Any]:
    """Extract `images` images, rename them all, extract again, move their folder, and again."""
    rng = random.Random(seed)
    known = Known()
    root, output = folder / "photos", folder / "x.h5"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    for i in range(images):
        (root / CLASSES[i % 2] / f"{i:06d}.bmp").write_bytes(known.image(i))
    forwards, wrong = [], []
    # Names are dealt anew among all files: most paths stay in use, by another image than before.
    names = [str(root / CLASSES[i % 2] / f"{i:06d}.bmp") for i in range(images)]
    with in_process(folder) as calls:
        for what in ("first", "renamed", "moved", "again"):
            if what == "renamed":
                dealt = rng.sample(names, images)
                for i, path in enumerate(names):
                    os.rename(path, f"{root}/{i}.aside")
                for i, path in enumerate(dealt):
                    os.rename(f"{root}/{i}.aside", path)
            elif what == "moved":
                root = root.rename(folder / "elsewhere")
            calls.forwards = 0
            found = extract(root, output, batch_size=32)
            forwards.append(calls.forwards)
            features = found.features
            rows = known.wrong_rows(features.keys, np.asarray(features.features[:]))
            wrong += [f"{what}: {row}" for row in rows[:5]]
            numbers = {path: known.number[k.tobytes()] for path, k in _rows(features)}
            expected = {
                os.path.relpath(path, folder / "photos"): i
                for i, path in enumerate(names if what == "first" else dealt)
            }
            if numbers != expected:
                wrong.append(f"{what}: images at other paths than they lie at")
            tell(f"{what}: {calls.forwards} forwards")
    return {
        "held": not wrong and forwards[0] >= images // 32 and not any(forwards[1:]),
        "told": f"{images} images renamed, half of them to another class, then their folder moved: "
        f"{sum(forwards[1:])} forwards, {len(wrong)} wrong rows",
        "wrong": wrong,
        "forwards": forwards,
    }


def _rows(features: Any) -> Any:
    return zip(features.paths, features.keys, strict=True)
